"""Phrases to repeat, names to remember and filler text, drawn from a seeded `Random`."""

# ruff: noqa: SIM905 -- word lists are easier to read and to change as text

from __future__ import annotations

import random

from demo import words

ONSETS = "b c ch d f g h j k l m n p qu r s sh t th v w z br cl dr gr pl st tr".split()
VOWELS = "a e i o u ai ea oo ou ia y".split()
ENDINGS = ["", "", "n", "r", "s", "l", "m", "t", "x", "ck", "nd"]
ALPHABETS = (
    "àáâäãåæçèéêëìíîïñòóôöõøùúûüýÿßœ",
    "абвгдежзийклмнопрстуфхцчшщъыьэюяАБВГДЕЖЗ",
    "αβγδεζηθικλμνξοπρστυφχψωΑΒΓΔΕ",
    "你好世界中国人大小日本語水火山月天地学生时间今明年爱",
    "こんにちはありがとうカタカナさようなら",
    "안녕하세요감사합니다",
    "😀😂🎉🚀❤🌍🐱🐶🍎⭐🔥👍🎈🌈🐍",
    "שלוםمرحبا",
)


def invented_word(rng: random.Random) -> str:
    """A word that can be said but means nothing."""
    return "".join(
        rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(ENDINGS) for _ in range(rng.choice([1, 2, 2, 3]))
    )


def invented_name(rng: random.Random) -> str:
    """A name nobody has."""
    return invented_word(rng).capitalize()


def foreign(rng: random.Random) -> str:
    """A few characters that the tokenizer can only write byte by byte."""
    if rng.random() < 0.3:
        ranges = ((0xC0, 0x24F), (0x391, 0x3C9), (0x410, 0x44F), (0x4E00, 0x9FA5), (0x3041, 0x30FA), (0xAC00, 0xD7A3),
                  (0x1F300, 0x1F64F))  # fmt: skip
        low, high = rng.choice(ranges)
        return "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 5)))
    letters = rng.choice(ALPHABETS)
    return "".join(rng.choice(letters) for _ in range(rng.randint(1, 6)))


def token(rng: random.Random, *, plain: bool) -> str:
    """One word of a phrase: known, invented, a number or, unless `plain`, a code or foreign."""
    kind = rng.random()
    if kind < 0.6:
        word = rng.choice(KNOWN)
        return word.capitalize() if rng.random() < 0.1 else word
    if kind < 0.8:
        word = invented_word(rng)
        return rng.choice([word, word, word.capitalize(), word.upper()]) if len(word) < 7 else word
    if kind < 0.88 or plain:
        return str(rng.randint(0, 10 ** rng.randint(1, 5)))
    if kind < 0.95:
        letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./#@+*=%&$"
        return "".join(rng.choice(letters) for _ in range(rng.randint(2, 7)))
    return foreign(rng)


def phrase(rng: random.Random) -> str:
    """One to twelve words, some with punctuation, some in other scripts."""
    kind = rng.random()
    if kind < 0.06:
        return " ".join(foreign(rng) for _ in range(rng.randint(1, 3)))
    parts = [token(rng, plain=kind < 0.5) for _ in range(rng.randint(1, 12))]
    if rng.random() < 0.12 and len(parts) > 2:
        parts.insert(rng.randrange(len(parts)), rng.choice(parts))
    if rng.random() < 0.4:
        for index in range(len(parts) - 1):
            if rng.random() < 0.15:
                parts[index] += rng.choice([",", ",", ";", ":", " -", "!", "?", "."])
    text = " ".join(parts)
    if rng.random() < 0.3:
        text = text[0].upper() + text[1:]
    if rng.random() < 0.4:
        text += rng.choice([".", ".", "!", "?"])
    if rng.random() < 0.05:
        text = f'"{text}"' if rng.random() < 0.5 else f"({text})"
    return text


def filler(rng: random.Random, word_count: int) -> str:
    """About `word_count` words of sentences that mean little."""
    lines: list[str] = []
    while word_count > 0:
        length = rng.randint(4, 12)
        chosen = [rng.choice(KNOWN) for _ in range(length)]
        if rng.random() < 0.5:
            chosen = (
                f"the {rng.choice(words.ADJECTIVES)} {rng.choice(words.NOUNS)} {rng.choice(words.VERBS)}s the "
                f"{rng.choice(words.NOUNS)} {rng.choice(['in', 'on', 'under', 'near', 'behind'])} the "
                f"{rng.choice(words.NOUNS)}"
            ).split()
        if rng.random() < 0.1:
            chosen.append(invented_word(rng))
        line = " ".join(chosen)
        lines.append(line[0].upper() + line[1:] + ".")
        word_count -= length
    if rng.random() < 0.15:
        lines = [lines[0]] * len(lines)
    return " ".join(lines)


KNOWN = [word for word in words.vocabulary() if word.islower()]
