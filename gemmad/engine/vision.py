"""Pictures to embedding rows. A row depends on the pixels alone, so equal pictures are computed once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch

from gemmad.engine.sequence import Picture
from gemmad.media.spec import ImageSpec, normalise_table
from gemmad.models.vision import VisionTower

CACHED_PICTURES = 32
"""Embeddings kept: a picture of a chat that goes on, or of a prompt that is computed in several chunks."""


class PictureEncoder:
    """The tower, the normalisation that goes before it, and a bounded cache of what it gave."""

    def __init__(self, tower: VisionTower, spec: ImageSpec, *, device: torch.device, dtype: torch.dtype) -> None:
        self._tower = tower
        self._spec = spec
        self._device = device
        self._dtype = dtype
        # [256, 3]: what transformers' processor makes of each byte of each channel, to the bit.
        self._table = torch.from_numpy(normalise_table(spec)).to(device)
        self._cache: OrderedDict[str, torch.Tensor] = OrderedDict()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures that the tower takes."""
        return self._spec.height, self._spec.width

    def rows(self, pictures: Sequence[Picture]) -> list[torch.Tensor]:
        """One [image tokens, hidden] tensor for each picture. New ones are computed one by one: a batch would give
        rounding that depends on its neighbours."""
        found = []
        for picture in pictures:
            rows = self._cache.pop(picture.span.digest, None)
            if rows is None:
                rows = self._tower.encode(self._normalise(picture.pixels))[0]
            self._cache[picture.span.digest] = rows
            found.append(rows)
        while len(self._cache) > CACHED_PICTURES:
            self._cache.popitem(last=False)
        return found

    def blank(self) -> torch.Tensor:
        """Pixels of the right size, for warm-up."""
        return torch.zeros(self._spec.height, self._spec.width, 3, dtype=torch.uint8)

    def _normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """[height, width, 3] uint8 → [1, 3, height, width] in the tower's dtype."""
        values = pixels.to(self._device).long()
        channels = [self._table[values[:, :, channel], channel] for channel in range(3)]
        return torch.stack(channels)[None].to(self._dtype)
