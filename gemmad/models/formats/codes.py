"""From codes as files hold them to codes as `kernels.matrices` holds them.

All of it works on bytes, on whatever device they lie: a matrix is never expanded to its numbers.
"""

from __future__ import annotations

import torch

from gemmad.kernels.matrices import BLOCK, GROUPS


def nibbles(held: torch.Tensor) -> torch.Tensor:
    """Bytes [.., B] uint8 → their halves [.., 2B], the lower one first."""
    return torch.stack((held & 15, held >> 4), -1).flatten(-2)


def pack4(codes: torch.Tensor) -> torch.Tensor:
    """Codes [N, K] uint8, each below 16 → words [N, K / 4] int16: what `matrices.pack` gives, without wide copies."""
    rows, columns = codes.shape
    planes = codes.view(rows, columns // BLOCK, 4, BLOCK // 4)
    halves = (planes[:, :, 0] | (planes[:, :, 1] << 4), planes[:, :, 2] | (planes[:, :, 3] << 4))
    return torch.stack(halves, -1).view(torch.int16).view(rows, columns // 4)


def pack8(codes: torch.Tensor) -> torch.Tensor:
    """Codes [N, K] uint8 of any kind of 8 bits → words [N, K / 2] int16: what `matrices.pack` gives."""
    rows, columns = codes.shape
    planes = codes.view(rows, columns // BLOCK, 2, BLOCK // 2)
    return torch.stack((planes[:, :, 0], planes[:, :, 1]), -1).view(torch.int16).view(rows, columns // 2)


def layout_group(columns: int, groups: int) -> int | None:
    """Columns that a scale serves in int4's layout, for rows with so many scales in a file; None: it cannot be kept.

    Groups of several whole blocks become groups of one, with the same scale.
    """
    if groups < 1 or columns % groups or columns % BLOCK:
        return None
    size = columns // groups
    if size in GROUPS:
        return size
    return BLOCK if size % BLOCK == 0 else None


def spread_scales(scales: torch.Tensor, columns: int, group: int) -> torch.Tensor:
    """Scales [N, G] of a file → [K / group, N], contiguous; each is repeated for all groups that it serves."""
    wanted = columns // group
    return scales.t().repeat_interleave(wanted // scales.shape[1], 0).contiguous()
