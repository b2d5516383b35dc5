"""Many prompts of one HTTP request: the first computes what they share, the others follow side by side.

What the network holds of a few tokens is told in one step as long as they are among the likeliest; each one that is not
is drawn by force in a step of its own, because a token that was drawn is told however unlikely it was. Bias and force
change what is drawn, never what is told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from gemmad.api.images import close_all
from gemmad.dispatch.dispatcher import Dispatcher
from gemmad.dispatch.journey import Journey
from gemmad.dispatch.ticket import Request, Ticket
from gemmad.errors import QueueFullError, RequestFailedError
from gemmad.generation import Prompt, SamplingParams, TokenLogprobs, Usage
from gemmad.media.pixels import Pixels

MOST_AT_ONCE = 64
"""Prompts of one request that are handed to the dispatcher at a time: what a worker can use, and a small part of the
queue. The queue's fairness is between those who ask, whatever the number of their prompts."""
LIKELIEST = 20
"""Tokens that are told in one step, at most."""
FORCE = 1e4
"""Bias that no logit comes up to."""
MOST_DESCRIPTORS = 256
"""Of images, for all prompts of a request that are under way: each holds its own."""


class Probe(Struct, frozen=True):
    """What the network holds of some tokens after a prompt."""

    prompt: Callable[[], Prompt]
    """Made when its turn has come: thousands of long prompts take memory."""
    ids: tuple[int, ...]
    pixels: tuple[Pixels, ...] = ()
    """Of its images, in their order; the caller's."""


class Asking:
    """Asks once, and counts what it takes. The caller closes the pixels after it."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        request_id: str,
        key: str,
        on_journey: Callable[[Journey], None] = lambda _journey: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_journey` is told of each prompt's, once it has ended."""
        self.begun = False
        """Whether a prompt was admitted."""
        self.first_token_at: float | None = None
        self._dispatcher = dispatcher
        self._request_id = request_id
        self._key = key
        self._on_journey = on_journey
        self._clock = clock
        self._under_way = 0
        self._one_ended = asyncio.Event()
        self._prompt_tokens = self._cached_tokens = self._said_tokens = 0

    @property
    def usage(self) -> Usage:
        """Sums over the prompts that were answered so far."""
        return Usage(self._prompt_tokens, self._said_tokens, self._cached_tokens)

    async def ask(self, probes: Sequence[Probe]) -> list[dict[int, float]]:
        """Log-probabilities for each probe, of its ids and perhaps of others.

        Raises what a ticket ends with, the first that fails, and RequestFailedError when all together take longer than
        one request may. However it ends, nothing of it is left with the dispatcher.
        """
        seconds = self._dispatcher.request_timeout
        try:
            async with asyncio.timeout(seconds):
                return await self._ask(probes)
        except TimeoutError:
            message = f"The questions took longer than the {seconds:g} seconds that a request may take."
            raise RequestFailedError(message, code="timeout", retryable=False) from None
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _ask(self, probes: Sequence[Probe]) -> list[dict[int, float]]:
        first = await self._draw(probes[0], None)
        told = [_likeliest(first), *map(_likeliest, await self._draw_all([(probe, None) for probe in probes[1:]]))]
        missing = [
            (index, token)
            for index, (probe, known) in enumerate(zip(probes, told, strict=True))
            for token in probe.ids
            if token not in known
        ]
        forced = await self._draw_all([(probes[index], token) for index, token in missing])
        for (index, token), drawn in zip(missing, forced, strict=True):
            told[index][token] = drawn.token
        return told

    async def _draw_all(self, draws: Sequence[tuple[Probe, int | None]]) -> list[TokenLogprobs]:
        """Side by side, as many as may be."""
        drawn: dict[int, TokenLogprobs] = {}
        waiting = iter(range(len(draws)))

        async def draw_some() -> None:
            for index in waiting:
                drawn[index] = await self._draw(*draws[index])

        async with asyncio.TaskGroup() as group:
            for _ in range(min(_at_once([probe for probe, _ in draws]), len(draws))):
                group.create_task(draw_some())
        return [drawn[index] for index in range(len(draws))]

    async def _draw(self, probe: Probe, forced: int | None) -> TokenLogprobs:
        """One token after a probe's prompt: the likeliest, or the one that is forced."""
        ticket = await self._submit(probe, probe.prompt(), forced)
        self.begun = True
        self._under_way += 1
        try:
            async for _ in ticket:
                pass
        finally:
            ticket.close()
            self._on_journey(ticket.journey)
            self._under_way -= 1
            self._one_ended.set()
        self._note(ticket)
        if forced not in (None, *ticket.said):
            raise RequestFailedError("The worker drew another token.", code="internal_error", retryable=False)
        return ticket.logprobs[0]

    async def _submit(self, probe: Probe, prompt: Prompt, forced: int | None) -> Ticket:
        """Into the queue. If that is full, whoever has prompts under way waits for one of them to end; who has none is
        told so."""
        sampling = SamplingParams(
            temperature=0.0,
            max_tokens=1,
            logprobs=LIKELIEST if forced is None else 0,
            logit_bias=() if forced is None else ((forced, FORCE),),
        )
        while True:
            pixels: list[Pixels] = []
            try:
                for one in probe.pixels:
                    pixels.append(one.duplicate())
                return self._dispatcher.submit(self._request(prompt, sampling, tuple(pixels)))
            except QueueFullError:
                close_all(pixels)
                if not self._under_way:
                    raise
            except BaseException:
                close_all(pixels)
                raise
            self._one_ended.clear()
            await self._one_ended.wait()

    def _request(self, prompt: Prompt, sampling: SamplingParams, pixels: tuple[Pixels, ...]) -> Request:
        return Request(prompt=prompt, sampling=sampling, pixels=pixels, request_id=self._request_id, key=self._key)

    def _note(self, ticket: Ticket) -> None:
        if self.first_token_at is None:
            self.first_token_at = self._clock()
        self._prompt_tokens += len(ticket.request.prompt.token_ids)
        self._cached_tokens += ticket.cached_tokens
        self._said_tokens += len(ticket.said)


def _likeliest(drawn: TokenLogprobs) -> dict[int, float]:
    return dict(zip(drawn.top_ids, drawn.top, strict=True))


def _at_once(probes: Sequence[Probe]) -> int:
    images = max((len(probe.pixels) for probe in probes), default=0)
    return max(1, min(MOST_AT_ONCE, MOST_DESCRIPTORS // max(1, images)))
