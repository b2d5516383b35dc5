"""What transformers answers: the judge of the engine's tokens. Runs the bundled checkpoint in float32 with sdpa."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from gemmad.demo import CHECKPOINT
from gemmad.generation import ImageSpan, Prompt


@dataclass(frozen=True)
class Question:
    """A conversation as transformers' processor encodes it, and what its `generate` says to it."""

    prompt: Prompt
    pixels: tuple[torch.Tensor, ...]
    """Resized RGB bytes, as the daemon would send them."""
    answer: tuple[int, ...]


@functools.cache
def processor() -> Any:
    """The checkpoint's processor, on its PIL path."""
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(CHECKPOINT, backend="pil")


@functools.cache
def network() -> Any:
    """The checkpoint's network as transformers builds it."""
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(CHECKPOINT, dtype=torch.float32, attn_implementation="sdpa")


def ask(messages: list[dict[str, Any]], *, max_tokens: int = 40) -> Question:
    """Encode and answer greedily."""
    inputs = processor().apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    with torch.inference_mode():
        said = network().generate(**inputs, max_new_tokens=max_tokens, do_sample=False, top_k=None, top_p=None)
    ids = inputs["input_ids"][0].tolist()
    return Question(
        prompt=Prompt(tuple(ids), _spans(ids, inputs)),
        pixels=tuple(_bytes(image) for image in inputs.get("pixel_values", [])),
        answer=tuple(said[0, len(ids) :].tolist()),
    )


def _spans(ids: list[int], inputs: Any) -> tuple[ImageSpan, ...]:
    length = network().config.mm_tokens_per_image
    soft = [i for i, token in enumerate(ids) if token == network().config.image_token_id]
    starts = soft[::length]
    digests = [str(hash(image.numpy().tobytes())) for image in inputs.get("pixel_values", [])]
    return tuple(ImageSpan(start, length, digest) for start, digest in zip(starts, digests, strict=True))


def _bytes(image: torch.Tensor) -> torch.Tensor:
    """Undo the normalisation: [3, H, W] float32 → [H, W, 3] uint8."""
    config = processor().image_processor
    mean = torch.tensor(config.image_mean)[:, None, None]
    std = torch.tensor(config.image_std)[:, None, None]
    values = (image * std + mean) / config.rescale_factor
    pixels: torch.Tensor = values.round().to(torch.uint8).permute(1, 2, 0).contiguous()
    return pixels


def picture(seed: int, *, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A picture that has something everywhere, so that a wrong pixel shows."""
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
