"""Pictures to embedding rows. A row depends on the pixels alone, so equal pictures are computed once."""

from __future__ import annotations

from collections import OrderedDict

import torch

from gemmad.engine.sequence import Picture
from gemmad.media.spec import ImageSpec, normalise_table
from gemmad.models.vision import VisionTower


class PictureEncoder:
    """The tower, the normalisation that goes before it, and a bounded table of what it gave."""

    def __init__(
        self,
        tower: VisionTower,
        spec: ImageSpec,
        *,
        tokens: int,
        hidden_size: int,
        slots: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """`slots`: pictures kept, at least as many as one step may hold; rows are of `dtype`, the tower's."""
        self._tower = tower
        self._spec = spec
        self._tokens = tokens
        # [256, 3]: what transformers' processor makes of each byte of each channel, to the bit.
        self._table = torch.from_numpy(normalise_table(spec)).to(device)
        self.images = torch.zeros(slots * tokens, hidden_size, dtype=dtype, device=device)
        """[slots · tokens, hidden]: rows of the pictures that are kept."""
        self._slots: OrderedDict[str, int] = OrderedDict((f"empty-{slot}", slot) for slot in range(slots))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures that the tower takes."""
        return self._spec.height, self._spec.width

    @torch.inference_mode()
    def place(self, picture: Picture) -> int:
        """Index in `images` of the picture's first row; computed unless an equal picture is kept. The one that was not
        asked for the longest gives way. Pictures are computed one by one: rounding must not depend on neighbours."""
        digest = picture.span.digest
        slot = self._slots.pop(digest, None)
        if slot is None:
            _, slot = self._slots.popitem(last=False)
            rows = self._tower.encode(self._normalise(picture.pixels))[0]
            self.images[slot * self._tokens : (slot + 1) * self._tokens] = rows
        self._slots[digest] = slot
        return slot * self._tokens

    def blank(self) -> torch.Tensor:
        """Pixels of the right size, for warm-up."""
        return torch.zeros(self._spec.height, self._spec.width, 3, dtype=torch.uint8)

    def _normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """[height, width, 3] uint8 → [1, 3, height, width] in the tower's dtype."""
        values = pixels.to(self._table.device).long()
        channels = [self._table[values[:, :, channel], channel] for channel in range(3)]
        return torch.stack(channels)[None].to(self.images.dtype)
