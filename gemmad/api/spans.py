"""From what was noted of a request to its spans. Pure.

    chat gemma-3            the request, from its first byte to its end
      media, image …        pictures fetched and decoded
      tokenise              template and tokens
      grammar               what the reply is held to, compiled
      queue                 waiting for a worker, before each stay
      worker                one stay: from its hand-over to the end, or until it moves on
        prefill             to the first token there
        decode              to the last

Names are those of OpenTelemetry's conventions for generative AI where there are such, else `gemmad.…`. Nothing that
people wrote is in here, and nothing that was said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from gemmad.api.record import Phase, Record
from gemmad.dispatch.journey import Journey, Stay
from gemmad.tracing.span import Event, Span, Value

PROVIDER = "gemmad"


def spans_of(record: Record, ended: float, *, offset: float, devices: Mapping[str, str]) -> Span:
    """The tree of one request that is over. `offset` takes its clock to seconds since the epoch; `devices` are those of
    the workers, by name."""
    several = len(record.journeys) > 1
    at_workers = [
        span
        for index, journey in enumerate(record.journeys)
        for span in _of_journey(journey, choice=index if several else None, devices=devices)
    ]
    root = Span(
        name=f"{record.operation} {record.model}" if record.model else str(record.operation),
        began_at=record.began,
        ended_at=ended,
        attributes=_attributes(record, at_workers),
        events=tuple(_moves(record)),
        error=_failure(record),
        children=(*_phases(record.phases), *at_workers),
    )
    return _shifted(root, offset, {})


def _attributes(record: Record, at_workers: list[Span]) -> dict[str, Value]:
    told: dict[str, Value | None] = {
        "gen_ai.operation.name": record.operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": record.model,
        "gen_ai.request.stream": record.stream or None,
        "gen_ai.request.choice.count": record.choices,
        "gen_ai.response.model": record.model if at_workers else None,
        "gen_ai.response.id": record.response_id,
        "gen_ai.response.finish_reasons": _finish_reasons(record),
        "gen_ai.response.time_to_first_chunk": record.ttft_seconds if record.stream else None,
        "gen_ai.usage.input_tokens": record.prompt_tokens,
        "gen_ai.usage.output_tokens": record.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": record.cached_tokens,
        **_wishes(record),
        "http.request.method": record.method,
        "url.path": record.path,
        "http.response.status_code": record.status or None,
        "error.type": _failure(record),
        "gemmad.request.id": record.request_id,
        "gemmad.key.name": record.key,
        "gemmad.images": record.images,
        "gemmad.background": record.background,
        "gemmad.failovers": record.failovers,
        "gemmad.queue.seconds": record.queue_seconds,
    }
    return {name: value for name, value in told.items() if value is not None}


def _wishes(record: Record) -> dict[str, Value | None]:
    sampling = record.sampling
    if sampling is None:
        return {}
    return {
        "gen_ai.request.max_tokens": sampling.max_tokens,
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.top_k": sampling.top_k or None,
        "gen_ai.request.frequency_penalty": sampling.frequency_penalty or None,
        "gen_ai.request.presence_penalty": sampling.presence_penalty or None,
        "gen_ai.request.seed": sampling.seed if record.has_seed else None,
    }


def _finish_reasons(record: Record) -> tuple[str, ...] | None:
    return (record.finish,) if record.finish in ("stop", "length", "tool_calls") else None


def _failure(record: Record) -> str | None:
    """What went wrong, if it was not the client who left."""
    if record.finish == "gone":
        return None
    return record.error or ("error" if record.finish == "error" else None)


def _moves(record: Record) -> Iterator[Event]:
    for journey in record.journeys:
        for stay in journey.stays:
            if stay.left and stay.ended_at is not None:
                attributes: dict[str, Value] = {"gemmad.worker.name": stay.worker, "gemmad.reason": stay.left}
                yield Event("failover" if stay.lost else "moved", stay.ended_at, attributes)


def _phases(phases: list[Phase]) -> Iterator[Span]:
    """Pictures are within what makes all of them ready."""
    pictures = tuple(_of_phase(phase) for phase in phases if phase.name == "image")
    for phase in phases:
        if phase.name != "image":
            yield _of_phase(phase, pictures if phase.name == "media" else ())


def _of_phase(phase: Phase, children: tuple[Span, ...] = ()) -> Span:
    attributes: dict[str, Value] = {f"gemmad.{name}": value for name, value in phase.attributes.items()}
    return Span(
        name=phase.name,
        began_at=phase.began_at,
        ended_at=phase.ended_at,
        attributes=attributes,
        children=children,
    )


def _of_journey(journey: Journey, *, choice: int | None, devices: Mapping[str, str]) -> Iterator[Span]:
    """Turns at workers and the waits before them."""
    which: dict[str, Value] = {} if choice is None else {"gemmad.choice": choice}
    waits_since: float | None = journey.submitted_at
    before: Span | None = None
    for stay in journey.stays:
        if waits_since is not None:
            yield Span(name="queue", began_at=waits_since, ended_at=stay.began_at, attributes=which)
        before = _of_stay(stay, which | _whereabouts(stay, devices), after=before, ended=journey.ended_at)
        yield before
        waits_since = stay.ended_at if stay.left else None
    if waits_since is not None and journey.ended_at is not None:
        yield Span(name="queue", began_at=waits_since, ended_at=journey.ended_at, attributes=which)


def _whereabouts(stay: Stay, devices: Mapping[str, str]) -> dict[str, Value]:
    told: dict[str, Value] = {
        "gemmad.worker.name": stay.worker,
        "gemmad.worker.life": stay.life,
        "gemmad.request.number": stay.number,
    }
    if stay.pid:
        told["process.pid"] = stay.pid
    if stay.worker in devices:
        told["gemmad.worker.device"] = devices[stay.worker]
    return told


def _of_stay(stay: Stay, attributes: dict[str, Value], *, after: Span | None, ended: float | None) -> Span:
    until = stay.ended_at if stay.ended_at is not None else (ended or stay.began_at)
    said = max(0, stay.said_after - stay.said_before)
    told = attributes | {"gemmad.tokens": said, "gemmad.step.first": stay.step_before + 1}
    if stay.last_step > stay.step_before:
        told["gemmad.step.last"] = stay.last_step
    if stay.said_before:
        told["gemmad.tokens.before"] = stay.said_before
    return Span(
        name="worker",
        began_at=stay.began_at,
        ended_at=until,
        attributes=told | ({"gemmad.reason": stay.left} if stay.left else {}),
        error=stay.left if stay.lost else None,
        after=after,
        children=tuple(_parts(stay, until, said)),
    )


def _parts(stay: Stay, until: float, said: int) -> Iterator[Span]:
    steps: dict[str, Value] = {"gemmad.step.first": stay.step_before + 1}
    if stay.first_token_at is None:
        yield Span(name="prefill", began_at=stay.began_at, ended_at=until, attributes=steps)
        return
    yield Span(
        name="prefill",
        began_at=stay.began_at,
        ended_at=stay.first_token_at,
        attributes=steps | {"gemmad.step.last": stay.first_step, "gemmad.tokens.cached": stay.cached_tokens},
    )
    if said > 1:
        decoded: dict[str, Value] = {
            "gemmad.step.first": stay.first_step + 1,
            "gemmad.step.last": stay.last_step,
            "gemmad.tokens": said - 1,
        }
        yield Span(name="decode", began_at=stay.first_token_at, ended_at=until, attributes=decoded)


def _shifted(span: Span, offset: float, made: dict[int, Span]) -> Span:
    """The same on another clock; links stay links."""
    moved = msgspec.structs.replace(
        span,
        began_at=span.began_at + offset,
        ended_at=span.ended_at + offset,
        events=tuple(msgspec.structs.replace(event, at=event.at + offset) for event in span.events),
        after=None if span.after is None else made[id(span.after)],
        children=tuple(_shifted(child, offset, made) for child in span.children),
    )
    made[id(span)] = moved
    return moved
