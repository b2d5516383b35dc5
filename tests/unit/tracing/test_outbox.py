from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from gemmad.tracing.context import new_context
from gemmad.tracing.outbox import Outbox
from gemmad.tracing.span import Span, Told


def told(name: str) -> Told:
    return Told(new_context(1.0), Span(name=name, began_at=0.0, ended_at=1.0))


class Receiver:
    """Takes batches once it may."""

    def __init__(self, *, open_at_once: bool = True) -> None:
        self.batches: list[list[str]] = []
        self.trouble: str | None = None
        self.asked = threading.Event()
        self.may = threading.Event()
        if open_at_once:
            self.may.set()

    def __call__(self, batch: Sequence[Told]) -> str | None:
        self.asked.set()
        self.may.wait(20)
        self.batches.append([one.root.name for one in batch])
        return self.trouble


def test_all_of_it_arrives_in_order() -> None:
    """What is put in before the end is sent, in batches that are not too big."""
    receiver = Receiver()
    outbox = Outbox(receiver, most_at_once=4, linger_seconds=0.01)
    for number in range(10):
        outbox.put(told(str(number)))
    outbox.close(seconds=10)
    assert [name for batch in receiver.batches for name in batch] == [str(number) for number in range(10)]
    assert max(map(len, receiver.batches)) <= 4


def test_it_waits_for_company_but_not_long() -> None:
    """A single request is sent without another one coming."""
    receiver = Receiver()
    outbox = Outbox(receiver, linger_seconds=0.01)
    outbox.put(told("one"))
    assert receiver.asked.wait(10)
    outbox.close(seconds=10)
    assert receiver.batches == [["one"]]


def test_a_receiver_that_hangs() -> None:
    """Putting never waits, what finds no room is counted, and closing takes no longer than it may."""
    receiver = Receiver(open_at_once=False)
    outbox = Outbox(receiver, limit=5, most_at_once=1, linger_seconds=0.0)
    outbox.put(told("stuck"))
    assert receiver.asked.wait(10)
    began = time.monotonic()
    for number in range(100):
        outbox.put(told(str(number)))
    assert outbox.dropped == 95
    outbox.close(seconds=0.2)
    assert time.monotonic() - began < 5
    receiver.may.set()


def test_trouble_is_over_some_day() -> None:
    """A receiver that refused is asked again with what comes later."""
    receiver = Receiver()
    receiver.trouble = "it is full"
    outbox = Outbox(receiver, linger_seconds=0.0)
    outbox.put(told("lost"))
    assert receiver.asked.wait(10)
    receiver.trouble = None
    outbox.put(told("kept"))
    outbox.close(seconds=10)
    assert receiver.batches[-1] == ["kept"]
