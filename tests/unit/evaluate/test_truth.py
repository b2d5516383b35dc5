from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gemmad.errors import MemoryPlanError
from gemmad.evaluate.truth import Truth, require_room


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_come_back_as_they_were(tmp_path: Path, dtype: torch.dtype) -> None:
    """In order, in other pieces than they were written in, to the bit, and again."""
    logits = torch.randn(7, 11).to(dtype)
    with Truth(tmp_path / "logits", vocab_size=11) as truth:
        truth.write(logits[:3])
        truth.write(logits[3:])
        for _ in range(2):
            truth.rewind()
            assert torch.equal(torch.cat([truth.read(5), truth.read(2)]), logits)


def test_a_full_disk_is_told_before(tmp_path: Path) -> None:
    """With numbers, and with what helps."""
    with pytest.raises(MemoryPlanError, match=r"take 8388608\.00 TiB and .* --tokens, or .* --scratch"):
        require_room(tmp_path, 8 << 60)
    require_room(tmp_path, 0)
