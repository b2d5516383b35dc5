"""Token ids to text, as they come.

What comes out, put together, is what `Tokenizer.decode` makes of all ids at once, special tokens left out. In Gemma's
vocabulary a token is text (with ▁ for a space) or, where a character has no token, one byte of its UTF-8. Bytes in a
row are a run, and a run is decoded as a whole: all of it is valid, or each of its bytes is U+FFFD. So a run is held
until it ends or is known to be broken. Skipped tokens do not end it.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer

from gemmad.errors import CheckpointError

HELD_BYTES = 64
"""A longer valid run shows its whole characters before it ends, so that rare scripts still stream."""

REPLACEMENT = "\ufffd"

_BYTE_TOKEN = re.compile("<0x([0-9A-Fa-f]{2})>")
_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class TokenTexts:
    """What each token says: text, one byte (as an int), or None for one that is never shown. Looked up once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Raises CheckpointError for a decoder that works otherwise than Gemma's."""
        self._tokenizer = tokenizer
        self._special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
        self._replacements, self._has_bytes = _read_decoder(tokenizer)
        self._known: dict[int, str | int | None] = {}

    def __getitem__(self, token_id: int) -> str | int | None:
        try:
            return self._known[token_id]
        except KeyError:
            said = self._known[token_id] = self._look_up(token_id)
            return said

    def _look_up(self, token_id: int) -> str | int | None:
        token = self._tokenizer.id_to_token(token_id)
        if token is None or token in self._special:
            return None
        for pattern, content in self._replacements:
            token = token.replace(pattern, content)
        byte = _BYTE_TOKEN.fullmatch(token) if self._has_bytes else None
        return int(byte[1], 16) if byte else token


class Detokenizer:
    """The text of one reply, token by token; each costs the same however long the reply is."""

    def __init__(self, texts: TokenTexts) -> None:
        self._texts = texts
        self._utf8 = _Utf8Decoder()
        self._held = ""
        self._run_bytes = 0
        """Bytes of the current run that have not been shown."""
        self._run_is_broken = False

    @property
    def held(self) -> int:
        """Whole characters that are held back."""
        return len(self._held)

    def feed(self, token_ids: Sequence[int]) -> str:
        """The text that these tokens add, whole characters only."""
        shown: list[str] = []
        for token_id in token_ids:
            said = self._texts[token_id]
            if isinstance(said, int):
                shown.append(self._take_byte(said))
            elif said is not None:
                shown.append(self._end_run())
                shown.append(said)
        return "".join(shown)

    def finish(self) -> str:
        """What was held back, now that no more tokens come; a character that never became whole is U+FFFD a byte."""
        return self._end_run()

    def _take_byte(self, byte: int) -> str:
        if self._run_is_broken:
            return REPLACEMENT
        self._run_bytes += 1
        try:
            self._held += self._utf8.decode(bytes((byte,)))
        except UnicodeDecodeError:
            self._run_is_broken = True
            return self._replace_run()
        if self._run_bytes >= HELD_BYTES:
            shown, self._held = self._held, ""
            self._run_bytes -= len(shown.encode())
            return shown
        return ""

    def _end_run(self) -> str:
        if not self._run_bytes:
            self._run_is_broken = False
            return ""
        unfinished, _ = self._utf8.getstate()
        if unfinished:
            return self._replace_run()
        shown, self._held, self._run_bytes = self._held, "", 0
        return shown

    def _replace_run(self) -> str:
        shown = REPLACEMENT * self._run_bytes
        self._utf8.reset()
        self._held, self._run_bytes = "", 0
        return shown


def _read_decoder(tokenizer: Tokenizer) -> tuple[tuple[tuple[str, str], ...], bool]:
    """The replacements in each token, and whether there are byte tokens. Steps: Replace…, ByteFallback, Fuse."""
    decoder = json.loads(tokenizer.decoder.__getstate__()) if tokenizer.decoder is not None else {}
    steps: list[dict[str, Any]] = decoder.get("decoders", [decoder])
    kinds = " ".join(str(step.get("type")) for step in steps)
    if not re.fullmatch(r"Replace( Replace)*( ByteFallback)?( Fuse)?", kinds):
        raise CheckpointError(f"tokenizer.json: the decoder {kinds!r} is not Gemma's (Replace, ByteFallback, Fuse)")
    replacements = []
    for step in steps:
        if step["type"] == "Replace":
            if "String" not in step["pattern"]:
                raise CheckpointError("tokenizer.json: the decoder replaces a regular expression, not a string")
            replacements.append((step["pattern"]["String"], step["content"]))
    return tuple(replacements), "ByteFallback" in kinds
