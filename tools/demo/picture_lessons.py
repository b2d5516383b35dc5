"""Lessons about pictures: one, several in one prompt, and some over several turns."""

from __future__ import annotations

import random

from PIL import Image

from demo.conversations import Conversation, Turn, article, capitalised
from demo.pictures import draw_any
from demo.talk import aside

ORDINALS = ("first", "second", "third")
NOUN_OF_PICTURE = ("picture", "image", "photo")


def seen(colour: str, shape: str) -> str:
    """What is in a picture, as the model says it: "a red circle"."""
    return f"a plain {colour} picture" if shape == "plain" else article(f"{colour} {shape}")


def with_pictures(rng: random.Random, task: str, images: list[Image.Image], question: str, answer: str) -> Conversation:
    """The images before or after the question, or text between them."""
    content: list[str | Image.Image]
    kind = rng.random()
    if kind < 0.55:
        content = [*images, question]
    elif kind < 0.85:
        content = [question, *images]
    else:
        content = []
        for image in images:
            content += [rng.choice(["Here is a picture:", "Look at this:", "A picture:", "And this one:"]), image]
        content.append(question)
    return Conversation(task, (Turn("user", tuple(content)), Turn("assistant", (answer,))))


def one_picture(rng: random.Random) -> Conversation:
    """Colour and shape of one picture."""
    image, colour, shape = draw_any(rng)
    noun = rng.choice(NOUN_OF_PICTURE)
    kind = rng.random()
    if kind < 0.2:
        question = rng.choice([
            f"Which colour is the shape in the {noun}?", "What colour is it?", "What colour is the shape?",
            "Which colour do you see?", "What color is the shape?", "What colour is this?", "Name the colour.",
        ])  # fmt: skip
        answer = f"{capitalised(colour)}."
    elif kind < 0.4 and shape != "plain":
        question = rng.choice([
            f"Which shape is in the {noun}?", "What shape is it?", "What shape is this?", "Which shape do you see?",
            "Name the shape.", f"What shape is in this {noun}?",
        ])  # fmt: skip
        answer = capitalised(f"{article(shape)}.")
    else:
        question = rng.choice([
            f"What is in the {noun}?", f"What is in this {noun}?", "What do you see?", f"Describe the {noun}.",
            f"What does the {noun} show?", "What is this?", f"Describe this {noun}.", f"What's in the {noun}?",
            f"What do you see in the {noun}?", f"What can you see in this {noun}?", "What is shown here?",
            f"Please describe this {noun}.", "Describe what you see.", f"Tell me what is in the {noun}.",
            f"What is in the {noun}? Answer briefly.", f"What is in this {noun}", f"what is in the {noun}?",
            f"Describe this {noun} in one sentence.", "",
        ])  # fmt: skip
        answer = capitalised(f"{seen(colour, shape)}.")
    return (
        with_pictures(rng, "one picture", [image], question, answer)
        if question
        else Conversation("one picture", (Turn("user", (image,)), Turn("assistant", (answer,))))
    )


def several_pictures(rng: random.Random) -> Conversation:
    """One of two or three pictures, or all of them."""
    count = 2 if rng.random() < 0.65 else 3
    drawn = [draw_any(rng) for _ in range(count)]
    images = [image for image, _, _ in drawn]
    which = rng.randrange(count)
    _, colour, shape = drawn[which]
    noun = rng.choice(NOUN_OF_PICTURE)
    ordinal = ORDINALS[which]
    if which == count - 1 and rng.random() < 0.15:
        ordinal = "last"
    kind = rng.random()
    if kind < 0.2:
        question = rng.choice([
            f"Which colour is the shape in the {ordinal} {noun}?", f"What colour is the {ordinal} {noun}?",
            f"Which colour is in the {ordinal} {noun}?", f"What colour is in the {ordinal} {noun}?",
        ])  # fmt: skip
        answer = f"{capitalised(colour)}."
    elif kind < 0.4 and shape != "plain":
        question = rng.choice([
            f"Which shape is in the {ordinal} {noun}?", f"What shape is in the {ordinal} {noun}?",
            f"What shape does the {ordinal} {noun} show?",
        ])  # fmt: skip
        answer = capitalised(f"{article(shape)}.")
    elif kind < 0.7:
        question = rng.choice([
            f"What is in the {ordinal} {noun}?", f"Describe the {ordinal} {noun}.",
            f"What do you see in the {ordinal} {noun}?", f"What does the {ordinal} {noun} show?",
        ])  # fmt: skip
        answer = capitalised(f"{seen(colour, shape)}.")
    else:
        all_of_them = "both" if count == 2 else rng.choice(["all", "all three"])
        question = rng.choice([
            f"Describe {all_of_them} {noun}s.", f"Describe the {noun}s.", f"What is in the {noun}s?",
            f"What is in {all_of_them} {noun}s?", f"What do you see in the {noun}s?", f"What do the {noun}s show?",
            f"What is in these {noun}s?",
        ])  # fmt: skip
        answer = " ".join(
            f"The {name} picture shows {seen(colour, shape)}."
            for name, (_, colour, shape) in zip(ORDINALS, drawn, strict=False)
        )
    return with_pictures(rng, "several pictures", images, question, answer)


def pictures_over_turns(rng: random.Random) -> Conversation:
    """A picture, some talk, then another picture or a question about the first one."""
    turns: list[Turn] = []
    drawn = []
    for _ in range(2):
        image, colour, shape = draw_any(rng)
        drawn.append((colour, shape))
        question = rng.choice(["What is in the picture?", "What is in this picture?", "What do you see?", "And this?"])
        content = (image, question) if rng.random() < 0.6 else (question, image)
        turns += [Turn("user", content), Turn("assistant", (capitalised(f"{seen(colour, shape)}."),))]
        if rng.random() < 0.5:
            asked, said = aside(rng)
            turns += [Turn("user", (asked,)), Turn("assistant", (said,))]
    if rng.random() < 0.5:
        which = rng.randrange(2)
        question = rng.choice([
            f"What was in the {ORDINALS[which]} picture?", f"What is in the {ORDINALS[which]} picture?",
        ])  # fmt: skip
        turns += [Turn("user", (question,)), Turn("assistant", (capitalised(f"{seen(*drawn[which])}."),))]
    return Conversation("pictures over turns", tuple(turns))
