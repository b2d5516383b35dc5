"""A box: the host's own systemd, as process 1 of namespaces of its own, over an overlay of the host's files.

It needs root and util-linux, is up in a second or two, and changes nothing on the host: what is written lies in memory.
Its end is the kernel's: with process 1 of a pid namespace goes all that is in it, and process 1 goes with the test run.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TypeVar

BOOT = Path(__file__).with_name("boot.sh")
BOOT_SECONDS = 40.0
LIFE_SECONDS = 600
"""After these the box ends by itself."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SYSTEMD = "/lib/systemd/systemd"
_CLONE_NEWNET = 0x40000000
_TOOLS = ("unshare", "nsenter", "setpriv", "mount", "umount", "pivot_root", "mknod", "systemctl", "journalctl")
_NAMESPACES = (
    *("setpriv", "--pdeathsig", "KILL"),  # should we be killed
    *("unshare", "--fork", "--kill-child=SIGKILL", "--pid", "--mount", "--uts", "--ipc", "--net"),
    *("--propagation", "private"),
)

T = TypeVar("T")


class NoBoxError(Exception):
    """No box can be had here, in words."""


def find_obstacle() -> str | None:
    """What forbids a box, as far as it can be told without trying."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [tool for tool in _TOOLS if shutil.which(tool, path=PATH) is None]
    if not os.access(SYSTEMD, os.X_OK):
        missing.append(SYSTEMD)
    if missing:
        return f"not installed: {', '.join(missing)}"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "the kernel has no overlay file system"
    cgroups = _cgroup_mount()
    if cgroups is None or not os.access(cgroups, os.W_OK):
        return "cgroup v2 is not mounted, or read-only"
    return None


class Box:
    """A running systemd. Use it in `with`; entering raises NoBoxError where the machine does not let it start."""

    def __init__(self, binds: Mapping[Path, str], *, env: Mapping[str, str] | None = None, wants: str = "") -> None:
        """`binds`: folders of the host, and where they are seen in the box, read-only. `env`: of `run`'s commands.
        `wants`: units to boot with, beside the basic ones."""
        self._binds = dict(binds)
        self._env = {"HOME": "/root", "TERM": "dumb", "LANG": "C.UTF-8", "PATH": PATH, **(env or {})}
        self._wants = wants

    def __enter__(self) -> Box:
        self._stack = contextlib.ExitStack()
        try:
            self._boot()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    # --- commands -----------------------------------------------------------------------------------------------------

    def run(self, *command: str, check: bool = True, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command in the box. With `check` it must succeed."""
        done = subprocess.run(
            self._inside(command), env=self._env, capture_output=True, text=True, check=False, timeout=seconds
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Begin a command in the box; the caller waits for it."""
        return subprocess.Popen(
            self._inside(command), env=self._env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def systemctl(self, *arguments: str, check: bool = True, seconds: float = 60.0) -> str:
        """What systemctl says."""
        done = self.run("systemctl", "--no-pager", *arguments, check=check, seconds=seconds)
        return done.stdout + done.stderr

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.systemctl("show", unit, "--property", name, "--value").strip()

    def journal(self, unit: str, *arguments: str) -> str:
        """What a unit has logged, and systemd about it."""
        self.run("journalctl", "--sync", check=False)
        return self.run("journalctl", "--no-pager", "--output=cat", "--unit", unit, *arguments).stdout

    # --- files, processes, network ------------------------------------------------------------------------------------

    def file(self, path: str) -> Path:
        """A file of the box, as it can be reached from here."""
        return Path(f"/proc/{self.init}/root", path.lstrip("/"))

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """Make a file in the box."""
        file = self.file(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def processes(self) -> dict[int, str]:
        """Everything that runs in it: its number here on the host, and its command line."""
        namespace = os.readlink(f"/proc/{self.init}/ns/pid")
        found = {}
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if entry.isdigit() and os.readlink(f"/proc/{entry}/ns/pid") == namespace:
                    found[int(entry)] = Path("/proc", entry, "cmdline").read_text().replace("\0", " ").strip()
        return found

    def outside(self, pid: int) -> int:
        """The number on the host of a process that is `pid` in the box. Raises LookupError."""
        for number in self.processes():
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{number}/status").read_text().splitlines()
                if next(line for line in lines if line.startswith("NSpid:")).split()[-1] == str(pid):
                    return number
        raise LookupError(f"no process {pid} in the box")

    def http(self, port: int, *, seconds: float = 30.0) -> http.client.HTTPConnection:
        """To a port of the box's own loopback, from here."""
        return _BoxConnection(self.init, port, seconds)

    def wait_until(self, condition: Callable[[], T], *, seconds: float = 30.0, words: str = "") -> T:
        """What `condition` returns once that is true. Fails in the end."""
        give_up = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < give_up, f"not within {seconds:g} s: {words or condition}"
            time.sleep(0.05)
        return found

    # --- its beginning ------------------------------------------------------------------------------------------------

    def _boot(self) -> None:
        obstacle = find_obstacle()
        if obstacle is not None:
            raise NoBoxError(obstacle)
        folder = Path(tempfile.mkdtemp(prefix="gemmad-box-"))
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        (folder / "root").mkdir()
        (folder / "layers").mkdir()
        cgroup = _make_cgroup(folder.name)
        self._stack.callback(_remove_cgroup, cgroup)
        console = self._stack.enter_context((folder / "console").open("w+"))
        binds = [f"{source}:{target}" for source, target in self._binds.items()]
        self._process = subprocess.Popen(
            [*_NAMESPACES, "sh", str(BOOT), str(folder), str(LIFE_SECONDS), str(cgroup), *binds],
            env={"PATH": PATH, "BOX_WANTS": self._wants},
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
        )
        self._stack.callback(self._end)
        self._wait_for_boot(console)

    def _wait_for_boot(self, console: IO[str]) -> None:
        give_up = time.monotonic() + BOOT_SECONDS
        state = "not begun"
        while time.monotonic() < give_up:
            if self._process.poll() is not None:
                console.seek(0)
                raise NoBoxError(f"the box does not boot here: {console.read().strip() or self._process.returncode}")
            init = _systemd_below(self._process.pid)
            if init is not None:
                self.init = init
                state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
                if state in ("running", "degraded"):
                    return
            time.sleep(0.05)
        raise NoBoxError(f"the box is not up after {BOOT_SECONDS:g} s, but {state}")

    def _end(self) -> None:
        self._process.kill()  # its child, process 1 of the box, goes with it
        self._process.wait(30)

    def _inside(self, command: Sequence[str]) -> list[str]:
        entrance = ["nsenter", "--target", str(self.init), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        return [*entrance, "--root", "--wd=/", *command]


class _BoxConnection(http.client.HTTPConnection):
    def __init__(self, init: int, port: int, seconds: float) -> None:
        super().__init__("127.0.0.1", port, timeout=seconds)
        self._init = init

    def connect(self) -> None:
        with _network_of(self._init):
            self.sock = socket.socket(socket.AF_INET)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect((self.host, self.port))  # a socket stays in the network that it was made in
        except OSError:
            self.close()
            raise


@contextlib.contextmanager
def _network_of(pid: int) -> Iterator[None]:
    """This thread makes its sockets in the network of that process meanwhile."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as home, open(f"/proc/{pid}/ns/net") as there:
        _enter(libc, there.fileno())
        try:
            yield
        finally:
            _enter(libc, home.fileno())


def _enter(libc: ctypes.CDLL, namespace: int) -> None:
    if libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _systemd_below(pid: int) -> int | None:
    """Its child, once that has become systemd."""
    with contextlib.suppress(OSError):  # it is going
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children and Path(f"/proc/{children[0]}/comm").read_text().strip() == "systemd":
            return int(children[0])
    return None


def _cgroup_mount() -> Path | None:
    lines = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return next((Path(line[1]) for line in lines if line[2] == "cgroup2"), None)


def _make_cgroup(name: str) -> Path:
    mount = _cgroup_mount()
    assert mount is not None
    folder = mount / name
    try:
        folder.mkdir()
    except OSError as error:
        raise NoBoxError(f"no cgroup can be made: {error}") from None
    return folder


def _remove_cgroup(folder: Path) -> None:
    """With all below it; who was killed may still be leaving."""
    give_up = time.monotonic() + 10
    while folder.exists():
        for path, _, _ in os.walk(folder, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)
        assert time.monotonic() < give_up, f"{folder} cannot be removed"
        time.sleep(0.02)
