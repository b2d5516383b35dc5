"""Products with coded weights equal their twins, whatever the codes, the groups and the cut."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gemmad.kernels.matrices import CodedKind, CodedMatrix, decode, pack, unpack
from gemmad.kernels.reference import coded as reference
from tests.kernels.conftest import DEVICE, INTERPRETED

pytest.importorskip("triton", reason="triton is not installed")

KINDS: list[CodedKind] = ["int4", "int8", "fp8"]
VARIANTS: list[tuple[CodedKind, int, bool]] = [
    ("int8", 0, False),
    ("fp8", 0, False),
    *(("int4", group, offsets) for group in (32, 64, 128) for offsets in (False, True)),
]


def codes_of(kind: CodedKind, rows: int, columns: int, random: torch.Generator) -> torch.Tensor:
    """Codes of every worth that the kind has."""
    if kind == "int4":
        return torch.randint(0, 16, (rows, columns), generator=random)
    if kind == "int8":
        return torch.randint(-128, 128, (rows, columns), generator=random).to(torch.int8)
    numbers = torch.randn(rows, columns, generator=random).exp2() * torch.randn(rows, columns, generator=random).sign()
    numbers[:, ::37] = 2.0**-9  # subnormal
    return (numbers * 0.1).to(torch.float8_e4m3fn)


def matrix(
    kind: CodedKind, rows: int, columns: int, *, group: int = 0, offsets: bool = False, seed: int = 0
) -> CodedMatrix:
    """A coded weight whose numbers are near 1 / √K."""
    random = torch.Generator().manual_seed(seed)
    words = pack(kind, codes_of(kind, rows, columns, random))
    usual = {"int4": 5.0, "int8": 74.0, "fp8": 0.2}[kind] * columns**0.5
    if kind != "int4":
        scales = (torch.rand(1, rows, generator=random) + 0.5) / usual
        return CodedMatrix(kind, words.to(DEVICE), scales.to(DEVICE))
    scales = ((torch.rand(columns // group, rows, generator=random) + 0.5) / usual).half()
    added = (torch.randn(columns // group, rows, generator=random) / usual).half().to(DEVICE) if offsets else None
    return CodedMatrix(kind, words.to(DEVICE), scales.to(DEVICE), added)


def inputs(tokens: int, columns: int, seed: int = 1) -> torch.Tensor:
    """Activations in bfloat16."""
    return torch.randn(tokens, columns, generator=torch.Generator().manual_seed(seed)).to(DEVICE, torch.bfloat16)


def assert_close(ours: torch.Tensor, exact: torch.Tensor) -> None:
    """As close to the result in float64 as one rounding at the end allows."""
    torch.testing.assert_close(ours.double(), exact, rtol=2**-8, atol=2**-9)


def exact(x: torch.Tensor, weight: CodedMatrix) -> torch.Tensor:
    """The product in float64."""
    return x.double() @ decode(weight).double().T


def gated(x: torch.Tensor, weight: CodedMatrix) -> torch.Tensor:
    """The gated product in float64."""
    gate, up = exact(x, weight).chunk(2, dim=-1)
    return torch.nn.functional.gelu(gate, approximate="tanh") * up


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 1 << 30))
@settings(max_examples=20)
def test_packing_loses_nothing(kind: CodedKind, rows: int, blocks: int, seed: int) -> None:
    """What is packed comes out again, code for code, in order."""
    codes = codes_of(kind, rows, 128 * blocks, torch.Generator().manual_seed(seed))
    worth = (codes - 8).float() if kind == "int4" else codes.float()
    assert torch.equal(unpack(kind, pack(kind, codes)), worth)


@pytest.mark.parametrize(("kind", "group", "offsets"), VARIANTS)
@pytest.mark.parametrize("tokens", [1, 5, 20])
def test_dot_equals_its_twin(kind: CodedKind, group: int, offsets: bool, tokens: int) -> None:
    """Whole products, shares of one, and gated ones, with rows that fill no program."""
    from gemmad.kernels.triton import coded
    from gemmad.kernels.triton.coded_tiles import CodedTile
    from gemmad.kernels.triton.parts import gelu_parts

    x, weight = inputs(tokens, 512), matrix(kind, 48, 512, group=group, offsets=offsets)
    whole = torch.empty(1, tokens, 48, dtype=x.dtype, device=DEVICE)
    coded.dot_into(whole, x, weight, CodedTile("dot", 32, 4, 2))
    assert_close(whole[0], exact(x, weight))
    parts = coded.multiply_parts(x, weight, CodedTile("dot", 32, 4, 2, splits=2))
    assert_close(parts.sum(0), exact(x, weight))
    half = torch.empty(1, tokens, 24, dtype=x.dtype, device=DEVICE)
    coded.dot_into(half, x, weight, CodedTile("dot", 16, 4, 2), gated=True)
    assert_close(half[0], gated(x, weight))
    assert_close(gelu_parts(parts, x.dtype), gated(x, weight))


@pytest.mark.skipif(INTERPRETED, reason="Gluon has no interpreter")
@pytest.mark.parametrize(("kind", "group", "offsets"), VARIANTS)
@pytest.mark.parametrize("tokens", [1, 3, 8])
def test_words_equals_its_twin(kind: CodedKind, group: int, offsets: bool, tokens: int) -> None:
    """The kernel for few tokens gives the same: whole, in shares, gated."""
    from gemmad.kernels.triton import coded, words
    from gemmad.kernels.triton.coded_tiles import CodedTile

    assert words.can_multiply(DEVICE)
    x, weight = inputs(tokens, 1024), matrix(kind, 304, 1024, group=group, offsets=offsets)
    for tile in (CodedTile("words", 32, 2, 2), CodedTile("words", 16, 1, 4), CodedTile("words", 128, 4, 1)):
        whole = torch.empty(1, tokens, 304, dtype=x.dtype, device=DEVICE)
        words.multiply_into(whole, x, weight, tile, gated=False)
        assert_close(whole[0], exact(x, weight))
    parts = coded.multiply_parts(x, weight, CodedTile("words", 32, 1, 2, splits=4))
    assert_close(parts.sum(0), exact(x, weight))
    for tile in (CodedTile("words", 32, 2, 2), CodedTile("words", 128, 8, 4), CodedTile("words", 128, 4, 2)):
        half = torch.empty(1, tokens, 152, dtype=x.dtype, device=DEVICE)
        words.multiply_into(half, x, weight, tile, gated=True)
        assert_close(half[0], gated(x, weight))


@pytest.mark.parametrize(("kind", "group", "offsets"), VARIANTS)
def test_rows_are_decoded_exactly(kind: CodedKind, group: int, offsets: bool) -> None:
    """Decoded rows, and rows of an embedding times its scale, are the twin's to the bit in float32."""
    from gemmad.kernels.triton import decoding

    weight = matrix(kind, 20, 1280, group=group, offsets=offsets)
    torch.testing.assert_close(decoding.decode_rows(weight, torch.float32), decode(weight), rtol=1e-6, atol=1e-7)
    part = weight.rows(3, 9)
    torch.testing.assert_close(decoding.decode_rows(part, torch.float32), decode(weight)[3:9], rtol=1e-6, atol=1e-7)
    ids = torch.tensor([3, 0, 19, 3], device=DEVICE)
    scale = torch.tensor(3.25, device=DEVICE)
    torch.testing.assert_close(
        decoding.embed(weight, ids, scale), reference.embed(weight, ids, scale), rtol=1e-6, atol=1e-7
    )  # fmt: skip


