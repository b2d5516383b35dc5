"""The rotary kernels equal their twins, and write where they are told, nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gemmad.kernels.pages import LARGEST_CODE, Pages, decode_rows, encode_rows
from gemmad.kernels.reference import network
from tests.kernels.conftest import DEVICE

pytest.importorskip("triton", reason="triton is not installed")

EPS = 1e-6
DTYPES = [torch.float32, torch.bfloat16]


@dataclass
class Case:
    """One step's projection, and poisoned pages for it; `sliced` ones are a layer's share of a larger tensor."""

    tokens: int
    heads: int
    kv_heads: int
    head_dim: int
    page_tokens: int
    dtype: torch.dtype
    seed: int
    sliced: bool = False
    slot_type: torch.dtype = torch.int64

    def __post_init__(self) -> None:
        random = torch.Generator().manual_seed(self.seed)
        width = (self.heads + 2 * self.kv_heads) * self.head_dim
        self.qkv = torch.randn(self.tokens, width, generator=random).to(DEVICE, self.dtype)
        self.weights = (1 + 0.3 * torch.randn(2, self.head_dim, generator=random)).to(DEVICE)
        positions = torch.randint(0, 5000, (self.tokens,), generator=random)
        frequencies = 10000.0 ** -(torch.arange(self.head_dim // 2) * 2 / self.head_dim)
        self.rope = network.rope_tables(positions, frequencies, 1.0).to(DEVICE)
        self.pages = self.tokens // self.page_tokens + 2
        slots = torch.randperm(self.pages * self.page_tokens, generator=random)[: self.tokens]
        slots[torch.rand(self.tokens, generator=random) < 0.3] = -1
        self.slots = slots.to(DEVICE, self.slot_type)

    def poisoned(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Pages full of NaN."""
        shape = (self.pages, self.page_tokens, self.kv_heads, self.head_dim)
        if not self.sliced:
            keys, values = torch.full((2, *shape), float("nan"), dtype=self.dtype, device=DEVICE).unbind()
            return keys, values
        pages, tokens, heads, size = shape
        wide = torch.full((pages, 3, heads, tokens, size), float("nan"), dtype=self.dtype, device=DEVICE)
        return wide[:, 0].transpose(1, 2), wide[:, 2].transpose(1, 2)

    def run(self, function: object) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, keys and values of one implementation."""
        keys, values = self.poisoned()
        assert callable(function)
        q = function(self.qkv, *self.weights, self.rope, self.slots, Pages(keys, values), EPS)
        return q, keys, values

    def run_coded(self, function: object, dtype: torch.dtype) -> Pages:
        """Coded pages, first full of codes of one bit and scales of NaN, after one implementation; scales lie heads
        first."""
        shape = (2, self.pages, self.page_tokens, self.kv_heads, self.head_dim)
        keys, values = torch.full(shape, 1, dtype=torch.int8, device=DEVICE).view(dtype)
        heads_first = (2, self.pages, self.kv_heads, self.page_tokens)
        scales = torch.full(heads_first, float("nan"), device=DEVICE).transpose(2, 3)
        assert callable(function)
        pages = Pages(keys, values, scales[0], scales[1])
        function(self.qkv, *self.weights, self.rope, self.slots, pages, EPS)
        return pages


def assert_equal(case: Case) -> None:
    """Ours equals the twin everywhere: what is not written is NaN in both."""
    from gemmad.kernels.triton import rope

    coarse = case.dtype == torch.bfloat16
    for mine, twin in zip(case.run(rope.rotate_and_store), case.run(network.rotate_and_store), strict=True):
        assert mine.dtype == twin.dtype
        torch.testing.assert_close(
            mine, twin, rtol=2**-6 if coarse else 2e-6, atol=2**-5 if coarse else 1e-5, equal_nan=True
        )
        if coarse and mine.numel() > 1000:
            differ = (mine != twin) & ~twin.isnan()
            assert differ.float().mean() < 0.01


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from([2, 6, 16, 24, 64]),
    st.sampled_from([1, 4, 16]),
    st.booleans(),
    st.integers(0, 1 << 30),
)
@settings(max_examples=20)
def test_rotate_and_store_equals_its_twin(
    dtype: torch.dtype, tokens: int, heads: int, kv_heads: int, head_dim: int, page: int, sliced: bool, seed: int
) -> None:
    """Any heads, any head size, pages in one piece or sliced, padding between the rows."""
    assert_equal(Case(tokens, heads, kv_heads, head_dim, page, dtype, seed, sliced=sliced))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_model_s_heads(dtype: torch.dtype) -> None:
    """12B's heads, slots as 32-bit numbers."""
    assert_equal(Case(3, 16, 8, 256, 16, dtype, 7, slot_type=torch.int32))


