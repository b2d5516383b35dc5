"""Steady decode of replies that are held to a JSON schema, beside the same without: what a grammar costs.

The schema has no end that a reply could reach, so every step makes every mask. Two runs without and two with it take
turns, for clocks drift. What the masks themselves take is told beside it: it is hidden as long as it is less than what
the device computes meanwhile.
"""

from __future__ import annotations

import functools
import json
import statistics
from collections.abc import Iterator

import numpy as np

from gemmad.bench.record import Row, rate_row, value_row
from gemmad.bench.rig import Rig, now
from gemmad.bench.shapes import write_vocabulary
from gemmad.bench.speed import one_token_each
from gemmad.bench.stage import Case, Stage
from gemmad.grammar import source

_SETTLING_STEPS = 4
_REPLY = 8
_SPECIAL_IDS = 16
"""Of the vocabulary's end, which stay without a token as in published checkpoints."""
_REQUIRED = ["name", "age", "height", "role", "tags", "address"]


def _words(length: int) -> dict[str, object]:
    """Random weights would never end a string by themselves."""
    return {"type": "string", "maxLength": length}


_ADDRESS = {
    "type": "object",
    "properties": {"street": _words(24), "city": _words(24)},
    "required": ["street", "city"],
    "additionalProperties": False,
}
_PERSON = {
    "type": "object",
    "properties": {
        "name": _words(24),
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "height": {"type": "number"},
        "role": {"enum": ["author", "reviewer", "reader"]},
        "tags": {"type": "array", "items": _words(12), "maxItems": 4},
        "address": _ADDRESS,
    },
    "required": _REQUIRED,
    "additionalProperties": False,
}
_SCHEMA = {"type": "array", "items": _PERSON, "minItems": 1000}


def constrained(stage: Stage) -> Iterator[Case]:
    """One batch, both ways."""
    batch = stage.sizes.constrained_batch
    yield Case(f"decode held to a JSON schema, batch {batch}", functools.partial(_constrained, stage, batch))


def grammar_source(rig: Rig) -> str:
    """Of the schema; the engine's folder has a vocabulary for it from now on."""
    folder = rig.config.folder
    if not (folder / "tokenizer.json").exists():
        write_vocabulary(folder, tokens=rig.config.text.vocab_size - _SPECIAL_IDS)
    schema = source.json_schema(json.dumps(_SCHEMA), strict=True, param="schema")
    return f"{source.HEADER}start: {schema}\n"


def _constrained(stage: Stage, batch: int) -> Iterator[Row]:
    rig = stage.rig
    grammar = grammar_source(rig)
    start = now()
    rig.first_token(rig.prompt(stage.sizes.prompt), reply_tokens=_REPLY, grammar=grammar)
    yield value_row("first token with a new grammar", "ms", [1e3 * (now() - start)])
    rig.clear()
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(2):
        for held in seconds:
            seconds[held] += _steps(stage, batch, grammar=grammar if held else None)
    free, bound = (statistics.median(samples) for samples in seconds.values())
    yield rate_row(f"decode, batch {batch}, free", seconds[False], tokens=batch, details={"step_ms": 1e3 * free})
    details = {"step_ms": 1e3 * bound, "masks_ms": 1e3 * statistics.median(_mask_seconds(rig, batch, grammar))}
    yield rate_row(f"decode, batch {batch}, held to a JSON schema", seconds[True], tokens=batch, details=details)
    yield value_row("what the grammar costs of decode speed", "%", [100 * (1 - free / bound)])


def _steps(stage: Stage, batch: int, *, grammar: str | None) -> list[float]:
    """Seconds of a step, a sample for each repeat."""
    rig, steps = stage.rig, stage.sizes.window_steps
    reply = _SETTLING_STEPS + (stage.repeat + 1) * steps
    seconds = []
    with rig.speaking(batch, prompt_tokens=stage.sizes.prompt, reply_tokens=reply, grammar=grammar):
        for _ in range(_SETTLING_STEPS):
            one_token_each(rig, batch)
        for _ in stage.budget.repeats(stage.repeat):
            start = now()
            for _ in range(steps):
                one_token_each(rig, batch)
            seconds.append((now() - start) / steps)
    return seconds


def _mask_seconds(rig: Rig, batch: int, grammar: str) -> list[float]:
    """What the masks of one step take alone, at the beginning of the grammar."""
    grammars = rig.engine._grammars
    matchers = [grammars.begin(grammar).result() for _ in range(batch)]
    masks = np.zeros((batch, -(-rig.config.text.vocab_size // 32)), np.int32)
    seconds = []
    for _ in range(20):
        start = now()
        grammars.fill_batch([(matcher, row) for row, matcher in enumerate(matchers)], masks)
        seconds.append(now() - start)
    return seconds
