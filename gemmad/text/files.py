"""A checkpoint's small files: what is read of each, and how it is said that one is missing or broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from gemmad.errors import CheckpointError

T = TypeVar("T")

Size = Annotated[int, Meta(ge=1)]
TokenId = Annotated[int, Meta(ge=0)]
TokenIds = TokenId | tuple[TokenId, ...] | None
Share = Annotated[float, Meta(ge=0, le=1)]

IMAGE_MODEL = "gemma3"
TEXT_MODEL = "gemma3_text"


class TextConfig(Struct, frozen=True):
    """The language model's part of config.json. Hub files rely on defaults: those of transformers' class."""

    vocab_size: Size = 262_208
    max_position_embeddings: Size = 131_072
    eos_token_id: TokenIds = None


class ModelConfig(TextConfig, frozen=True):
    """config.json. A text-only model has the language model's keys at the top."""

    model_type: str | None = None
    text_config: TextConfig | None = None
    mm_tokens_per_image: Size = 256
    boi_token_index: TokenId | None = None
    eoi_token_index: TokenId | None = None
    image_token_index: TokenId | None = None
    image_token_id: TokenId | None = None

    @property
    def text(self) -> TextConfig:
        """The language model's part, wherever it stands."""
        return self if self.model_type == TEXT_MODEL else self.text_config or TextConfig()


class GenerationConfig(Struct, frozen=True):
    """generation_config.json."""

    eos_token_id: TokenIds = None
    do_sample: bool | None = None
    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    top_p: Share | None = None
    min_p: Share | None = None


class _NamedTemplate(Struct, frozen=True):
    name: str
    template: str


class _TemplateHolder(Struct, frozen=True):
    """chat_template.json, and the key of the same name in tokenizer_config.json."""

    chat_template: str | tuple[_NamedTemplate, ...] | None = None


def read_model_config(folder: Path) -> ModelConfig:
    """config.json of a Gemma 3 model. Raises CheckpointError for any other."""
    path = folder / "config.json"
    raw = _read_json(path)
    model_type = raw.get("model_type")
    if model_type not in {IMAGE_MODEL, TEXT_MODEL}:
        raise CheckpointError(f"{path}: model_type is {model_type!r}, not {IMAGE_MODEL!r} or {TEXT_MODEL!r}")
    return _convert(path, raw, ModelConfig)


def read_generation_config(folder: Path) -> GenerationConfig:
    """generation_config.json, or silence where there is none. Raises CheckpointError if it is broken."""
    path = folder / "generation_config.json"
    return _convert(path, _read_json(path), GenerationConfig) if path.exists() else GenerationConfig()


def read_token_names(folder: Path) -> dict[str, str]:
    """What the tokenizer calls its tokens: `bos_token` → `<bos>`, …; nameless ones under names of their own."""
    names: dict[str, str] = {}
    for path in (folder / "special_tokens_map.json", folder / "tokenizer_config.json"):
        if path.name == "tokenizer_config.json" or path.exists():
            names.update(_collect_names(_read_json(path)))
    return names


def read_chat_template(folder: Path, override: Path | None) -> tuple[str, str]:
    """The template's source, and where it stands. Raises CheckpointError if there is none."""
    plain = override or folder / "chat_template.jinja"
    if override or plain.exists():
        return _read_text(plain), str(plain)
    for path in (folder / "chat_template.json", folder / "tokenizer_config.json"):
        if path.exists():
            source = _choose(path, _convert(path, _read_json(path), _TemplateHolder).chat_template)
            if source is not None:
                return source, f"{path}: chat_template"
    raise CheckpointError(
        f"{folder}: no chat template in chat_template.jinja, chat_template.json or tokenizer_config.json;"
        " name a Jinja file with model.chat_template"
    )


def _choose(path: Path, held: str | tuple[_NamedTemplate, ...] | None) -> str | None:
    if held is None or isinstance(held, str):
        return held
    templates = {entry.name: entry.template for entry in held}
    if len(templates) != 1 and "default" not in templates:
        raise CheckpointError(f"{path}: chat_template: none of {sorted(templates)} is called 'default'")
    return templates.get("default") or next(iter(templates.values()))


def _collect_names(raw: dict[str, Any]) -> dict[str, str]:
    extra = raw.get("extra_special_tokens") or {}
    nested = [raw, raw.get("model_specific_special_tokens") or {}, extra if isinstance(extra, dict) else {}]
    names = {key: _content_of(value) for held in nested for key, value in held.items() if key.endswith("_token")}
    listed = [*(raw.get("additional_special_tokens") or ()), *(extra if isinstance(extra, list) else ())]
    names.update({f"extra_{number}": _content_of(value) for number, value in enumerate(listed)})
    return {name: content for name, content in names.items() if content is not None}


def _content_of(token: Any) -> str | None:
    """A token is written as a string, or as an object with its content and flags."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) and content else None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from error


def _read_json(path: Path) -> dict[str, Any]:
    text = _read_text(path)
    try:
        raw = json.loads(text)  # not msgspec: files written by Python may hold NaN and integers over 64 bits
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    return raw


def _convert(path: Path, raw: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{path}: {error}") from error
