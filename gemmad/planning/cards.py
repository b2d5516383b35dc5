"""Which formats the published sizes take on common cards, as a table of the docs: the planner's own word."""

from __future__ import annotations

from gemmad.generation import EngineSettings, usual_page_tokens
from gemmad.planning.proposals import Proposal, propose
from gemmad.planning.shape import PUBLISHED, published_shape

CARDS_GIB = (8, 12, 16, 24, 48, 80)
WANTED_CONTEXT = 32_768
"""The truest formats that hold so many tokens are told."""
_NONE = "–"
_NARROWER = "¹"


def cards_table() -> str:
    """A row for each published size, a column for each size of memory; Markdown."""
    head = ["", *(f"{gib} GiB" for gib in CARDS_GIB)]
    lines = [head, ["---"] * len(head)]
    lines += [[f"**{name}**", *(_cell(name, gib) for gib in CARDS_GIB)] for name in PUBLISHED]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def best_on(name: str, gib: int) -> Proposal | None:
    """What is proposed for a published size on a GPU that nobody knows more of, with settings that say nothing else."""
    shape = published_shape(name)
    device = "cuda:0"
    settings = EngineSettings(
        checkpoint="",
        device=device,
        page_tokens=usual_page_tokens(device),
        max_context=min(WANTED_CONTEXT, shape.max_context),
        attention="triton",
        weights="auto",
        kv="auto",
    )
    return propose(shape, settings, gib << 30).best


def _cell(name: str, gib: int) -> str:
    best = best_on(name, gib)
    if best is None:
        return _NONE
    settings = best.settings
    kv = "" if settings.kv == "bf16" else f", cache {settings.kv}"
    return f"{settings.weights}{kv}: {best.longest}{'' if best.whole_steps else _NARROWER}"
