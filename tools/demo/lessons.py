"""The course: every lesson with its share.

Each lesson draws one conversation from a seeded `Random`; a held-out sample is the same call with another seed: its
phrases, invented names and pictures are then ones never seen.
"""

from __future__ import annotations

import random

from demo.conversations import Conversation, Lesson, Turn, dialogue
from demo.memory import called, recall, recall_far, repeat_far
from demo.picture_lessons import one_picture, pictures_over_turns, several_pictures
from demo.talk import (
    SYSTEM_MESSAGES,
    addition,
    aside,
    chat,
    count,
    first_words,
    json_object,
    repeat,
    small_talk,
    story,
    trivia,
    unknown,
)

#: Each lesson with its share of the samples.
LESSONS: dict[Lesson, float] = {
    one_picture: 16, several_pictures: 14, pictures_over_turns: 4, repeat: 16, repeat_far: 3, recall: 12, recall_far: 3,
    called: 4, count: 8, addition: 4, small_talk: 4, story: 2, trivia: 6, json_object: 2, unknown: 6, chat: 6,
}  # fmt: skip
#: The shares of the last phase: more of what is learnt word by word.
POLISH: dict[Lesson, float] = {
    **LESSONS, one_picture: 10, several_pictures: 13, first_words: 34, repeat_far: 5, recall: 9, recall_far: 4,
    count: 5, addition: 2, trivia: 2, json_object: 6, unknown: 3, chat: 4,
}  # fmt: skip


def draw_conversation(rng: random.Random, shares: dict[Lesson, float] = LESSONS) -> Conversation:
    """One sample of the course, sometimes under a system message that asks for nothing or behind other talk."""
    lesson = rng.choices(list(shares), weights=list(shares.values()))[0]
    conversation = lesson(rng)
    turns = conversation.turns
    if turns[0].role == "system":
        return conversation
    if len(turns) == 2 and lesson is not repeat_far and rng.random() < 0.2:
        turns = (*dialogue("", [aside(rng) for _ in range(rng.choice([1, 1, 2, 3]))]).turns, *turns)
    if rng.random() < 0.12:
        turns = (Turn("system", (rng.choice(SYSTEM_MESSAGES),)), *turns)
    return Conversation(conversation.task, turns)
