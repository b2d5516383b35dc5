"""`gemmad memory`: who is asked, what is shown, and what is drawn."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gemmad.cli.memory_text import SPARK_WIDTH, sparkline
from gemmad.monitor.sample import MemorySample, Samples
from gemmad.monitor.samplefile import SampleFile
from tests.fakes.somebody import needs_root, somebody_else
from tests.unit.cli.conftest import Command
from tests.unit.cli.operated import played
from tests.unit.monitor.samples import GIB, T0, sample

WEEK = [sample(T0 + 3600.0 * i, full_pages_used=10 * (i % 31)) for i in range(168)]
TITLES = "WORKER PLANNED RESERVED KV PEAK DRIFT HOST RSS FRAGMENTED SET BACK LIVES"
PNG, SVG = b"\x89PNG\r\n", b"<?xml"


def body(*samples: MemorySample) -> bytes:
    return msgspec.json.encode(Samples(samples))


def keep(folder: Path, *samples: MemorySample) -> Path:
    """As a daemon leaves them."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "history.sqlite3"
    file = SampleFile.open(path)
    file.add(samples)
    file.close()
    return path


def test_what_the_daemon_tells(gemmad: Command, config_dir: Path) -> None:
    """The running daemon is asked for the time that is meant; a line for each worker, then what follows."""
    with played(config_dir / "run") as socket:
        socket.body = body(*WEEK, sample(T0 + 10, "gpu1", preemptions=0), sample(T0 + 20, "gpu1", preemptions=3))
        said = gemmad("memory", "--since", "7d")
    assert said.exit_code == 0
    assert len(socket.asked) == 1
    assert socket.asked[0].startswith("GET /memory?since=")
    first, _, titles, gpu0, gpu1, _, *advice = said.stdout.splitlines()
    assert first == "memory over 7 days, as the running daemon tells"
    assert titles.split() == TITLES.split()
    assert gpu0.startswith("gpu0    72.00 GiB  70.00 GiB   30% ")
    assert "▃" in gpu0
    assert gpu1.startswith("gpu1")
    assert advice[0].startswith("gpu0: peak KV use 30% over 7 days: 6.25 GiB of 10.00 GiB could go")
    assert "3 requests were set back" in advice[1]


def test_the_time_that_is_meant(gemmad: Command, config_dir: Path) -> None:
    """Both ends are told to the daemon as moments; a mistake in one is named with its option."""
    with played(config_dir / "run") as socket:
        socket.body = body(sample())
        assert gemmad("memory", "--since", "1800000000", "--until", "1800000060").exit_code == 0
        for arguments in (("--since", "soon"), ("--until", "nan"), ("--since", "1h", "--until", "2h")):
            said = gemmad("memory", *arguments)
            assert (said.exit_code, said.stdout) == (2, "")
            assert arguments[0] in said.stderr
    assert socket.asked == ["GET /memory?since=1800000000.000&until=1800000060.000&limit=600"]


def test_one_worker(gemmad: Command, config_dir: Path) -> None:
    """Only the one that is named; the others are named if there is none of that name."""
    with played(config_dir / "run") as socket:
        socket.body = body(sample(), sample(worker="gpu1"))
        assert "gpu0" not in gemmad("memory", "--worker", "gpu1").stdout
        said = gemmad("memory", "--worker", "gpu7")
    assert said.exit_code == 2
    assert "gpu0, gpu1" in said.stderr


def test_json(gemmad: Command, config_dir: Path) -> None:
    """For programs: the samples as they are, and suggestions."""
    with played(config_dir / "run") as socket:
        socket.body = body(*WEEK)
        told = json.loads(gemmad("memory", "--json").stdout)
    assert msgspec.convert(told["samples"], tuple[MemorySample, ...]) == tuple(WEEK)
    assert [each["about"] for each in told["suggestions"]] == ["kv"]