def test_inputs_get_a_scale_a_row() -> None:
    """Quantised inputs times their scales are the inputs, as closely as e4m3 can, in the order of codes."""
    from gemmad.kernels.triton import decoding

    x = inputs(3, 384)
    x[1] = 0
    numbers, scales = decoding.quantise_rows(x)
    worth = unpack("fp8", numbers.view(torch.int16)) * scales
    torch.testing.assert_close(worth, x.float(), rtol=2**-4, atol=float(x.abs().max()) * 2**-9)
    assert not worth[1].any()


@pytest.mark.parametrize(("kind", "group", "offsets"), VARIANTS)
@pytest.mark.parametrize("tokens", [2, 130])
def test_the_seam_equals_its_twin(kind: CodedKind, group: int, offsets: bool, tokens: int) -> None:
    """`linear`, `gate_up_gelu` and `linear_add_norm` give the twin's results for few tokens and for many."""
    from gemmad.kernels.triton import products

    x, weight = inputs(tokens, 256), matrix(kind, 96, 256, group=group, offsets=offsets)
    # fp8 inputs have four bits each where the device multiplies them as they are
    loose = kind == "fp8" and tokens > 128 and not INTERPRETED
    rtol, atol = (2**-4, 0.15) if loose else (2**-6, 2**-6)
    ours, twin = products.linear(x, weight), reference.linear(x, weight)
    torch.testing.assert_close(ours, twin, rtol=rtol, atol=atol)
    ours, twin = products.gate_up_gelu(x, weight), reference.gate_up_gelu(x, weight)
    torch.testing.assert_close(ours, twin, rtol=rtol, atol=atol)
    residual, scale = x[:, :96] + 1, torch.linspace(0.5, 1.5, 96, device=DEVICE)
    rest = {"residual": residual, "post_weight": scale, "next_weight": scale.flip(0), "eps": 1e-6}
    closed, expected = (which.linear_add_norm(x, weight, **rest) for which in (products, reference))
    rtol, atol = (2**-3, 0.3) if loose else (2**-5, 2**-5)
    torch.testing.assert_close(closed, expected, rtol=rtol, atol=atol)


