"""What is kept of the log for those who look from a page."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from gemmad import logs
from gemmad.monitor.tail import EVENT_CHARACTERS, MOST_FIELDS, VALUE_CHARACTERS, LogTail

log = logs.get_logger("gemmad.test_tail")


@pytest.fixture
def tail() -> Iterator[LogTail]:
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    with LogTail(limit=5).attached() as tail:
        yield tail
    root.setLevel(level)


def test_an_event(tail: LogTail) -> None:
    """A line is an event with when, how severe, who, and its values: numbers stay numbers, the rest is text."""
    log.warning("worker gone", worker="gpu0", seconds=1.5, life=3, again=True, errors=["a", "b"], reason=None)
    log.debug("nobody asked for this")
    (line,) = tail.after(0)
    assert (line.number, line.level, line.logger, line.event) == (1, "warning", "gemmad.test_tail", "worker gone")
    assert line.at.endswith("Z")
    assert line.fields == {
        "worker": "gpu0",
        "seconds": 1.5,
        "life": 3,
        "again": True,
        "errors": "['a', 'b']",
        "reason": None,
    }


def test_a_librarys_line(tail: LogTail) -> None:
    """What a library logs is text, with when it was."""
    logging.getLogger("some.library").error("it broke %d times", 3)
    (line,) = tail.after(0)
    assert (line.level, line.logger, line.event, line.fields) == ("error", "some.library", "it broke 3 times", {})
    assert line.at.endswith("Z")


@pytest.mark.parametrize("name", sorted(logs.WITHHELD))
def test_what_people_wrote_is_withheld(tail: LogTail, name: str) -> None:
    """Fields that no log line shows are not shown here either, whoever passes them and however."""
    log.info("asked", **{name: "my secret"})
    logging.getLogger("other").info({"event": "asked", name: "my secret"})
    for line in tail.after(0):
        assert line.fields == {name: "(withheld)"}


def test_an_exception(tail: LogTail) -> None:
    """Of an exception its kind and place are told, and not its words, which may quote what somebody wrote."""
    try:
        raise ValueError("the client wrote this")
    except ValueError as error:
        log.exception("it crashed")
        log.error("it crashed", exc_info=error)
        logging.getLogger("other").exception("it crashed")
    lines = tail.after(0)
    assert len(lines) == 3
    for line in lines:
        assert line.fields["exception"].startswith("ValueError in test_an_exception (test_tail.py:")
        assert "wrote" not in str(line)
    log.error("no exception", exc_info=True)
    assert "exception" not in tail.after(3)[0].fields


def test_long_lines_are_cut(tail: LogTail) -> None:
    """Whatever is logged, a line has its bounds; what a page cannot count with is text."""
    fields = {f"field_{number}": number for number in range(100)}
    log.info("x" * 10_000, value="y" * 10_000, large=1 << 60, broken=float("nan"), **fields)
    (line,) = tail.after(0)
    assert len(line.event) == EVENT_CHARACTERS
    assert len(line.fields["value"]) == VALUE_CHARACTERS
    assert len(line.fields) <= MOST_FIELDS
    assert (line.fields["large"], line.fields["broken"]) == (str(1 << 60), "nan")


def test_the_last_ones_are_kept(tail: LogTail) -> None:
    """The oldest go; who asks for what came after a line gets what is left of it, by numbers that rise."""
    for number in range(1, 8):
        log.info("said", number=number)
    assert [line.number for line in tail.after(0)] == [3, 4, 5, 6, 7]
    assert [line.number for line in tail.after(5)] == [6, 7]
    assert tail.after(7) == ()
    assert tail.after(1000) == ()
    assert [line.fields["number"] for line in tail.after(0)] == [3, 4, 5, 6, 7]


def test_from_many_threads() -> None:
    """Each line gets a number of its own, whichever thread it comes from."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    with LogTail(limit=1000).attached() as tail:
        threads = [threading.Thread(target=lambda: [log.info("said") for _ in range(100)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            numbers = [line.number for line in tail.after(0)]
            assert numbers == list(range(1, len(numbers) + 1))
        for thread in threads:
            thread.join()
        assert [line.number for line in tail.after(0)] == list(range(1, 401))
    root.setLevel(level)
    log.info("nobody hears this any more")
    assert len(tail.after(0)) == 400


def test_what_cannot_be_written_down(tail: LogTail, capsys: pytest.CaptureFixture[str]) -> None:
    """A value that cannot be told costs its line, not the one who logs it."""

    class Mute:
        def __str__(self) -> str:
            raise RuntimeError("no words")

    record = logging.LogRecord("x", logging.INFO, "", 0, {"event": "said", "value": Mute()}, None, None)
    tail.handle(record)
    log.info("said")
    assert [line.number for line in tail.after(0)] == [2]
    assert "no words" in capsys.readouterr().err
