"""transformers' `generate` on the same weights, on the same device, in the same run."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gemmad.bench.oracle import from_folder, from_weights
from gemmad.bench.record import Row, rate_row, value_row
from gemmad.bench.rig import DoesNotApply, now
from gemmad.bench.sizes import Sizes
from gemmad.bench.speed import decode_label, prefill_label
from gemmad.bench.stage import Budget, Case
from gemmad.bench.subject import Subject

_SETTLING_STEPS = 4


@dataclass(frozen=True)
class Comparison:
    """What there is to compare with."""

    subject: Subject
    sizes: Sizes
    budget: Budget
    repeat: int
    ours: Sequence[Row]
    """Rows of this run so far."""


def transformers(comparison: Comparison) -> Iterator[Case]:
    """One case: the model is built once, and let go in the end."""
    yield Case("transformers", functools.partial(_measure, comparison))


def load_oracle(subject: Subject) -> Any:
    """transformers' model in the engine's dtype."""
    if subject.random is not None:
        return from_weights(subject.config, subject.weights())
    return from_folder(subject.config, device=subject.device, dtype=subject.dtype)


def _measure(comparison: Comparison) -> Iterator[Row]:
    sizes, subject = comparison.sizes, comparison.subject
    model = load_oracle(subject)
    chance = random.Random(0)  # noqa: S311 - token ids, not secrets

    def prompts(batch: int, tokens: int) -> torch.Tensor:
        ids = [chance.choices(range(subject.config.text.vocab_size), k=tokens) for _ in range(batch)]
        return torch.tensor(ids, device=subject.device)

    for batch in sizes.compared_batches:
        seconds = decode_seconds(model, prompts(batch, sizes.prompt), steps=sizes.compared_reply)
        yield from _beside(comparison, decode_label(batch), seconds, tokens=batch)
    tokens = sizes.compared_prefill
    if tokens > subject.config.text.max_context:
        raise DoesNotApply(f"{tokens} tokens are more than the context of {subject.config.text.max_context}")
    ids = prompts(1, tokens)
    prefill_seconds(model, ids)  # not counted
    seconds = [prefill_seconds(model, ids) for _ in comparison.budget.repeats(comparison.repeat)]
    yield from _beside(comparison, prefill_label(tokens), seconds, tokens=tokens)


def _beside(comparison: Comparison, label: str, seconds: list[float], *, tokens: int) -> Iterator[Row]:
    theirs = rate_row(f"transformers: {label}", seconds, tokens=tokens)
    yield theirs
    ours = next((row for row in comparison.ours if row.label == label and row.spread is not None), None)
    if ours is not None and ours.spread is not None and theirs.spread is not None:
        ratio = ours.spread.median / theirs.spread.median
        yield value_row(f"gemmad over transformers: {label}", "×", [ratio])


def decode_seconds(model: Any, ids: torch.Tensor, *, steps: int) -> list[float]:
    """Seconds of each step of `generate` after the first few. ids [batch, tokens]."""
    from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

    stamps: list[float] = []

    class Stamp(StoppingCriteria):  # type: ignore[misc]
        """Asked after each token; never says stop."""

        def __call__(self, input_ids: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
            if input_ids.device.type == "cuda":
                torch.cuda.synchronize(input_ids.device)
            stamps.append(now())
            return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    count = _SETTLING_STEPS + steps + 1
    sampling = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=64, top_p=0.95, max_new_tokens=count, pad_token_id=0, eos_token_id=None
    )
    model.generation_config = sampling  # or the checkpoint's own stop ids would come back
    mask = torch.ones_like(ids)
    model.generate(ids, attention_mask=mask, stopping_criteria=StoppingCriteriaList([Stamp()]))
    settled = stamps[_SETTLING_STEPS:]
    return [after - before for before, after in itertools.pairwise(settled)]


@torch.inference_mode()
def prefill_seconds(model: Any, ids: torch.Tensor) -> float:
    """Seconds to the logits of the last token. ids [1, tokens]."""
    start = now()
    model(input_ids=ids, use_cache=True, logits_to_keep=1).logits.argmax().item()
    return now() - start
