"""Vocabularies to match with, and walks through a grammar."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

import gemmad.demo
from gemmad.grammar.check import check, write
from gemmad.grammar.matcher import Matcher
from gemmad.grammar.spec import Spec
from gemmad.grammar.vocabulary import Vocabulary

CHECKPOINT = Path(gemmad.demo.__file__).parent / "checkpoint"
VOCAB_SIZE = 2048
STOPS = (3, 6)


@functools.cache
def demo() -> Vocabulary:
    """The bundled model's own."""
    return Vocabulary.load(CHECKPOINT, vocab_size=VOCAB_SIZE, stop_token_ids=STOPS)


@functools.cache
def demo_texts() -> tuple[bytes, ...]:
    """What its tokens say."""
    return tuple(demo().tokenizer.decode_bytes([token_id]) for token_id in range(VOCAB_SIZE))


def begin(spec: Spec, *, param: str = "response_format") -> Matcher:
    """As daemon and worker together would. Raises InvalidRequestError."""
    source = write(spec, param=param)
    check(source, demo(), spec=spec, param=param)
    return Matcher(demo().begin(source), demo())


def row() -> npt.NDArray[np.int32]:
    """Room for one mask."""
    return np.zeros(VOCAB_SIZE // 32, dtype=np.int32)


def allowed(matcher: Matcher) -> list[int]:
    """Ids that may come next."""
    mask = row()
    matcher.fill(mask)
    return [int(token_id) for token_id in np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))]


def says(matcher: Matcher, text: str) -> str:
    """Feed a text byte for byte, or character for character where it has tokens; what is left where it got stuck."""
    ids = {said: token_id for token_id, said in enumerate(demo_texts()) if said and token_id in _plain_ids()}
    data = text.encode()
    while data:
        size = next(size for size in (4, 3, 2, 1) if data[:size] in ids and len(data) >= size)
        if not matcher.accept(ids[data[:size]]):
            return data.decode(errors="replace")
        data = data[size:]
    return ""


@functools.cache
def _plain_ids() -> frozenset[int]:
    bits = np.unpackbits(demo().allowed.view(np.uint8), bitorder="little")
    return frozenset(int(token_id) for token_id in np.flatnonzero(bits)) - set(STOPS)


def holds(spec: Spec, text: str) -> bool:
    """Whether a reply held to `spec` can be `text`."""
    matcher = begin(spec)
    return says(matcher, text) == "" and bool(set(STOPS) & set(allowed(matcher)))


Draw = Callable[[Sequence[int]], int]


def walk(matcher: Matcher, rng: random.Random, *, steps: int = 400) -> tuple[str, list[int], bool]:
    """Draw tokens until a stop id: the text, its ids, and whether it ended. It likes to end, and to close what is
    open, else a random walk opens brackets for ever."""
    texts = demo_texts()
    ids: list[int] = []
    for _ in range(steps):
        choices = allowed(matcher)
        assert choices
        closing = [i for i in choices if i in STOPS or texts[i].strip()[-1:] in (b"}", b"]", b'"')]
        drawn = rng.choice(closing if closing and rng.random() < 0.6 else choices)
        assert matcher.accept(drawn)
        if drawn in STOPS:
            return b"".join(texts[i] for i in ids).decode(), ids, True
        ids.append(drawn)
    return b"".join(texts[i] for i in ids).decode(errors="replace"), ids, False
