from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gemmad.config.schema import Config
from gemmad.daemon.server import FLUSH_SECONDS

SYSTEMD = Path(__file__).parents[2] / "systemd"
UNITS = ("gemmad.service", "gemmad.socket", "gemmad-devices.service")

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def analyze(unit: str, folder: Path, *arguments: str, user: bool = False) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze on a copy of `unit`, beside the others, whose commands exist here."""
    copies = {"gemmad.service": "gemmad-user.service"} if user else {name: name for name in UNITS}
    for name, source in copies.items():
        text = (SYSTEMD / source).read_text()
        for installed in ("/usr/bin/gemmad", "%h/.local/bin/gemmad", "/usr/bin/nvidia-modprobe"):
            text = text.replace(f"={installed}", "=/bin/true")
        (folder / name).write_text(text)
    command = ["systemd-analyze", *arguments, str(folder / unit)]
    env = os.environ | {"XDG_RUNTIME_DIR": str(folder)}  # the user's manager wants one
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=env)


@needs_systemd
@pytest.mark.parametrize(("name", "user"), [*((name, False) for name in UNITS), ("gemmad.service", True)])
def test_units_verify(name: str, user: bool, tmp_path: Path) -> None:
    """systemd finds nothing to complain about in the units, typos included."""
    manager = "--user" if user else "--system"
    # without --recursive-errors=no unknown keys pass
    result = analyze(name, tmp_path, "verify", manager, "--man=no", "--recursive-errors=no", user=user)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


@needs_systemd
def test_the_system_unit_is_confined(tmp_path: Path) -> None:
    """systemd's own score for the sandbox is 2.5 or better."""
    result = analyze("gemmad.service", tmp_path, "security", "--offline=true", "--threshold=25", "--no-pager")
    assert result.returncode == 0, result.stdout[-200:]


def test_the_offline_drop_in(tmp_path: Path) -> None:
    """The drop-in changes settings of a service and nothing else."""
    lines = (SYSTEMD / "offline.conf").read_text().splitlines()
    settings = [line for line in lines if line and not line.startswith("#")]
    assert settings[0] == "[Service]"
    assert all("=" in line for line in settings[1:])


@pytest.mark.parametrize("name", ["gemmad.service", "gemmad-user.service"])
def test_a_unit_outlasts_the_daemons_own_patience(name: str) -> None:
    """With the default settings a stop is over before systemd loses patience."""
    config = Config()
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)s$", (SYSTEMD / name).read_text(), re.MULTILINE)
    assert int(seconds) > config.shutdown.grace + config.workers.stop_grace + FLUSH_SECONDS


def test_the_socket_unit_listens_where_the_daemon_would() -> None:
    """The socket unit's port is the default one."""
    ports = re.findall(r"^ListenStream=.*:(\d+)$", (SYSTEMD / "gemmad.socket").read_text(), re.MULTILINE)
    assert {int(port) for port in ports} == {Config().server.port}
