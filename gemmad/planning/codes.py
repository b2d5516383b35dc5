"""Bytes of weights, keys and values in each format that they may be kept in.

The layouts are those of `kernels.matrices` and `kernels.pages`, neither of which can be imported here; tests hold the
sizes equal.
"""

from __future__ import annotations

from typing import get_args

from gemmad.errors import MemoryPlanError
from gemmad.generation import KVFormat, WeightFormat
from gemmad.planning.coding import BLOCK, Coding, MatrixName
from gemmad.planning.shape import ModelShape

_SCALE_BYTES = 4
"""A float32: for each row of an int8 or fp8 matrix; for each token and head of coded keys, and of values."""
_ROWS8 = Coding("int8")
"""The embedding, which is also the head, in every coded format; and what a coded checkpoint has as numbers."""
_MATRICES: tuple[MatrixName, ...] = get_args(MatrixName)
"""In the order of `ModelShape.layer_matrices`."""


def coding_of(shape: ModelShape, weights: WeightFormat) -> Coding | None:
    """How most of the layers' matrices are coded; None: they are numbers. A checkpoint that comes coded stays as it is,
    whatever is asked for but bf16. `auto` that nobody has resolved is what the checkpoint comes in."""
    if weights == "bf16":
        return None
    if shape.coded is not None:
        return shape.coded.layers
    return None if weights == "auto" else Coding(weights)


def matrix_pieces(coding: Coding, rows: int, columns: int) -> tuple[int, ...]:
    """Bytes of each tensor of one coded matrix: codes, scales, and offsets if there are any."""
    if coding.kind != "int4":
        return (rows * columns, rows * _SCALE_BYTES)
    scales = rows * (columns // coding.group) * coding.scale_bytes
    return (rows * columns // 2, scales, *((scales,) if coding.offsets else ()))


def weight_pieces(shape: ModelShape, weights: WeightFormat, *, itemsize: int) -> tuple[int, ...]:
    """Bytes of each tensor that the language network's matrices are made of, the embedding's first."""
    coding = coding_of(shape, weights)
    if coding is None:
        return tuple(numbers * itemsize for numbers in shape.matrices())
    pieces = [*matrix_pieces(_ROWS8, shape.vocab_size, shape.hidden_size)]
    for layer in range(len(shape.full_layers)):
        for name, (rows, columns) in zip(_MATRICES, shape.layer_matrices(), strict=True):
            found = coding if shape.coded is None else shape.coded.of(layer, name)
            pieces += matrix_pieces(found or _ROWS8, rows, columns)
    return tuple(pieces)


def weight_bytes(shape: ModelShape, weights: WeightFormat, *, itemsize: int) -> int:
    """Bytes of all weights; norms are float32 and the vision tower numbers of `itemsize` bytes in every format."""
    pieces = sum(weight_pieces(shape, weights, itemsize=itemsize))
    return pieces + shape.tower_parameters() * itemsize + shape.norm_bytes()


def kv_token_bytes(shape: ModelShape, kv: KVFormat, *, itemsize: int) -> int:
    """Bytes of the key and the value of one token in one layer."""
    head = shape.head_dim + _SCALE_BYTES if kv in ("fp8", "int8") else shape.head_dim * itemsize
    return 2 * shape.kv_heads * head


def check_columns(shape: ModelShape, weights: WeightFormat) -> None:
    """Raises MemoryPlanError where this network's matrices cannot be coded so: blocks of columns must be whole."""
    coding = coding_of(shape, weights)
    if coding is None:
        return
    odd = sorted({columns for _, columns in shape.layer_matrices() if columns % BLOCK})
    if odd:
        raise MemoryPlanError(
            f"engine.weights is {coding.kind}, which takes matrices whose columns are a multiple of {BLOCK}, "
            f"and this model has some of {', '.join(map(str, odd))}"
        )
