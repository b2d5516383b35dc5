"""Telling the template's control tokens from typed ones."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.errors import InvalidRequestError
from gemmad.text.control import ControlTokens

TOKENS = ControlTokens({"<a>": 1, "<a>>": 2, "<ab>": 3, "[x]": 4, "<bos>": 5})

typed = st.text(alphabet="<>ab[x] \n\U000f0000\U000f0001", max_size=12)


def test_split_prefers_the_longest() -> None:
    """Of control tokens that begin at one place the longest counts."""
    assert TOKENS.split("1<a>>2<ab>[x]<a") == ["1", "<a>>", "2", "<ab>", "", "[x]", "<a"]


def test_no_tokens() -> None:
    """A tokenizer without control tokens splits nothing."""
    tokens = ControlTokens({})
    assert tokens.split("<a>") == ["<a>"]
    assert tokens.disguise(["<a>"]).texts == ("<a>",)


def test_ordinary_text_is_not_touched() -> None:
    """Text that is no part of a control token looks the same in disguise."""
    texts = ("if a < b and b > a: print('hi')", "", " [1]) ")
    assert TOKENS.disguise(texts).texts == texts


@given(texts=st.lists(typed, max_size=4))
def test_undo_gives_back_what_was_typed(texts: list[str]) -> None:
    """Disguise and back is the identity, private characters and all."""
    disguise = TOKENS.disguise(texts)
    assert [disguise.undo(text) for text in disguise.texts] == texts
    assert not any(disguise.spare in text for text in texts)


@given(
    texts=st.lists(typed, max_size=4),
    template=st.lists(st.sampled_from(["", "\n", "<", ">", "<a", "[", "<bos>"]), min_size=5, max_size=5),
    trims=st.booleans(),
)
def test_nothing_typed_becomes_a_token(texts: list[str], template: list[str], trims: bool) -> None:
    """No control token in a rendered text has a typed character, whatever the template writes beside it, or trims."""
    rendered, is_typed = template[0], [False] * len(template[0])
    for text, after in zip(TOKENS.disguise(texts).texts, template[1:], strict=False):
        said = text.strip() if trims else text
        rendered += said + after
        is_typed += [True] * len(said) + [False] * len(after)
    at = 0
    for number, piece in enumerate(TOKENS.split(rendered)):
        assert number % 2 == 0 or not any(is_typed[at : at + len(piece)])
        at += len(piece)


def test_nested() -> None:
    """A control token typed around another one is hidden as well, before and after what is inside is taken out."""
    (text,) = TOKENS.disguise(["<b<a>os>"]).texts
    assert TOKENS.split(text) == [text]


def test_private_characters_run_out() -> None:
    """Texts that use every private character are refused."""
    every = "".join(map(chr, (*range(0xE000, 0xF900), *range(0xF0000, 0xFFFFE), *range(0x100000, 0x10FFFE))))
    with pytest.raises(InvalidRequestError, match="private"):
        TOKENS.disguise([every])


def test_many_tokens_stay_cheap() -> None:
    """Thousands of control tokens with one beginning do not make hostile text slow."""
    tokens = ControlTokens({f"<unused{number}>": number for number in range(6000)})
    began = time.process_time()
    text = "<unused" * 50_000
    assert tokens.split(text) == [text]
    assert tokens.split("a<unused59>b<unused5999>c")[1::2] == ["<unused59>", "<unused5999>"]
    assert time.process_time() - began < 5
