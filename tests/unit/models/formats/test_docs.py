from __future__ import annotations

import re
from pathlib import Path

import pytest

from gemmad.errors import CheckpointError
from gemmad.models.formats.gguf_blocks import UNPACK
from gemmad.planning.coded import GGUF_CODINGS, read_quantization
from gemmad.planning.gguf import BLOCKS

PAGE = (Path(__file__).parents[4] / "docs/quantisation.md").read_text()
SECTION = PAGE.partition("## Checkpoints that come quantised\n")[2].partition("\n## ")[0]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in SECTION.splitlines() if line[:1] == "|"]


def types(cell: str) -> set[str]:
    """ggml's, in one cell."""
    return set(re.findall(r"Q\d_\w", cell))


def test_the_types_of_gguf_agree() -> None:
    """The page tells of each type of blocks what becomes of it."""
    (gguf,) = [row for row in ROWS if row[0].startswith("GGUF")]
    blocks = {kind for kind in BLOCKS if kind.startswith("Q")}
    kept = {kind for kind, coding in GGUF_CODINGS.items() if coding is not None}
    assert [types(cell) for cell in gguf[1:]] == [kept, UNPACK.keys() - kept, blocks - UNPACK.keys()]


def test_the_methods_agree(tmp_path: Path) -> None:
    """The page names each `quant_method` that is read, and no other."""
    (tmp_path / "config.json").write_text('{"quantization_config": {"quant_method": "other"}}')
    with pytest.raises(CheckpointError, match=r"'other'; (.*) are read, and GGUF") as refused:
        read_quantization(tmp_path)
    read = re.search(r"'other'; (.*) are read", str(refused.value))
    assert read is not None
    named = {found[1] for row in ROWS if (found := re.match(r"`([\w-]+)`", row[0])) is not None}
    assert named == set(read[1].split(", "))
