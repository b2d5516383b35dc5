from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.errors import MemoryPlanError
from gemmad.generation import EngineSettings
from gemmad.planning import budget
from gemmad.planning.budget import Costs, plan_memory
from gemmad.planning.pages import sequences_that_fit
from gemmad.planning.shape import ModelShape, published_shape
from tests.unit.planning.settings import COSTS, GIB, cpu, fitting_settings, gpu, shapes

cases = shapes.flatmap(lambda shape: st.tuples(st.just(shape), fitting_settings(shape)))
totals = st.integers(4 * GIB, 200 * GIB)


@given(case=cases, total=totals)
def test_a_share_is_spent_and_not_more(case: tuple[ModelShape, EngineSettings], total: int) -> None:
    """Rows sum up to at most the share; where something is left, it is no page, or all sequences have all theirs."""
    shape, settings = case
    plan = plan_memory(shape, settings, total_bytes=total)
    assert plan.share_bytes == int(total * settings.memory_fraction)
    assert plan.planned_bytes == sum(row.planned_bytes for row in plan.rows)
    assert plan.planned(budget.KV_FULL, budget.KV_SLIDING) == plan.pages.nbytes
    if plan.problem:
        assert plan.planned_bytes > plan.share_bytes
        assert plan.fits == ()
        return
    left = plan.share_bytes - plan.planned_bytes
    assert left >= 0
    rules = budget.page_rules(shape, settings)
    everyone = sequences_that_fit(rules, plan.pages, plan.max_context) >= settings.max_sequences
    assert everyone or left < max(plan.pages.full_page_bytes, plan.pages.sliding_page_bytes)


@given(case=cases, total=totals)
def test_counts_are_those_of_the_pages(case: tuple[ModelShape, EngineSettings], total: int) -> None:
    """Each length up to the context is counted, none beyond it, and never more than the settings let run."""
    shape, settings = case
    plan = plan_memory(shape, settings, total_bytes=total)
    rules = budget.page_rules(shape, settings)
    for fit in plan.fits:
        assert fit.tokens <= plan.max_context
        assert fit.sequences == min(settings.max_sequences, sequences_that_fit(rules, plan.pages, fit.tokens))
    assert [fit.sequences for fit in plan.fits] == sorted((fit.sequences for fit in plan.fits), reverse=True)
    assert plan.problem or (plan.fits[-1].tokens, plan.fits[-1].sequences >= 1) == (plan.max_context, True)


@given(case=cases, total=totals, shorter=st.integers(1, 1000))
def test_a_shorter_context_never_needs_more(case: tuple[ModelShape, EngineSettings], total: int, shorter: int) -> None:
    """What fits with some context, number of sequences and reserve fits with less of each."""
    shape, settings = case
    assert settings.max_context is not None
    if plan_memory(shape, settings, total_bytes=total).problem:
        return
    for changes in (
        {"max_context": max(16, settings.max_context - shorter)},
        {"max_sequences": max(1, settings.max_sequences - shorter)},
        {"reserve_bytes": max(0, settings.reserve_bytes - (shorter << 20))},
    ):
        less = msgspec.structs.replace(settings, **changes)
        assert plan_memory(shape, less, total_bytes=total).problem is None


def test_every_row_of_a_known_plan() -> None:
    """By hand: what follows from the settings, with costs that are round."""
    shape = published_shape("1b")
    costs = Costs(context_bytes=500, matmul_bytes=70, graph_bytes=3, graph_layer_bytes=1, slack_bytes=11)
    plan = plan_memory(shape, gpu(max_context=4096, attention="triton"), total_bytes=8 * GIB, costs=costs)
    rows = {row.name: row.planned_bytes for row in plan.rows}
    assert list(rows) == [
        "weights", "kv full", "kv sliding", "vision", "steering", "inputs", "gathered", "workspace", "graphs",
        "context", "reserve",
    ]  # fmt: skip
    assert rows["weights"] == shape.weight_bytes(2)
    assert rows["vision"] == rows["gathered"] == 0
    assert rows["graphs"] == (26 + 15) * 3 + 26 * 26
    assert rows["context"] == 500
    assert rows["reserve"] == GIB
    inputs = 64 * (128 + 4 * (161 + 256) + 1152 * 2 + 8) + 2048 * 32 + 1024
    assert rows["inputs"] == inputs + 70
    assert rows["kv full"] == plan.pages.full_pages * 4 * 16 * 1024
    assert rows["kv sliding"] == plan.pages.sliding_pages * 22 * 16 * 1024
    assert all(row.measured_bytes is None for row in plan.rows)


def test_12b_needs_more_than_24_gib() -> None:
    """Its weights alone are over nine tenths of such a card; on an H200 there is room for a dozen whole books."""
    settings = gpu(max_context=32_768, attention="triton")
    plan = plan_memory(published_shape("12b"), settings, total_bytes=24 * GIB, costs=COSTS)
    assert plan.problem == "the worker needs 28.20 GiB and may take 21.60 GiB, 0.9 of the GPU's 24.00 GiB"
    large = plan_memory(published_shape("12b"), settings, total_bytes=140 * GIB, costs=COSTS)
    assert large.problem is None
    assert large.fits[-1].sequences > 24


def test_pages_that_are_asked_for() -> None:
    """memory.kv_bytes is kept to, and told when it is too little for one sequence or too much for the share."""
    shape = published_shape("1b")
    plan = plan_memory(shape, gpu(kv_bytes=GIB), total_bytes=80 * GIB)
    assert GIB - plan.pages.sliding_page_bytes < plan.pages.nbytes <= GIB
    little = plan_memory(shape, gpu(kv_bytes=1 << 20), total_bytes=80 * GIB)
    assert little.problem == "one sequence of 32768 tokens needs 183.34 MiB of KV cache, and there are 1.00 MiB"
    much = plan_memory(shape, gpu(kv_bytes=8 * GIB), total_bytes=8 * GIB)
    assert "may take 7.20 GiB" in (much.problem or "")


def test_a_context_that_was_never_trained() -> None:
    """A longer context than the network's own is refused, whatever the memory."""
    with pytest.raises(MemoryPlanError, match="is 40000, the model was trained for 32768"):
        plan_memory(published_shape("1b"), gpu(max_context=40_000), total_bytes=80 * GIB)


def test_a_cpu_worker() -> None:
    """It has the host's memory, half a GiB of pages unless told, float32 unless told, and no graphs."""
    shape = published_shape("270m")
    plan = plan_memory(shape, cpu(max_context=4096), total_bytes=16 * GIB)
    names = ["weights", "kv full", "kv sliding", "vision", "steering", "workspace", "process"]
    assert [row.name for row in plan.rows] == names
    assert (plan.share_bytes, plan.on_gpu, plan.problem) == (16 * GIB, False, None)
    assert plan.planned(budget.WEIGHTS) == shape.weight_bytes(4)
    assert plan.pages.nbytes <= budget.CPU_KV_BYTES
    small = plan_memory(published_shape("4b"), cpu(max_context=4096), total_bytes=16 * GIB)
    assert (small.problem or "").endswith("and the host has 16.00 GiB")
    assert plan_memory(shape, cpu(dtype="bfloat16"), total_bytes=GIB << 4).planned(budget.WEIGHTS) < GIB
