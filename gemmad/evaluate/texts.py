"""From files to token ids."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from gemmad.errors import ConfigError
from gemmad.text.checkpoint import TextModel


def read_texts(paths: Iterable[Path]) -> str:
    """All of them, one behind the other. Raises ConfigError for one that is not there or not in UTF-8."""
    return "".join(_read(path) for path in paths)


def encode(model: TextModel, text: str) -> list[int]:
    """The text's ids. Control tokens in it count as such: a file of chats has a `<start_of_turn>` before each turn."""
    pieces = model.control.split(text)
    plain = iter(model.encode_plain(pieces[::2]))
    ids: list[int] = []
    for at, piece in enumerate(pieces):
        ids += next(plain) if at % 2 == 0 else [model.control.ids[piece]]
    return ids


def in_replies(model: TextModel, ids: Sequence[int]) -> list[bool]:
    """Of each token, whether it is said by the model in a text that is laid out as Gemma's chat template does: behind
    `<start_of_turn>model` and a line break, up to the end of the turn, which counts."""
    begins, ends = (model.control.ids.get(f"<{word}_of_turn>", -1) for word in ("start", "end"))
    head = [begins, *model.encode_plain(["model\n"])[0]]
    found, inside = [], False
    for at, token in enumerate(ids):
        inside = (inside or list(ids[max(0, at - len(head)) : at]) == head) and token != begins
        found.append(inside)
        inside = inside and token != ends
    return found


def made_up(vocab_size: int, *, tokens: int) -> list[int]:
    """Random ids, always the same."""
    chance = random.Random(0)  # noqa: S311 - token ids, not secrets
    return chance.choices(range(vocab_size), k=tokens)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not in UTF-8: {error}") from error
