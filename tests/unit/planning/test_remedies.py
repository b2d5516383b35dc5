from __future__ import annotations

import re
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gemmad.config.quantities import parse_bytes
from gemmad.generation import EngineSettings
from gemmad.planning.budget import plan_memory
from gemmad.planning.coding import CodedFormats, Coding
from gemmad.planning.remedies import Advice, advise
from gemmad.planning.shape import ModelShape, published_shape
from tests.unit.planning.settings import COSTS, GIB, cpu, fitting_settings, gpu, shapes

FIELDS = {"memory.reserve": "reserve_bytes", "memory.kv_bytes": "kv_bytes", "memory.fraction": "memory_fraction"}
FORMATS = {"engine.weights", "engine.kv"}
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
        value = parse_bytes(remedy.value) if remedy.setting not in FORMATS else remedy.value
        assert fits(shape, settings, total, **{name: value}), remedy
        if isinstance(remedy.value, int):
            assert not fits(shape, settings, total, **{name: remedy.value + 1}), remedy
        assert remedy.words in told.words
    assert told.gpu_bytes is not None
    assert fits(shape, settings, told.gpu_bytes + 16)
    assert not fits(shape, settings, told.gpu_bytes - GIB // 8)
    for model in told.models:
        smaller = published_shape(model)
        assert fits(smaller, settings, total, max_context=min(plan.max_context, smaller.max_context))


def test_12b_on_24_gib() -> None:
    """Where weights with fewer bits would do, the truest such are named."""
    told = advice(published_shape("12b"), gpu(max_context=32_768, attention="triton"), 24 * GIB)
    assert [(remedy.setting, remedy.value) for remedy in told.remedies] == [("engine.weights", "int8")]
    assert told.words == "to make it fit, set engine.weights to int8"


def test_12b_on_12_gib() -> None:
    """Where no setting helps by itself it is said why, what would do together, and what GPU it takes."""
    told = advice(published_shape("12b"), gpu(max_context=8192, attention="triton"), 12 * GIB)
    assert (told.remedies, told.models) == ((), ())
    assert dict(told.together) == {"engine.weights": "int4", "engine.kv": "int8"}
    assert re.fullmatch(
        r"the weights alone take 22\.70 GiB in bfloat16; engine\.weights int4, engine\.kv int8 together would fit; "
        r"a GPU with 29\.\d\d GiB would do for these settings",
        told.words,
    )


def test_12b_on_8_gib() -> None:
    """Where nothing helps, smaller models are named; weights that are coded already are called what they are."""
    told = advice(published_shape("12b"), gpu(max_context=8192, attention="triton", weights="int8"), 8 * GIB)
    assert (told.remedies, told.together, told.models) == ((), (), ("1b", "270m"))
    assert told.words.startswith("the weights alone take 11.75 GiB in int8; a GPU with ")
    assert told.words.endswith("of the published sizes 1b, 270m would fit here")


def test_a_checkpoint_that_comes_coded_is_not_coded_again() -> None:
    """No other format of weights is offered for it."""
    shape = msgspec.structs.replace(published_shape("27b"), coded=CodedFormats("fp8", Coding("fp8")))
    told = advice(shape, gpu(max_context=4096), 24 * GIB)
    assert not any(remedy.setting == "engine.weights" for remedy in told.remedies)
    assert told.together == ()


def test_a_cache_with_fewer_bits() -> None:
    """It is named where it is enough."""
    told = advice(published_shape("12b"), gpu(max_context=8192, weights="int4", attention="triton"), 12 * GIB)
    assert ("engine.kv", "int8") in [(remedy.setting, remedy.value) for remedy in told.remedies]


def test_formats_that_the_network_cannot_have() -> None:
    """They are no remedy."""
    shape = msgspec.structs.replace(published_shape("12b"), intermediate_size=15_000)
    told = advice(shape, gpu(max_context=32_768, attention="triton"), 24 * GIB)
    assert (told.remedies, told.together) == ((), ())


def test_12b_on_32_gib() -> None:
    """Where little is missing for a long context, the longest that fits is named, and the formats that hold it."""
    told = advice(published_shape("12b"), gpu(), 32 * GIB)
    assert [remedy.setting for remedy in told.remedies] == ["engine.max_context", "engine.weights"]
    assert re.fullmatch(
        r"to make it fit, set engine\.max_context to \d+ or less, or engine\.weights to int8", told.words
    )


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
    assert [(remedy.setting, remedy.value) for remedy in told.remedies] == [
        ("engine.dtype", "bfloat16"),
        ("engine.weights", "int8"),
    ]


def test_a_cpu_worker_has_no_gpu_to_be_larger() -> None:
    """On a CPU the host is what it is."""
    told = advice(published_shape("27b"), cpu(max_context=4096), 16 * GIB)
    assert (told.gpu_bytes, "GPU" in told.words) == (None, False)
    assert told.models == ("1b", "270m")
