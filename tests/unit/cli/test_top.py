"""What `gemmad top` draws at any size, and how it asks."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.api.dashboard.snapshot import Snapshot
from gemmad.api.overview import Configuration, Overview, PendingSetting, Reload
from gemmad.api.services import Trouble
from gemmad.cli.top_glyphs import ASCII, UNICODE, bar, glyphs_for, spark
from gemmad.cli.top_picture import LOG_LINES, Picture, Sort
from gemmad.cli.top_screen import can_draw, painted, size_of
from gemmad.cli.top_view import view
from gemmad.cli.top_workers import short_bytes
from gemmad.dispatch.listing import Listed
from gemmad.generation import MemoryRow
from gemmad.monitor.alert import Alert
from gemmad.monitor.live import LivePoint
from gemmad.monitor.tail import LogLine
from gemmad.supervisor.gauges import GpuGauge
from tests.unit.cli.conftest import Command
from tests.unit.cli.operated import BUSY, overview, played, worker

GIB = 1 << 30
PLAN = (MemoryRow("weights", 60 * GIB), MemoryRow("kv full", 12 * GIB))
GAUGE = GpuGauge(
    uuid="GPU-1",
    label="0",
    name="NVIDIA H200",
    utilisation=0.97,
    memory_used_bytes=71 * GIB,
    memory_total_bytes=140 * GIB,
    power_watts=512.3,
    power_limit_watts=700.0,
    temperature_celsius=61.0,
)
ALERT = Alert(
    level="critical",
    about="kv",
    worker="gpu0",
    share=0.97,
    words="KV cache 97 % used",
    action="lower engine.max_sequences",
    since_seconds=12.0,
)


def point(at: float, **fields: Any) -> LivePoint:
    usual: dict[str, Any] = {"running": 1, "waiting": 0, "ttft_p50": 0.1, "ttft_p95": 0.25}
    usual |= {"tokens_per_second": at, "prompt_tokens_per_second": 0.0}
    return LivePoint(at=at, **(usual | fields))


def request(name: str = "req_1", **fields: Any) -> Listed:
    usual: dict[str, Any] = {"worker": "gpu0", "suspect": False, "age_seconds": 12.3, "worker_seconds": 12.0}
    usual |= {"prompt_tokens": 812, "images": 1, "said_tokens": 40, "max_tokens": 512, "priority": 0, "failovers": 0}
    return Listed(request_id=name, **(usual | fields))


def line(number: int, event: str = "finished", level: str = "info") -> LogLine:
    return LogLine(
        number=number, at="2026-11-23T07:08:09Z", level=level, logger="gemmad", event=event, fields={"tokens": number}
    )


def busy(name: str = "gpu0", **fields: Any) -> Any:
    usual: dict[str, Any] = {"load": BUSY, "kv_usage": 0.41, "memory": PLAN, "next_recycle_in_seconds": 7200.0}
    return worker(name, **(usual | fields))


def snapshot(seen: Overview | None = None, **fields: Any) -> Snapshot:
    usual: dict[str, Any] = {"at": 1000.0, "point": point(1000.0), "gpus": (GAUGE,)}
    return Snapshot(overview=seen or overview(busy()), **(usual | fields))


def full(workers: int = 2, requests: int = 30, lines: int = 50) -> Picture:
    """A busy daemon."""
    seen = snapshot(
        overview(*(busy(f"gpu{number}") for number in range(workers))),
        requests=tuple(request(f"req_{number}", age_seconds=float(number)) for number in range(requests)),
        alerts=(ALERT,),
        log=tuple(line(number) for number in range(lines)),
    )
    return Picture().with_points(tuple(point(float(at)) for at in range(400))).with_snapshot(seen)


def shown(picture: Picture, width: int = 80, height: int = 24, *, now: float = 0.0) -> list[str]:
    return [text.plain for text in view(picture, width=width, height=height, now=now, glyphs=UNICODE)]


def test_everything_at_80_by_24() -> None:
    """A usual terminal has the daemon, its alerts, workers with bars, curves, requests, and the keys below."""
    lines = shown(full())
    assert len(lines) == 24
    assert lines[0].startswith("gemmad 1.2.3  ready  up 3h 3m  pid 123")
    assert lines[1] == "3 running  1 waiting  12.5 tokens/s  4 finished  1 failed  2 refused"
    assert lines[2] == "gemma-3-12b-it  http://127.0.0.1:4363/v1  context 8192"
    assert lines[3] == "critical gpu0: KV cache 97 % used; lower engine.max_sequences"
    assert lines[4] == "gpu0 ready  12+2/16  KV ██████░░░░░░░░ 41%  VRAM ███████│░░░░░░ 70.0G/72.0G"
    assert lines[5] == "  GPU 97%  61C  512/700W  device 71.0G/140G  host 3.0G  life 1  for 1m 2s"
    assert lines[6] == "  cached 25%  recycle in 2h 0m"
    assert [words[:8] for words in lines[10:13]] == ["tokens/s", "TTFT p95", "queue   "]
    assert lines[11].endswith("  250 ms")
    assert lines[14] == "WORKER      AGE        SAID  PROMPT IMAGES  REQUEST"
    assert lines[15] == "gpu0        29s      40/512     812      1  req_29"
    assert lines[-1] == "q quit  p pause  s sort: age"


def test_a_large_terminal_has_the_log() -> None:
    """Room that is left goes to requests, and what they leave to the last lines of the log."""
    lines = shown(full(requests=3), width=120, height=50)
    assert lines[-2] == "07:08:09 finished tokens=49"
    assert "LOG" in lines
    assert sum("req_" in words for words in lines) == 3


def test_a_narrow_terminal_breaks_lines() -> None:
    """With 40 columns what a worker has goes into more lines, and nothing is wider."""
    lines = shown(full(workers=1, requests=1), width=40, height=30)
    assert lines[0] == "gemmad 1.2.3  ready  up 3h 3m  pid 123"
    assert "gpu0 ready  12+2/16  KV ██░░░░ 41%" in lines
    assert "  VRAM ███│░░ 70.0G/72.0G  GPU 97%  61C" in lines
    assert max(map(len, lines)) <= 40


def test_what_a_small_terminal_keeps() -> None:
    """The log goes first, then requests, details of workers, curves and alerts; the state stays."""

    def parts(height: int) -> str:
        lines = shown(full(requests=3), height=height)
        found = {
            "log": "LOG" in lines,
            "requests": any(words.startswith("WORKER") for words in lines),
            "details": any("recycle in" in words for words in lines),
            "curves": any(words.startswith("queue") for words in lines),
            "alerts": any(words.startswith("critical") for words in lines),
            "keys": any(words.startswith("q quit") for words in lines),
            "workers": any(words.startswith("gpu1") for words in lines),
            "state": "ready" in lines[0],
        }
        return " ".join(name for name, there in found.items() if there)

    assert parts(40) == "log requests details curves alerts keys workers state"
    assert parts(20) == "requests details curves alerts keys workers state"
    assert parts(14) == "details curves alerts keys workers state"
    assert parts(10) == "curves alerts keys workers state"
    assert parts(7) == "alerts keys workers state"
    assert parts(1) == "state"


@given(
    width=st.integers(1, 200),
    height=st.integers(1, 80),
    workers=st.integers(0, 20),
    requests=st.integers(0, 40),
    lines=st.integers(0, 30),
)
def test_it_never_overflows(width: int, height: int, workers: int, requests: int, lines: int) -> None:
    """Whatever there is and however small the terminal, no line is too wide and there are not too many."""
    drawn = view(full(workers, requests, lines), width=width, height=height, now=0.0, glyphs=UNICODE)
    assert 1 <= len(drawn) <= height
    assert all(text.cell_len <= width and "\n" not in text.plain for text in drawn)


def test_more_workers_than_lines() -> None:
    """Workers that have no room are counted."""
    assert "10 more workers" in shown(full(workers=16, requests=0, lines=0), height=10)


def test_a_worker_that_loads() -> None:
    """While it loads there is its stage, with a bar; what it waits for and why it failed stand below."""
    seen = overview(
        worker("gpu0", state="starting", stage="weights", progress=0.5),
        worker("gpu1", state="waiting", stage="memory", waits_for="12 GiB", last_error="killed\x1b[2J", pid=None),
        worker("gpu2", successor=worker("gpu2", state="starting", stage="warm-up", progress=0.1)),
    )
    lines = shown(Picture().with_snapshot(snapshot(seen, gpus=())))
    assert any(words.startswith("gpu0 starting: weights 50%  load ███████░░░░░░░") for words in lines)
    assert "  waits for: 12 GiB" in lines
    assert "  last error: killed [2J" in lines
    assert "  next starting: warm-up 10%" in lines


def test_a_worker_on_the_cpu_has_no_vram() -> None:
    """Its memory is the host's."""
    seen = overview(busy("cpu0", gpu=None, device="cpu"))
    assert not any("VRAM" in words for words in shown(Picture().with_snapshot(snapshot(seen, gpus=()))))


