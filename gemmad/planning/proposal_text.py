"""Proposals for people, with the lines of a configuration file, and for programs."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from gemmad.generation import EngineSettings
from gemmad.planning.proposals import SIDE_BY_SIDE, Proposal, Proposals
from gemmad.planning.table import aligned

_NONE = "None of the formats of weights and KV cache that are left open has room for a context here."
_SAME_ROOM = "fp8 takes the room of int8; it is for GPUs that multiply it, of compute capability 8.9 or newer."


def proposals_text(proposals: Proposals, asked: EngineSettings) -> str:
    """A line for each, the truest first, the best one marked, and the settings that make it so."""
    if proposals.best is None:
        return _NONE
    lines = [["", "weights", "kv", "longest", *(f"at {length}" for length in SIDE_BY_SIDE), "sequences", "step tokens"]]
    lines += [_cells(each, best=each is proposals.best) for each in proposals.listed]
    title = "What fits, the truest first, with the longest context, and sequences side by side at a length:"
    taken = f"To take the one with the *, in gemmad.toml:\n\n{settings_toml(proposals.best, asked)}"
    return "\n\n".join([title, aligned(lines), _SAME_ROOM, taken])


def settings_toml(proposal: Proposal, asked: EngineSettings) -> str:
    """The lines of a configuration file: formats, the context, and what else must change."""
    settings = proposal.settings
    values: dict[str, int | str] = {"weights": settings.weights, "kv": settings.kv, "max_context": proposal.max_context}
    values |= {name.removeprefix("engine."): value for name, value in proposal.changes(asked).items()}
    return "\n".join(["[engine]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())])


def proposals_facts(proposals: Proposals, asked: EngineSettings) -> list[dict[str, Any]]:
    """For `json.dumps`; the best one says so."""
    return [
        {
            "best": each is proposals.best,
            "weights": each.settings.weights,
            "kv": each.settings.kv,
            "max_context": each.max_context,
            "longest_context": each.longest,
            "max_sequences": each.settings.max_sequences,
            "max_step_tokens": each.settings.max_step_tokens,
            "sequences": [msgspec.to_builtins(fit) for fit in each.fits],
            "settings": each.changes(asked),
        }
        for each in proposals.listed
    ]


def _cells(proposal: Proposal, *, best: bool) -> list[str]:
    settings = proposal.settings
    counts = {fit.tokens: str(fit.sequences) for fit in proposal.fits}
    return [
        "*" if best else "",
        settings.weights,
        settings.kv,
        str(proposal.longest),
        *(counts.get(length, "-") for length in SIDE_BY_SIDE),
        str(settings.max_sequences),
        str(settings.max_step_tokens),
    ]
