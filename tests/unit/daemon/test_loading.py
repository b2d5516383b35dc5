"""What people see while workers load."""

from __future__ import annotations

import logging
import os
import pty
import select
from collections.abc import Iterator
from typing import Any, TextIO

import pytest

from gemmad.daemon.loading import LoadingLines, LoadingShow
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.wishes import WorkerStatus

TERMINAL = {"TERM": "xterm-256color"}


def worker(stage: str | None, fraction: float | None = None, *, name: str = "gpu0", life: int = 1) -> WorkerStatus:
    """One that loads this; None: it does not load."""
    state = State.READY if stage is None else State.STARTING
    return WorkerStatus(
        name=name, device="cuda:0", state=state, life=life, pid=1, stage=stage, fraction=fraction, since=0.0,
        retry_at=None, faults=0.0, last_error=None, load=None, capacity=None,
    )  # fmt: skip


class Terminal:
    """A pseudo terminal: what is written to `stream`, `shown` returns."""

    def __init__(self) -> None:
        self._ours, theirs = pty.openpty()
        self.stream: TextIO = os.fdopen(theirs, "w")

    def shown(self) -> str:
        """All that came since the last call."""
        said = b""
        while select.select([self._ours], [], [], 0.05)[0]:
            said += os.read(self._ours, 65536)
        return said.decode()

    def hang_up(self) -> None:
        """The window is closed."""
        os.close(self._ours)
        self._ours = -1

    def close(self) -> None:
        """Let go of both ends."""
        self.stream.close()
        if self._ours >= 0:
            os.close(self._ours)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """One that is open."""
    opened = Terminal()
    yield opened
    opened.close()


@pytest.fixture
def handler(terminal: Terminal) -> Iterator[logging.StreamHandler[TextIO]]:
    """The log goes to the terminal."""
    to_terminal = logging.StreamHandler(terminal.stream)
    logging.getLogger().addHandler(to_terminal)
    yield to_terminal
    logging.getLogger().removeHandler(to_terminal)


def test_lines_tell_changes_of_stage(caplog: pytest.LogCaptureFixture) -> None:
    """Where there is no terminal each stage is one line, however often it is looked, with what the last one took."""
    caplog.set_level("INFO")
    now = [0.0]
    lines = LoadingLines(clock=lambda: now[0])
    for at, stage, fraction in [
        (0, "imports", 0.0), (1, "imports", 0.0), (4.84, "weights", 0.0), (5, "weights", 0.5), (6.34, "graphs", 0.1),
        (9, None, None), (20, None, None),
    ]:  # fmt: skip
        now[0] = at
        lines.look([worker(stage, fraction)])
    lines.look([worker("imports", life=2), worker("weights", name="gpu1")])
    said: list[Any] = [record.msg for record in caplog.records]
    fields = [(line["worker"], line["life"], line["stage"], line.get("done"), line.get("seconds")) for line in said]
    assert fields == [
        ("gpu0", 1, "imports", None, None),
        ("gpu0", 1, "weights", "imports", 4.8),
        ("gpu0", 1, "graphs", "weights", 1.5),
        ("gpu0", 2, "imports", None, None),
        ("gpu1", 1, "weights", None, None),
    ]


def test_a_terminal_gets_a_bar(terminal: Terminal) -> None:
    """A worker's stage and share are drawn, each worker's on a line, and taken away when nobody loads any more."""
    show = LoadingShow(terminal.stream, env=TERMINAL)
    show.look([worker(None)])
    assert terminal.shown() == ""
    show.look([worker("weights", 0.37), worker("imports", 0.0, name="gpu1")])
    shown = terminal.shown()
    assert "gpu0" in shown
    assert "loading weights" in shown
    assert "37%" in shown
    assert "gpu1" in shown
    assert "loading imports" in shown
    show.look([worker("graphs", 0.5), worker(None, name="gpu1")])
    shown = terminal.shown()
    assert "loading graphs" in shown
    assert "gpu1" not in shown
    show.look([worker(None), worker(None, name="gpu1")])
    assert "\x1b[2K" in terminal.shown(), "the bar's line is cleared"
    show.look([worker("imports", life=2)])
    assert "loading imports" in terminal.shown(), "the next life is shown again"
    show.close()


def test_log_lines_go_above_the_bar(terminal: Terminal, handler: logging.StreamHandler[TextIO]) -> None:
    """A line that is logged meanwhile is whole and not wrapped, with the bar below it; then all is as before."""
    show = LoadingShow(terminal.stream, env=TERMINAL)
    show.look([worker("weights", 0.25)])
    terminal.shown()
    long = "an event " + "x" * 300
    logging.getLogger("gemmad.test").warning(long)
    shown = terminal.shown()
    assert long in shown
    assert "25%" in shown[shown.index(long) :]
    assert handler.stream is not terminal.stream
    show.close()
    assert handler.stream is terminal.stream


def test_a_terminal_that_goes_away(terminal: Terminal, caplog: pytest.LogCaptureFixture) -> None:
    """A closed window is no error; changes of stage are lines from then on."""
    caplog.set_level("INFO")
    show = LoadingShow(terminal.stream, env=TERMINAL)
    show.look([worker("weights", 0.25)])
    terminal.hang_up()
    show.look([worker("weights", 0.5)])
    show.look([worker("graphs", 0.5)])
    show.close()
    said: list[Any] = [record.msg for record in caplog.records]
    assert [line["stage"] for line in said] == ["weights", "graphs"]


@pytest.mark.parametrize("env", [{}, {"TERM": "dumb"}])
def test_a_terminal_that_cannot_draw(terminal: Terminal, env: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """A dumb terminal gets lines."""
    caplog.set_level("INFO")
    show = LoadingShow(terminal.stream, env=env)
    show.look([worker("weights", 0.25)])
    show.close()
    assert terminal.shown() == ""
    assert len(caplog.records) == 1
