"""What each token of a checkpoint says, in bytes, as a grammar reads it; and matchers over that vocabulary.

This is the tokenizer.json without its merges: in a grammar the model spells as it likes. The worker reads it too, so it
takes nothing here but msgspec, numpy and llguidance, and of gemmad's own nothing that knows more than files.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from msgspec import Struct

from gemmad.errors import CheckpointError

LIMITS = LLParserLimits(
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=100_000,
    step_max_items=25_000,
    max_items_in_row=2_000,
    max_lexer_states=30_000,
    max_grammar_size=250_000,
    verbose_errors=False,
)
"""What one grammar may take, the same in the daemon's check and in the worker: about 20 ms to begin, 8 ms for a mask at
the very worst, 1 kB for each of its lexer's states."""

_BYTE_TOKEN = re.compile("<0x([0-9A-Fa-f]{2})>")
_ASCII = 128


class _Model(Struct, frozen=True):
    vocab: dict[str, int]


class _Added(Struct, frozen=True):
    id: int
    content: str
    special: bool = False


class _Tokenizer(Struct, frozen=True):
    model: _Model
    added_tokens: tuple[_Added, ...] = ()


class Vocabulary:
    """The tokens of a checkpoint. Immutable."""

    def __init__(self, tokens: list[bytes], stop_token_ids: tuple[int, ...]) -> None:
        """`tokens`: for each id of the network what it says; nothing for one that no text may have."""
        self.stop_token_ids = stop_token_ids
        self.allowed = _bits(_says_something(tokens, stop_token_ids), len(tokens))
        """`[ceil(vocab / 32)]` int32: all ids that a mask may ever have."""
        self.tokenizer = LLTokenizer(
            TokenizerWrapper(_Words(tokens, stop_token_ids[0])), n_vocab=len(tokens), eos_token=list(stop_token_ids)
        )

    @classmethod
    def load(cls, folder: Path, *, vocab_size: int, stop_token_ids: tuple[int, ...]) -> Vocabulary:
        """Read a checkpoint's. `vocab_size` is the network's, which may be above the tokenizer's; without stop ids
        those of config.json count. Raises CheckpointError, which names the file."""
        path = folder / "tokenizer.json"
        try:
            file = msgspec.json.decode(path.read_bytes(), type=_Tokenizer)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path}: not a tokenizer with a vocabulary: {error}") from error
        stop_token_ids = stop_token_ids or _eos_ids(folder)
        if not stop_token_ids or max(stop_token_ids) >= vocab_size:
            raise CheckpointError(f"{folder}: stop ids {stop_token_ids} are none of the {vocab_size} tokens")
        return cls(_tokens(file, folder, vocab_size, frozenset(stop_token_ids)), stop_token_ids)

    def begin(self, source: str) -> LLMatcher:
        """A matcher at the beginning of `source`; whether that could be compiled it says itself. Lets other threads run
        meanwhile.

        Each is compiled for itself, milliseconds as a rule: copies of one share its lexer, so that what one reply says
        would cost, and could fail, another.
        """
        return LLMatcher(self.tokenizer, source, log_level=0, limits=LIMITS)


class _Words:
    """The tokens as the library asks for them."""

    bos_token_id = None
    special_token_ids: tuple[int, ...] = ()

    def __init__(self, tokens: list[bytes], eos_token_id: int) -> None:
        self.tokens = tokens
        self.eos_token_id = eos_token_id

    def __call__(self, text: str | bytes) -> list[int]:
        """Nobody tokenizes: sources say `no_forcing`."""
        return []


def _tokens(file: _Tokenizer, folder: Path, vocab_size: int, stops: frozenset[int]) -> list[bytes]:
    added = {token.content for token in file.added_tokens}
    control = {token.content for token in file.added_tokens if token.special} | _named(folder)
    template = _template(folder)
    control |= {content for content in added if content in template and not content.isspace()}
    silent = stops | _image_ids(folder)
    tokens = [b""] * vocab_size
    vocabulary = file.model.vocab
    words = [*vocabulary.items(), *((token.content, token.id) for token in file.added_tokens)]
    for word, token_id in words:
        if token_id < vocab_size and token_id not in silent and word not in control:
            tokens[token_id] = _said(word, vocabulary)
    return tokens


def _said(word: str, vocabulary: dict[str, int]) -> bytes:
    """A character that has a token of its own is not spelled in bytes."""
    byte = _BYTE_TOKEN.fullmatch(word)
    if byte is None:
        return word.replace("▁", " ").encode()
    value = int(byte[1], 16)
    spelled = chr(value) if value != ord(" ") else "▁"
    return b"" if value < _ASCII and spelled in vocabulary else bytes((value,))


def _named(folder: Path) -> set[str]:
    """Every token that the tokenizer's configuration has a name for."""
    names: set[str] = set()
    for path in (folder / "tokenizer_config.json", folder / "special_tokens_map.json"):
        for key, value in _read(path).items():
            content = value.get("content") if isinstance(value, dict) else value
            if key.endswith("_token") and isinstance(content, str):
                names.add(content)
    return names


def _image_ids(folder: Path) -> set[int]:
    keys = ("boi_token_index", "eoi_token_index", "image_token_index", "image_token_id", "bos_token_id", "pad_token_id")
    config = _read(folder / "config.json")
    return {config[key] for key in keys if isinstance(config.get(key), int)}


def _eos_ids(folder: Path) -> tuple[int, ...]:
    config = _read(folder / "config.json")
    nested = config.get("text_config")
    told = config.get("eos_token_id") or (nested.get("eos_token_id") if isinstance(nested, dict) else None)
    ids = told if isinstance(told, list) else [told]
    return tuple(token_id for token_id in ids if isinstance(token_id, int))


def _template(folder: Path) -> str:
    """The checkpoint's chat template, wherever it stands: tokens that it writes steer the model."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8", errors="replace")
    for name in ("chat_template.json", "tokenizer_config.json"):
        template = _read(folder / name).get("chat_template")
        if template:
            return str(template)
    return ""


def _read(path: Path) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):  # who needs the file says what is wrong with it
        return {}
    return found if isinstance(found, dict) else {}


def _says_something(tokens: list[bytes], stop_token_ids: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    says = np.fromiter(map(bool, tokens), dtype=np.bool_, count=len(tokens))
    says[list(stop_token_ids)] = True
    return says


def _bits(flags: npt.NDArray[np.bool_], count: int) -> npt.NDArray[np.int32]:
    words = np.zeros(-(-count // 32) * 4, dtype=np.uint8)
    packed = np.packbits(flags, bitorder="little")
    words[: len(packed)] = packed
    return words.view("<i4").astype(np.int32)
