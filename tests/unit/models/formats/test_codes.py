"""Codes on their way into the layout of kernels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gemmad.kernels.matrices import pack
from gemmad.models.formats.codes import layout_group, nibbles, pack4, pack8, spread_scales


@given(st.integers(0, 5), st.integers(1, 3), st.integers(0, 1 << 30))
def test_codes_are_packed_as_kernels_read_them(rows: int, blocks: int, seed: int) -> None:
    """Without wide copies the words are the same."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 256, (rows, 128 * blocks), dtype=torch.uint8, generator=generator)
    assert torch.equal(pack4(codes & 15), pack("int4", codes & 15))
    assert torch.equal(pack8(codes), pack("int8", codes.view(torch.int8)))


def test_the_lower_half_of_a_byte_comes_first() -> None:
    """Of every byte."""
    assert nibbles(torch.tensor([0x21, 0xF0], dtype=torch.uint8)).tolist() == [1, 2, 0, 15]


@pytest.mark.parametrize(
    ("columns", "groups", "group"),
    [(256, 8, 32), (256, 4, 64), (256, 2, 128), (256, 1, 128), (512, 2, 128), (256, 16, None), (192, 1, None)],
)
def test_which_groups_the_layout_has_room_for(columns: int, groups: int, group: int | None) -> None:
    """32, 64 and 128 columns, and whole blocks."""
    assert layout_group(columns, groups) == group


def test_a_scale_is_repeated_for_all_groups_that_it_serves() -> None:
    """So one of a whole row is there for each of its blocks."""
    scales = torch.tensor([[1.0], [2.0]])
    assert spread_scales(scales, 256, 128).tolist() == [[1.0, 2.0], [1.0, 2.0]]
