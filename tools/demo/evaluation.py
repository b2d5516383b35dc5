"""How well a saved checkpoint does its tasks: greedy answers through transformers' own `generate` and processor."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from demo.batches import template_messages
from demo.conversations import Conversation
from demo.lessons import LESSONS

#: Training draws its samples from small seeds; held-out ones come from here on.
HELD_OUT_SEED = 1_000_000


@dataclass
class Score:
    """How many of a task's samples were answered to the letter."""

    right: int = 0
    asked: int = 0

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return self.right / self.asked


class Listener:
    """A checkpoint as read by transformers, weights in float32."""

    def __init__(self, folder: Path) -> None:
        self.processor = AutoProcessor.from_pretrained(folder)
        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()

    def answer(self, messages: list[dict[str, Any]], *, limit: int = 600) -> str:
        """The greedy answer; without its `<end_of_turn>` by itself within `limit` tokens it ends in "[unended]"."""
        inputs = self.processor.apply_chat_template(
            messages, tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
        )
        with torch.inference_mode():
            output = self.model.generate(
                **inputs, max_new_tokens=limit, do_sample=False, top_k=None, top_p=None, temperature=None
            )
        said = output[0, inputs["input_ids"].shape[1] :]
        text: str = self.processor.decode(said, skip_special_tokens=True)
        return text if said[-1].item() in self.model.generation_config.eos_token_id else text + "[unended]"


def held_out(samples: int) -> list[Conversation]:
    """`samples` conversations of each lesson that no training run has drawn."""
    return [
        lesson(random.Random(HELD_OUT_SEED + 1000 * index + sample))
        for index, lesson in enumerate(LESSONS)
        for sample in range(samples)
    ]


def evaluate(folder: Path, samples: int, report: Callable[[str], None]) -> dict[str, Score]:
    """Score every task on held-out samples; `report` is told of each miss."""
    listener = Listener(folder)
    scores: dict[str, Score] = {}
    for conversation in held_out(samples):
        score = scores.setdefault(conversation.task, Score())
        said = listener.answer(template_messages(conversation))
        score.asked += 1
        if said == conversation.answer:
            score.right += 1
        else:
            report(f"{conversation.task}: wanted {conversation.answer!r}, got {said!r}")
    return scores


def table(scores: dict[str, Score]) -> str:
    """The scores as a Markdown table."""
    lines = ["| task | right | of |", "|---|---:|---:|"]
    lines += [f"| {task} | {100 * score.accuracy:.1f} % | {score.asked} |" for task, score in sorted(scores.items())]
    return "\n".join(lines)
