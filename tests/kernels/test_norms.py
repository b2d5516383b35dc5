"""The norm kernels equal their twins."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gemmad.kernels.reference import network
from tests.kernels.conftest import DEVICE

pytest.importorskip("triton", reason="triton is not installed")

EPS = 1e-6
DTYPES = [torch.float32, torch.bfloat16]


def tensors(rows: int, size: int, dtype: torch.dtype, seed: int, *, stride: int) -> list[torch.Tensor]:
    """An input and a residual whose rows lie `stride` apart, and two weights."""
    random = torch.Generator().manual_seed(seed)
    wide = torch.full((2, rows, stride), float("nan"))
    wide[:, :, :size] = torch.randn(2, rows, size, generator=random) * 3
    weights = 1 + torch.randn(2, size, generator=random) * 0.3
    moved = wide.to(DEVICE, dtype)
    return [moved[0, :, :size], moved[1, :, :size], *weights.to(DEVICE).unbind()]


def assert_close(ours: torch.Tensor, twin: torch.Tensor) -> None:
    """Equal but for the order of a sum: in bfloat16 a value now and then falls to the neighbouring one."""
    assert ours.dtype == twin.dtype
    coarse = ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours, twin, rtol=2**-7 if coarse else 2e-6, atol=2**-8 if coarse else 2e-6)
    if coarse and ours.numel() > 1000:
        assert (ours != twin).float().mean() < 0.01


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(st.integers(1, 5), st.integers(1, 700), st.integers(0, 5), st.integers(0, 1 << 30))
@settings(max_examples=15)
def test_rms_norm_equals_its_twin(dtype: torch.dtype, rows: int, size: int, gap: int, seed: int) -> None:
    """Any number of rows of any length, wherever they lie."""
    from gemmad.kernels.triton import norms

    x, _, weight, _ = tensors(rows, size, dtype, seed, stride=size + gap)
    assert_close(norms.rms_norm(x, weight, EPS), network.rms_norm(x, weight, EPS))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(st.integers(1, 5), st.integers(1, 700), st.integers(0, 5), st.integers(0, 1 << 30))
@settings(max_examples=15)
def test_add_norm_equals_its_twin(dtype: torch.dtype, rows: int, size: int, gap: int, seed: int) -> None:
    """The residual is rounded before the second norm sees it, as the twin's is."""
    from gemmad.kernels.triton import norms

    x, residual, post, following = tensors(rows, size, dtype, seed, stride=size + gap)
    ours = norms.add_norm(x, residual, post, following, EPS)
    for mine, twin in zip(ours, network.add_norm(x, residual, post, following, EPS), strict=True):
        assert_close(mine, twin)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 700), st.integers(0, 1 << 30))
@settings(max_examples=10)
def test_parts_are_added_up_first(dtype: torch.dtype, parts: int, rows: int, size: int, seed: int) -> None:
    """An input in float32 parts is their sum, rounded as the residual is."""
    from gemmad.kernels.triton import norms

    x = torch.randn(parts, rows, size, generator=torch.Generator().manual_seed(seed)).to(DEVICE)
    _, residual, post, following = tensors(rows, size, dtype, seed, stride=size)
    total = torch.zeros_like(x[0])
    for part in x:
        total += part
    ours = norms.add_norm(x, residual, post, following, EPS)
    for mine, twin in zip(ours, network.add_norm(total.to(dtype), residual, post, following, EPS), strict=True):
        assert_close(mine, twin)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_whole_row_of_the_model(dtype: torch.dtype) -> None:
    """12B's hidden size, which is no power of two, over several rows."""
    from gemmad.kernels.triton import norms

    x, residual, post, following = tensors(6, 3840, dtype, 1, stride=3840)
    ours = norms.add_norm(x, residual, post, following, EPS)
    for mine, twin in zip(ours, network.add_norm(x, residual, post, following, EPS), strict=True):
        assert_close(mine, twin)


def test_results_may_replace_the_inputs() -> None:
    """With `out` nothing is allocated, and in place the result is the same."""
    from gemmad.kernels.triton import norms

    x, residual, post, following = tensors(3, 96, torch.float32, 2, stride=96)
    twin = network.add_norm(x, residual, post, following, EPS)
    normed, summed = norms.add_norm(x, residual, post, following, EPS, out=(x, residual))
    assert (normed.data_ptr(), summed.data_ptr()) == (x.data_ptr(), residual.data_ptr())
    assert_close(normed, twin[0])
    assert_close(summed, twin[1])
    wanted = network.rms_norm(x, post, EPS)
    assert_close(norms.rms_norm(x, post, EPS, out=x), wanted)


def test_every_element_is_written() -> None:
    """A poisoned output holds no poison afterwards, and nothing beside it is touched."""
    from gemmad.kernels.triton import norms

    x, residual, post, following = tensors(3, 77, torch.float32, 3, stride=77)
    poisoned = torch.full((2, 3, 80), float("nan"), device=DEVICE)
    norms.add_norm(x, residual, post, following, EPS, out=(poisoned[0, :, :77], poisoned[1, :, :77]))
    assert poisoned[:, :, :77].isfinite().all()
    assert poisoned[:, :, 77:].isnan().all()


def test_heads_are_rows() -> None:
    """Any leading dimensions count as rows."""
    from gemmad.kernels.triton import norms

    x, _, weight, _ = tensors(12, 24, torch.float32, 4, stride=24)
    heads = x.reshape(3, 4, 24)
    assert_close(norms.rms_norm(heads, weight, EPS), network.rms_norm(heads, weight, EPS))
