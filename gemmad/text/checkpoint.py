"""All that the daemon knows of a model: its tokenizer, its chat template, and the numbers that strings depend on.

Everything is read from the checkpoint's own files; no id and no length is known beforehand.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct
from tokenizers import AddedToken, Tokenizer

from gemmad.errors import CheckpointError, ContextLengthError, InvalidRequestError
from gemmad.text.control import ControlTokens
from gemmad.text.detokenizer import TokenTexts
from gemmad.text.files import (
    IMAGE_MODEL,
    GenerationConfig,
    ModelConfig,
    read_chat_template,
    read_generation_config,
    read_model_config,
    read_token_names,
)
from gemmad.text.spelling import Spelling
from gemmad.text.template import ChatTemplate

_PROBE = "xyzzy"


class GenerationDefaults(Struct, frozen=True):
    """How the checkpoint wants to be sampled; neutral where it is silent."""

    temperature: float = 1.0
    top_k: int = 0
    """0 is off."""
    top_p: float = 1.0
    min_p: float = 0.0


class ImageTokens(Struct, frozen=True):
    """How an image stands in a prompt: begin, `count` soft tokens that the pixels fill, end."""

    begin: str
    begin_id: int
    soft: str
    soft_token_id: int
    end: str
    end_id: int
    count: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TextModel:
    """A loaded checkpoint's text side. Immutable and thread-safe."""

    context_length: int
    """Tokens of prompt and reply that the model was trained for."""
    vocab_size: int
    stop_token_ids: tuple[int, ...]
    defaults: GenerationDefaults
    image_tokens: ImageTokens | None
    """None for a model that takes no images."""

    template: ChatTemplate
    template_variables: Mapping[str, str]
    content_is_text: bool
    """Whether the template takes a message's text as a string (or only as a list of parts)."""
    control: ControlTokens
    unknown_id: int | None
    bos_id: int
    texts: TokenTexts
    spelling: Spelling
    longest_token_chars: int | None
    """No token stands for more characters of a prompt; None if that is not certain."""
    tokenizer: Tokenizer
    """Encodes control tokens as plain text; nobody changes it."""

    @classmethod
    def load(cls, folder: Path, *, chat_template: Path | None = None) -> TextModel:
        """Reads a checkpoint in the hub's layout; `chat_template` is a Jinja file to use instead of its own.

        Raises CheckpointError, which names the file and what is wrong with it.
        """
        if not folder.is_dir():
            raise CheckpointError(f"{folder}: no such folder")
        config = read_model_config(folder)
        generation = read_generation_config(folder)
        names = read_token_names(folder)
        source, source_name = read_chat_template(folder, chat_template)
        template = ChatTemplate(source, name=source_name)
        lookup = _Lookup(folder, _read_tokenizer(folder), names)
        vocabulary = _list_vocabulary(lookup, config)
        stop_token_ids = _choose_stop_ids(lookup, config, generation)
        image_tokens = _find_image_tokens(lookup, config)
        control = _mark_control_tokens(lookup, stop_token_ids, image_tokens, template.literals)
        texts = TokenTexts(lookup.tokenizer)
        return cls(
            context_length=config.text.max_position_embeddings,
            vocab_size=config.text.vocab_size,
            stop_token_ids=stop_token_ids,
            defaults=_choose_defaults(generation),
            image_tokens=image_tokens,
            template=template,
            template_variables=names,
            content_is_text=_takes_text(template, names, source_name),
            control=control,
            unknown_id=lookup.tokenizer.token_to_id(names.get("unk_token", "")),
            bos_id=lookup.id_of_name("bos_token"),
            texts=texts,
            spelling=Spelling(lookup.tokenizer, texts),
            longest_token_chars=_measure_longest_token(lookup.tokenizer, vocabulary),
            tokenizer=lookup.tokenizer,
        )

    def require_fitting(self, characters: int, *, what: str, param: str) -> None:
        """Raises ContextLengthError if a text of so many characters is longer than the context however it is cut into
        tokens; `what` is how the text is called."""
        longest = self.longest_token_chars
        if longest is not None and characters > self.context_length * longest:
            raise ContextLengthError(
                f"This model's context length is {self.context_length} tokens. {what} at least"
                f" {-(-characters // longest)}.",
                param=param,
            )

    def encode_plain(self, runs: Sequence[str]) -> list[list[int]]:
        """Ids of texts in which nothing is a control token. Lets other threads run meanwhile."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(runs, add_special_tokens=False)]

    def decode(self, token_ids: Sequence[int], *, control_tokens: bool = False) -> str:
        """Text of all ids at once, with control tokens or without."""
        text: str = self.tokenizer.decode(list(token_ids), skip_special_tokens=not control_tokens)
        return text


class _Lookup(Struct, frozen=True):
    """A tokenizer, and the names that its configuration gives to tokens."""

    folder: Path
    tokenizer: Tokenizer
    names: dict[str, str]

    def id_of_name(self, name: str) -> int:
        """Raises CheckpointError if nothing has the name, or what has it is no token."""
        path = self.folder / "tokenizer_config.json"
        content = self.names.get(name)
        if content is None:
            raise CheckpointError(f"{path}: {name} is missing")
        token_id: int | None = self.tokenizer.token_to_id(content)
        if token_id is None:
            raise CheckpointError(f"{path}: {name} is {content!r}, which tokenizer.json does not have")
        return token_id

    def token_of_id(self, token_id: int, key: str) -> str:
        """Raises CheckpointError, naming the key of config.json that holds the id, if there is no such token."""
        token: str | None = self.tokenizer.id_to_token(token_id)
        if token is None:
            raise CheckpointError(
                f"{self.folder / 'config.json'}: {key} is {token_id}, which tokenizer.json does not have"
            )
        return token


def _read_tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; a checkpoint needs the tokenizer in this form")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise CheckpointError(f"{path}: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def _list_vocabulary(lookup: _Lookup, config: ModelConfig) -> dict[str, int]:
    vocabulary: dict[str, int] = lookup.tokenizer.get_vocab(with_added_tokens=False)
    if max(vocabulary.values(), default=0) >= config.text.vocab_size:
        raise CheckpointError(
            f"{lookup.folder / 'tokenizer.json'}: {len(vocabulary)} tokens, more than config.json's vocab_size of"
            f" {config.text.vocab_size}"
        )
    return vocabulary


def _choose_stop_ids(lookup: _Lookup, config: ModelConfig, generation: GenerationConfig) -> tuple[int, ...]:
    for chosen in (generation.eos_token_id, config.eos_token_id, config.text.eos_token_id):
        ids = (chosen,) if isinstance(chosen, int) else tuple(chosen or ())
        if ids:
            for token_id in ids:
                lookup.token_of_id(token_id, "eos_token_id")
            return tuple(dict.fromkeys(ids))
    return (lookup.id_of_name("eos_token"),)


def _find_image_tokens(lookup: _Lookup, config: ModelConfig) -> ImageTokens | None:
    """Begin and end are the tokenizer's, as for transformers' processor; the soft token is the model's."""
    if config.model_type != IMAGE_MODEL:
        return None
    begin_id = _choose_id(lookup, "boi_token", "boi_token_index", config.boi_token_index)
    end_id = _choose_id(lookup, "eoi_token", "eoi_token_index", config.eoi_token_index)
    soft_id = config.image_token_index if config.image_token_index is not None else config.image_token_id
    if soft_id is None:
        soft_id = lookup.id_of_name("image_token")
    if soft_id >= config.text.vocab_size:
        path = lookup.folder / "config.json"
        raise CheckpointError(f"{path}: image_token_index {soft_id} is outside vocab_size {config.text.vocab_size}")
    return ImageTokens(
        begin=lookup.token_of_id(begin_id, "boi_token_index"),
        begin_id=begin_id,
        soft=lookup.token_of_id(soft_id, "image_token_index"),
        soft_token_id=soft_id,
        end=lookup.token_of_id(end_id, "eoi_token_index"),
        end_id=end_id,
        count=config.mm_tokens_per_image,
    )


