from __future__ import annotations

import pytest

from gemmad.errors import MemoryPlanError
from gemmad.planning.codes import check_columns, coding_of, kv_token_bytes, weight_bytes, weight_pieces
from gemmad.planning.coding import CodedFormats, Coding
from gemmad.planning.shape import ModelShape, published_shape

QAT = CodedFormats("gguf", Coding("int4", 32), {(1, "down"): Coding("int8"), (2, "o"): None})


def small(**changes: object) -> ModelShape:
    """Three layers whose bytes can be counted by hand."""
    sizes: dict[str, object] = {"vocab_size": 1000, "hidden_size": 128, "intermediate_size": 256, "heads": 2}
    sizes |= {"kv_heads": 1, "head_dim": 64, "full_layers": (False, False, True), "window": 8, "max_context": 64}
    return ModelShape(**(sizes | changes))  # type: ignore[arg-type]


def test_bytes_by_hand() -> None:
    """A byte a number and four a row; or half a byte and two for 128 columns; the embedding is int8 in both."""
    shape = small()
    rows, numbers = 256 + 128 + 512 + 128, 256 * 128 + 128 * 128 + 512 * 128 + 128 * 256
    embedding = 1000 * 128 + 4 * 1000
    norms = shape.norm_bytes()
    assert weight_bytes(shape, "int8", itemsize=2) == embedding + 3 * (numbers + 4 * rows) + norms
    assert weight_bytes(shape, "fp8", itemsize=2) == weight_bytes(shape, "int8", itemsize=2)
    assert weight_bytes(shape, "int4", itemsize=2) == embedding + 3 * (numbers // 2 + numbers // 128 * 2) + norms
    assert weight_bytes(shape, "bf16", itemsize=2) == shape.weight_bytes(2)
    assert weight_bytes(shape, "auto", itemsize=4) == shape.weight_bytes(4)


def test_a_checkpoint_that_comes_coded_keeps_its_groups() -> None:
    """Its own groups count, matrices that differ as they are, its plain ones as int8; bf16 alone decodes them."""
    shape = small(coded=QAT)
    numbers = 256 * 128 + 128 * 128 + 512 * 128 + 128 * 256
    coded = 3 * (numbers // 2 + numbers // 32 * 2)
    down = 128 * 256 + 4 * 128 - (128 * 256 // 2 + 128 * 256 // 32 * 2)
    o = 128 * 128 + 4 * 128 - (128 * 128 // 2 + 128 * 128 // 32 * 2)
    whole = 1000 * 128 + 4 * 1000 + coded + down + o + shape.norm_bytes()
    for weights in ("auto", "int4", "fp8"):
        assert weight_bytes(shape, weights, itemsize=2) == whole
        assert coding_of(shape, weights) == Coding("int4", 32)
    assert weight_bytes(shape, "bf16", itemsize=2) == shape.weight_bytes(2)


def test_offsets_count() -> None:
    """An offset is as large as the scale that it stands beside."""
    shape = small(coded=CodedFormats("awq", Coding("int4", 128, offsets=True)))
    pieces = weight_pieces(shape, "auto", itemsize=2)
    assert pieces[2:5] == (256 * 128 // 2, 256 * 2, 256 * 2)


def test_the_vision_tower_is_never_coded() -> None:
    """It is as large in every format."""
    shape = published_shape("12b")
    plain = shape.tower_parameters() * 2 + shape.norm_bytes()
    for weights in ("fp8", "int8", "int4"):
        pieces = weight_pieces(shape, weights, itemsize=2)
        assert weight_bytes(shape, weights, itemsize=2) == sum(pieces) + plain


def test_keys_and_values() -> None:
    """Codes have a float32 scale for each head's key and value."""
    shape = published_shape("12b")
    assert kv_token_bytes(shape, "bf16", itemsize=2) == 8192
    assert kv_token_bytes(shape, "auto", itemsize=4) == 16_384
    assert kv_token_bytes(shape, "int8", itemsize=2) == kv_token_bytes(shape, "fp8", itemsize=4) == 2 * 8 * 260


def test_columns_that_are_no_blocks() -> None:
    """A network whose columns are no multiple of 128 cannot be coded, and is told which."""
    shape = small(hidden_size=96, intermediate_size=200)
    check_columns(shape, "bf16")
    with pytest.raises(
        MemoryPlanError, match=r"is int4, which takes .* multiple of 128, and this model has .* 96, 200"
    ):
        check_columns(shape, "int4")
