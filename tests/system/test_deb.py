"""The .deb in a box, from its installation to its purge: the tests follow each other."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.daemon import MODEL
from tests.system.box import PATH, Box
from tests.system.installed import CONFIG, ENV, READY_SECONDS, ROOT, UNIT, Installed, Load

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

BUILD = ROOT / "packaging" / "deb" / "build.py"
DEBIANS_PYTHON = "/usr/bin/python3"
NEWER = "99.0"
ENGINES_PYTHON = "/srv/venv/bin/python"
"""An environment with torch that is there already."""
SETTINGS = f"""\
[model]
path = "/usr/lib/gemmad/lib/python{{python}}/site-packages/gemmad/demo/checkpoint"
served_names = ["{MODEL}"]
"""
PLACES = ("/etc", "/usr/bin", "/usr/lib", "/usr/share", "/var/lib", "/var/cache", "/run")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The package of this version, and the same one as a newer version; not compressed, which takes a minute."""
    _require_debian()
    folder = tmp_path_factory.mktemp("deb")
    command = [sys.executable, str(BUILD), "--compression", "none", "--output", str(folder)]
    built = subprocess.run(command, check=True, capture_output=True, text=True)
    package = Path(built.stdout.strip())
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    control = tree / "DEBIAN" / "control"
    control.write_text("".join(_renewed(line) for line in control.read_text().splitlines(keepends=True)))
    newer = folder / "newer.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, newer], check=True, capture_output=True
    )
    shutil.rmtree(tree)
    return {"this": package, "newer": newer}


@pytest.fixture(scope="module")
def packaged(box: Box, packages: dict[str, Path]) -> Installed:
    """The box with the packages in it, and nothing of gemmad installed; its settings are those of the bundled model."""
    gemmad = Installed(box)
    gemmad.prepare()
    box.write(CONFIG, SETTINGS.format(python=_debians_version()))
    for name, package in packages.items():
        shutil.copyfile(package, box.file(f"/tmp/{name}.deb"))
    box.file("/usr/sbin/policy-rc.d").unlink(missing_ok=True)  # a container's, by which packages start nothing
    return gemmad


def test_an_installed_package_says_what_it_lacks(packaged: Installed) -> None:
    """`dpkg --install` enables and starts it; without an engine it is up, not ready, and says what mends that."""
    box = packaged.box
    box.run("dpkg", "--install", "/tmp/this.deb", seconds=READY_SECONDS)
    assert box.systemctl("is-enabled", UNIT).strip() == "enabled"
    box.wait_until(lambda: "gemmad engine install" in box.journal(UNIT), seconds=READY_SECONDS)
    assert box.show(UNIT, "ActiveState") == "activating"
    assert packaged.get("/health")[0] == http.client.SERVICE_UNAVAILABLE
    assert box.run("/usr/bin/gemmad", "engine", "list").stdout.startswith("no engines in /var/lib/gemmad/engines")
    refused = box.run("/usr/bin/gemmad", "service", "install", check=False)
    assert "is there from a package" in refused.stderr


def test_an_engine_is_used_by_the_next_life(packaged: Installed) -> None:
    """Once there is an engine, a worker's next life runs in it, and the unit becomes active; curl gets an answer."""
    box = packaged.box
    # a unit, as torch does not load in a process that came into the box's namespaces from outside
    unit = ("systemd-run", "--wait", "--pipe", "--quiet", *(f"--setenv={name}={value}" for name, value in ENV.items()))
    said = box.run(*unit, "/usr/bin/gemmad", "engine", "add", ENGINES_PYTHON, seconds=READY_SECONDS).stdout
    assert "own-1" in said
    box.run("/usr/bin/gemmad", "recycle", "--all", check=False)
    box.wait_until(lambda: box.show(UNIT, "ActiveState") == "active", seconds=READY_SECONDS, words="active")
    assert packaged.answer() == "1, 2, 3."
    commands = {line for line in packaged.family().values() if "gemmad.worker" in line}
    assert commands
    assert all(line.startswith(ENGINES_PYTHON) for line in commands)