def test_every_tile_can_be_used() -> None:
    """Each entry of the table, and each rule, shares out whole blocks in whole turns."""
    from gemmad.kernels.triton import coded_tiles
    from gemmad.kernels.triton.coded_tiles import tile_for

    shapes = {(gate, n, k) for (_, gate, n, k, _) in coded_tiles.TUNED}
    shapes |= {
        (False, 2560, 2048),
        (True, 6912, 1152),
        (False, 262_208, 3840),
        (False, 1152, 6912),
        (True, 21504, 5376),
    }
    for kind in KINDS:
        for gate, n, k in shapes:
            for tokens in (*coded_tiles.STEPS, 3, 90):
                for words in (True, False):
                    tile = tile_for(kind, n, k, tokens, gated=gate, words=words)
                    assert tile is not None
                    assert words or tile.loop == "dot"
                    assert tile.loop == "dot" or tokens <= coded_tiles.WORDS_TOKENS
                    turns, rest = divmod(k // tile.splits, tile.columns)
                    assert not rest
                    assert k % tile.splits == 0
                    assert tile.loop == "dot" or turns % tile.depth == 0
                    assert kind != "int4" or tile.columns == 128
            assert tile_for(kind, n, k, coded_tiles.MOST_TOKENS + 1, gated=gate, words=True) is None
            assert tile_for(kind, n, k, 0, gated=gate, words=True) is None


def test_little_shared_memory_means_fewer_turns() -> None:
    """A tile that does not fit a smaller device is on its way in fewer turns, and not used if one is too many."""
    from gemmad.kernels.triton.coded_tiles import tile_for

    whole = tile_for("int8", 8192, 3840, 128, gated=False, words=True)
    small = tile_for("int8", 8192, 3840, 128, gated=False, words=True, shared_bytes=99 << 10)
    assert whole is not None
    assert small is not None
    assert small.depth < whole.depth
    assert small.shared_bytes("int8", 128, gated=False) <= 99 << 10
    assert tile_for("int8", 8192, 3840, 128, gated=False, words=True, shared_bytes=16 << 10) is None
