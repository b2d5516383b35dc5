"""Token ids to text, as they come."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders

from gemmad.demo import CHECKPOINT
from gemmad.errors import CheckpointError
from gemmad.text.detokenizer import HELD_BYTES, REPLACEMENT, Detokenizer, TokenTexts

TOKENIZER = Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))
TEXTS = TokenTexts(TOKENIZER)
VOCABULARY = TOKENIZER.get_vocab()
BYTES = [VOCABULARY[f"<0x{byte:02X}>"] for byte in range(256)]
SPECIAL = [token_id for token_id, token in TOKENIZER.get_added_tokens_decoder().items() if token.special]

any_ids = st.integers(min_value=0, max_value=TOKENIZER.get_vocab_size() + 20)
ids = st.lists(
    st.one_of(any_ids, st.sampled_from(BYTES), st.sampled_from(BYTES[0xC0:]), st.sampled_from(SPECIAL)), max_size=40
)
texts = st.lists(
    st.one_of(st.text(), st.sampled_from(["▁", "  ", " a", "👩‍👩‍👧", "日本語", "\n\n", "é", "𒀀𒀁", "x"]))
).map("".join)


def bytes_of(text: str) -> list[int]:
    """The text, all of it as byte tokens."""
    return [BYTES[byte] for byte in text.encode()]


def decode_in_pieces(token_ids: list[int], cuts: list[int]) -> list[str]:
    detokenizer = Detokenizer(TEXTS)
    bounds = [0, *sorted(cut % (len(token_ids) + 1) for cut in cuts), len(token_ids)]
    return [*(detokenizer.feed(token_ids[start:end]) for start, end in pairwise(bounds)), detokenizer.finish()]


@given(token_ids=ids, cuts=st.lists(st.integers(min_value=0)))
def test_same_as_decoding_all_at_once(token_ids: list[int], cuts: list[int]) -> None:
    """Any ids, unknown and special ones and stray bytes among them, in any pieces, say what the tokenizer says."""
    assert "".join(decode_in_pieces(token_ids, cuts)) == TOKENIZER.decode(token_ids, skip_special_tokens=True)


@given(text=texts, cuts=st.lists(st.integers(min_value=0)))
def test_text_comes_back(text: str, cuts: list[int]) -> None:
    """Text that was encoded comes back, but for the tokenizer's own confusion of ▁ and space."""
    token_ids = TOKENIZER.encode(text, add_special_tokens=False).ids
    assert "".join(decode_in_pieces(token_ids, cuts)) == TOKENIZER.decode(token_ids, skip_special_tokens=True)
    if "<" not in text:
        assert TOKENIZER.decode(token_ids) == text.replace("▁", " ")


@given(text=texts)
def test_never_half_a_character(text: str) -> None:
    """Valid text, fed byte by byte, never shows a replacement character."""
    detokenizer = Detokenizer(TEXTS)
    shown = [detokenizer.feed((token_id,)) for token_id in bytes_of(text)]
    shown.append(detokenizer.finish())
    assert "".join(shown) == text
    assert not any(REPLACEMENT in piece for piece in shown) or REPLACEMENT in text


def test_leading_space_stays() -> None:
    """A first token that begins with a space keeps it."""
    (token_id, *_) = TOKENIZER.encode(" the", add_special_tokens=False).ids
    assert Detokenizer(TEXTS).feed((token_id,)).startswith(" ")


def test_run_ends_with_text() -> None:
    """A character spread over byte tokens comes out with the first token that is text again."""
    detokenizer = Detokenizer(TEXTS)
    letter = VOCABULARY["x"]
    shown = [detokenizer.feed((token_id,)) for token_id in (*bytes_of("😀"), letter)]
    assert shown == ["", "", "", "", "😀x"]


def test_special_inside_a_run() -> None:
    """A skipped token between two bytes of a character does not break it."""
    first, *rest = bytes_of("é")
    detokenizer = Detokenizer(TEXTS)
    assert detokenizer.feed((first, SPECIAL[0], *rest)) + detokenizer.finish() == "é"


def test_broken_run_shows_at_once() -> None:
    """Bytes that can become no character are U+FFFD each, and so is the rest of their run."""
    detokenizer = Detokenizer(TEXTS)
    shown = [detokenizer.feed((BYTES[byte],)) for byte in (0xE2, 0x82, 0x41, 0x42)]
    assert shown == ["", "", REPLACEMENT * 3, REPLACEMENT]


def test_unfinished_character() -> None:
    """A reply that ends within a character ends with U+FFFD, once."""
    detokenizer = Detokenizer(TEXTS)
    assert detokenizer.feed(bytes_of("é")[:1]) == ""
    assert detokenizer.finish() == REPLACEMENT
    assert detokenizer.finish() == ""


def test_long_run_streams() -> None:
    """A run of bytes longer than what is held shows its whole characters before it ends."""
    text = "𒀀" * HELD_BYTES
    detokenizer = Detokenizer(TEXTS)
    shown = [detokenizer.feed((token_id,)) for token_id in bytes_of(text)]
    assert "".join(shown) == text
    assert max(map(len, shown)) == HELD_BYTES // 4


def test_long_run_that_breaks() -> None:
    """What a long run has shown stays; only the rest of it becomes U+FFFD."""
    text = "𒀀" * HELD_BYTES
    detokenizer = Detokenizer(TEXTS)
    shown = detokenizer.feed([*bytes_of(text), BYTES[0xF0], BYTES[0x41]]) + detokenizer.finish()
    assert shown == text + REPLACEMENT * 2


@pytest.mark.parametrize("decoder", [None, decoders.ByteLevel(), decoders.Sequence([decoders.Strip(" ", 1, 0)])])
def test_refuses_other_decoders(decoder: decoders.Decoder | None) -> None:
    """A tokenizer that puts text together otherwise is refused instead of being shown wrongly."""
    other = Tokenizer.from_str(TOKENIZER.to_str())
    other.decoder = decoder
    with pytest.raises(CheckpointError, match="decoder"):
        TokenTexts(other)


def test_refuses_pattern_replacement() -> None:
    """A decoder that replaces by a regular expression is refused."""
    spec = json.loads((CHECKPOINT / Path("tokenizer.json")).read_text())
    spec["decoder"]["decoders"][0]["pattern"] = {"Regex": "▁+"}
    with pytest.raises(CheckpointError, match="regular expression"):
        TokenTexts(Tokenizer.from_str(json.dumps(spec)))
