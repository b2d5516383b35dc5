"""Pages of keys and values, plain and coded."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gemmad.kernels.pages import LARGEST_CODE, decode_rows, encode_rows, page_type, zeroed_pages

CPU = torch.device("cpu")
kinds = pytest.mark.parametrize("kind", LARGEST_CODE, ids=str)


@kinds
@given(st.integers(0, 1 << 30), st.integers(-30, 30))
def test_codes_are_the_nearest(kind: torch.dtype, seed: int, exponent: int) -> None:
    """The largest number of a row comes back, and every other to half a step of its code."""
    rows = torch.randn(3, 2, 16, generator=torch.Generator().manual_seed(seed)) * 2.0**exponent
    codes, scales = encode_rows(rows, kind)
    back = decode_rows(codes, scales)
    torch.testing.assert_close(back.abs().amax(-1), rows.abs().amax(-1), rtol=1e-6, atol=0.0)
    step = scales[..., None] * (1.0 if kind == torch.int8 else (rows / scales[..., None] / 8).abs().clamp_min(2**-9))
    assert ((back - rows).abs() <= step * 0.5001).all()


@kinds
def test_a_row_of_zeros_divides_nothing(kind: torch.dtype) -> None:
    """Zeros have codes and a scale of 0."""
    codes, scales = encode_rows(torch.zeros(2, 8), kind)
    assert not codes.view(torch.int8).any()
    assert not scales.any()


@kinds
def test_a_row_s_codes_are_its_own(kind: torch.dtype) -> None:
    """What stands beside a row changes nothing, so pages of the same tokens may be shared."""
    rows = torch.randn(5, 4, 16, generator=torch.Generator().manual_seed(1))
    together, alone = encode_rows(rows, kind), encode_rows(rows[2:3, 1:2], kind)
    assert together[0][2, 1].float().equal(alone[0][0, 0].float())
    assert together[1][2, 1] == alone[1][0, 0]


def test_formats() -> None:
    """What is asked for is what pages are kept in; bf16 and an undecided one are the network's own."""
    assert page_type("int8", torch.bfloat16) == torch.int8
    assert page_type("fp8", torch.float32) == torch.float8_e4m3fn
    assert page_type("bf16", torch.float32) == torch.float32
    assert page_type("auto", torch.bfloat16) == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, *LARGEST_CODE], ids=str)
def test_layers_are_zeroed_and_apart(dtype: torch.dtype) -> None:
    """Each layer has its own bytes: codes, and four of a scale for each head and token, side by side by head."""
    layers = zeroed_pages(3, (5, 4, 2, 8), dtype=dtype, device=CPU)
    assert len(layers) == 3
    codes = 2 * 5 * 4 * 2 * 8 * dtype.itemsize
    for layer in layers:
        assert layer.keys.shape == layer.values.shape == (5, 4, 2, 8)
        assert not layer.keys.float().any()
        assert layer.coded == (dtype in LARGEST_CODE)
        assert layer.nbytes == codes + (2 * 4 * 5 * 4 * 2 if layer.coded else 0)
        if layer.key_scales is not None and layer.value_scales is not None:
            assert layer.key_scales.shape == (5, 4, 2)
            assert layer.key_scales.stride()[1] == 1
            assert layer.key_scales.stride() == layer.value_scales.stride()
            assert not layer.key_scales.any()
