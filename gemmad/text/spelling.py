"""What a single token is called where tokens themselves are told: beside log-probabilities and after tokenising."""

from __future__ import annotations

from msgspec import Struct
from tokenizers import Tokenizer

from gemmad.text.detokenizer import REPLACEMENT, TokenTexts


class Spelled(Struct, frozen=True):
    """A token by itself."""

    text: str
    """What it says; U+FFFD for a single byte of a character, its name for a token that says nothing."""
    bytes: bytes
    """UTF-8; of a single byte that byte."""
    characters: int | None
    """How many it adds to a reply; None for a single byte, which may complete one."""


class Spelling:
    """Looks each token up once. Ids that the tokenizer does not have are empty."""

    def __init__(self, tokenizer: Tokenizer, texts: TokenTexts) -> None:
        self._tokenizer = tokenizer
        self._texts = texts
        self._known: dict[int, Spelled] = {}

    def __getitem__(self, token_id: int) -> Spelled:
        known = self._known.get(token_id)
        if known is None:
            known = self._known[token_id] = self._spell(token_id)
        return known

    def _spell(self, token_id: int) -> Spelled:
        said = self._texts[token_id]
        if isinstance(said, int):
            return Spelled(chr(said) if said < 0x80 else REPLACEMENT, bytes((said,)), None)
        if said is None:
            name = self._tokenizer.id_to_token(token_id) or ""
            return Spelled(name, name.encode(), 0)
        return Spelled(said, said.encode(), len(said))
