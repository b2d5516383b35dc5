"""Several choices of one request: admitted together, read together, each with its own end."""

from __future__ import annotations

import asyncio

import pytest

from gemmad.dispatch.choices import Choices, News
from gemmad.dispatch.ticket import Request
from gemmad.errors import QueueFullError, RequestFailedError
from gemmad.generation import FinishReason, ImageSpan, Prompt, SamplingParams
from gemmad.media.pixels import Pixels, seal
from tests.fakes.clock import settle
from tests.unit.dispatch.office import Office, ask, play, reply


def submit(office: Office, *max_tokens: int) -> Choices:
    return office.dispatcher.submit_choices([ask(7, max_tokens=count) for count in max_tokens])


async def collect(choices: Choices) -> dict[int, tuple[tuple[int, ...], FinishReason | None]]:
    """Tokens and finish of each choice."""
    said: dict[int, tuple[tuple[int, ...], FinishReason | None]] = {}
    async for news in choices:
        for index, progress in news:
            so_far, finish = said.get(index, ((), None))
            assert finish is None
            said[index] = (so_far + progress.token_ids, progress.finish)
    return said


def test_news_of_one_step_come_at_once() -> None:
    """What several choices say in one step is read in one go, and a choice that ends leaves the others."""

    async def script(office: Office) -> None:
        worker = office.worker()
        choices = submit(office, 1, 3)
        worker.step()
        first: News = await anext(choices)
        assert [(index, progress.finish) for index, progress in first] == [(0, FinishReason.LENGTH), (1, None)]
        worker.step()
        assert [index for index, _ in await anext(choices)] == [1]
        worker.step()
        assert [(index, progress.finish) for index, progress in await anext(choices)] == [(1, FinishReason.LENGTH)]
        with pytest.raises(StopAsyncIteration):
            await anext(choices)

    play(script)


def test_a_nudge_wakes_a_reader_with_nothing() -> None:
    """It hears an empty list once, after what news there is, and goes on."""

    async def script(office: Office) -> None:
        worker = office.worker()
        choices = submit(office, 2)
        reader = asyncio.create_task(anext(choices))
        await settle()
        choices.nudge()
        assert await reader == []
        worker.step()
        choices.nudge()
        assert [index for index, _ in await anext(choices)] == [0]
        assert await anext(choices) == []
        worker.step()
        assert [(index, progress.finish) for index, progress in await anext(choices)] == [(0, FinishReason.LENGTH)]

    play(script)


def test_a_reader_that_waits_is_woken() -> None:
    """Reading before anything is said waits for whichever speaks first."""

    async def script(office: Office) -> None:
        worker = office.worker()
        choices = submit(office, 5, 8, 2)
        reader = asyncio.create_task(collect(choices))
        for number in (3, 1, 2, 1, 3, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2):
            await settle()
            worker.step(only=number)
        said = await reader
        assert said == {index: (reply(ticket), FinishReason.LENGTH) for index, ticket in enumerate(choices.tickets)}

    play(script)


def test_closing_one_ends_one() -> None:
    """A choice that nobody wants to hear more of is aborted, and the iteration goes on to the end of the others."""

    async def script(office: Office) -> None:
        worker = office.worker()
        choices = submit(office, 9, 2)
        worker.step()
        await anext(choices)
        choices.tickets[0].close()
        assert worker.aborted == [1]
        worker.step()
        assert [index for index, _ in await anext(choices)] == [1]
        with pytest.raises(StopAsyncIteration):
            await anext(choices)

    play(script)


def test_closing_all() -> None:
    """A client that leaves frees every choice at once."""

    async def script(office: Office) -> None:
        worker = office.worker(max_sequences=1)
        choices = submit(office, 9, 9, 9, 9)
        choices.close()
        assert worker.aborted == [1, 2, 3, 4]
        assert office.idle

    play(script)


def test_one_failure_ends_all() -> None:
    """The error of one comes after what all have said, and is the request's."""

    async def script(office: Office) -> None:
        worker = office.worker()
        choices = submit(office, 9, 9)
        worker.step()
        worker.reject(2, "it does not fit")
        news = await anext(choices)
        assert [index for index, _ in news] == [0, 1]
        with pytest.raises(RequestFailedError, match="does not fit"):
            await anext(choices)
        choices.close()
        assert worker.aborted == [1]

    play(script)


def test_all_or_none() -> None:
    """Where not all choices find room none is admitted, and nothing of them stays."""

    async def script(office: Office) -> None:
        worker = office.worker(max_sequences=1)
        held = submit(office, 9, 9)
        with pytest.raises(QueueFullError):
            submit(office, 9, 9, 9)
        fits = submit(office, 9, 9)
        assert len(worker.submitted) == 2
        held.close()
        fits.close()

    assert play(script, max_waiting=2).dispatcher.status().counts.refused == 3


def test_pixels_are_shared_and_given_back_once() -> None:
    """One descriptor serves all choices, goes beside each submission, and is closed with the last of them."""

    async def script(office: Office) -> None:
        worker = office.worker()
        pixels = Pixels(seal(b"abc"), digest="d", height=1, width=1)
        prompt = Prompt((1, 2, 3), (ImageSpan(0, 1, "d"),))
        requests = [Request(prompt=prompt, sampling=SamplingParams(max_tokens=n), pixels=(pixels,)) for n in (1, 2, 3)]
        office.dispatcher.submit_choices(requests)
        assert worker.descriptors == [[pixels.fd]] * 3
        worker.step()
        worker.step()
        assert pixels.fd >= 0
        worker.step()
        assert pixels.fd == -1

    play(script)
