from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
from collections.abc import Iterator
from typing import TextIO

import pytest

from gemmad import logs

log = logs.get_logger("gemmad.test")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _root_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def configured(level: str = "info", format: str = "json", stream: TextIO | None = None) -> TextIO:
    out = stream or io.StringIO()
    logs.configure(level, format, stream=out, env={})
    return out


def lines(out: TextIO) -> list[str]:
    out.seek(0)
    return out.read().splitlines()


def test_json_lines() -> None:
    """An event is one JSON object: when (ISO, UTC), how severe, who, what, and its values."""
    out = configured()
    log.info("worker ready", worker="gpu0", seconds=1.5, folder=os)
    (line,) = lines(out)
    event = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", event["timestamp"])
    assert list(event)[:4] == ["timestamp", "level", "logger", "event"]
    assert (event["level"], event["logger"], event["event"]) == ("info", "gemmad.test", "worker ready")
    assert (event["worker"], event["seconds"], event["folder"]) == ("gpu0", 1.5, str(os))


def test_auto_is_text_on_a_terminal_and_json_elsewhere() -> None:
    """`auto` looks at the stream; colours are for a terminal, unless NO_COLOR is set."""
    out = configured(format="auto", stream=Terminal())
    log.info("hello")
    assert "\x1b[" in lines(out)[0]
    logs.configure("info", "auto", stream=(out := Terminal()), env={"NO_COLOR": "1"})
    log.info("hello", a=1)
    assert "\x1b[" not in lines(out)[0]
    assert "a=1" in lines(out)[0]
    out = configured(format="auto")
    log.info("hello")
    assert json.loads(lines(out)[0])["event"] == "hello"


def test_configuring_again_replaces() -> None:
    """A second configuration takes the place of the first: no line is written twice."""
    first, second = configured(), configured()
    log.info("once")
    assert (len(lines(first)), len(lines(second))) == (0, 1)


def test_level_changes_while_running() -> None:
    """The least severe level that is logged can change at any time, for loggers that exist already."""
    out = configured()
    log.debug("unseen")
    logs.set_level("debug")
    log.debug("seen")
    logs.set_level("error")
    log.warning("unseen")
    assert [json.loads(line)["event"] for line in lines(out)] == ["seen"]


def test_libraries_log_the_same_way() -> None:
    """Loggers of the standard library come out as events, the talkative ones from warnings on."""
    out = configured("debug")
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("httpx").info("GET https://secret.example/token")
    logging.getLogger("uvicorn.error").warning("bad %s", "thing")
    (event,) = map(json.loads, lines(out))
    assert (event["level"], event["logger"], event["event"]) == ("warning", "uvicorn.error", "bad thing")


def test_what_people_wrote_is_withheld() -> None:
    """Prompts, pictures and keys are no log values, whoever passes them."""
    out = configured()
    log.warning("odd", prompt="dear diary", api_key="sk-1", messages=[1], worker="w")
    (line,) = lines(out)
    assert "diary" not in line
    assert "sk-1" not in line
    assert json.loads(line)["worker"] == "w"


def test_text_lines_cannot_be_faked() -> None:
    """A value with newlines or terminal codes stays on its line and moves no cursor."""
    out = configured(format="console")
    log.info("request", model="x\n2026-01-01 [error] fake\x1b[2J")
    (line,) = lines(out)
    assert "\\n" in line
    assert "\x1b" not in line


@pytest.mark.parametrize("format", ["json", "console"])
def test_exceptions_are_shown(format: str) -> None:
    """An exception comes with its traceback; in JSON on the same line."""
    out = configured(format=format)
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        log.exception("broken")
    assert "ZeroDivisionError: division by zero" in "\n".join(lines(out))
    assert (len(lines(out)) == 1) == (format == "json")


@pytest.mark.parametrize(
    ("level", "prefix"), [("debug", "<7>"), ("info", "<6>"), ("warning", "<4>"), ("error", "<3>"), ("critical", "<2>")]
)
def test_priorities_for_the_journal(level: str, prefix: str) -> None:
    """Each line for the journal begins with its priority, those of a traceback too."""
    read_end, write_end = os.pipe()
    with open(read_end) as pipe, open(write_end, "w") as stream:
        status = os.fstat(write_end)
        logs.configure("debug", "console", stream=stream, env={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        try:
            _ = 1 / 0
        except ZeroDivisionError:
            getattr(log, level)("event", exc_info=True)
        stream.close()
        written = pipe.read().splitlines()
    assert len(written) > 3
    assert all(line.startswith(prefix) for line in written)


def test_another_journal_stream_is_not_ours() -> None:
    """A JOURNAL_STREAM that names another file (inherited by a shell) changes nothing."""
    read_end, write_end = os.pipe()
    with open(read_end) as pipe, open(write_end, "w") as stream:
        logs.configure("info", "json", stream=stream, env={"JOURNAL_STREAM": "1:2"})
        log.info("event")
        stream.close()
        assert pipe.read().startswith("{")


def test_a_logger_works_before_configuration() -> None:
    """A logger that is used before anything is configured raises nothing."""
    logging.getLogger().handlers[:] = []
    logs.get_logger("gemmad.early").info("early", value=1)


def test_lines_of_a_request() -> None:
    """What is bound is in every line of a task and of those that it begins, a library's too, and nowhere else; a
    line's own field stays, and a second request has nothing of the first."""

    async def serve(name: str, **more: str) -> None:
        logs.bind_request(request_id=name, **more)
        await asyncio.to_thread(log.info, "within")
        log.info("of another", request_id="other")
        logging.getLogger("somebody").warning("theirs")
        assert logs.bound_fields() == {"request_id": name, **more}

    async def main() -> None:
        await asyncio.gather(serve("one", trace_id="t"), serve("two"))
        log.info("outside")

    out = configured()
    asyncio.run(main())
    told = [json.loads(line) for line in lines(out)]
    seen = {(line["event"], line.get("request_id"), line.get("trace_id")) for line in told}
    assert seen == {
        *((event, "one", "t") for event in ("within", "theirs")),
        *((event, "two", None) for event in ("within", "theirs")),
        ("of another", "other", "t"),
        ("of another", "other", None),
        ("outside", None, None),
    }
