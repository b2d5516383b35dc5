"""`gemmad chat`: a conversation with the running daemon, or one question."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gemmad.cli.chat_history import History, ImageFileError
from gemmad.cli.chat_talk import Screen, Talk
from gemmad.cli.chat_wire import Api, ChatError
from gemmad.cli.exits import EXIT_INTERRUPTED, EXIT_USAGE, fail
from gemmad.cli.health import find_daemon

KEY_VARIABLE = "GEMMAD_API_KEY"


def chat(  # noqa: PLR0913, PLR0917 - each is a flag
    question: Annotated[
        str | None, typer.Argument(help="One question; without it a conversation begins.", metavar="QUESTION")
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option("--image", "-i", help="Show this picture; again for more.", metavar="FILE"),
    ] = None,
    system: Annotated[str | None, typer.Option(help="What the model is told before all else.", metavar="TEXT")] = None,
    model: Annotated[str | None, typer.Option(help="Whom to ask; else the first that is served.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 takes the likeliest token each time.", min=0.0)] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer, in tokens.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="The same one draws the same answer.")] = None,
    key_file: Annotated[
        Path | None, typer.Option(help=f"File with the API key; else {KEY_VARIABLE} has it.", metavar="FILE")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Where the daemon listens, if it is not found by itself.")] = None,
    config: Annotated[Path | None, typer.Option(help="Configuration file.", metavar="FILE")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds without a word to wait at most.", min=0.1)] = 600.0,
) -> None:
    """Talk with the model, or ask one question; what is piped in is asked too, after the question.

    In a conversation /image FILE shows a picture, /system TEXT tells the model who it is, /reset begins anew, /help
    tells the rest and /quit leaves. Ctrl-C stops an answer, and not the conversation.

    Exit status: 0 answered, 1 the answer failed or broke off, 2 the question is refused (no such model, no picture),
    3 not running, 4 an API key is needed, 75 try again (loading, or the queue is full), 78 the configuration is wrong,
    130 interrupted.
    """
    api = Api(lambda: find_daemon(url, config, timeout_seconds=timeout), key=_key(key_file))
    history = _history(system, image or [])
    asked = _asked(question)
    wishes = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed}
    try:
        body = _body(api, model, wishes)
        talk = Talk(api, history, Screen(sys.stdout, os.environ), body=body)
        if asked is None:
            talk.converse()
        else:
            talk.answer_once(asked)
    except ChatError as error:
        fail(str(error), error.code)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _body(api: Api, model: str | None, wishes: dict[str, Any]) -> dict[str, Any]:
    """What every request says beside its messages. Raises ChatError."""
    served = api.models() if model is None else (model,)
    if not served:
        raise ChatError("the daemon serves no model yet: `gemmad status` tells why", EXIT_USAGE)
    return {"model": served[0], **{name: value for name, value in wishes.items() if value is not None}}


def _asked(question: str | None) -> str | None:
    """The question with what is piped in below it; None: there is neither, and somebody to talk with."""
    piped = "" if sys.stdin.isatty() else _piped()
    if question is None and sys.stdin.isatty():
        return None
    asked = "\n\n".join(part for part in (question or "", piped) if part.strip())
    if not asked:
        fail("there is no question: neither as an argument nor on standard input", EXIT_USAGE)
    return asked


def _piped() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError:
        fail("standard input is not text; a picture is shown with --image FILE", EXIT_USAGE)


def _history(system: str | None, images: list[Path]) -> History:
    history = History(system)
    try:
        for path in images:
            history.attach(path)
    except ImageFileError as error:
        fail(str(error), EXIT_USAGE)
    return history


def _key(file: Path | None) -> str | None:
    """The API key: the first line of the file that is named, else the environment's."""
    if file is None:
        key = os.environ.get(KEY_VARIABLE, "").strip()
        if not (key.isascii() and key.isprintable()):
            fail(f"what {KEY_VARIABLE} has is no API key", EXIT_USAGE)
        return key or None
    try:
        lines = [line.strip() for line in file.expanduser().read_text().splitlines()]
    except (OSError, UnicodeDecodeError, RuntimeError) as error:
        fail(f"--key-file: {file}: {getattr(error, 'strerror', None) or 'it is not text'}", EXIT_USAGE)
    found = next((line for line in lines if line and not line.startswith("#")), "")
    if not found or not (found.isascii() and found.isprintable()):
        fail(f"--key-file: {file} has no API key in it", EXIT_USAGE)
    return found
