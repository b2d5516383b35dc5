"""One spawned worker program: its own process group, its exit seen at once, its output in the daemon's log.

The program gets stdin from nowhere, one pipe for stdout and stderr, and the socket; nothing else of the daemon's.
A pidfd becomes readable when it exits, whatever the reason, so nobody polls and no signal handler is involved. It is
reaped here and nowhere else, and its process id cannot be reused before that: signals never hit a stranger.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from gemmad.protocol.messages import EXIT_ASKED, EXIT_DEVICE_LOST, EXIT_SETTINGS
from gemmad.supervisor.examine import Condition, condition_of

READ_BYTES = 16 << 10
"""Output taken in one turn of the loop: a program that floods its stderr slows nobody else."""
LAST_OUTPUT_BYTES = 1 << 20
"""Output that is still read after an exit."""
MAX_LINE_BYTES = 4096
DUMP_SIGNAL = signal.SIGUSR1
"""Upon it a worker writes the stacks of all its threads to its output."""
REAP_SECONDS = 5.0
"""How long `close` waits for a process that it had to kill."""
OURS_ALONE = frozenset(
    {
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "CREDENTIALS_DIRECTORY",
    }
)
"""Variables by which the service manager speaks to the daemon, not to its workers."""


class Started(Protocol):
    """As much of a Popen as is needed here."""

    pid: int
    returncode: int | None

    def wait(self, timeout: float | None = None) -> int:
        """Reap it. Raises subprocess.TimeoutExpired."""


class Process:
    """A running program. `on_exit` is called once, from the loop, after the last line went to `on_line`.

    `close()` must be called in the end; it kills what still runs. Raises OSError when the program cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        socket_fd: int,
        on_line: Callable[[str], None],
        on_exit: Callable[[int], None],
        popen: Callable[..., Started] = subprocess.Popen,
    ) -> None:
        """`popen` starts it, or hands over one that has been started."""
        self._on_line = on_line
        self._on_exit = on_exit
        self._lines = LineCutter()
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._output, their_output = os.pipe()
        try:
            os.set_blocking(self._output, False)
            self._popen = popen(
                [*command, "--fd", str(socket_fd)],
                stdin=subprocess.DEVNULL,
                stdout=their_output,
                stderr=their_output,
                pass_fds=(socket_fd,),
                env=dict(env),
                start_new_session=True,
            )
        except BaseException:
            os.close(self._output)
            raise
        finally:
            os.close(their_output)
        self.pid = self._popen.pid
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except OSError:
            self._signal_group(signal.SIGKILL)
            self._popen.wait()
            os.close(self._output)
            raise
        self._loop.add_reader(self._pidfd, self._exited)
        self._loop.add_reader(self._output, self._read)

    @property
    def exit_code(self) -> int | None:
        """As subprocess counts: negative is the signal that killed it; None while it runs."""
        return self._popen.returncode

    def pin(self, cpus: Collection[int]) -> None:
        """Run on these processors only, and take memory beside them; what it starts from now on does so too."""
        with contextlib.suppress(OSError):  # it is gone, or a cpuset has taken them away
            os.sched_setaffinity(self.pid, cpus)

    def examine(self) -> Condition | None:
        """Make it write its stacks, if it can, and tell what the kernel says of it, where that explains a silence."""
        condition = condition_of(self.pid)
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, DUMP_SIGNAL)
                if condition is not None and condition.from_outside:
                    os.kill(self.pid, signal.SIGCONT)  # who is stopped answers nothing
        return condition

    def terminate(self) -> None:
        """SIGTERM to it and everything it started."""
        self._signal_group(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to it and everything it started."""
        self._signal_group(signal.SIGKILL)

    def close(self) -> None:
        """Kill what still runs, reap it and let go of every descriptor; `on_exit` is not called any more."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._pidfd)
        self._loop.remove_reader(self._output)
        if self.exit_code is None:
            self.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(REAP_SECONDS)
        os.close(self._pidfd)
        os.close(self._output)

    def _exited(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self.kill()  # what it started goes with it; while it is not reaped, the group's number is still its own
        code = self._popen.wait()
        self._read_rest()
        self._on_exit(code)

    def _read(self) -> None:
        try:
            data = os.read(self._output, READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        if not data:
            self._loop.remove_reader(self._output)
        self._say(self._lines.feed(data) if data else self._lines.rest())

    def _read_rest(self) -> None:
        self._loop.remove_reader(self._output)
        with contextlib.suppress(BlockingIOError):
            for _ in range(LAST_OUTPUT_BYTES // READ_BYTES):
                data = os.read(self._output, READ_BYTES)
                if not data:
                    break
                self._say(self._lines.feed(data))
        self._say(self._lines.rest())

    def _say(self, lines: list[str]) -> None:
        for line in lines:
            self._on_line(line)

    def _signal_group(self, number: signal.Signals) -> None:
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)


class LineCutter:
    """Cuts output into lines of bounded length. What a line has beyond `MAX_LINE_BYTES` is dropped and marked."""

    def __init__(self) -> None:
        self._begun = bytearray()
        self._cut = False

    def feed(self, data: bytes) -> list[str]:
        """Lines that `data` ends, without blank ones."""
        *ended, begun = data.split(b"\n")
        lines = []
        for piece in ended:
            self._take(piece)
            lines += self.rest()
        self._take(begun)
        return lines

    def rest(self) -> list[str]:
        """The line that was begun, if any; it counts as ended."""
        line = bytes(self._begun).decode(errors="replace").rstrip()
        if self._cut:
            line += " …"
        self._begun.clear()
        self._cut = False
        return [line] if line else []

    def _take(self, piece: bytes) -> None:
        room = MAX_LINE_BYTES - len(self._begun)
        self._cut = self._cut or len(piece) > room
        self._begun += piece[:room]


def worker_environment(daemon: Mapping[str, str], seat: Mapping[str, str]) -> dict[str, str]:
    """The daemon's variables without what the service manager told it alone, and the seat's over them."""
    env = {name: value for name, value in daemon.items() if name not in OURS_ALONE}
    # lines arrive as they are printed; a crash in native code prints its Python stacks
    return env | {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"} | dict(seat)


def explain_exit(code: int) -> str:
    """An exit status in words, with the likely cause where there is one."""
    told = {
        EXIT_ASKED: "exited by itself (exit 0)",
        EXIT_SETTINGS: "its settings or weights cannot work (exit 3)",
        EXIT_DEVICE_LOST: "its GPU is lost (exit 4)",
        126: "its program may not be executed (exit 126)",
        127: "its program was not found (exit 127)",
    }
    if code in told:
        return told[code]
    number = -code if code < 0 else code - 128
    if code > 0 and not _is_signal(number):
        return f"exited with status {code}"
    hints = {
        signal.SIGKILL: ", by the kernel if memory ran out",
        signal.SIGSEGV: ": native code touched memory that is not its own",
        signal.SIGBUS: ": a mapped file or shared memory went away",
        signal.SIGABRT: ": native code gave up",
        signal.SIGILL: ": an instruction that this processor does not have",
    }
    name = signal.Signals(number).name if _is_signal(number) else f"signal {number}"
    return f"killed by {name}{hints.get(signal.Signals(number), '') if _is_signal(number) else ''} (exit {code})"


def _is_signal(number: int) -> bool:
    return number in {member.value for member in signal.Signals}
