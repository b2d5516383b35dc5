"""The phases of training: seeing alone, copying alone, the course, and a last one for what is learnt word by word.

Seeing and copying are slow to come by in the course and quick on their own: a classifier teaches the picture tower its
shapes, and short strings of random pieces said twice give the text layers the heads that all repeating and remembering
are made of.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import Gemma3ForConditionalGeneration

from demo.batches import Batch, Encoder, Sample, course_samples, echo_samples, step_batches
from demo.lessons import LESSONS, POLISH
from demo.optimiser import Descent
from demo.pictures import draw_any
from demo.words import COLOURS, SHAPES

#: Told of phase, step and mean loss.
Report = Callable[[str, int, float], None]

#: Rows up to this length go through plain matrix products instead of torch's fused attention.
EAGER_TOKENS = 256


@dataclass(frozen=True)
class Plan:
    """How long and how hard to train."""

    course_steps: int
    picture_steps: int = 1000
    echo_steps: int = 500
    polish_steps: int = 700
    pictures: int = 64
    conversations: int = 32
    rate: float = 5e-3
    polish_rate: float = 3e-3
    warm_up_steps: int = 30

    def warm_up(self, step: int) -> float:
        """Share of the learning rate in the first steps of a phase."""
        return min(1.0, (step + 1) / self.warm_up_steps)


def train(model: Gemma3ForConditionalGeneration, encoder: Encoder, plan: Plan, *, seed: int, report: Report) -> None:
    """Train `model` in place, up to the end of the course."""
    rng = random.Random(seed)
    model.train()
    learn_to_see(model, encoder, plan, rng, report)
    learn_to_copy(model, encoder, plan, rng, report)
    descent = Descent(model.named_parameters())
    for step in range(plan.course_steps):
        loss = gradients(model, encoder, course_samples(encoder, rng, plan.conversations, LESSONS))
        descent.step(plan.rate * plan.warm_up(step) * (1 - step / plan.course_steps))
        report("course", step, loss)


def polish(model: Gemma3ForConditionalGeneration, encoder: Encoder, plan: Plan, *, seed: int, report: Report) -> None:
    """Train `model` in place from the end of the course, its weights as the checkpoint has them, to the very end."""
    rng = random.Random(seed + 1)
    model.train()
    descent = Descent(model.named_parameters())
    for step in range(plan.polish_steps):
        loss = gradients(model, encoder, course_samples(encoder, rng, plan.conversations, POLISH))
        descent.step(plan.polish_rate * plan.warm_up(step) * (1 - step / plan.polish_steps))
        report("polish", step, loss)


def compile_layers(model: Gemma3ForConditionalGeneration) -> None:
    """Fuse what each layer does between its matrix products; this nearly halves a step's time."""
    torch._dynamo.config.recompile_limit = 64
    for layer in [*model.model.language_model.layers, *model.model.vision_tower.encoder.layers]:
        layer.forward = torch.compile(layer.forward, dynamic=True)


def learn_to_see(
    model: Gemma3ForConditionalGeneration, encoder: Encoder, plan: Plan, rng: random.Random, report: Report
) -> None:
    """Teach the picture tower and the projector colours and shapes, by a classifier that is then thrown away."""
    shapes = [*SHAPES, "plain"]
    classifier = nn.Linear(model.config.text_config.hidden_size, len(COLOURS) + len(shapes))
    parts = nn.ModuleList([model.model.vision_tower, model.model.multi_modal_projector, classifier])
    descent = Descent(parts.named_parameters())
    for step in range(plan.picture_steps):
        drawn = [draw_any(rng) for _ in range(plan.pictures)]
        colours = torch.tensor([COLOURS.index(colour) for _, colour, _ in drawn])
        kinds = torch.tensor([shapes.index(shape) for _, _, shape in drawn])
        with torch.autocast("cpu", torch.bfloat16):
            rows = model.model.get_image_features(encoder.pixels([image for image, _, _ in drawn])).pooler_output
            by_colour, by_shape = classifier(rows.mean(1)).float().split([len(COLOURS), len(shapes)], dim=1)
        loss = nn.functional.cross_entropy(by_colour, colours) + nn.functional.cross_entropy(by_shape, kinds)
        torch.autograd.backward(loss)
        descent.step(plan.rate * plan.warm_up(step) * min(1.0, 2 * (1 - step / plan.picture_steps)))
        report("seeing", step, loss.item())


def learn_to_copy(
    model: Gemma3ForConditionalGeneration, encoder: Encoder, plan: Plan, rng: random.Random, report: Report
) -> None:
    """Teach the text layers to say random pieces again."""
    descent = Descent(model.model.language_model.named_parameters())
    for step in range(plan.echo_steps):
        loss = gradients(model, encoder, echo_samples(encoder, rng, step / plan.echo_steps))
        descent.step(plan.rate * plan.warm_up(step))
        report("copying", step, loss)


def gradients(model: Gemma3ForConditionalGeneration, encoder: Encoder, samples: list[Sample]) -> float:
    """Add the samples' gradients and return their mean loss a learnt token."""
    learnt = sum(sum(sample.learnt) for sample in samples)
    total = 0.0
    for group in step_batches(samples):
        loss = summed_loss(model, encoder.batch(group)) / learnt
        torch.autograd.backward(loss)
        total += loss.item()
    return total


def summed_loss(model: Gemma3ForConditionalGeneration, batch: Batch) -> Tensor:
    """Cross entropy of the learnt tokens, with the very masks that inference has."""
    # On a CPU the flash kernel's backward pass is the slower one for short rows, and much the faster for long ones.
    model.set_attn_implementation({"text_config": "eager" if batch.ids.shape[1] <= EAGER_TOKENS else "sdpa"})
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(
            input_ids=batch.ids,
            attention_mask=batch.present,
            token_type_ids=batch.picture_rows,
            pixel_values=batch.pixels,
            use_cache=False,
        ).last_hidden_state
        chosen = batch.targets != -100
        logits = model.lm_head(hidden[chosen])
    loss: Tensor = nn.functional.cross_entropy(logits.float(), batch.targets[chosen], reduction="sum")
    return loss
