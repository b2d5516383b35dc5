from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gemmad.planning.budget import step_sizes
from gemmad.planning.shape import ModelShape, published_shape
from gemmad.planning.step import (
    GATHER_TOKENS,
    SCRATCH_BYTES,
    SEGMENT_BYTES,
    decoding_bytes,
    gathered_bytes,
    graph_counts,
    input_bytes,
    ladder,
    longest_step,
    picture_slots,
    picture_table_bytes,
    rounding_bytes,
    steered_ladder,
    steering_bytes,
    workspace_bytes,
)
from tests.unit.planning.settings import gpu, shapes


@given(first=st.integers(1, 64), more=st.integers(0, 5000), halves_from=st.sampled_from((32, 256)))
def test_a_ladder_wastes_little(first: int, more: int, halves_from: int) -> None:
    """It ends where it shall, rises, and no step is more than twice the one before."""
    steps = ladder(first, first + more, halves_from=halves_from)
    assert steps[-1] == first + more
    assert steps == sorted(set(steps))
    assert all(after <= 2 * before for before, after in itertools.pairwise(steps))


def test_graphs_of_the_default_settings() -> None:
    """Known numbers: eight sizes that decode and eleven that do not, and a head for each of the first; seven sizes and
    heads where logits are steered; a backend that gathers keys has seven more, for long steps."""
    shape = published_shape("12b")
    assert steered_ladder(64) == [1, 2, 4, 8, 16, 32, 64]
    assert graph_counts(step_sizes(shape, gpu(attention="triton"))) == (8 + 7 + 11, 8 + 7)
    assert graph_counts(step_sizes(shape, gpu(attention="torch"))) == (8 + 7 + 11 + 7, 8 + 7)


def test_the_longest_step() -> None:
    """One image may go over the budget, beside all that speak."""
    assert longest_step(max_step_tokens=2048, max_sequences=64, image_tokens=256) == 2048
    assert longest_step(max_step_tokens=128, max_sequences=64, image_tokens=256) == 320


@given(shape=shapes, tokens=st.integers(16, 8192), sequences=st.integers(1, 256), context=st.integers(16, 32_768))
def test_more_of_anything_needs_no_less(shape: ModelShape, tokens: int, sequences: int, context: int) -> None:
    """Inputs and workspace grow with tokens, sequences and context."""

    def both(**changes: int) -> tuple[int, int]:
        asked = {"max_step_tokens": tokens, "max_sequences": sequences, "max_context": context} | changes
        sizes = step_sizes(shape, gpu(**asked, attention="triton"))
        return input_bytes(shape, sizes), workspace_bytes(shape, sizes)

    for more in ({"max_step_tokens": tokens + 100}, {"max_sequences": sequences + 9}, {"max_context": context - 1}):
        low, high = (both(**more), both()) if "max_context" in more else (both(), both(**more))
        if context > 16 or "max_context" not in more:
            assert low[0] <= high[0]
            assert low[1] <= high[1]


def test_the_workspace_of_a_12b_step() -> None:
    """By hand: 2048 tokens of bfloat16 rows, and logits of 64 sequences."""
    shape = published_shape("12b")
    sizes = step_sizes(shape, gpu(attention="triton"))
    rows = 2048 * 2 * (5 * 3840 + 8192 + 2 * 4096 + 3 * 15_360)
    tables = 2048 * (2 * 4 * 256 + 64)
    splits = 64 * 16 * (256 + 2) * 4
    draw = 64 * (262_208 * (2 + 4) + (128 << 10))
    assert workspace_bytes(shape, sizes) == rows + tables + splits + draw
    assert gathered_bytes(shape, sizes) == 0


def test_the_tables_of_12b() -> None:
    """By hand, for 64 sequences: counts of two bytes a token, 1024 biases, a bit a token, and what is told of one."""
    sizes = step_sizes(published_shape("12b"), gpu())
    assert steering_bytes(published_shape("12b"), sizes) == 64 * (2 * 262_208 + 8 * 1024 + 262_208 // 8 + 20 + 4 * 41)


def test_gathered_keys() -> None:
    """A backend that knows no pages has a buffer for so many tokens, fewer where there cannot be so many."""
    shape = published_shape("12b")
    token_bytes = 2 * 8 * 256 * 2
    many = step_sizes(shape, gpu(attention="torch"))
    assert gathered_bytes(shape, many) == GATHER_TOKENS * token_bytes
    few = step_sizes(shape, gpu(attention="flash", max_sequences=2, max_context=1000))
    assert gathered_bytes(shape, few) == 2000 * token_bytes


def test_pictures() -> None:
    """The table holds at least 32 pictures, or what one step may bring; a text-only network has none."""
    assert picture_slots(2048, 256) == 32
    assert picture_slots(2048, 16) == 129
    assert picture_table_bytes(published_shape("12b"), max_step_tokens=2048, itemsize=2) == 32 * 256 * 3840 * 2
    assert picture_table_bytes(published_shape("1b"), max_step_tokens=2048, itemsize=2) == 0


def test_segments() -> None:
    """Large tensors have whole MiB of their own; others fill segments that they share, in blocks of 512 bytes."""
    mib = 1 << 20
    assert rounding_bytes((10 * mib, 11 * mib, 31 * mib - 5)) == 0 + mib + mib + 5
    assert rounding_bytes((1, mib)) == 2 * mib - mib - 1
    assert rounding_bytes((mib, mib, mib)) == mib
    assert rounding_bytes((9 * mib, 9 * mib, 2 * mib)) == 0
    assert rounding_bytes((9 * mib, 9 * mib, 9 * mib)) == 2 * 20 * mib - 27 * mib


@given(pieces=st.lists(st.integers(1, 60 << 20), max_size=40).map(tuple))
def test_segments_are_whole(pieces: tuple[int, ...]) -> None:
    """What tensors and gaps take together is made of segments."""
    assert (sum(pieces) + rounding_bytes(pieces)) % SEGMENT_BYTES == 0


def test_decoding() -> None:
    """bf16 decodes nothing; codes a piece of a matrix, fp8 the step's rows if those are more; a CPU whole rows."""
    shape = published_shape("12b")
    sizes = step_sizes(shape, gpu(max_step_tokens=8192, attention="triton"))
    assert decoding_bytes(shape, sizes, "bf16", on_gpu=True) == 0
    assert decoding_bytes(shape, sizes, "int4", on_gpu=True) == SCRATCH_BYTES
    assert decoding_bytes(shape, sizes, "fp8", on_gpu=True) == 8192 * (15_360 + 4)
    small = published_shape("270m")
    assert decoding_bytes(small, sizes, "int8", on_gpu=True) == 2 * 2048 * 640 * 2
    assert decoding_bytes(shape, sizes, "int8", on_gpu=False) == 16 * 3840 * 15_360