def test_many_tokens_share_programs() -> None:
    """With many tokens a program takes several heads, of different kinds and beyond the last."""
    assert_equal(Case(70, 3, 2, 8, 16, torch.float32, 8))


@pytest.mark.parametrize("kind", LARGEST_CODE, ids=str)
@pytest.mark.parametrize("tokens", [3, 70])
@pytest.mark.parametrize("head_dim", [6, 64])
def test_codes_equal_their_twin(kind: torch.dtype, tokens: int, head_dim: int) -> None:
    """Codes and scales are the twin's but where a number lies between two codes, and nothing else is written."""
    from gemmad.kernels.triton import rope

    case = Case(tokens, 3, 2, head_dim, 16, torch.bfloat16, tokens + head_dim)
    case.qkv[0, -head_dim:] = 0.0
    ours, twin = (case.run_coded(function, kind) for function in (rope.rotate_and_store, network.rotate_and_store))
    for mine, other in ((ours.keys, twin.keys), (ours.values, twin.values)):
        apart = (mine.view(torch.int8).int() - other.view(torch.int8).int()).abs()
        assert apart.max() <= 1
        assert (apart > 0).float().mean() < 0.01
    for scales, others in ((ours.key_scales, twin.key_scales), (ours.value_scales, twin.value_scales)):
        assert scales is not None
        torch.testing.assert_close(scales, others, rtol=1e-5, atol=0.0, equal_nan=True)


@pytest.mark.parametrize("kind", LARGEST_CODE, ids=str)
@pytest.mark.parametrize("size", [1e-30, 1.0, 3e30])
def test_a_code_is_the_nearest(kind: torch.dtype, size: float) -> None:
    """Values of any size come back to half a code's step, from the kernel as from its twin, and zeros as zeros."""
    from gemmad.kernels.triton import rope

    case = Case(40, 1, 1, 64, 64, torch.float32, 3)
    case.slots = torch.arange(40, device=DEVICE)
    values = case.qkv.view(40, 3, 64)[:, 2]
    values *= size * torch.rand(40, 1, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    values[7] = 0.0
    pages = case.run_coded(rope.rotate_and_store, kind)
    assert pages.value_scales is not None
    codes, scales = pages.values[0, :40, 0], pages.value_scales[0, :40, 0]
    assert not codes[7].view(torch.int8).any()
    step = scales[:, None] * (1.0 if kind == torch.int8 else (values.abs() / scales[:, None] / 8).clamp_min(2**-9))
    step[7] = 0.0
    assert ((decode_rows(codes, scales) - values).abs() <= step * 0.501).all()
    exact, _ = encode_rows(values, kind)
    assert (codes.view(torch.int8) == exact.view(torch.int8)).float().mean() > 0.99


def test_padding_alone_writes_nothing() -> None:
    """A step of padding leaves every page as it was."""
    from gemmad.kernels.triton import rope

    case = Case(4, 2, 1, 16, 4, torch.float32, 9)
    case.slots.fill_(-1)
    q, keys, values = case.run(rope.rotate_and_store)
    assert q.isfinite().all()
    assert keys.isnan().all()
    assert values.isnan().all()


@given(st.integers(1, 6), st.integers(1, 40), st.sampled_from([torch.int32, torch.int64]), st.integers(0, 1 << 30))
@settings(max_examples=15)
def test_rope_tables_equal_their_twin(tokens: int, half: int, kind: torch.dtype, seed: int) -> None:
    """Cosines and sines agree up to the longest context."""
    from gemmad.kernels.triton import rope

    random = torch.Generator().manual_seed(seed)
    positions = torch.randint(0, 131072, (tokens,), generator=random).to(DEVICE, kind)
    frequencies = (10000.0 ** -(torch.arange(half) / half)).to(DEVICE)
    ours, twin = rope.rope_tables(positions, frequencies, 0.5), network.rope_tables(positions, frequencies, 0.5)
    torch.testing.assert_close(ours, twin, rtol=1e-5, atol=1e-6)