def _choose_id(lookup: _Lookup, name: str, key: str, configured: int | None) -> int:
    if name in lookup.names or configured is None:
        return lookup.id_of_name(name)
    lookup.token_of_id(configured, key)
    return configured


def _mark_control_tokens(
    lookup: _Lookup, stop_token_ids: Sequence[int], image_tokens: ImageTokens | None, literals: str
) -> ControlTokens:
    """Makes special, in the tokenizer too, what has a name, ends a turn, frames an image or is in the template's text.

    Checkpoints differ in what they flag. Spaces and newlines can be added tokens as well, but steer nothing.
    """
    tokenizer = lookup.tokenizer
    steering = {*lookup.names.values(), *(lookup.token_of_id(token_id, "eos_token_id") for token_id in stop_token_ids)}
    if image_tokens is not None:
        steering |= {image_tokens.begin, image_tokens.soft, image_tokens.end}
    for token in tokenizer.get_added_tokens_decoder().values():
        if token.special or (token.content in literals and not token.content.isspace()):
            steering.add(token.content)
    ids: dict[str, int] = {}
    for content in sorted(steering):
        token_id: int | None = tokenizer.token_to_id(content)
        if token_id is not None:
            ids[content] = token_id
    tokenizer.add_special_tokens([AddedToken(content, special=True, normalized=False) for content in ids])
    return ControlTokens(ids)


def _takes_text(template: ChatTemplate, variables: Mapping[str, str], name: str) -> bool:
    """Tries the template, so that one that cannot work is found before a request finds it."""
    reason = "the text is not in what it writes"
    for content in (_PROBE, [{"type": "text", "text": _PROBE}]):
        try:
            rendered = template.render([{"role": "user", "content": content}], add_generation_prompt=True, **variables)
        except InvalidRequestError as error:
            reason = error.message
            continue
        if _PROBE in rendered:
            return isinstance(content, str)
    raise CheckpointError(f"{name}: does not render a user's message: {reason}")


def _measure_longest_token(tokenizer: Tokenizer, vocabulary: Mapping[str, int]) -> int | None:
    """Certain only where each character ends up in some token: none is dropped, no unknown ones are fused."""
    normalizer = json.loads(tokenizer.normalizer.__getstate__()) if tokenizer.normalizer is not None else None
    keeps_length = normalizer is None or (
        normalizer["type"] == "Replace" and len(normalizer["pattern"].get("String", "")) == len(normalizer["content"])
    )
    has_bytes = all(f"<0x{byte:02X}>" in vocabulary for byte in range(256))
    if not (keeps_length and has_bytes and getattr(tokenizer.model, "byte_fallback", False)):
        return None
    added = (token.content for token in tokenizer.get_added_tokens_decoder().values())
    return max(map(len, itertools.chain(vocabulary, added)))


def _choose_defaults(generation: GenerationConfig) -> GenerationDefaults:
    neutral = GenerationDefaults()
    temperature = 0.0 if generation.do_sample is False else generation.temperature
    return GenerationDefaults(
        temperature=neutral.temperature if temperature is None else temperature,
        top_k=neutral.top_k if generation.top_k is None else generation.top_k,
        top_p=neutral.top_p if generation.top_p is None else generation.top_p,
        min_p=neutral.min_p if generation.min_p is None else generation.min_p,
    )
