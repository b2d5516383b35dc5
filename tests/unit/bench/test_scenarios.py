"""The scenarios on the bundled model: that they measure what they say, not how fast it is."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.bench import crowd, mixed, speed
from gemmad.bench.idle import _Stopwatch, host_work, idle, profile_of
from gemmad.bench.mixed import Traffic, allocator_counters, plan_request
from gemmad.bench.record import Row
from gemmad.bench.rig import DoesNotApply, Rig
from gemmad.bench.run import ON_THE_ENGINE
from gemmad.bench.stage import Stage


def rows(stage: Stage, scenario: str) -> list[Row]:
    """All rows of one scenario."""
    return [row for case in ON_THE_ENGINE[scenario](stage) for row in case.measure()]


def test_decode_gives_a_row_for_each_batch(stage: Stage) -> None:
    """As many samples as repeats, with the context that they were taken at."""
    found = rows(stage, "decode")
    assert [row.label for row in found] == [speed.decode_label(batch) for batch in stage.sizes.batches]
    for row in found:
        assert len(row.samples) == stage.repeat
        assert row.details["context"] > stage.sizes.prompt
        assert row.floor is not None


def test_prefill_and_first_token(stage: Stage) -> None:
    """Rates of prompts, and milliseconds of a short one, sampled more often."""
    assert [row.label for row in rows(stage, "prefill")] == [speed.prefill_label(n) for n in stage.sizes.prefills]
    (row,) = rows(stage, "ttft")
    assert (row.unit, len(row.samples)) == ("ms", 5 * stage.repeat)


def test_what_does_not_fit_is_skipped_not_measured(stage: Stage) -> None:
    """A long prompt over the engine's context raises what is told as a reason."""
    sizes = dataclasses.replace(stage.sizes, long_decodes=((1, 5000),), prefills=(5000,))
    for scenario in ("long", "prefill"):
        with pytest.raises(DoesNotApply, match="context of 640"):
            rows(dataclasses.replace(stage, sizes=sizes), scenario)


def test_throughput_counts_every_token(stage: Stage) -> None:
    """More requests than the engine runs at a time all end."""
    before = stage.rig.engine.load().generated_tokens
    (row,) = rows(stage, "throughput")
    said = stage.rig.engine.load().generated_tokens - before
    assert said == stage.repeat * stage.sizes.requests * stage.sizes.reply
    assert row.details["at_a_time"] == stage.rig.engine.capacity.max_sequences


def test_a_grammar_s_cost(stage: Stage) -> None:
    """Decode without and with a JSON schema side by side, and the share of speed that it costs."""
    first, free, held, cost = rows(stage, "constrained")
    assert first.unit == "ms"
    assert len(free.samples) == len(held.samples) == 2 * stage.repeat
    assert held.details["masks_ms"] > 0
    assert cost.spread is not None
    assert cost.spread.median == pytest.approx(100 * (1 - free.details["step_ms"] / held.details["step_ms"]))


def test_load_tells_newcomer_and_stall_apart(stage: Stage) -> None:
    """Three rows: the newcomer's first token, the usual gap, the gap beside a long prompt."""
    newcomer, calm, stalled = rows(stage, "load")
    assert len(newcomer.samples) == 3 * stage.repeat
    assert len(calm.samples) > len(stalled.samples) >= stage.sizes.load_batch * stage.repeat
    assert stalled.details["p99_ms"] >= stalled.details["p50_ms"]


def test_gaps_are_those_of_one_request(rig: Rig) -> None:
    """Steps that each give two requests a token are two gaps each."""
    with rig.speaking(2, prompt_tokens=8, reply_tokens=16) as ids:
        assert len(crowd.Gaps(rig, ids).during(5)) == 10


def test_an_image_and_a_prompt_are_asked_twice(stage: Stage) -> None:
    """The second time the prefix cache holds what it can, but never the last token."""
    new, repeated = rows(stage, "image")
    assert len(new.samples) == len(repeated.samples) == 2 * stage.repeat
    cold, warm = rows(stage, "prefix")
    assert cold.floor is not None
    assert 0 < warm.details["cached_tokens"] < stage.sizes.long_prompt


