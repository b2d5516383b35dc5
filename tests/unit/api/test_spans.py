from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from starlette.datastructures import Headers

from gemmad.api.record import Record, new_record
from gemmad.api.spans import spans_of
from gemmad.dispatch.journey import Journey, Stay
from gemmad.generation import SamplingParams
from gemmad.tracing.span import Span

PATH = "/v1/chat/completions"


def make_record(*journeys: Journey) -> Record:
    record = new_record(Headers({"x-request-id": "mine"}), method="POST", path=PATH, began=10.0, clock=lambda: 10.5)
    for journey in journeys:
        record.note_journey(journey)
    return record


def make_stay(began_at: float, **fields: object) -> Stay:
    values = {"worker": "gpu0", "life": 2, "pid": 99, "number": 5, "step_before": 40, "said_before": 0}
    return Stay(**{**values, "began_at": began_at, **fields})  # type: ignore[arg-type]


def moved_on() -> Journey:
    """Waits a second, loses a worker after three tokens, waits another second, and ends at the next one."""
    journey = Journey(11.0)
    journey.arrive(make_stay(12.0))
    journey.hear_first(now=13.0, step=42, cached_tokens=16)
    journey.depart(now=15.0, step=44, said=3, left="it was killed", lost=True)
    journey.arrive(make_stay(16.0, worker="gpu1", said_before=3, step_before=7))
    journey.hear_first(now=17.0, step=8, cached_tokens=0)
    journey.depart(now=19.0, step=10, said=6)
    journey.end(19.0)
    return journey


def walk(span: Span) -> Iterator[Span]:
    yield span
    for child in span.children:
        yield from walk(child)


def test_a_whole_story() -> None:
    """Waits, stays and their parts follow each other, on the clock of the world, and the second stay links to the
    first."""
    record = make_record(moved_on())
    record.model, record.status, record.finish = "gemma", 200, "stop"
    root = spans_of(record, 20.0, offset=1000.0, devices={"gpu0": "GPU-aaaa"})
    assert (root.name, root.began_at, root.ended_at, root.error) == ("chat gemma", 1010.0, 1020.0, None)
    told = [(span.name, span.began_at - 1000, span.ended_at - 1000) for span in root.children]
    assert told == [("queue", 11, 12), ("worker", 12, 15), ("queue", 15, 16), ("worker", 16, 19)]
    first, second = root.children[1], root.children[3]
    assert [(span.name, span.began_at - 1000) for span in first.children] == [("prefill", 12), ("decode", 13)]
    assert second.after is first
    assert (first.error, second.error) == ("it was killed", None)
    assert [(event.name, event.at) for event in root.events] == [("failover", 1015.0)]
    assert first.attributes["gemmad.worker.device"] == "GPU-aaaa"
    assert (first.attributes["process.pid"], first.attributes["gemmad.worker.life"]) == (99, 2)


def test_steps() -> None:
    """Each part names the steps of the worker that it took, from the first after the hand-over to the last."""
    root = spans_of(make_record(moved_on()), 20.0, offset=0.0, devices={})
    steps = [
        (span.name, span.attributes["gemmad.step.first"], span.attributes["gemmad.step.last"])
        for span in walk(root)
        if span.name in ("prefill", "decode")
    ]
    assert steps == [("prefill", 41, 42), ("decode", 43, 44), ("prefill", 8, 8), ("decode", 9, 10)]
    tokens = [span.attributes["gemmad.tokens"] for span in walk(root) if span.name in ("worker", "decode")]
    assert tokens == [3, 2, 3, 2]


def test_the_conventions() -> None:
    """Model, wishes, usage and end have OpenTelemetry's names; what was not asked for is not there."""
    record = make_record(moved_on())
    record.model, record.response_id, record.stream, record.finish = "gemma", "chatcmpl-1", True, "length"
    record.prompt_tokens, record.completion_tokens, record.cached_tokens = 30, 6, 16
    record.status, record.ttft_seconds = 200, 3.0
    record.sampling = SamplingParams(max_tokens=6, temperature=0.5, top_k=64, seed=7)
    told = dict(spans_of(record, 20.0, offset=0.0, devices={}).attributes)
    assert {name: value for name, value in told.items() if name.startswith("gen_ai.")} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "gemmad",
        "gen_ai.request.model": "gemma",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 6,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.top_k": 64,
        "gen_ai.response.model": "gemma",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.response.time_to_first_chunk": 3.0,
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 6,
        "gen_ai.usage.cache_read.input_tokens": 16,
    }
    record.has_seed = True
    assert spans_of(record, 20.0, offset=0.0, devices={}).attributes["gen_ai.request.seed"] == 7


@pytest.mark.parametrize(
    ("finish", "error", "failure"),
    [("stop", None, None), ("gone", "client_gone", None), (None, "queue_full", "queue_full"), ("error", None, "error")],
)
def test_what_is_a_failure(finish: str | None, error: str | None, failure: str | None) -> None:
    """An error has its code; a client that leaves is none."""
    record = make_record()
    record.finish, record.error = finish, error
    root = spans_of(record, 11.0, offset=0.0, devices={})
    assert (root.error, root.attributes.get("error.type")) == (failure, failure)


def test_phases() -> None:
    """What comes before the queue is told as far as there was any; pictures are within what makes them ready."""
    record = make_record()
    with record.phase("media", images=2):
        for source in ("data", "https"):
            with record.phase("image", source=source):
                pass
    with record.phase("tokenise"):
        pass
    with pytest.raises(ValueError, match="no"), record.phase("grammar"):
        raise ValueError("no")
    media, tokenise, grammar = spans_of(record, 11.0, offset=0.0, devices={}).children
    assert (media.name, tokenise.name, grammar.name) == ("media", "tokenise", "grammar")
    assert [child.attributes["gemmad.source"] for child in media.children] == ["data", "https"]


def test_choices_are_told_apart() -> None:
    """With several choices each span at a worker says whose it is."""
    root = spans_of(make_record(moved_on(), moved_on()), 20.0, offset=0.0, devices={})
    assert [span.attributes["gemmad.choice"] for span in root.children] == [0] * 4 + [1] * 4


def test_nothing_of_it_is_bulky() -> None:
    """A request with thousands of prompts is told as far as 64 of them."""
    record = make_record(*(moved_on() for _ in range(500)))
    for _ in range(500):
        with record.phase("tokenise"):
            pass
    root = spans_of(record, 20.0, offset=0.0, devices={})
    assert len(root.children) == 64 + 4 * 64
    assert len(msgspec.json.encode(root.attributes)) < 1000
    assert record.failovers == 500