def test_a_daemon_that_goes_and_comes_back() -> None:
    """Without an answer the last picture stays, below why and since when; with the next answer that goes."""
    picture = full().with_trouble("no daemon is running", now=10.0).with_trouble("still none", now=15.0)
    assert shown(picture, now=20.0)[1] == "no answer, for 10s: still none"
    assert any("gpu0" in words for words in shown(picture, now=20.0))
    assert not any("no answer" in words for words in shown(picture.with_snapshot(snapshot())))
    nobody = Picture().with_trouble("no daemon is running", now=0.0)
    assert shown(nobody, now=2.5) == ["no answer, for 2.5s: no daemon is running", "", "q quit  p pause  s sort: age"]
    assert shown(Picture())[0] == "asking the daemon"


def test_the_configuration() -> None:
    """A refused reload, settings that wait and a missing model are seen at once."""
    refused = Configuration(path="/g.toml", reload=Reload(ok=False, seconds_ago=4.0, errors=("no",)))
    trouble = Trouble("a/b is not here", "`gemmad pull a/b`")
    lines = shown(Picture().with_snapshot(snapshot(overview(state="no_model", config=refused, trouble=trouble))))
    assert lines[0].startswith("gemmad 1.2.3  without a model")
    assert lines[1] == "a/b is not here; to mend it: `gemmad pull a/b`"
    assert any("config REFUSED 4.0s ago" in words for words in lines)
    pending = Reload(ok=True, seconds_ago=4.0, rolling=("a",), pending=(PendingSetting("b", "restart"),))
    lines = shown(Picture().with_snapshot(snapshot(overview(config=Configuration(path="/g", reload=pending)))))
    assert any("a worker tries new settings  1 settings wait" in words for words in lines)


