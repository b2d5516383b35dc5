from __future__ import annotations

import re
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gemmad.config.quantities import parse_bytes
from gemmad.generation import EngineSettings
from gemmad.planning.budget import plan_memory
from gemmad.planning.remedies import Advice, advise
from gemmad.planning.shape import ModelShape, published_shape
from tests.unit.planning.settings import COSTS, GIB, cpu, fitting_settings, gpu, shapes

FIELDS = {"memory.reserve": "reserve_bytes", "memory.kv_bytes": "kv_bytes", "memory.fraction": "memory_fraction"}
cases = shapes.flatmap(lambda shape: st.tuples(st.just(shape), fitting_settings(shape)))


def advice(shape: ModelShape, settings: EngineSettings, total: int) -> Advice:
    """For a plan that must not fit."""
    plan = plan_memory(shape, settings, total_bytes=total, costs=COSTS)
    assert plan.problem
    return advise(shape, settings, plan, costs=COSTS)


def fits(shape: ModelShape, settings: EngineSettings, total: int, **changes: Any) -> bool:
    return plan_memory(shape, msgspec.structs.replace(settings, **changes), total_bytes=total).problem is None


@given(case=cases, total=st.integers(2 * GIB, 80 * GIB))
def test_every_remedy_is_one(case: tuple[ModelShape, EngineSettings], total: int) -> None:
    """Each setting that is named makes the plan fit by itself, and a little more of it does not."""
    shape, settings = case
    plan = plan_memory(shape, settings, total_bytes=total)
    if plan.problem is None:
        return
    told = advise(shape, settings, plan)
    for remedy in told.remedies:
        name = FIELDS.get(remedy.setting) or remedy.setting.removeprefix("engine.")
        value = parse_bytes(remedy.value)
        assert fits(shape, settings, total, **{name: value}), remedy
        if isinstance(remedy.value, int):
            assert not fits(shape, settings, total, **{name: value + 1}), remedy
        assert remedy.words in told.words
    assert told.gpu_bytes is not None
    assert fits(shape, settings, told.gpu_bytes + 16)
    assert not fits(shape, settings, told.gpu_bytes - GIB // 8)
    for model in told.models:
        smaller = published_shape(model)
        assert fits(smaller, settings, total, max_context=min(plan.max_context, smaller.max_context))


def test_12b_on_24_gib() -> None:
    """No setting helps weights that are larger than the share: it is said why, what GPU would do, and which model."""
    told = advice(published_shape("12b"), gpu(max_context=32_768, attention="triton"), 24 * GIB)
    assert told.remedies == ()
    assert told.models == ("4b", "1b", "270m")
    assert told.words == (
        "the weights alone take 22.70 GiB in bfloat16, and quantised ones, which are smaller, are not supported yet; "
        "a GPU with 31.33 GiB would do for these settings; of the published sizes 4b, 1b, 270m would fit here"
    )


def test_12b_on_32_gib() -> None:
    """Where only the context is too long, the longest that fits is named."""
    told = advice(published_shape("12b"), gpu(), 32 * GIB)
    assert [remedy.setting for remedy in told.remedies] == ["engine.max_context"]
    assert re.fullmatch(r"to make it fit, set engine\.max_context to \d+ or less", told.words)


def test_a_little_too_much() -> None:
    """Where little is missing, every setting that could give it is named."""
    told = advice(published_shape("1b"), gpu(max_context=8192, max_step_tokens=8192, memory_fraction=0.8), 5 * GIB)
    assert {remedy.setting for remedy in told.remedies} >= {"memory.reserve", "memory.fraction"}


def test_pages_too_few_and_too_many() -> None:
    """memory.kv_bytes is told how many it takes, or how many there are."""
    few = advice(published_shape("1b"), gpu(kv_bytes=1 << 20), 80 * GIB)
    assert few.words.startswith("to make it fit, set memory.kv_bytes to 184MiB or more, or engine.max_context to ")
    many = advice(published_shape("1b"), gpu(kv_bytes=8 * GIB), 8 * GIB)
    assert re.match(r"to make it fit, set memory\.kv_bytes to \d+MiB or less", many.words)


def test_wide_numbers() -> None:
    """float32 on a GPU that bfloat16 would fit on is said."""
    told = advice(published_shape("4b"), gpu(dtype="float32", max_context=8192), 16 * GIB)
    assert [(remedy.setting, remedy.value) for remedy in told.remedies] == [("engine.dtype", "bfloat16")]


def test_a_cpu_worker_has_no_gpu_to_be_larger() -> None:
    """On a CPU the host is what it is."""
    told = advice(published_shape("27b"), cpu(max_context=4096), 16 * GIB)
    assert (told.gpu_bytes, "GPU" in told.words) == (None, False)
    assert told.models == ("1b", "270m")
