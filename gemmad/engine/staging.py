"""A step's inputs in one piece: written into pinned memory, sent to the device in one copy, read there by a graph.

A bucket (T rows, S sequences) fixes where each field lies. What depends on S alone comes first, so that buckets of
equal S share those places; the table of whole contexts comes last and is as wide as the step needs, so that a short
step sends little. What a step leaves of its bucket is padding: rows whose slot
is -1 and who see nothing, sequences without tokens.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gemmad.engine.flat import MOST_BANNED_IDS, FlatStep, banned_ids

_ALIGNMENT = 16

Tables = tuple[list[list[int]], list[list[int]]]
"""Each sequence's pages: of its whole context, and of its window as a ring."""


@dataclass(frozen=True)
class Bucket:
    """The sizes that one captured graph serves."""

    rows: int
    sequences: int
    decode: bool
    """Every sequence brings one token; attention is cut for that."""
    gathered: bool = False
    """Keys are gathered for an attention backend that knows no pages; serves few sequences and no image."""
    headless: bool = False
    """Only decodes, but its rows are left for a head, as those of all others are."""

    @property
    def draws(self) -> bool:
        """Its graph ends with the tokens."""
        return self.decode and not self.headless


@dataclass(frozen=True)
class Field:
    """One array of a bucket's layout."""

    offset: int
    count: int
    dtype: torch.dtype
    padding: float


class Layout:
    """Where each field of a bucket lies, and how many bytes a step sends."""

    def __init__(self, bucket: Bucket, *, sliding_columns: int, full_columns: int) -> None:
        rows, sequences = bucket.rows, bucket.sequences
        self.bucket = bucket
        self.sliding_columns = sliding_columns
        self.fields: dict[str, Field] = {}
        self._end = 0
        self._add("seed", sequences, torch.int64)
        for name, padding in (("temperature", 0.0), ("top_p", 1.0), ("min_p", 0.0)):
            self._add(name, sequences, torch.float32, padding)
        for name in ("top_k", "position", "output_rows", "context_lens"):
            self._add(name, sequences, torch.int32)
        self._add("banned_ids", sequences * MOST_BANNED_IDS, torch.int32, -1)
        self._add("query_starts", sequences + 1, torch.int32)
        for name in ("full_width", "sliding_width"):
            self._add(name, 1, torch.int32, 1)
        for name, padding in (("token_ids", 0), ("feed", -1), ("positions", 0), ("reach", -1), ("image_index", -1)):
            self._add(name, rows, torch.int32, padding)
        for name in ("full_slots", "sliding_slots"):
            self._add(name, rows, torch.int32, -1)
        self._add("sliding_table", sequences * sliding_columns, torch.int32)
        self._fixed = self._end
        self._add("full_table", sequences * full_columns, torch.int32)
        self.nbytes = self._end

    def sent_bytes(self, full_width: int) -> int:
        """Bytes to send when the widest sequence holds so many pages."""
        return self._fixed + self.bucket.sequences * full_width * 4

    def views(self, buffer: torch.Tensor) -> dict[str, torch.Tensor]:
        """Each field as a tensor over `buffer`, a flat uint8 tensor."""
        return {
            name: buffer[field.offset : field.offset + field.count * field.dtype.itemsize].view(field.dtype)
            for name, field in self.fields.items()
        }

    def _add(self, name: str, count: int, dtype: torch.dtype, padding: float = 0) -> None:
        self.fields[name] = Field(self._end, count, dtype, padding)
        size = count * dtype.itemsize
        self._end += -(-size // _ALIGNMENT) * _ALIGNMENT


class Writer:
    """Fills one pinned buffer for any of its buckets."""

    def __init__(self, buffer: torch.Tensor, layouts: Many[Layout]) -> None:
        self._arrays: dict[Bucket, dict[str, Any]] = {
            layout.bucket: {name: view.numpy() for name, view in layout.views(buffer).items()} for layout in layouts
        }
        self._layouts = {layout.bucket: layout for layout in layouts}

    def write(self, bucket: Bucket, flat: FlatStep, tables: Tables) -> int:
        """Write a step; returns the bytes to send."""
        arrays, layout = self._arrays[bucket], self._layouts[bucket]
        for name, values in _fields(flat).items():
            array = arrays[name]
            array[: len(values)] = values
            array[len(values) :] = layout.fields[name].padding
        arrays["query_starts"][: len(flat.starts)] = flat.starts
        arrays["query_starts"][len(flat.starts) :] = flat.starts[-1]
        full, sliding = tables
        widest = max((len(row) for row in full), default=1) or 1
        for name, rows, width in (("full", full, widest), ("sliding", sliding, layout.sliding_columns)):
            arrays[f"{name}_width"][0] = width
            table = arrays[f"{name}_table"]
            for index, row in enumerate(rows):
                table[index * width : index * width + len(row)] = row
        return layout.sent_bytes(widest)


def _fields(flat: FlatStep) -> dict[str, Any]:
    chosen = [sequence.sampling for sequence in flat.speaking]
    return {
        "token_ids": flat.ids,
        "feed": flat.feed,
        "positions": flat.positions,
        "reach": flat.reach,
        "image_index": flat.image_index,
        "full_slots": flat.full_slots,
        "sliding_slots": flat.sliding_slots,
        "context_lens": flat.contexts,
        "output_rows": flat.outputs,
        "temperature": [p.temperature for p in chosen],
        "top_p": [p.top_p for p in chosen],
        "min_p": [p.min_p for p in chosen],
        "top_k": [p.top_k for p in chosen],
        "seed": np.array([p.seed for p in chosen], dtype=np.int64),
        "position": [sequence.length for sequence in flat.speaking],
        "banned_ids": [token for sequence in flat.speaking for token in banned_ids(sequence)],
    }