def test_a_broken_engine_is_never_current(packaged: Installed) -> None:
    """An engine that is made of nothing but pip is tried, refused and cleared away; the good one stays."""
    box = packaged.box
    box.write("/srv/empty.txt", "pip\n")
    made = box.run("/usr/bin/gemmad", "engine", "install", "empty", "--lock", "/srv/empty.txt", check=False)
    assert made.returncode == 1
    assert "no worker can run in" in made.stderr or "no virtual environment can be made" in made.stderr
    assert sorted(box.run("ls", "/var/lib/gemmad/engines").stdout.split()) == ["current", "own-1"]
    assert box.run("readlink", "/var/lib/gemmad/engines/current").stdout == "own-1\n"


def test_a_packaged_service_is_reloaded(packaged: Installed) -> None:
    """`systemctl reload` takes good settings and refuses bad ones, with the line that is wrong."""
    box, settings = packaged.box, SETTINGS.format(python=_debians_version())
    box.write(CONFIG, settings + "[dispatch]\nmax_waiting = 77\n")
    box.systemctl("reload", UNIT)
    assert "max_waiting = 77" in box.run("/usr/bin/gemmad", "config", "show").stdout
    box.write(CONFIG, settings + "[dispatch]\nmax_wating = 77\n")
    assert "failed" in box.systemctl("reload", UNIT, check=False).lower()
    assert f"{CONFIG}:5: dispatch.max_wating: " in box.journal(UNIT)
    assert packaged.answer() == "1, 2, 3."
    box.write(CONFIG, settings)


def test_an_upgrade_refuses_nobody(packaged: Installed) -> None:
    """`dpkg --install` of a newer one restarts the service under load: settings and engine stay, nobody is refused."""
    box, main = packaged.box, packaged.main_pid()
    with Load(packaged, askers=2) as load:
        box.run("dpkg", "--install", "/tmp/newer.deb", seconds=READY_SECONDS)
        box.wait_until(
            lambda: box.show(UNIT, "MainPID") not in {"0", str(main)} and packaged.is_ready(), seconds=READY_SECONDS
        )
        before = load.statuses.get(http.client.OK, 0)
        box.wait_until(lambda: load.statuses.get(http.client.OK, 0) > before + 5, seconds=READY_SECONDS)
    assert load.failures == []
    assert packaged.main_pid() != main
    assert NEWER in box.run("dpkg-query", "--show", "gemmad").stdout
    assert packaged.answer() == "1, 2, 3."


def test_a_purge_leaves_nothing(packaged: Installed) -> None:
    """`dpkg --remove` stops it and keeps settings and engines; `dpkg --purge` removes them, too."""
    box, family = packaged.box, set(packaged.family())
    assert family
    box.run("dpkg", "--remove", "gemmad", seconds=READY_SECONDS)
    assert packaged.get("/health") == (0, None)
    assert not family & set(box.processes())
    assert box.file(CONFIG).exists()
    assert box.file("/var/lib/gemmad/engines/current").is_symlink()
    box.run("dpkg", "--purge", "gemmad", seconds=READY_SECONDS)
    assert not _files(box)


def _files(box: Box) -> set[str]:
    """Whatever is called after gemmad, but for what these tests put there themselves."""
    found = box.run("find", *PLACES, "-xdev", "-name", "*gemmad*", check=False).stdout.split()
    return {path for path in found if not path.startswith(("/etc/systemd/system/gemmad.service.d", "/etc/gemmad"))} | {
        path for path in found if path.startswith("/etc/gemmad") and not box.file("/etc/gemmad/gemmad.toml").exists()
    }


def _require_debian() -> None:
    missing = [tool for tool in ("dpkg", "dpkg-deb", "deb-systemd-helper") if shutil.which(tool, path=PATH) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if not Path(DEBIANS_PYTHON).exists():
        pytest.skip(f"{DEBIANS_PYTHON} is not installed")
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    if _debians_version() != ours:
        pytest.skip(f"Debian's Python is {_debians_version()}, and the packages here are for {ours}")


def _debians_version() -> str:
    script = "import sys; print(*sys.version_info[:2], sep='.')"
    return subprocess.run([DEBIANS_PYTHON, "-Ic", script], check=True, capture_output=True, text=True).stdout.strip()


def _renewed(line: str) -> str:
    return f"Version: {NEWER}\n" if line.startswith("Version:") else line