def test_mixed_traffic_hears_all_kinds(rig: Rig) -> None:
    """Clients come and go for as long as asked, and every first token is counted once."""
    traffic = Traffic(rig, clients=4, longest=200)
    heard, turns = traffic.heard, 0
    while not heard.tokens and turns < 50:  # however slow the machine is
        assert traffic.run(0.4) >= 0.4
        turns += 1
    assert heard.tokens == len(heard.firsts) + len(heard.gaps) > 0
    assert sum(heard.requests.values()) >= len(heard.firsts)


def test_mixed_traffic_as_rows(stage: Stage) -> None:
    """On a CPU there is no allocator to watch, and so no row about it."""
    assert allocator_counters(stage.rig) == {}
    labels = [row.label for row in rows(stage, "mixed")]
    assert labels[0] == "mixed traffic"
    assert not any("change of" in label for label in labels)


def test_an_allocator_that_moves_fails() -> None:
    """A new segment during traffic is a row in red; a counter that stands still is not."""
    still, moved = mixed.counter_rows({"segments": 4, "retries": 0}, {"segments": 4, "retries": 2})
    assert (still.status, still.samples) == ("ok", (0,))
    assert (moved.status, moved.samples) == ("failed", (2,))


@given(st.integers(0, 10_000), st.integers(8, 20_000), st.booleans())
def test_planned_requests_fit(seed: int, longest: int, images: bool) -> None:
    """Prompt and reply stay under the bound, and images come only where they can be taken."""
    plan = plan_request(random.Random(seed), longest=longest, images=images)
    assert plan.prompt_tokens >= 1
    assert plan.reply_tokens >= 1
    assert plan.prompt_tokens + plan.reply_tokens <= longest
    assert images or plan.kind != "image"
    assert (plan.leaves_after is not None) == (plan.kind == "abort")


def test_memory_tells_plan_and_pages(stage: Stage) -> None:
    """What this process holds, how many pages there are, and a row for each of the plan's."""
    found = {row.label: row for row in rows(stage, "memory")}
    assert {f"memory: {row.name}" for row in stage.rig.engine.memory.plan.rows} <= found.keys()
    assert found["memory: weights"].details["planned"] == pytest.approx(found["memory: weights"].samples[0], rel=0.1)
    assert found["memory of this process on the host"].samples[0] > 0.05
    assert found["longest context"].details["full_pages"] == stage.rig.engine.capacity.full_pages


def test_idle_needs_a_device(stage: Stage) -> None:
    """On a CPU nothing computes beside the host."""
    with pytest.raises(DoesNotApply, match="CPU"):
        rows(stage, "idle")
    assert len(list(idle(stage))) == len(stage.sizes.idle_batches)


def test_the_stopwatch_leaves_the_runner_as_it_was(rig: Rig) -> None:
    """Steps are timed in two parts, and afterwards the engine has its own runner again."""
    runner = rig.engine._runner
    with rig.speaking(2, prompt_tokens=8, reply_tokens=30):
        host, whole = host_work(rig, 2, steps=5)
        assert rig.engine._runner is runner
    assert len(host) == len(whole) == 5
    assert all(0 <= part <= all_of_it for part, all_of_it in zip(host, whole, strict=True))
    with _Stopwatch(rig) as stopwatch:
        rig.first_token(rig.prompt(4), reply_tokens=1)
    assert stopwatch.waited >= 0


def test_idle_time_is_what_nothing_covers() -> None:
    """Kernels may overlap and come in any order; a gap of 30 µs is told apart from one of 5."""
    profile = profile_of([(100e-6, 200e-6), (0.0, 50e-6), (40e-6, 95e-6), (230e-6, 300e-6), (240e-6, 250e-6)])
    assert profile.window == pytest.approx(300e-6)
    assert profile.idle == pytest.approx(35e-6)
    assert profile.idle_in_long_gaps == pytest.approx(30e-6)
    assert profile.long_gaps == 1
