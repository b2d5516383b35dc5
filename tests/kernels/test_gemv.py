"""Products for few tokens equal their twins, however they are cut up."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gemmad.kernels.reference import coded
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
    return coded.gate_up_gelu(x.double(), weight.double())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(st.integers(1, 17), st.integers(1, 40), st.integers(1, 200), st.booleans(), st.integers(0, 1 << 30))
@settings(max_examples=12)
def test_any_product(loop: str, dtype: torch.dtype, tokens: int, n: int, k: int, gate: bool, seed: int) -> None:
    """Any sizes, rows and columns left over, plain and gated, in every inner loop; every element is written."""
    from gemmad.kernels.triton import gemv
    from gemmad.kernels.triton.tiles import Tile

    tile = Tile(loop, 16 if loop == "dot" else 4, 32, 1, stages=1 + seed % 3)  # type: ignore[arg-type]
    x, weight = operands(tokens, 2 * n if gate else n, k, dtype, seed)
    out = torch.full((tokens, n), float("nan"), dtype=dtype, device=DEVICE)
    gemv.multiply_rows(x, weight, tile, gated=gate, out=out)
    assert_close(out, gated(x, weight) if gate else x.double() @ weight.double().T)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(
    tokens=st.one_of(st.integers(1, 130), st.sampled_from([17, 32, 48, 64, 96, 128])),
    n=st.integers(1, 90),
    k=st.integers(1, 200),
    splits=st.integers(1, 5),
    rows=st.sampled_from([16, 64]),
    seed=st.integers(0, 1 << 30),
)
@settings(max_examples=9)
def test_any_split(dtype: torch.dtype, tokens: int, n: int, k: int, splits: int, rows: int, seed: int) -> None:
    """However many programs share the columns, shares that are empty among them, their parts add up to the product."""
    from gemmad.kernels.triton import gemv
    from gemmad.kernels.triton.tiles import Tile

    tile = Tile("dot", rows, 32 << seed % 2, 4, stages=1 + seed % 3, splits=splits)
    x, weight = operands(tokens, n, k, dtype, seed)
    exact = x.double() @ weight.double().T
    parts = gemv.multiply_parts(x, weight, tile)
    assert parts.shape == (splits, tokens, n)
    torch.testing.assert_close(parts.double().sum(0), exact, rtol=1e-5, atol=1e-5)
    whole = gemv.multiply_rows(x, weight, tile)
    assert_close(whole, exact)
    assert torch.equal(whole, gemv.multiply_rows(x, weight, tile))


@pytest.mark.parametrize("tokens", [17, 32, 50, 64, 128])
def test_more_tokens_with_a_gate(tokens: int) -> None:
    """The gate is as good for many tokens, whose sums fill wider tiles."""
    from gemmad.kernels.triton import gemv
    from gemmad.kernels.triton.tiles import Tile

    x, weight = operands(tokens, 2 * 70, 200, torch.bfloat16, tokens)
    assert_close(gemv.multiply_rows(x, weight, Tile("dot", 64, 64, 4, 3), gated=True), gated(x, weight))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("splits", [1, 4])
def test_a_norm_adds_the_parts_up(dtype: torch.dtype, splits: int) -> None:
    """A split product and the norm behind it give what the whole product and the norm give."""
    from gemmad.kernels.triton import gemv, norms
    from gemmad.kernels.triton.tiles import Tile

    x, weight = operands(20, 96, 256, dtype, splits)
    residual, _ = operands(20, 1, 96, dtype, 9)
    post, following = 1 + operands(2, 1, 96, torch.float32, 8)[0] * 0.3
    parts = gemv.multiply_parts(x, weight, Tile("dot", 64, 32, 4, 2, splits))
    ours = norms.add_norm(parts, residual, post, following, 1e-6)
    twin = coded.linear_add_norm(
        x, weight, residual=residual, post_weight=post, next_weight=following, eps=1e-6
    )  # fmt: skip
    coarse = dtype == torch.bfloat16
    for mine, wanted in zip(ours, twin, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=2**-6 if coarse else 1e-5, atol=2**-6 if coarse else 1e-5)
        assert mine.dtype == dtype


@pytest.mark.parametrize("tokens", [1, 2, 4, 8, 16, 32, 48, 64, 96, 128])
def test_the_tiles_that_are_used(tokens: int) -> None:
    """Each entry of the table, and the rule beside it, is a cut that works, on a slice of its shape."""
    from gemmad.kernels.triton import gemv, tiles

    chosen = {tile for (_, _, _, step), tile in tiles.TUNED.items() if step == tokens and tile}
    chosen |= {tile for size in (1152, 5376) if (tile := tiles.tile_for(size, 2048, tokens, gated=False))}
    assert tokens > tiles.RULED_TOKENS or chosen
    for tile in chosen:
        x, weight = operands(tokens, 24, 2048, torch.bfloat16, tokens)
        assert_close(gemv.multiply_rows(x, weight, tile), x.double() @ weight.double().T)
        if tile.splits == 1:
            assert_close(gemv.multiply_rows(x, weight, tile, gated=True), gated(x, weight))


def test_every_measured_tile_fits() -> None:
    """No entry asks for more shared memory than a Hopper GPU gives one program, or splits what cannot be split."""
    from gemmad.kernels.triton import tiles

    for (gate, n, k, step), tile in tiles.TUNED.items():
        assert step in tiles.STEPS
        assert tiles.tile_for(n, k, step, gated=gate) == tile
        assert tile is None or tile.splits == 1 or (tile.loop == "dot" and not gate)


def test_rows_may_lie_apart() -> None:
    """Inputs and outputs may be columns of wider tensors."""
    from gemmad.kernels.triton import gemv
    from gemmad.kernels.triton.tiles import Tile

    x, weight = operands(3, 10, 48, torch.float32, 1)
    apart, out = torch.full((2, 3, 60), float("nan"), device=DEVICE).unbind()
    apart[:, :48] = x
    gemv.multiply_rows(apart[:, :48], weight, Tile("multiply", 2, 16, 1), out=out[:, :10])
    assert_close(out[:, :10], x.double() @ weight.double().T)
    assert out[:, 10:].isnan().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(st.integers(1, 5), st.integers(1, 1500), st.integers(0, 1 << 30))
@settings(max_examples=10)
def test_gelu_gate_equals_its_twin(dtype: torch.dtype, tokens: int, n: int, seed: int) -> None:
    """The gate for many tokens, whose product is cuBLAS's, rounds where the twin rounds."""
    from gemmad.kernels.triton import parts

    halves = (torch.randn(tokens, 2 * n, generator=torch.Generator().manual_seed(seed)) * 3).to(DEVICE, dtype)
    gate, up = halves.chunk(2, dim=-1)
    twin = torch.nn.functional.gelu(gate, approximate="tanh") * up
    coarse = dtype == torch.bfloat16
    torch.testing.assert_close(
        parts.gelu_gate(halves), twin, rtol=2**-6 if coarse else 1e-5, atol=2**-9 if coarse else 1e-5
    )  # fmt: skip


