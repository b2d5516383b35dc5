from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.errors import MemoryPlanError
from gemmad.generation import EngineSettings
from gemmad.planning.budget import plan_memory
from gemmad.planning.coding import CodedFormats, Coding
from gemmad.planning.formats import combinations, resolve
from gemmad.planning.shape import ModelShape, published_shape
from tests.unit.planning.settings import GIB, cpu, fitting_settings, gpu, shapes

HOPPER, AMPERE = (9, 0), (8, 6)
cases = shapes.flatmap(lambda shape: st.tuples(st.just(shape), fitting_settings(shape)))
capabilities = st.sampled_from((None, (8, 0), (8, 9), (9, 0)))


def formats(settings: EngineSettings) -> tuple[str, str]:
    return settings.weights, settings.kv


@given(case=cases, total=st.integers(2 * GIB, 120 * GIB), capability=capabilities, kv=st.sampled_from(("auto", "bf16")))
def test_the_first_that_fits(
    case: tuple[ModelShape, EngineSettings], total: int, capability: tuple[int, int] | None, kv: str
) -> None:
    """Nothing is left open; what is taken fits where anything does, and nothing truer would; else it is the truest."""
    shape, settings = case
    settings = msgspec.structs.replace(settings, weights="auto", kv=kv)
    choices = combinations(settings, shape, capability=capability)
    taken = resolve(settings, shape, total, capability=capability)
    assert "auto" not in formats(taken)
    problems = [plan_memory(shape, choice, total_bytes=total).problem for choice in choices]
    assert choices.index(taken) == (problems.index(None) if None in problems else 0)


def test_the_order() -> None:
    """Numbers, then 8 bits, fp8 only where the device multiplies it, then 4; the cache gives way before weights."""
    settings, shape = gpu(weights="auto", kv="auto"), published_shape("12b")
    assert [formats(each) for each in combinations(settings, shape, capability=HOPPER)] == [
        ("bf16", "bf16"), ("bf16", "fp8"), ("fp8", "bf16"), ("fp8", "fp8"), ("int4", "bf16"), ("int4", "fp8"),
    ]  # fmt: skip
    for capability in (AMPERE, None):
        assert [formats(each) for each in combinations(settings, shape, capability=capability)] == [
            ("bf16", "bf16"), ("bf16", "int8"), ("int8", "bf16"), ("int8", "int8"), ("int4", "bf16"), ("int4", "int8"),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("gib", "capability", "context", "taken"),
    [
        (80, HOPPER, None, ("bf16", "bf16")),
        (24, HOPPER, 32_768, ("fp8", "bf16")),
        (24, AMPERE, 32_768, ("int8", "bf16")),
        (24, HOPPER, 131_072, ("fp8", "fp8")),
        (16, HOPPER, 32_768, ("int4", "bf16")),
        (12, None, 8192, ("int4", "int8")),
        (8, HOPPER, 8192, ("bf16", "bf16")),
    ],
)
def test_12b(gib: int, capability: tuple[int, int] | None, context: int | None, taken: tuple[str, str]) -> None:
    """On a card of each size; where nothing fits the plan is about the weights as they are."""
    settings = gpu(weights="auto", kv="auto", max_context=context, attention="triton", page_tokens=64)
    assert formats(resolve(settings, published_shape("12b"), gib * GIB, capability=capability)) == taken


def test_what_is_said_stays() -> None:
    """A format that the settings name is not changed, whether it fits or not."""
    settings = gpu(weights="bf16", kv="fp8")
    assert resolve(settings, published_shape("27b"), 8 * GIB, capability=AMPERE) == settings
    assert formats(resolve(gpu(weights="int8", kv="auto"), published_shape("4b"), 80 * GIB, capability=None)) == (
        "int8",
        "bf16",
    )


def test_a_checkpoint_that_comes_coded() -> None:
    """auto takes it as it comes, whatever would fit."""
    coded = CodedFormats("gguf", Coding("int4", 32))
    settings, shape = gpu(weights="auto"), published_shape("4b")
    assert resolve(settings, shape, 80 * GIB, capability=HOPPER, coded=coded).weights == "int4"
    own = msgspec.structs.replace(shape, coded=coded)
    assert resolve(settings, own, 80 * GIB, capability=HOPPER).weights == "int4"


def test_a_cpu() -> None:
    """It has the host's memory to fit into, and no fp8."""
    settings = cpu(weights="auto", max_context=4096, kv_bytes=GIB)
    assert resolve(settings, published_shape("4b"), 64 * GIB, capability=None).weights == "bf16"
    assert resolve(settings, published_shape("4b"), 12 * GIB, capability=None).weights == "int8"


def test_columns_that_are_no_blocks() -> None:
    """auto leaves out formats that the network cannot have; one that is named is refused."""
    shape = msgspec.structs.replace(published_shape("4b"), intermediate_size=10_000)
    assert {each.weights for each in combinations(gpu(weights="auto"), shape, capability=HOPPER)} == {"bf16"}
    with pytest.raises(MemoryPlanError, match="some of 10000"):
        plan_memory(shape, gpu(weights="int8"), total_bytes=80 * GIB)
