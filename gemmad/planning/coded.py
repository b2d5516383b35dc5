"""Which codes a checkpoint comes in, from config.json and GGUF headers alone: what a plan needs, without torch.

`gemmad.models.formats` reads the codes themselves and knows each tensor; what stands here agrees with it, except for
checkpoints whose config.json gives modules different formats: then the largest is told of all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gemmad.errors import CheckpointError
from gemmad.planning.coding import BLOCK, CodedFormats, Coding, MatrixName
from gemmad.planning.gguf import GgufTensor, find_gguf, read_gguf

_GROUPS = (32, 64, 128)
ROWS8 = Coding("int8")
"""What becomes of numbers in a layout that gemmad does not compute with: they are coded again."""


def coded_formats(folder: Path) -> CodedFormats | None:
    """None: the checkpoint holds plain numbers only. Raises CheckpointError for files that are missing or broken, and
    for ways of quantising that gemmad does not read."""
    if (files := find_gguf(folder)) is not None:
        return _gguf_formats([tensor for path in files.model for tensor in read_gguf(path).tensors])
    quantization = read_quantization(folder)
    return None if quantization is None else CodedFormats(quantization.quant_method, quantization.coding())


class _Weights(Struct, frozen=True):
    num_bits: int = 8
    type: str = "int"
    symmetric: bool = True
    group_size: int | None = None
    strategy: str | None = None


class _Group(Struct, frozen=True):
    weights: _Weights | None = None
    format: str | None = None


class _Format(Struct, frozen=True):
    format: str | None = None


class Quantization(Struct, frozen=True):
    """`quantization_config` of config.json, as far as anything depends on it."""

    quant_method: str
    # AWQ and GPTQ
    bits: int = 4
    group_size: int = 128
    version: str = "gemm"
    zero_point: bool = True
    sym: bool = True
    checkpoint_format: str | None = None
    pack_dtype: str | None = None
    is_marlin_format: bool = False
    dynamic: dict[str, Any] | None = None
    # compressed-tensors
    config_groups: dict[str, _Group] = {}
    format: str | None = None
    sparsity_config: _Format | None = None
    transform_config: dict[str, Any] | None = None
    # fp8
    fmt: str = "e4m3"
    weight_block_size: tuple[int, int] | None = None

    @property
    def symmetric(self) -> bool:
        """Of GPTQ: whether no module has zero points other than the middle."""
        rules = (self.dynamic or {}).values()
        return self.sym and not any(isinstance(rule, dict) and rule.get("sym") is False for rule in rules)

    @property
    def zeros_added(self) -> int:
        """Of GPTQ: what its stored zeros lack."""
        return 0 if self.checkpoint_format == "gptq_v2" else 1

    def coding(self) -> Coding:
        """Of most of its matrices, in memory."""
        if self.quant_method == "awq":
            return _coding(self.bits, self.group_size, offsets=self.zero_point)
        if self.quant_method == "gptq":
            return _coding(self.bits, self.group_size, offsets=not self.symmetric)
        if self.quant_method == "fp8":
            return ROWS8 if self.weight_block_size else Coding("fp8")
        weights = [group.weights for group in self.config_groups.values() if group.weights is not None]
        return max((_compressed_coding(each) for each in weights), key=_cost, default=ROWS8)


def read_quantization(folder: Path) -> Quantization | None:
    """What config.json says; None: nothing was quantised. Raises CheckpointError for ways that gemmad does not read."""
    path = folder / "config.json"
    try:
        raw = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    told = _told(raw)
    if told is None:
        return None
    try:
        quantization = msgspec.convert(told, Quantization)
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{path}: quantization_config: {error}") from error
    if (reason := _refusal(quantization)) is not None:
        raise CheckpointError(f"{path}: quantization_config: {reason}")
    return quantization


def _told(raw: Any) -> Any:
    """It has stood in several places, and null in some of them."""
    if not isinstance(raw, dict):
        return None
    text = raw.get("text_config")
    for holder in (raw, text if isinstance(text, dict) else {}):
        for key in ("quantization_config", "compression_config"):
            if (told := holder.get(key)) is not None:
                return (
                    {name: value for name, value in told.items() if value is not None} if type(told) is dict else told
                )
    return None


def _refusal(told: Quantization) -> str | None:
    """Why it cannot be read; None: it can."""
    refusal = _REFUSALS.get(told.quant_method)
    if refusal is None:
        return f"quant_method is {told.quant_method!r}; {', '.join(_REFUSALS)} are read, and GGUF"
    return refusal(told)


def _awq_refusal(told: Quantization) -> str | None:
    if told.version.lower() != "gemm":
        return f"AWQ of version {told.version!r}; only 'gemm' is read"
    return None if told.bits == 4 else f"AWQ of {told.bits} bits; 4 are read"


def _gptq_refusal(told: Quantization) -> str | None:
    if told.is_marlin_format or told.checkpoint_format not in (None, "gptq", "gptq_v2"):
        return f"GPTQ of the format {told.checkpoint_format or 'marlin'!r}; 'gptq' and 'gptq_v2' are read"
    if told.pack_dtype not in (None, "int32"):
        return f"GPTQ packed into {told.pack_dtype}; int32 is read"
    return None if told.bits in (4, 8) else f"GPTQ of {told.bits} bits; 4 and 8 are read"


def _fp8_refusal(told: Quantization) -> str | None:
    return None if told.fmt == "e4m3" else f"fp8 of the format {told.fmt!r}; e4m3 is read"


_COMPRESSED = frozenset(
    {"pack-quantized", "int-quantized", "naive-quantized", "float-quantized", "mixed-precision", "dense"}
)


def _compressed_refusal(told: Quantization) -> str | None:
    formats = [told.format, *(group.format for group in told.config_groups.values())]
    if (strange := next((each for each in formats if each is not None and each not in _COMPRESSED), None)) is not None:
        return f"the format is {strange!r}; read are {', '.join(sorted(_COMPRESSED))}"
    if told.sparsity_config is not None and told.sparsity_config.format not in (None, "dense"):
        return f"sparse weights ({told.sparsity_config.format}) are not read"
    if (told.transform_config or {}).get("config_groups"):
        return "it rotates what goes into its matrices (transform_config), and gemmad does not"
    for group in told.config_groups.values():
        if (weights := group.weights) is not None and (weights.type, weights.num_bits) not in _CODES:
            return f"weights of {weights.num_bits} bits of type {weights.type}; int of 4 and 8 and float of 8 are read"
    return None


_CODES = frozenset({("int", 4), ("int", 8), ("float", 8)})
_REFUSALS: Mapping[str, Callable[[Quantization], str | None]] = {
    "compressed-tensors": _compressed_refusal,
    "awq": _awq_refusal,
    "gptq": _gptq_refusal,
    "fp8": _fp8_refusal,
}


def _compressed_coding(weights: _Weights) -> Coding:
    whole_rows = weights.strategy in (None, "channel", "tensor")
    if weights.type == "float":
        return Coding("fp8") if whole_rows else ROWS8
    return _coding(weights.num_bits, -1 if whole_rows else weights.group_size or -1, offsets=not weights.symmetric)


def _coding(bits: int, group: int, *, offsets: bool) -> Coding:
    """`group` below 1: a whole row."""
    if bits != 4:
        return ROWS8
    if group < 1 or group % BLOCK == 0:
        return Coding("int4", BLOCK, offsets=offsets)
    return Coding("int4", group, offsets=offsets) if group in _GROUPS else ROWS8


def _cost(coding: Coding) -> int:
    """Bits of 128 columns."""
    scales = BLOCK // coding.group * 8 * coding.scale_bytes * (2 if coding.offsets else 1)
    return 4 * BLOCK + scales if coding.kind == "int4" else 8 * BLOCK


GGUF_CODINGS: Mapping[str, Coding | None] = {
    "Q4_0": Coding("int4", 32),
    "Q4_1": Coding("int4", 32, offsets=True),
    "Q4_K": Coding("int4", 32, offsets=True),
    "F32": None,
    "F16": None,
    "BF16": None,
}
"""Of ggml's types, in memory; what is not here is coded again."""
_PARTS: Mapping[MatrixName, Sequence[str]] = {
    "qkv": ("attn_q", "attn_k", "attn_v"),
    "o": ("attn_output",),
    "gate_up": ("ffn_gate", "ffn_up"),
    "down": ("ffn_down",),
}
_LAYER = re.compile(r"blk\.(\d{1,6})\.(\w+)\.weight")


def _gguf_formats(tensors: Sequence[GgufTensor]) -> CodedFormats | None:
    layers: dict[int, dict[str, str]] = {}
    for tensor in tensors:
        if (found := _LAYER.fullmatch(tensor.name)) is not None:
            layers.setdefault(int(found[1]), {})[found[2]] = tensor.kind
    codings: dict[tuple[int, MatrixName], Coding | None] = {
        (layer, matrix): _merged([kinds[part] for part in parts if part in kinds])
        for layer, kinds in layers.items()
        for matrix, parts in _PARTS.items()
    }
    held = [each for each in codings.values() if each is not None]
    if not held:
        return None
    usual = max(held, key=held.count)
    return CodedFormats("gguf", usual, {where: each for where, each in codings.items() if each != usual})


def _merged(kinds: Sequence[str]) -> Coding | None:
    """Of a matrix made of parts: codes stay codes where all parts have the same."""
    codings = {GGUF_CODINGS.get(kind, ROWS8) for kind in kinds}
    return next(iter(codings)) if len(codings) == 1 else ROWS8