@pytest.mark.parametrize("tokens", [0, 1, 3, 16, 17, 40])
def test_the_seam_equals_its_twin(tokens: int) -> None:
    """`linear`, `gate_up_gelu` and `linear_add_norm` give the twin's results, whoever computes them."""
    from gemmad.kernels.triton import products

    x, weight = operands(tokens, 50, 96, torch.float32, 5)
    torch.testing.assert_close(products.linear(x, weight), coded.linear(x, weight), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(products.gate_up_gelu(x, weight), coded.gate_up_gelu(x, weight), rtol=1e-5, atol=1e-5)
    residual, scale = x[:, :50] + 1, torch.linspace(0.5, 1.5, 50, device=DEVICE)
    rest = {"residual": residual, "post_weight": scale, "next_weight": scale.flip(0), "eps": 1e-6}
    ours, twin = (which.linear_add_norm(x, weight, **rest) for which in (products, coded))
    torch.testing.assert_close(ours, twin, rtol=1e-5, atol=1e-5)


def test_more_tokens_go_to_cublas() -> None:
    """A shape that nobody measured is cuBLAS's beyond the rule; in between the table asks for the next step."""
    from gemmad.kernels.triton import tiles

    assert tiles.tile_for(1152, 3840, 0, gated=False) is None
    assert tiles.tile_for(1152, 3840, tiles.RULED_TOKENS, gated=False)
    assert tiles.tile_for(1152, 3840, tiles.RULED_TOKENS + 1, gated=False) is None
    assert tiles.tile_for(8192, 3840, tiles.STEPS[-1] + 1, gated=False) is None
    assert tiles.tile_for(8192, 3840, 3, gated=False) == tiles.tile_for(8192, 3840, 4, gated=False)


def test_what_does_not_fit_goes_by_the_rule() -> None:
    """Little shared memory, or weights of four bytes, mean the rule's tile, or none if that is too large."""
    from gemmad.kernels.triton import tiles

    ruled = tiles.tile_for(1152, 3840, 8, gated=True)
    assert tiles.tile_for(15360, 3840, 8, gated=True) != ruled
    assert tiles.tile_for(15360, 3840, 8, gated=True, weight_bytes=4) == ruled
    assert tiles.tile_for(15360, 3840, 8, gated=True, shared_bytes=99 << 10) == ruled
    assert tiles.tile_for(15360, 3840, 8, gated=True, weight_bytes=4, shared_bytes=99 << 10) is None
