from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parents[2] / "systemd"

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def analyze(unit: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze on a copy of `unit` whose command exists here."""
    text = unit.read_text()
    for installed in ("/usr/bin/gemmad", "%h/.local/bin/gemmad"):
        text = text.replace(installed, "/bin/true")
    copy = folder / "gemmad.service"
    copy.write_text(text)
    command = ["systemd-analyze", *arguments, str(copy)]
    env = os.environ | {"XDG_RUNTIME_DIR": str(folder)}  # the user's manager wants one
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=env)


@needs_systemd
@pytest.mark.parametrize(("name", "manager"), [("gemmad.service", "--system"), ("gemmad-user.service", "--user")])
def test_units_verify(name: str, manager: str, tmp_path: Path) -> None:
    """systemd finds nothing to complain about in the units, typos included."""
    # without --recursive-errors=no unknown keys pass
    result = analyze(SYSTEMD / name, tmp_path, "verify", manager, "--man=no", "--recursive-errors=no")
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


@needs_systemd
def test_the_system_unit_is_confined(tmp_path: Path) -> None:
    """systemd's own score for the sandbox is 2.5 or better."""
    result = analyze(SYSTEMD / "gemmad.service", tmp_path, "security", "--offline=true", "--threshold=25", "--no-pager")
    assert result.returncode == 0, result.stdout[-200:]
