"""Whose turn it is in the queue, as clients can say and as they cannot."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gemmad.supervisor.listener import Outlook
from tests.api.stage import MODEL, Script, Stage
from tests.api.test_bad_input import HI, URL, refused


class Crowd:
    """Requests that wait for a worker. Each is known by its max_tokens."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._threads: list[threading.Thread] = []

    def ask(self, number: int, *, key: str = "", **fields: Any) -> None:
        """Returns once it waits."""
        waiting = self._waiting()
        headers = {"Authorization": key} if key else {}
        body = {"model": MODEL, "messages": HI, "max_tokens": number, **fields}
        url = self.stage.url + URL
        thread = threading.Thread(target=lambda: httpx.post(url, json=body, headers=headers, timeout=20))
        thread.start()
        self._threads.append(thread)
        self.stage.wait_until(lambda: self.stage.dispatcher.status().waiting > waiting)

    def keys(self) -> list[str]:
        """Of those who wait, in the order in which they came."""
        return self.stage.call(lambda: [ticket.request.key for ticket in self.stage.dispatcher._table])

    def serve(self) -> list[int]:
        """A worker comes that serves one at a time, and all ends; the order in which it was handed them."""
        if self.stage.worker.handle is None:
            self.stage.call(lambda: self.stage.worker.arrive(max_sequences=1))
        for thread in self._threads:
            thread.join(20)
        return [submit.sampling.max_tokens for submit in self.stage.worker.submits]

    def _waiting(self) -> int:
        return self.stage.call(lambda: self.stage.dispatcher.status().waiting)


@pytest.fixture
def crowd(stage: Stage) -> Iterator[Crowd]:
    """Nobody is served yet."""
    stage.call(lambda: stage.worker.leave(Outlook.RETURNING))
    stage.play(Script(token_ids=stage.tokens("x"), pause_seconds=0.001))
    crowd = Crowd(stage)
    yield crowd
    crowd.serve()


def test_priorities(crowd: Crowd) -> None:
    """The lower `priority`, the earlier, 0 if it is not said."""
    for number, priority in ((1, 100), (2, None), (3, -100), (4, 5.0), (5, 0)):
        crowd.ask(number, priority=priority)
    assert crowd.serve() == [3, 2, 5, 4, 1]


@pytest.mark.parametrize("priority", [101, -101, 0.5, "high", True])
def test_bad_priorities(http: httpx.Client, priority: object) -> None:
    """A priority that is no number from -100 to 100 is a 400 that names the field."""
    body = {"model": MODEL, "messages": HI, "priority": priority}
    assert refused(http.post(URL, json=body))["param"] == "priority"


def test_keys_take_turns(crowd: Crowd) -> None:
    """Who has sent many requests waits for who has sent one."""
    for number in range(1, 7):
        crowd.ask(number, key="Bearer greedy")
    crowd.ask(50, key="Bearer modest")
    order = crowd.serve()
    assert [number for number in order if number != 50] == [1, 2, 3, 4, 5, 6]
    assert order.index(50) <= 2


def test_who_asks(crowd: Crowd) -> None:
    """Equal keys are one asker; without a key, or with an empty one, it is the address; and no key can be read off."""
    for number, key in enumerate(("Bearer sk-1", "Bearer sk-2", "Bearer sk-1", "", "bearer", "Basic sk-1"), 1):
        crowd.ask(number, key=key)
    first, second, third, fourth, fifth, sixth = crowd.keys()
    assert first == third
    assert fourth == fifth == "address 127.0.0.1"
    assert len({first, second, fourth, sixth}) == 4
    assert "sk-" not in "".join((first, second, sixth))


def test_keys_are_not_logged(crowd: Crowd, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the key nor what stands for it is in the log, nor in what another client is told."""
    caplog.set_level(0)
    with crowd.stage.settings(dispatch={"max_waiting": 1}):
        crowd.ask(1, key="Bearer sk-secret")
        (name,) = crowd.keys()
        answer = httpx.post(crowd.stage.url + URL, json={"model": MODEL, "messages": HI})
        assert refused(answer, 429)["code"] == "queue_full"
    crowd.serve()
    written = answer.text + "".join(str(record.msg) for record in caplog.records)
    assert "sk-secret" not in written
    assert name.removeprefix("key ") not in written
