"""Write conversations in text of the bundled model's kind as the files that `gemmad evaluate` takes.

python tools/demo_chats.py --conversations 120 > chats.txt

They are held out: drawn from seeds that no training has seen. Each stands between the tokens of the chat template.
"""

from __future__ import annotations

import argparse
import random

from demo.conversations import Conversation, Lesson
from demo.lessons import LESSONS, draw_conversation
from demo.memory import recall_far, repeat_far
from demo.picture_lessons import one_picture, pictures_over_turns, several_pictures

SEED = 2_000_000
LEFT_OUT: tuple[Lesson, ...] = (one_picture, several_pictures, pictures_over_turns, recall_far, repeat_far)
"""Pictures are no text, and far means thousands of tokens."""


def rendered(conversation: Conversation) -> str:
    """As the chat template writes it, the last answer included."""
    system, turns = "", conversation.turns
    if turns[0].role == "system":
        system, turns = f"{text_of(turns[0].content)}\n\n", turns[1:]
    parts = ["<bos>"]
    for turn in turns:
        role = "model" if turn.role == "assistant" else turn.role
        parts.append(f"<start_of_turn>{role}\n{system}{text_of(turn.content)}<end_of_turn>\n")
        system = ""
    return "".join(parts)


def text_of(content: tuple[object, ...]) -> str:
    """All that is text."""
    return "".join(part for part in content if isinstance(part, str))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conversations", type=int, default=120)
    arguments = parser.parse_args()
    shares = {lesson: share for lesson, share in LESSONS.items() if lesson not in LEFT_OUT}
    for number in range(arguments.conversations):
        print(rendered(draw_conversation(random.Random(SEED + number), shares)), end="")


if __name__ == "__main__":
    main()
