"""A dispatcher with played workers, on a clock that jumps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from gemmad.config.schema import DispatchSection
from gemmad.dispatch.dispatcher import Dispatcher
from gemmad.dispatch.ticket import Progress, Request, Ticket
from gemmad.generation import Prompt, SamplingParams
from gemmad.supervisor.listener import Outlook
from tests.fakes.clock import run_virtually
from tests.fakes.desk import PlayedWorker
from tests.fakes.worker import expected_reply


class Office:
    """A dispatcher, its settings, and what a client does with a ticket."""

    def __init__(self, clock: Callable[[], float], **section: Any) -> None:
        self.clock = clock
        self.section = DispatchSection(**section)
        self.dispatcher = Dispatcher(section=lambda: self.section, clock=clock)

    def worker(self, name: str = "cpu0", **options: Any) -> PlayedWorker:
        worker = PlayedWorker(self.dispatcher, name, **options)
        self.dispatcher.outlook_changed(Outlook.SERVING, wait_seconds=0.0)
        return worker

    def submit(self, *prompt: int, max_tokens: int = 8, **fields: Any) -> Ticket:
        return self.dispatcher.submit(ask(*prompt, max_tokens=max_tokens, **fields))

    @property
    def idle(self) -> bool:
        status = self.dispatcher.status()
        return status.waiting == status.running == 0


def ask(*prompt: int, max_tokens: int = 8, **fields: Any) -> Request:
    return Request(prompt=Prompt(prompt or (1, 2, 3)), sampling=SamplingParams(max_tokens=max_tokens), **fields)


def reply(ticket: Ticket) -> tuple[int, ...]:
    return expected_reply(ticket.request.prompt, ticket.request.sampling)[0]


async def read(ticket: Ticket) -> list[Progress]:
    return [progress async for progress in ticket]


async def read_tokens(ticket: Ticket) -> tuple[int, ...]:
    return tuple(token for progress in await read(ticket) for token in progress.token_ids)


def play(script: Callable[[Office], Awaitable[None]], **section: Any) -> Office:
    """Run a script; at its end the office must be idle, and every request counted once."""

    async def main(clock: Callable[[], float]) -> Office:
        office = Office(clock, **section)
        await script(office)
        return office

    office = run_virtually(main)
    assert office.idle
    counts = office.dispatcher.status().counts
    assert counts.requests == counts.refused + counts.finished + counts.failed + counts.abandoned
    return office
