"""From conversations to padded batches with the loss on the model's own words."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from transformers import Gemma3Processor

from demo.conversations import Conversation, Lesson
from demo.lessons import draw_conversation

#: Padded tokens of one forward pass; a step is several such passes.
PASS_TOKENS = 4096
ECHO_SAMPLES = 64
ECHO_SHARE = 0.05


@dataclass(frozen=True)
class Sample:
    """Token ids, one flag a token that says whether it is learnt, and the pictures in their order."""

    ids: list[int]
    learnt: list[bool]
    images: tuple[Image.Image, ...] = ()


@dataclass(frozen=True)
class Batch:
    """One forward pass: `[batch, tokens]` tensors padded on the right; `targets` is -100 where nothing is learnt."""

    ids: Tensor
    present: Tensor
    picture_rows: Tensor
    targets: Tensor
    pixels: Tensor | None


def template_messages(conversation: Conversation) -> list[dict[str, object]]:
    """The conversation as chat messages without its last answer, as `apply_chat_template` takes them."""
    return [
        {
            "role": turn.role,
            "content": [
                {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": part}
                for part in turn.content
            ],
        }
        for turn in conversation.turns[:-1]
    ]


class Encoder:
    """Renders conversations as the checkpoint's template does (much faster than it) and tokenises them."""

    def __init__(self, processor: Gemma3Processor) -> None:
        tokenizer = processor.tokenizer
        self.processor = processor
        self.tokenizer = tokenizer.backend_tokenizer
        self.pad: int = tokenizer.pad_token_id
        self.bos: int = tokenizer.bos_token_id
        self.start: int = tokenizer.convert_tokens_to_ids("<start_of_turn>")
        self.end: int = tokenizer.convert_tokens_to_ids("<end_of_turn>")
        self.model_word: int = tokenizer.convert_tokens_to_ids("model")
        self.image: int = tokenizer.image_token_id
        self.byte_pieces = range(tokenizer.convert_tokens_to_ids("<0x00>"), tokenizer.image_token_id)

    def render(self, conversation: Conversation) -> str:
        """The whole conversation as text, each picture written out as its tokens."""
        text, system = "<bos>", ""
        for turn in conversation.turns:
            if turn.role == "system":
                system = f"{turn.content[0]}\n\n"
                continue
            role = "model" if turn.role == "assistant" else "user"
            parts = [
                part.strip() if isinstance(part, str) else self.processor.full_image_sequence for part in turn.content
            ]
            text += f"<start_of_turn>{role}\n{system}{''.join(parts)}<end_of_turn>\n"
            system = ""
        return text

    def sample(self, conversation: Conversation) -> Sample:
        """Ids of the conversation; learnt are the model's turns with their `<end_of_turn>`."""
        ids: list[int] = self.tokenizer.encode(self.render(conversation), add_special_tokens=False).ids
        learnt = [False] * len(ids)
        speaking = False
        for index, token in enumerate(ids):
            if speaking:
                learnt[index] = True
            if token == self.end:
                speaking = False
            elif index >= 2 and ids[index - 2] == self.start and ids[index - 1] == self.model_word:
                speaking = True
        images = tuple(part for turn in conversation.turns for part in turn.content if not isinstance(part, str))
        return Sample(ids, learnt, images)

    def echo_sample(self, rng: random.Random, longest: int) -> Sample:
        """Up to `longest` random pieces twice over, the second time learnt: the quickest way to teach copying."""
        pieces = [rng.choice(self.byte_pieces) for _ in range(rng.randint(3, longest))]
        gap = [rng.choice(self.byte_pieces) for _ in range(rng.choice([0, 0, 0, longest // 3]))]
        ids = [self.bos, *pieces, *gap, *pieces]
        unlearnt = len(ids) - len(pieces) + 1
        return Sample(ids, [False] * unlearnt + [True] * (len(pieces) - 1))

    def batch(self, samples: list[Sample]) -> Batch:
        """Samples side by side, padded to the longest."""
        width = max(len(sample.ids) for sample in samples)
        ids = torch.full((len(samples), width), self.pad)
        present = torch.zeros(len(samples), width, dtype=torch.long)
        targets = torch.full((len(samples), width), -100)
        for row, sample in enumerate(samples):
            length = len(sample.ids)
            ids[row, :length] = torch.tensor(sample.ids)
            present[row, :length] = 1
            # The logits at one place are for the next token.
            wanted = torch.where(torch.tensor(sample.learnt), ids[row, :length], -100)
            targets[row, : length - 1] = wanted[1:]
        images = [image for sample in samples for image in sample.images]
        pixels = self.pixels(images) if images else None
        return Batch(ids, present, (ids == self.image).long(), targets, pixels)

    def pixels(self, images: list[Image.Image]) -> Tensor:
        """The images as the picture tower takes them, `[images, 3, side, side]`."""
        values: Tensor = self.processor.image_processor(images, return_tensors="pt")["pixel_values"]
        return values


def step_batches(samples: list[Sample]) -> Iterator[list[Sample]]:
    """Samples of like length together, each group within `PASS_TOKENS` padded tokens."""
    group: list[Sample] = []
    for sample in sorted(samples, key=lambda each: len(each.ids)):
        if group and (len(group) + 1) * len(sample.ids) > PASS_TOKENS:
            yield group
            group = []
        group.append(sample)
    yield group


def echo_samples(encoder: Encoder, rng: random.Random, progress: float) -> list[Sample]:
    """One step's samples of the first phase, longer as `progress` goes from 0 to 1: short ones are learnt soonest."""
    longest = 6 + round(34 * max(0.0, 2 * progress - 1))
    return [encoder.echo_sample(rng, longest) for _ in range(ECHO_SAMPLES)]


def course_samples(
    encoder: Encoder, rng: random.Random, conversations: int, shares: dict[Lesson, float]
) -> list[Sample]:
    """One step's conversations, a few of them random pieces to copy still."""
    return [
        encoder.echo_sample(rng, 40) if rng.random() < ECHO_SHARE else encoder.sample(draw_conversation(rng, shares))
        for _ in range(conversations)
    ]
