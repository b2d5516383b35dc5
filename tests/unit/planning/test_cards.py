from __future__ import annotations

from pathlib import Path

import msgspec

from gemmad.generation import KVFormat
from gemmad.planning.cards import CARDS_GIB, best_on, cards_table
from gemmad.planning.codes import kv_token_bytes
from gemmad.planning.shape import PUBLISHED, published_shape

ROOT = Path(__file__).parents[3]
KV: tuple[KVFormat, ...] = ("bf16", "int8")


def test_the_page_has_the_planners_table() -> None:
    """docs/quantisation.md has what the planner says now; `make docs` writes it."""
    assert f"<!-- cards -->\n{cards_table()}\n<!-- /cards -->" in (ROOT / "docs/quantisation.md").read_text()


def test_each_size_on_each_card() -> None:
    """A row for each size, a column for each card; more memory never makes weights less true."""
    order = [None, "int4", "int8", "bf16"]
    lines = cards_table().splitlines()
    assert [len(line.split("|")) - 2 for line in lines] == [len(CARDS_GIB) + 1] * (len(PUBLISHED) + 2)
    for name in PUBLISHED:
        found = [best_on(name, gib) for gib in CARDS_GIB]
        ranks = [order.index(None if best is None else best.settings.weights) for best in found]
        assert ranks == sorted(ranks)


def test_bytes_in_the_memory_page() -> None:
    """What a key and a value take, as docs/memory.md says it."""
    shape = msgspec.structs.replace(published_shape("12b"), kv_heads=1)
    page = " ".join((ROOT / "docs/memory.md").read_text().split())
    plain, coded = (kv_token_bytes(shape, kv, itemsize=2) for kv in KV)
    assert (
        f"A key and a value of {shape.head_dim} numbers take {plain} bytes in bfloat16, and in int8 and fp8 {coded},"
        in page
    )
