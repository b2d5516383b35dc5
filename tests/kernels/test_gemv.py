"""Products for few tokens equal their twins, however they are cut up."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gemmad.kernels.reference import network
from tests.kernels.conftest import DEVICE

pytest.importorskip("triton", reason="triton is not installed")

DTYPES = [torch.float32, torch.bfloat16]
LOOPS = ["multiply", "direct", "dot"]


def operands(tokens: int, n: int, k: int, dtype: torch.dtype, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Input and weight of a product whose results are near 1."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, k, generator=random)
    weight = torch.randn(n, k, generator=random) / k**0.5
    return x.to(DEVICE, dtype), weight.to(DEVICE, dtype)


def assert_close(ours: torch.Tensor, exact: torch.Tensor) -> None:
    """As close to the result in float64 as one rounding at the end allows."""
    coarse = ours.dtype == torch.bfloat16
    torch.testing.assert_close(
        ours.double(), exact, rtol=2**-8 if coarse else 1e-5, atol=2**-10 if coarse else 1e-5
    )  # fmt: skip


def gated(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The gated product in float64."""
    return network.gate_up_gelu(x.double(), weight.double())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(st.integers(1, 17), st.integers(1, 40), st.integers(1, 200), st.booleans(), st.integers(0, 1 << 30))
@settings(max_examples=12)
def test_any_product(loop: str, dtype: torch.dtype, tokens: int, n: int, k: int, gate: bool, seed: int) -> None:
    """Any sizes, rows and columns left over, plain and gated, in every inner loop; every element is written."""
    from gemmad.kernels.triton import gemv

    tile = gemv.Tile(loop, 16 if loop == "dot" else 4, 32, 1, stages=1 + seed % 3)  # type: ignore[arg-type]
    x, weight = operands(tokens, 2 * n if gate else n, k, dtype, seed)
    out = torch.full((tokens, n), float("nan"), dtype=dtype, device=DEVICE)
    gemv.multiply_rows(x, weight, tile, gated=gate, out=out)
    assert_close(out, gated(x, weight) if gate else x.double() @ weight.double().T)


@pytest.mark.parametrize("tokens", [1, 2, 4, 8, 16])
def test_the_tiles_that_are_used(tokens: int) -> None:
    """Each entry of the table, and the rule beside it, is a cut that works, on a slice of its shape."""
    from gemmad.kernels.triton import gemv

    chosen = {tile for (_, _, _, bucket), tile in gemv.TUNED.items() if bucket == tokens and tile}
    chosen |= {tile for size in (1152, 5376) if (tile := gemv.tile_for(size, 2048, tokens, gated=False))}
    assert tokens > 8 or chosen
    for tile in chosen:
        x, weight = operands(tokens, 24, 2048, torch.bfloat16, tokens)
        assert_close(gemv.multiply_rows(x, weight, tile), x.double() @ weight.double().T)
        assert_close(gemv.multiply_rows(x, weight, tile, gated=True), gated(x, weight))


def test_rows_may_lie_apart() -> None:
    """Inputs and outputs may be columns of wider tensors."""
    from gemmad.kernels.triton import gemv

    x, weight = operands(3, 10, 48, torch.float32, 1)
    apart, out = torch.full((2, 3, 60), float("nan"), device=DEVICE).unbind()
    apart[:, :48] = x
    gemv.multiply_rows(apart[:, :48], weight, gemv.Tile("multiply", 2, 16, 1), out=out[:, :10])
    assert_close(out[:, :10], x.double() @ weight.double().T)
    assert out[:, 10:].isnan().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(st.integers(1, 5), st.integers(1, 1500), st.integers(0, 1 << 30))
@settings(max_examples=10)
def test_gelu_gate_equals_its_twin(dtype: torch.dtype, tokens: int, n: int, seed: int) -> None:
    """The gate for many tokens, whose product is cuBLAS's, rounds where the twin rounds."""
    from gemmad.kernels.triton import gemv

    halves = (torch.randn(tokens, 2 * n, generator=torch.Generator().manual_seed(seed)) * 3).to(DEVICE, dtype)
    gate, up = halves.chunk(2, dim=-1)
    twin = torch.nn.functional.gelu(gate, approximate="tanh") * up
    coarse = dtype == torch.bfloat16
    torch.testing.assert_close(
        gemv.gelu_gate(halves), twin, rtol=2**-6 if coarse else 1e-5, atol=2**-9 if coarse else 1e-5
    )  # fmt: skip


@pytest.mark.parametrize("tokens", [0, 1, 3, 16, 17, 40])
def test_the_seam_equals_its_twin(tokens: int) -> None:
    """`linear` and `gate_up_gelu` give the twin's results, whoever computes them."""
    from gemmad.kernels.triton import gemv

    x, weight = operands(tokens, 50, 96, torch.float32, 5)
    torch.testing.assert_close(gemv.linear(x, weight), network.linear(x, weight), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gemv.gate_up_gelu(x, weight), network.gate_up_gelu(x, weight), rtol=1e-5, atol=1e-5)


def test_more_tokens_go_to_cublas() -> None:
    """The table ends where cuBLAS is faster; in between it asks for the next power of two."""
    from gemmad.kernels.triton import gemv

    assert gemv.tile_for(8192, 3840, gemv.MOST_TOKENS + 1, gated=False) is None
    assert gemv.tile_for(8192, 3840, 3, gated=False) == gemv.tile_for(8192, 3840, 4, gated=False)