def test_no_daemon_runs(gemmad: Command, config_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then what the last one has kept is read, and where that lies is said."""
    state = config_dir / "state"
    monkeypatch.setenv("GEMMAD_STATE_DIR", str(state))
    said = gemmad("memory")
    assert said.exit_code == 3
    assert str(state) in said.stderr
    path = keep(state, *WEEK)
    said = gemmad("memory", "--since", "1800000000", "--until", "1900000000")
    assert said.exit_code == 0
    assert f"as {path} has it, for no daemon is running" in said.stdout
    said = gemmad("memory", "--since", "1900000000", "--until", "1900000001")
    assert said.exit_code == 0
    assert "no samples of that time" in said.stdout + said.stderr


def test_a_broken_file(gemmad: Command, config_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left as it is, and said to be one."""
    monkeypatch.setenv("GEMMAD_STATE_DIR", str(config_dir))
    (config_dir / "history.sqlite3").write_bytes(b"no database at all, and long enough to look like one" * 10)
    said = gemmad("memory")
    assert said.exit_code == 1
    assert "cannot be read" in said.stderr


@needs_root
def test_no_access(gemmad: Command, config_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may not read the file is told so."""
    monkeypatch.setenv("GEMMAD_STATE_DIR", str(config_dir / "state"))
    keep(config_dir / "state", sample())
    with somebody_else():
        said = gemmad("memory")
    assert said.exit_code == 4


def test_an_answer_of_another_version(gemmad: Command, config_dir: Path) -> None:
    """It is said, with what to look at."""
    with played(config_dir / "run") as socket:
        socket.body = b'{"something": "else"}'
        said = gemmad("memory")
    assert said.exit_code == 1
    assert "gemmad version" in said.stderr


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "begin"), [("memory.png", PNG), ("memory.SVG", SVG)])
def test_a_picture(gemmad: Command, config_dir: Path, name: str, begin: bytes) -> None:
    """PNG or SVG, by the name of the file; the table is shown all the same."""
    with played(config_dir / "run") as socket:
        socket.body = body(*WEEK, *(sample(T0 + 3600.0 * i, "gpu1", life=1 + i // 90) for i in range(168)))
        said = gemmad("memory", "--plot", str(config_dir / name))
    assert said.exit_code == 0
    assert said.stdout.startswith("memory over")
    assert (config_dir / name).read_bytes().startswith(begin)


def test_a_picture_of_a_cpu(gemmad: Command, config_dir: Path) -> None:
    """One sample of a worker without a GPU can be drawn, too."""
    nothing: dict[str, Any] = dict.fromkeys(
        ("gpu", "planned_bytes", "reserved_bytes", "allocated_bytes", "above_baseline_bytes")
    )
    with played(config_dir / "run") as socket:
        socket.body = body(sample(worker="cpu0", host_rss_bytes=GIB, **nothing))
        assert gemmad("memory", "--plot", str(config_dir / "one.png")).exit_code == 0


def test_pictures_that_cannot_be(gemmad: Command, config_dir: Path) -> None:
    """Another kind of file, a folder that is not there, and nothing to draw: each is said."""
    with played(config_dir / "run") as socket:
        assert gemmad("memory", "--plot", "memory.gif").exit_code == 2
        socket.body = body(sample())
        said = gemmad("memory", "--plot", str(config_dir / "none/x.png"))
        assert said.exit_code == 1
        assert "No such file" in said.stderr
        socket.body = body()
        said = gemmad("memory", "--plot", str(config_dir / "x.png"))
        assert said.exit_code == 1
        assert "nothing to draw" in said.stderr


def test_without_matplotlib(config_dir: Path) -> None:
    """The extra that is missing is named; and nobody imports it who draws nothing."""
    keep(config_dir / "state", sample())
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from gemmad.cli.main import app; app(sys.argv[1:], prog_name='gemmad')"
    )
    env = {f"GEMMAD_{name}_DIR": str(config_dir / name.lower()) for name in ("STATE", "RUNTIME", "CONFIG")}
    arguments = [sys.executable, "-c", code, "memory", "--since", "1799999999", "--until", "1800000001"]
    plain = subprocess.run(arguments, env=env, capture_output=True, text=True, check=False)
    assert (plain.returncode, plain.stderr) == (0, "")
    drawn = subprocess.run([*arguments, "--plot", "x.png"], env=env, capture_output=True, text=True, check=False)
    assert drawn.returncode == 1
    assert "pip install 'gemmad[plot]'" in drawn.stderr


def test_sparklines() -> None:
    """Each bar is the highest of its part; what was not measured is blank."""
    assert sparkline([0.0, 0.5, 1.0, None], top=1.0, width=4) == "▁▅█ "
    assert sparkline([0.1, 1.0, 0.1, 0.1], top=1.0, width=2) == "█▁"
    assert sparkline([0.0] * 40, top=0.0) == "▁" * SPARK_WIDTH
