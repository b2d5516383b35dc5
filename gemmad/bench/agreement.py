"""Whether the network computes what transformers' does, to bfloat16's own noise.

Both compute the first layers of the same weights in bfloat16, and so differ from each other by rounding alone, if
nothing is wrong. How much rounding there is, transformers itself tells: both are judged by its float32. Logits are
those of prompts in one piece and of single tokens after them, over contexts longer and shorter than the window.
"""

from __future__ import annotations

import dataclasses
import functools
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from gemmad.bench.oracle import from_folder, from_weights, in_float32
from gemmad.bench.paged import PagedNetwork
from gemmad.bench.record import Row, value_row
from gemmad.bench.shapes import link_first_layers
from gemmad.bench.stage import Case
from gemmad.bench.subject import Subject
from gemmad.models.config import ModelConfig, TextShape, read_config
from gemmad.models.weights import Weights, load_weights, random_weights

TOLERANCE = 1.5
"""Times transformers' own error in bfloat16 that ours may be."""
_LEAST_LAYERS = 4
_DECODED = 8
_ROWS_A_PROMPT = 24


@dataclass(frozen=True)
class Errors:
    """Of logits in bfloat16 against those in float32."""

    largest: float
    mean: float


def agreement(subject: Subject) -> Iterator[Case]:
    """One case."""
    yield Case("agreement with transformers", functools.partial(_compare, subject))


def layers_to_compare(shape: TextShape) -> int:
    """The fewest, but four, among which are both kinds."""
    kinds = shape.full_layers
    both = max(kinds.index(kind) for kind in set(kinds)) + 1
    return min(len(kinds), max(_LEAST_LAYERS, both))


def errors(logits: list[torch.Tensor], truth: list[torch.Tensor]) -> Errors:
    """Over all logits of all prompts, each [rows, vocab]."""
    gaps = [(mine.float() - right.float()).abs() for mine, right in zip(logits, truth, strict=True)]
    count = sum(gap.numel() for gap in gaps)
    return Errors(max(float(gap.max()) for gap in gaps), sum(float(gap.double().sum()) for gap in gaps) / count)


def verdict(ours: Errors, theirs: Errors) -> Row:
    """Ours over theirs; failed when that is more than the tolerance."""
    largest, mean = ours.largest / theirs.largest, ours.mean / theirs.mean
    row = value_row("logits: gemmad's error over transformers'", "×", [mean], largest=largest, allowed=TOLERANCE)
    if max(largest, mean) <= TOLERANCE:
        return row
    return msgspec.structs.replace(row, status="failed", reason="more than rounding explains")


def _compare(subject: Subject) -> Iterator[Row]:
    count = layers_to_compare(subject.config.text)
    with tempfile.TemporaryDirectory() as folder:
        link_first_layers(subject.folder, Path(folder), layers=count)
        config = read_config(Path(folder))
        prompts = _prompts(config.text)
        weights = _weights(subject, dataclasses.replace(config, vision=None))
        ours = our_logits(config.text, weights, prompts)
        if subject.random is not None:
            model = from_weights(config, weights)
        else:
            model = from_folder(config, device=subject.device, dtype=torch.bfloat16)
    theirs = their_logits(model, prompts)
    truth = their_logits(in_float32(model), prompts)
    mine, other = errors(ours, truth), errors(theirs, truth)
    size = sum(float(one.abs().mean()) for one in truth) / len(truth)
    yield value_row(
        "logits: gemmad's mean error in bfloat16", "", [mine.mean], largest=mine.largest, layers=count, mean_logit=size
    )
    yield value_row("logits: transformers' mean error in bfloat16", "", [other.mean], largest=other.largest)
    yield verdict(mine, other)


def _weights(subject: Subject, config: ModelConfig) -> Weights:
    load = load_weights if subject.random is None else random_weights
    return load(config, device=subject.device, dtype=torch.bfloat16)


def _prompts(shape: TextShape) -> list[list[int]]:
    """Longer than the window, shorter, and hardly anything; the last few tokens of each are decoded one by one."""
    chance = random.Random(0)  # noqa: S311 - token ids, not secrets
    lengths = (shape.window + shape.window // 3, shape.window // 2, 5)
    longest = shape.max_context - _DECODED
    return [chance.choices(range(shape.vocab_size), k=min(length, longest) + _DECODED) for length in lengths]


def looked_at(length: int) -> list[int]:
    """Positions of a prompt whose logits are compared: some of those that come in one piece, and all after them."""
    pieces = length - _DECODED
    spread = sorted({pieces * n // _ROWS_A_PROMPT for n in range(_ROWS_A_PROMPT)} | {pieces - 1})
    return [*spread, *range(pieces, length)]


def our_logits(shape: TextShape, weights: Weights, prompts: list[list[int]]) -> list[torch.Tensor]:
    """[rows, vocab] for each prompt: all prompts in one step, then a token of each in every further one."""
    network = PagedNetwork(shape, weights, sequences=len(prompts), longest=max(map(len, prompts)))
    pieces = [prompt[:-_DECODED] for prompt in prompts]
    rows = [[row for row in looked_at(len(prompt)) if row < len(prompt) - _DECODED] for prompt in prompts]
    begins = [sum(map(len, pieces[:s])) for s in range(len(pieces))]
    flat = [begin + row for begin, some in zip(begins, rows, strict=True) for row in some]
    steps = [torch.split(network.logits(pieces, [0] * len(pieces), flat), [len(some) for some in rows])]
    for back in range(_DECODED, 0, -1):
        tokens, starts = [[prompt[-back]] for prompt in prompts], [len(prompt) - back for prompt in prompts]
        steps.append(torch.split(network.logits(tokens, starts, range(len(prompts))), 1))
    return [torch.cat(parts) for parts in zip(*steps, strict=True)]


@torch.inference_mode()
def their_logits(model: Any, prompts: list[list[int]]) -> list[torch.Tensor]:
    """The same rows, each prompt by itself and whole."""
    found = []
    for prompt in prompts:
        ids = torch.tensor([prompt], device=model.device)
        rows = torch.tensor(looked_at(len(prompt)), device=model.device)
        found.append(model(input_ids=ids, use_cache=False, logits_to_keep=rows).logits[0].float())
    return found
