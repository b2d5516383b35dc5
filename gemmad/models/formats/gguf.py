"""Gemma 3 in GGUF, as llama.cpp writes it: `general.architecture` gemma3, and the vision tower in a file of its own.

Names: https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/constants.py. What its converter changes on the
way (https://github.com/ggml-org/llama.cpp/blob/master/convert_hf_to_gguf.py) is undone here: norms hold `1 + w`; rows
of the embedding beyond the tokenizer's are cut off; in older files of the tower its two MLP matrices have each other's
name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from gemmad.errors import CheckpointError
from gemmad.kernels.matrices import BLOCK, CodedKind, CodedMatrix
from gemmad.models.config import ModelConfig
from gemmad.models.formats.codes import pack4
from gemmad.models.formats.gguf_blocks import UNPACK, block_numbers
from gemmad.models.formats.names import EMBEDDING, matrix_shapes
from gemmad.models.formats.reading import read_bytes
from gemmad.models.formats.source import CodedCheckpoint, MatrixSource, RowSource
from gemmad.models.tensorfile import StoredTensor
from gemmad.planning.coded import GGUF_CODINGS
from gemmad.planning.gguf import BLOCKS, GgufFiles, GgufTensor, read_gguf

_FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_SOFT_NORM = "multi_modal_projector.mm_soft_emb_norm.weight"

_WHOLE = {"token_embd.weight": EMBEDDING, "output_norm.weight": "norm.weight"}
_LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_TOWER_WHOLE = {
    "v.patch_embd.weight": "vision_tower.embeddings.patch_embedding.weight",
    "v.patch_embd.bias": "vision_tower.embeddings.patch_embedding.bias",
    "v.position_embd.weight": "vision_tower.embeddings.position_embedding.weight",
    "v.post_ln.weight": "vision_tower.post_layernorm.weight",
    "v.post_ln.bias": "vision_tower.post_layernorm.bias",
    "mm.input_projection.weight": "multi_modal_projector.mm_input_projection_weight",
    "mm.soft_emb_norm.weight": _SOFT_NORM,
}
_TOWER_LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_out": "self_attn.out_proj",
    "ln1": "layer_norm1",
    "ln2": "layer_norm2",
    "ffn_up": "mlp.fc1",
    "ffn_down": "mlp.fc2",
}
_BLOCK_NAME = re.compile(r"(?P<tower>v\.)?blk\.(?P<layer>\d{1,6})\.(?P<module>\w+)\.(?P<part>weight|bias)")


def open_gguf(files: GgufFiles, config: ModelConfig) -> CodedCheckpoint:
    """Every tensor of a checkpoint in GGUF. Reads headers alone.

    Raises CheckpointError for files that are broken or of another network, for types that cannot be read, and for a
    vision tower that config.json has and no file does.
    """
    tensors = list(_named(_network(files), tower=False))
    if config.vision is not None:
        if files.vision is None:
            raise CheckpointError(
                f"{config.folder}: config.json has a vision tower, and its mmproj*.gguf is missing: put it beside"
                f" {files.model[0].name}"
            )
        tensors += _named(_tower(files.vision), tower=True)
    shapes = matrix_shapes(config.text)
    coded: dict[str, MatrixSource] = {}
    decoded: dict[str, RowSource] = {}
    plain: list[StoredTensor] = []
    for name, tensor in _once(tensors):
        match _source(name, tensor, shapes.get(name)):
            case StoredTensor() as stored:
                plain.append(stored)
            case GgufMatrix() as matrix:
                coded[name] = matrix
            case GgufNumbers() as rows:
                decoded[name] = rows
    return CodedCheckpoint(coded, decoded, tuple(plain), norms_hold_one=True)


def _network(files: GgufFiles) -> Iterator[GgufTensor]:
    for number, path in enumerate(files.model):
        file = read_gguf(path)
        architecture = file.keys.get("general.architecture")
        if number == 0 and architecture != "gemma3":
            raise CheckpointError(f"{path}: general.architecture is {architecture!r}; gemmad serves 'gemma3'")
        yield from file.tensors


def _tower(path: Path) -> Iterator[GgufTensor]:
    file = read_gguf(path)
    projector = file.keys.get("clip.projector_type", file.keys.get("clip.vision.projector_type"))
    if projector not in ("gemma3", None):
        raise CheckpointError(f"{path}: its projector is of the type {projector!r}, not 'gemma3'")
    yield from file.tensors


def _named(tensors: Iterable[GgufTensor], *, tower: bool) -> Iterator[tuple[str, GgufTensor]]:
    """With our names; what has none is not of the network: a head beside the embedding, tables for angles."""
    listed = tuple(tensors)
    held = {tensor.name: tensor for tensor in listed}
    for tensor in listed:
        if (whole := (_TOWER_WHOLE if tower else _WHOLE).get(tensor.name)) is not None:
            yield whole, tensor
        found = _BLOCK_NAME.fullmatch(tensor.name)
        if found is None or (found["tower"] is not None) != tower:
            continue
        module = (_TOWER_LAYER if tower else _LAYER).get(found["module"])
        if module is None:
            continue
        if tower and _swapped(held, found["layer"]):
            module = {"mlp.fc1": "mlp.fc2", "mlp.fc2": "mlp.fc1"}.get(module, module)
        root = "vision_tower.encoder.layers" if tower else "layers"
        yield f"{root}.{found['layer']}.{module}.{found['part']}", tensor


def _swapped(held: Mapping[str, GgufTensor], layer: str) -> bool:
    """Whether `ffn_up` is what makes rows narrow again."""
    up = held.get(f"v.blk.{layer}.ffn_up.weight")
    return up is not None and len(up.shape) == 2 and up.shape[0] < up.shape[1]


def _once(tensors: Iterable[tuple[str, GgufTensor]]) -> Iterator[tuple[str, GgufTensor]]:
    seen: dict[str, GgufTensor] = {}
    for name, tensor in tensors:
        if (other := seen.setdefault(name, tensor)) is not tensor:
            raise CheckpointError(f"{tensor.path}: {tensor.name} is there twice, also in {other.path}")
        yield name, tensor


def _source(name: str, tensor: GgufTensor, wanted: tuple[int, int] | None) -> StoredTensor | GgufMatrix | GgufNumbers:
    """`wanted`: a matrix's shape, as config.json has it; None for what is no matrix of the language network."""
    stored = StoredTensor(tensor.path, name, tensor.kind, tensor.shape, tensor.start, tensor.end)
    if tensor.kind not in _FLOATS and tensor.kind not in UNPACK:
        known = ", ".join((*UNPACK, *_FLOATS))
        raise CheckpointError(f"{tensor.path}: {tensor.name} is {tensor.kind}; read are {known}")
    if wanted is not None:
        _check_shape(tensor, wanted, may_be_short=name == EMBEDDING)
    if name == _SOFT_NORM:
        return GgufNumbers(stored, tensor.shape, added=-1.0)
    if tensor.kind in _FLOATS and wanted in (tensor.shape, None):
        return stored
    if wanted is not None and name != EMBEDDING and _keeps_codes(tensor.kind, wanted[1]):
        return GgufMatrix(stored)
    return GgufNumbers(stored, wanted or tensor.shape)


