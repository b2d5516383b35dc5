"""Lessons of remembering: what was told in an earlier turn, behind a long text or in the system message."""

from __future__ import annotations

import random
from dataclasses import dataclass

from demo import words
from demo.conversations import Conversation, Turn, dialogue
from demo.phrases import filler, invented_name, phrase
from demo.talk import REPEAT_ORDERS, aside

#: Lengths of the long prompts, in words; most are short, as long ones cost most of the time.
FILLER_WORDS = (20, 20, 20, 40, 40, 40, 40, 80, 80, 80, 80, 120, 120, 120, 160, 160, 320, 320, 640)


def repeat_far(rng: random.Random) -> Conversation:
    """Repeat something behind, or named before, a long text."""
    text = phrase(rng)
    story = filler(rng, rng.choice(FILLER_WORDS))
    order = rng.choice(REPEAT_ORDERS[:9]).format(text)
    if rng.random() < 0.6:
        return dialogue(
            "long prompt: repeat", [(f"Here is a text: {story}{rng.choice([' ', chr(10), chr(10) * 2])}{order}", text)]
        )
    opening = dialogue("", [(f"Here is a text: {story}", "I have read it.")]).turns
    return Conversation("long prompt: repeat", (*opening, Turn("user", (order,)), Turn("assistant", (text,))))


@dataclass(frozen=True)
class Fact:
    """Something to remember: how it is told, what the model says to it, how it is asked for and answered."""

    topic: str
    told: str
    noted: str
    asked: str
    answer: str


def fact(rng: random.Random) -> Fact:
    """A name, a favourite or a code."""
    kind = rng.random()
    if kind < 0.45:
        name = invented_name(rng) if rng.random() < 0.5 else rng.choice(words.NAMES)
        told = rng.choice(["My name is {}.", "My name is {}", "I am {}.", "Hello, my name is {}.", "Hi! My name is {}.",
                           "I'm {}.", "Please call me {}.", "Hi, I am {}."]).format(name)  # fmt: skip
        asked = rng.choice(["What is my name?", "What is my name?", "What's my name?", "Do you remember my name?",
                            "Who am I?", "What was my name?", "Tell me my name."])  # fmt: skip
        return Fact("name", told, f"Nice to meet you, {name}.", asked, f"Your name is {name}.")
    if kind < 0.8:
        topic, choices = rng.choice([
            ("colour", words.COLOURS + words.OTHER_COLOURS), ("color", words.COLOURS + words.OTHER_COLOURS),
            ("food", words.FOODS), ("animal", words.ANIMALS), ("city", list(words.CAPITALS.values())),
            ("number", [str(rng.randint(1, 999))]), ("word", rng.sample(words.NOUNS, 5)),
        ])  # fmt: skip
        thing = rng.choice(choices)
        asked = rng.choice([f"What is my favourite {topic}?", f"What is my favourite {topic}?",
                            f"Do you remember my favourite {topic}?", f"Which {topic} do I like?"])  # fmt: skip
        if topic == "color":
            asked = asked.replace("favourite", "favorite")
        said = asked if "favorite" in asked else ""
        told = f"My {'favorite' if said else 'favourite'} {topic} is {thing}."
        return Fact(
            topic.replace("color", "colour"),
            told,
            "I will remember that.",
            asked,
            f"Your favourite {topic} is {thing}.",
        )
    label = rng.choice(["code", "secret code", "password", "secret word", "number"])
    secret = rng.choice([str(rng.randint(0, 99999)), rng.choice(words.vocabulary()), invented_name(rng).upper(),
                         f"{rng.choice(words.NOUNS)}{rng.randint(1, 99)}"])  # fmt: skip
    told = rng.choice([f"The {label} is {secret}.", f"Remember this: the {label} is {secret}.",
                       f"Remember that the {label} is {secret}."])  # fmt: skip
    asked = rng.choice([f"What is the {label}?", f"What was the {label}?", f"Tell me the {label}."])
    return Fact(label.split()[-1], told, "I will remember that.", asked, f"The {label} is {secret}.")


def recall(rng: random.Random) -> Conversation:
    """Something told in one turn and asked for in a later one, other talk between."""
    known = fact(rng)
    exchanges = [aside(rng) for _ in range(rng.choice([0, 0, 0, 1]))]
    exchanges.append((known.told, known.noted))
    other = fact(rng)
    if other.topic != known.topic and rng.random() < 0.4:
        exchanges.append((other.told, other.noted))
        if rng.random() < 0.5:
            exchanges[-2:] = exchanges[-1:] + exchanges[-2:-1]
    exchanges += [aside(rng) for _ in range(rng.choice([0, 1, 1, 2, 3]))]
    exchanges.append((known.asked, known.answer))
    return dialogue("recall", exchanges)


def recall_far(rng: random.Random) -> Conversation:
    """Something told before a long text and asked for behind it."""
    known = fact(rng)
    story = filler(rng, rng.choice(FILLER_WORDS))
    if rng.random() < 0.5:
        text = f"{known.told} Here is a text: {story}{rng.choice([' ', chr(10), chr(10) * 2])}{known.asked}"
        return dialogue("long prompt: recall", [(text, known.answer)])
    exchanges = [
        (known.told, known.noted),
        (f"Here is a text: {story}", "I have read it."),
        (known.asked, known.answer),
    ]
    return dialogue("long prompt: recall", exchanges)


def called(rng: random.Random) -> Conversation:
    """A name given to the model in the system message."""
    name = invented_name(rng) if rng.random() < 0.4 else rng.choice(words.NAMES)
    system = rng.choice(["You are called {}.", "Your name is {}.", "You are {}.", "You are called {}. Answer briefly.",
                         "You are a helpful assistant called {}.", "You are {}, a helpful assistant."])  # fmt: skip
    asked = rng.choice(["What is your name?", "Who are you?", "What's your name?", "What are you called?"])
    exchanges = [aside(rng) for _ in range(rng.choice([0, 0, 1, 2]))] + [(asked, f"My name is {name}.")]
    return dialogue("name from the system message", exchanges, system=system.format(name))