def test_requests_are_sorted() -> None:
    """By age, by what they have said, by their prompts, by their workers, and round again; who waits comes last."""
    seen = snapshot(
        requests=(
            request("old", age_seconds=9.0, said_tokens=1, prompt_tokens=1, worker="gpu1"),
            request("waits", age_seconds=99.0, worker=None),
            request("long", age_seconds=1.0, said_tokens=2, prompt_tokens=9, worker="gpu0"),
            request("big", age_seconds=2.0, said_tokens=9, prompt_tokens=2, worker="gpu2"),
        )
    )
    picture = Picture().with_snapshot(seen)
    orders = {}
    for _ in Sort:
        orders[picture.sort] = [each.request_id for each in picture.requests()]
        picture = msgspec.structs.replace(picture, sort=picture.sort.next)
    assert picture.sort is Sort.AGE
    assert orders == {
        Sort.AGE: ["old", "big", "long", "waits"],
        Sort.SAID: ["big", "long", "old", "waits"],
        Sort.PROMPT: ["long", "big", "old", "waits"],
        Sort.WORKER: ["long", "old", "big", "waits"],
    }


def test_the_log_grows() -> None:
    """Lines come once, the oldest go, and another daemon's begin anew."""
    picture = Picture().with_snapshot(snapshot(log=tuple(line(number) for number in range(150))))
    picture = picture.with_snapshot(snapshot(log=tuple(line(number) for number in range(100, 250))))
    assert [each.number for each in picture.log] == list(range(250 - LOG_LINES, 250))
    other = snapshot(overview(busy(), pid=99), log=(line(0),))
    assert [each.number for each in picture.with_snapshot(other).log] == [0]