def _keeps_codes(kind: str, columns: int) -> bool:
    return GGUF_CODINGS.get(kind) is not None and columns % BLOCK == 0


def _check_shape(tensor: GgufTensor, wanted: tuple[int, int], *, may_be_short: bool) -> None:
    shape = tensor.shape
    if len(shape) == 2 and shape[1] == wanted[1] and (shape[0] == wanted[0] or (may_be_short and shape[0] < wanted[0])):
        return
    raise CheckpointError(f"{tensor.path}: {tensor.name} is {list(shape)}, the config asks for {list(wanted)}")


@dataclass(frozen=True)
class GgufMatrix:
    """A `MatrixSource` of blocks with codes of 4 bits: Q4_0 exactly; of Q4_1 and Q4_K what is added, and of Q4_K the
    scales, are rounded to float16. Where numbers lie around 0 that moves them by less than a 100th of a step."""

    stored: StoredTensor

    @property
    def name(self) -> str:
        return f"{self.stored.path}: {self.stored.name}"

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.stored.shape
        return rows, columns

    @property
    def kind(self) -> CodedKind:
        return "int4"

    @property
    def group(self) -> int:
        return 32

    @property
    def has_offsets(self) -> bool:
        return self.stored.kind != "Q4_0"

    @property
    def scale_dtype(self) -> torch.dtype:
        return torch.float16

    def read(self, start: int, stop: int, device: torch.device) -> CodedMatrix:
        codes, scales, added = UNPACK[self.stored.kind](_blocks(self.stored, start, stop, device))
        kept = scales.to(torch.float16).t().contiguous()
        offsets = None
        if self.has_offsets:
            assert added is not None, "types with minima have them"
            offsets = (added + 8.0 * scales).to(torch.float16).t().contiguous()
        return CodedMatrix("int4", pack4(codes), kept, offsets)


@dataclass(frozen=True)
class GgufNumbers:
    """A `RowSource`: any type as numbers. Rows of a matrix that the file lacks are zeros."""

    stored: StoredTensor
    shape: tuple[int, ...]
    added: float = 0.0
    """To every number."""

    @property
    def name(self) -> str:
        return f"{self.stored.path}: {self.stored.name}"

    def read(self, start: int, stop: int, device: torch.device) -> torch.Tensor:
        last = min(stop, self.stored.shape[0])
        first = min(start, last)
        numbers = self._numbers(first, last, device).view(last - first, *self.shape[1:])
        missing = (stop - start) - (last - first)
        if missing:
            numbers = torch.cat((numbers, numbers.new_zeros(missing, *self.shape[1:])))
        return numbers + self.added if self.added else numbers

    def _numbers(self, start: int, stop: int, device: torch.device) -> torch.Tensor:
        if (dtype := _FLOATS.get(self.stored.kind)) is None:
            return block_numbers(self.stored.kind, _blocks(self.stored, start, stop, device))
        width = self.stored.nbytes // self.stored.shape[0]
        return read_bytes(self.stored, start * width, (stop - start) * width).to(device).view(dtype).float()


def _blocks(stored: StoredTensor, start: int, stop: int, device: torch.device) -> torch.Tensor:
    """Rows [start, stop) of a matrix, or of what has more dimensions as one: [rows, blocks of a row, bytes] uint8."""
    numbers, nbytes = BLOCKS[stored.kind]
    blocks = math.prod(stored.shape[1:]) // numbers if len(stored.shape) > 1 else 1
    held = read_bytes(stored, start * blocks * nbytes, (stop - start) * blocks * nbytes)
    return held.to(device).view(stop - start, blocks, nbytes)
