"""What operators see of admitted requests, and how they end one."""

from __future__ import annotations

import asyncio

import pytest

from gemmad.errors import RequestFailedError
from tests.unit.dispatch.office import Office, play, read


def test_who_waits_and_who_runs() -> None:
    """A request has its worker once it runs there, with its age, its share of the reply and what it costs."""

    async def script(office: Office) -> None:
        worker = office.worker()
        first = office.submit(1, 2, 3, 4, max_tokens=5, request_id="a")
        worker.step()
        await asyncio.sleep(2)
        (seen,) = office.dispatcher.requests()
        assert (seen.request_id, seen.worker, seen.age_seconds, seen.worker_seconds) == ("a", "cpu0", 2.0, 2.0)
        assert (seen.prompt_tokens, seen.said_tokens, seen.max_tokens) == (4, 1, 5)
        assert (seen.suspect, seen.failovers) == (False, 0)
        worker.die()
        (seen,) = office.dispatcher.requests()
        assert (seen.worker, seen.worker_seconds, seen.failovers) == (None, None, 1)
        first.close()
        assert office.dispatcher.requests() == ()

    play(script)


def test_a_cancelled_request() -> None:
    """It ends for its client with a failure that is not tried again, and its worker forgets it; others go on."""

    async def script(office: Office) -> None:
        worker = office.worker()
        ends, stays = office.submit(max_tokens=5, request_id="a"), office.submit(max_tokens=5, request_id="b")
        worker.step()
        (cancelled,) = office.dispatcher.cancel("a")
        assert cancelled.said_tokens == 1
        with pytest.raises(RequestFailedError) as caught:
            await read(ends)
        assert (caught.value.code, caught.value.retryable) == ("cancelled", False)
        assert len(worker.aborted) == 1
        assert [seen.request_id for seen in office.dispatcher.requests()] == ["b"]
        assert office.dispatcher.cancel("a") == ()
        worker.step(4)
        assert len(stays.said) == 5

    assert play(script).dispatcher.status().counts.failed == 1