def test_points_come_once() -> None:
    """Looking twice within a second adds one point."""
    picture = Picture().with_points((point(1.0),)).with_snapshot(snapshot(point=point(1.0)))
    assert len(picture.with_snapshot(snapshot(point=point(2.0))).points) == 2
    assert len(picture.with_snapshot(snapshot(point=None)).points) == 1


def test_bars_and_curves() -> None:
    """A bar is full by its share and has a mark; a curve's latest value is at the right, in Unicode or ASCII."""
    assert bar(0.5, 4, UNICODE).plain == "██░░"
    assert bar(7.0, 4, ASCII, mark=0.5).plain == "##|#"
    assert [bar(share, 2, ASCII).style for share in (0.5, 0.8, 0.95)] == ["green", "yellow", "red"]
    assert spark([0, 1, 2, 4, 8], 6, UNICODE) == "  ▁▂▄█"
    assert spark([1, None, 8, 8], 2, ASCII) == ".@"
    assert spark([], 3, ASCII) == "   "
    assert spark([1.0], 0, ASCII) == ""
    assert glyphs_for("utf-8") is UNICODE
    assert {glyphs_for(name) for name in ("ascii", "latin-1", None, "nonsense")} == {ASCII}


def test_short_bytes() -> None:
    """A few characters, whatever the size."""
    sizes = (512 << 10, 820 << 20, 71 * GIB, 140 * GIB, 3 << 40)
    assert [short_bytes(size) for size in sizes] == ["512K", "820M", "71.0G", "140G", "3.0T"]


def test_colour_is_for_terminals_that_want_it() -> None:
    """Colours on a terminal; none with NO_COLOR, and no escape at all where it is none."""
    lines = view(full(), width=80, height=24, now=0.0, glyphs=UNICODE)

    def drawn(env: dict[str, str], *, terminal: bool) -> str:
        return "\n".join(painted(lines, width=80, env=env, terminal=terminal))

    assert "\x1b[32m" in drawn({"TERM": "xterm"}, terminal=True)
    assert "\x1b[3" not in drawn({"TERM": "xterm", "NO_COLOR": "1"}, terminal=True)
    assert "\x1b" not in drawn({"TERM": "xterm"}, terminal=False)


def test_where_it_can_be_drawn() -> None:
    """A file is no terminal; sizes come from the environment there, and are 80 by 24 where that is silent."""
    with open("/dev/null") as null:
        assert not can_draw(null, null, {"TERM": "xterm"})
        assert size_of(null, {}) == (80, 24)
        assert size_of(null, {"COLUMNS": "100", "LINES": "x"}) == (100, 24)


def test_one_frame(gemmad: Command, config_dir: Any) -> None:
    """What is no terminal gets one plain frame; --json is the daemon's own words."""
    seen = msgspec.to_builtins(snapshot(requests=(request(),), log=(line(1),)))
    with played(config_dir / "run") as control:
        control.body = json.dumps(seen | {"points": [], "news": 1}).encode()
        said = gemmad("top", "--once")
        assert (said.exit_code, said.stderr) == (0, "")
        assert said.stdout.startswith("gemmad 1.2.3  ready")
        assert "req_1" in said.stdout
        assert "\x1b" not in said.stdout
        assert control.asked == ["GET /live", "GET /snapshot"]
        assert json.loads(gemmad("top", "--json").stdout)["news"] == 1
        control.body = b"[]"
        said = gemmad("top")
        assert said.exit_code == 1
        assert "not this version's" in said.stderr


@pytest.mark.parametrize("flag", ["--once", "--json"])
def test_nobody_is_there(gemmad: Command, flag: str) -> None:
    """Without a daemon a single frame is none: 3."""
    said = gemmad("top", flag)
    assert (said.exit_code, said.stdout) == (3, "")
    assert said.stderr.startswith("gemmad: no daemon is running")
