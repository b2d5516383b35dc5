from __future__ import annotations

import tomllib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.config.schema import Config
from gemmad.errors import MemoryPlanError
from gemmad.generation import EngineSettings
from gemmad.planning.budget import plan_memory
from gemmad.planning.formats import resolve
from gemmad.planning.proposal_text import proposals_facts, proposals_text, settings_toml
from gemmad.planning.proposals import USEFUL_CONTEXT, propose
from gemmad.planning.shape import ModelShape, published_shape
from tests.unit.planning.settings import GIB, fitting_settings, gpu, shapes

OPEN = {"weights": "auto", "kv": "auto"}
cases = shapes.flatmap(lambda shape: st.tuples(st.just(shape), fitting_settings(shape)))
capabilities = st.sampled_from((None, (8, 6), (9, 0)))


def asked(**changes: object) -> EngineSettings:
    return gpu(**(OPEN | {"attention": "triton", "page_tokens": 64} | changes))


@given(case=cases, total=st.integers(2 * GIB, 120 * GIB), capability=capabilities, silent=st.booleans())
def test_what_is_proposed_fits(
    case: tuple[ModelShape, EngineSettings], total: int, capability: tuple[int, int] | None, silent: bool
) -> None:
    """The plan of each proposal has no problem and holds as many sequences as it says; a longer context than its
    longest does not fit; and the best that does all that was asked for is what `auto` takes."""
    shape, settings = case
    settings = msgspec.structs.replace(settings, **OPEN, **({"max_context": None} if silent else {}))
    found = propose(shape, settings, total, capability=capability)
    assert (found.best is None) == (not found.listed)
    for each in found.listed:
        plan = plan_memory(shape, each.settings, total_bytes=total)
        assert plan.problem is None
        assert plan.max_context == each.max_context <= each.longest
        counts = {fit.tokens: fit.sequences for fit in plan.fits}
        assert all(counts[fit.tokens] == fit.sequences >= 1 for fit in each.fits)
        if each.longest < shape.max_context:
            longer = msgspec.structs.replace(each.settings, max_context=each.longest + 1)
            assert plan_memory(shape, longer, total_bytes=total).problem
    taken = resolve(settings, shape, total, capability=capability)
    if plan_memory(shape, taken, total_bytes=total).problem is None:
        assert found.best is not None
        assert (found.best.settings, found.best.reaches) == (taken, True)
    else:
        assert not any(each.reaches for each in found.listed)


@given(shape=shapes, total=st.integers(2 * GIB, 120 * GIB))
def test_the_lines_for_the_file_are_what_is_proposed(shape: ModelShape, total: int) -> None:
    """Read as a configuration they give the settings of the proposal back."""
    settings = asked()
    for each in propose(shape, settings, total).listed:
        engine = Config.model_validate(tomllib.loads(settings_toml(each, settings))).engine
        assert (engine.weights, engine.kv, engine.max_context) == (
            each.settings.weights, each.settings.kv, each.max_context,
        )  # fmt: skip
        sizes = (each.settings.max_sequences, each.settings.max_step_tokens)
        assert (engine.max_sequences, engine.max_step_tokens) == sizes


def test_12b_on_12_gib() -> None:
    """8192 tokens fit with int4 and an int8 cache, nothing else changed; with a bf16 one where steps are shorter."""
    found = propose(published_shape("12b"), asked(max_context=8192), 12 * GIB)
    assert {each.settings.weights for each in found.listed} == {"int4"}
    assert found.best is not None
    assert found.best.reaches
    assert found.best.changes(asked(max_context=8192)) == {"engine.weights": "int4", "engine.kv": "int8"}
    plain = found.listed[0]
    assert (plain.settings.kv, plain.whole_steps) == ("bf16", False)
    assert plain.longest >= 8192


def test_12b_on_16_and_24_gib() -> None:
    """16 GiB hold a long context with int4, 24 GiB with 8 bits."""
    for gib, weights in ((16, "int4"), (24, "int8")):
        best = propose(published_shape("12b"), asked(max_context=32_768), gib * GIB).best
        assert best is not None
        assert (best.settings.weights, best.reaches) == (weights, True)
        assert best.longest > 50_000


def test_a_context_that_nothing_reaches() -> None:
    """The truest that is of use is proposed, with whole steps before others; its context is round and given."""
    best = propose(published_shape("12b"), asked(), 12 * GIB).best
    assert best is not None
    assert (best.settings.weights, best.settings.kv, best.whole_steps, best.reaches) == ("int4", "int8", True, False)
    assert USEFUL_CONTEXT <= best.max_context <= best.longest < 131_072
    assert best.max_context % 1024 == 0


def test_nothing_fits() -> None:
    """There is nothing to propose, and that is said."""
    found = propose(published_shape("27b"), asked(), 8 * GIB)
    assert (found.listed, found.best) == ((), None)
    assert proposals_text(found, asked()).startswith("None of the formats")
    assert proposals_facts(found, asked()) == []


def test_a_context_that_was_never_trained() -> None:
    """It is refused like everywhere."""
    with pytest.raises(MemoryPlanError, match="trained for 32768"):
        propose(published_shape("1b"), asked(max_context=40_000), 80 * GIB)


def test_the_table() -> None:
    """One line for each, the best one marked, and the lines to copy."""
    settings = asked(max_context=32_768)
    text = proposals_text(propose(published_shape("12b"), settings, 24 * GIB, capability=(8, 9)), settings)
    lines = [line.split() for line in text.splitlines()]
    table = lines.index(["weights", "kv", "longest", "at", "4096", "at", "8192", "sequences", "step", "tokens"])
    assert lines[table + 1][:3] == ["*", "fp8", "bf16"]
    assert [line[:2] for line in lines[table + 2 : table + 5]] == [["fp8", "fp8"], ["int4", "bf16"], ["int4", "fp8"]]
    assert text.endswith('[engine]\nweights = "fp8"\nkv = "bf16"\nmax_context = 32768')
