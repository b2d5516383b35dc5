from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gemmad.api.overview import RequestList
from gemmad.cli.requests import ids_for_completion
from gemmad.cli.workers import worker_names
from gemmad.dispatch.listing import Listed
from tests.unit.cli.conftest import Command
from tests.unit.cli.operated import PlayedSocket, played


@pytest.fixture
def operated(config_dir: Path) -> Iterator[PlayedSocket]:
    """A daemon's control socket, where the command looks for it."""
    with played(config_dir / "run") as socket:
        yield socket


def request(request_id: str = "req_1", **fields: Any) -> Listed:
    """One that runs, or as `fields` say."""
    usual: dict[str, Any] = {
        "worker": "gpu0",
        "suspect": False,
        "age_seconds": 62.0,
        "worker_seconds": 60.0,
        "prompt_tokens": 4000,
        "images": 0,
        "said_tokens": 120,
        "max_tokens": 512,
        "priority": 0,
        "failovers": 0,
    }
    return Listed(request_id=request_id, **(usual | fields))


def answer(operated: PlayedSocket, *requests: Listed) -> None:
    operated.body = msgspec.json.encode(RequestList(requests))


def test_the_table(operated: PlayedSocket, gemmad: Command) -> None:
    """A line for each request: where it is, how old, how long, how far, and what is odd about it."""
    odd = request("a\x1b[2Jb", worker=None, age_seconds=0.5, images=2, said_tokens=0, failovers=2, suspect=True)
    answer(operated, request(), odd)
    said = gemmad("requests")
    assert said.exit_code == 0
    titles, first, second = said.stdout.splitlines()
    assert titles.split() == ["ID", "WHERE", "AGE", "PROMPT", "IMAGES", "SAID", "NOTE"]
    assert first.split() == ["req_1", "gpu0", "1m", "2s", "4000", "120/512"]
    assert "waits" in second
    assert second.endswith("suspect, moved on 2x")
    assert "\x1b" not in said.stdout
    assert operated.asked == ["GET /requests"]


def test_as_json(operated: PlayedSocket, gemmad: Command) -> None:
    """--json is the daemon's answer."""
    answer(operated, request())
    (seen,) = json.loads(gemmad("requests", "--json").stdout)["requests"]
    assert list(seen) == list(Listed.__struct_fields__)


def test_no_requests(operated: PlayedSocket, gemmad: Command) -> None:
    """An idle daemon is no failure, and a script gets no line."""
    answer(operated)
    said = gemmad("requests")
    assert (said.exit_code, said.stdout) == (0, "")


def test_another_version(operated: PlayedSocket, gemmad: Command) -> None:
    """An answer that cannot be read says so."""
    operated.body = b'{"requests": [{}]}'
    assert gemmad("requests").exit_code == 1


def test_cancel(operated: PlayedSocket, gemmad: Command) -> None:
    """The request is named whatever characters its id has, and it is told how far it was."""
    answer(operated, request("a/b c", said_tokens=7), request("a/b c", said_tokens=5))
    said = gemmad("cancel", "a/b c")
    assert (said.exit_code, said.stdout) == (0, "cancelled a/b c after 12 tokens\n")
    assert operated.asked == ["POST /requests/a%2Fb%20c/cancel"]


@pytest.mark.parametrize(("status", "code"), [(404, 2), (403, 4), (500, 1)])
def test_what_cannot_be_cancelled(operated: PlayedSocket, gemmad: Command, status: int, code: int) -> None:
    """No such request, and who may not, are told in the daemon's words."""
    operated.refuse(status, "Because.")
    said = gemmad("cancel", "x")
    assert (said.exit_code, said.stderr) == (code, "gemmad: Because.\n")


def test_what_a_shell_offers(operated: PlayedSocket, gemmad: Command) -> None:
    """Ids and workers that there are, each once; nothing, and no complaint, without a daemon."""
    assert worker_names() == ["gpu0"]
    answer(operated, request("a"), request("a"), request("b"))
    assert ids_for_completion() == ["a", "b"]
    del gemmad


def test_what_a_shell_offers_without_a_daemon(config_dir: Path) -> None:
    """Completion is silent where nobody can be asked."""
    del config_dir
    assert worker_names() == ids_for_completion() == []
