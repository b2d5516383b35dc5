"""Traffic as it comes: short and long prompts, images, people who leave; and the allocator, which must not notice."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import torch

from gemmad.bench.crowd import tail
from gemmad.bench.record import Row, time_row, value_row
from gemmad.bench.rig import Rig, now
from gemmad.bench.stage import Case, Stage

Kind = Literal["short", "long", "image", "abort"]

_SHARES: dict[Kind, float] = {"short": 0.6, "long": 0.1, "image": 0.15, "abort": 0.15}
_COUNTERS = ("segment.all.allocated", "reserved_bytes.all.current", "num_alloc_retries")
"""Of torch.cuda.memory_stats: none of them may move after the warm-up."""


@dataclass(frozen=True)
class Plan:
    """One request of the traffic, before its tokens are made up."""

    kind: Kind
    prompt_tokens: int
    reply_tokens: int
    leaves_after: int | None = None
    """Tokens that are heard before the request is aborted; 0 is a step after it came, with or without one."""


def plan_request(chance: random.Random, *, longest: int, images: bool) -> Plan:
    """The next request. `longest` bounds prompt and reply together."""
    kinds = [kind for kind in _SHARES if images or kind != "image"]
    kind = chance.choices(kinds, [_SHARES[kind] for kind in kinds])[0]
    reply = chance.randint(1, max(1, min(192, longest // 8)))
    room = longest - reply
    if kind == "long":
        return Plan(kind, chance.randint(room // 4, room), reply)
    prompt = chance.randint(1, max(1, min(768, room // 4)))
    return Plan(kind, prompt, reply, chance.randint(0, reply) if kind == "abort" else None)


@dataclass
class Heard:
    """What clients saw."""

    tokens: int = 0
    firsts: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    requests: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(_SHARES, 0))


@dataclass
class _Client:
    plan: Plan
    since: float
    heard: int = 0


class Traffic:
    """Keeps a number of requests under way; as one ends, the next comes."""

    def __init__(self, rig: Rig, *, clients: int, longest: int, seed: int = 0) -> None:
        self._rig = rig
        self._wanted = clients
        self._longest = longest
        self._chance = random.Random(seed)  # noqa: S311 - a pattern of load, not secrets
        self._images = bool(rig.engine.picture_size[0])
        self._clients: dict[int, _Client] = {}
        self.heard = Heard()

    def run(self, seconds: float) -> float:
        """Go on for so long; returns the seconds that it took."""
        start = now()
        while now() - start < seconds:
            while len(self._clients) < self._wanted:
                self._arrive()
            self._listen()
        return now() - start

    def _arrive(self) -> None:
        plan = plan_request(self._chance, longest=self._longest, images=self._images)
        prompt, pixels = self._rig.request(plan.prompt_tokens, picture=plan.kind == "image")
        since = now()
        request_id = self._rig.add(prompt, reply_tokens=plan.reply_tokens, pixels=pixels)
        self._clients[request_id] = _Client(plan, since)
        self.heard.requests[plan.kind] += 1

    def _listen(self) -> None:
        outputs = self._rig.step()
        at = now()
        for output in outputs:
            client = self._clients[output.request_id]
            (self.heard.gaps if client.heard else self.heard.firsts).append(at - client.since)
            client.heard += len(output.token_ids)
            client.since = at
            self.heard.tokens += len(output.token_ids)
            if output.finish is not None:
                del self._clients[output.request_id]
        for request_id, client in list(self._clients.items()):
            if client.plan.leaves_after is not None and client.heard >= client.plan.leaves_after:
                self._rig.abort(request_id)
                del self._clients[request_id]


def mixed(stage: Stage) -> Iterator[Case]:
    """One stretch of traffic."""
    yield Case("mixed traffic", functools.partial(_mixed, stage))


def _mixed(stage: Stage) -> Iterator[Row]:
    rig, capacity = stage.rig, stage.rig.engine.capacity
    image_tokens = rig.config.image_tokens
    longest = min(capacity.max_context - image_tokens - 1, 2 * stage.sizes.long_prompt)
    traffic = Traffic(rig, clients=min(stage.sizes.clients, 2 * capacity.max_sequences), longest=longest)
    before, load = allocator_counters(rig), rig.engine.load()
    seconds = traffic.run(min(stage.sizes.traffic_seconds, max(stage.budget.left, 1.0)))
    rig.clear()
    after, heard = allocator_counters(rig), traffic.heard
    preemptions = rig.engine.load().preemptions - load.preemptions
    asked: dict[str, float] = {f"{kind}_requests": float(count) for kind, count in heard.requests.items()}
    yield value_row("mixed traffic", "tok/s", [heard.tokens / seconds], preemptions=preemptions, **asked)
    if heard.firsts:
        yield time_row("first token in mixed traffic", heard.firsts, details=tail(heard.firsts))
    if heard.gaps:
        yield time_row("gap between tokens in mixed traffic", heard.gaps, details=tail(heard.gaps))
    yield from counter_rows(before, after)


def counter_rows(before: Mapping[str, int], after: Mapping[str, int]) -> Iterator[Row]:
    """How far each counter moved; a row fails when it did."""
    for name, count in after.items():
        moved = count - before[name]
        row = value_row(f"change of {name}", "", [moved])
        yield row if moved == 0 else msgspec.structs.replace(row, status="failed", reason="0 is right")


def allocator_counters(rig: Rig) -> dict[str, int]:
    """Those that must stand still; empty on a CPU."""
    if not torch.cuda.is_available() or rig.engine.load().device_bytes == 0:
        return {}
    stats = torch.cuda.memory_stats()
    return {name: stats[name] for name in _COUNTERS}
