"""One conversation with many endings: encoded once, then completed again and again with other words of the user."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from gemmad.errors import InvalidRequestError
from gemmad.generation import ImageSpan, Prompt
from gemmad.text.chat import encode_chat
from gemmad.text.checkpoint import TextModel
from gemmad.text.messages import ImagePart, Message, TextPart

_MARK = "\ue0ff"
"""Stands where the words go. It is in no vocabulary, so its tokens are bytes that belong to nothing beside it."""
_AROUND_IMAGE = "\n\n"

Words = tuple[TextPart | ImagePart, ...]


class Stem(Struct, frozen=True):
    """What stands before and after the words. All prompts of a stem begin with the same tokens, so they share pages."""

    before: Prompt
    after: tuple[int, ...]
    """Ends the user's turn and begins the model's."""

    def prompt(self, ending: Prompt) -> Prompt:
        """A prompt with these words in their place."""
        shift = len(self.before.token_ids)
        moved = (ImageSpan(span.start + shift, span.length, span.digest) for span in ending.images)
        token_ids = (*self.before.token_ids, *ending.token_ids, *self.after)
        return Prompt(token_ids, (*self.before.images, *moved))


def encode_stem(model: TextModel, messages: Sequence[Message], *, image_digests: Sequence[str] = ()) -> Stem:
    """The conversation, and the user's turn open at its end. Raises and takes its time as `encode_chat` does."""
    whole = encode_chat(model, (*messages, Message("user", (TextPart(_MARK),))), image_digests=image_digests)
    mark, ids = tuple(model.encode_plain([_MARK])[0]), whole.token_ids
    at = next((i for i in range(len(ids) - len(mark), -1, -1) if ids[i : i + len(mark)] == mark), None)
    if at is None or not mark:
        raise InvalidRequestError("The model's chat template does not say the user's last message as it is.")
    return Stem(Prompt(ids[:at], whole.images), ids[at + len(mark) :])


def encode_endings(
    model: TextModel, endings: Sequence[Words], *, image_digests: Sequence[Sequence[str]], params: Sequence[str]
) -> list[Prompt]:
    """The words of each ending by themselves, for `Stem.prompt`; an image stands as `encode_chat` has it.

    Each has its own digests, one for each of its images in their order, and the path of the field that is to blame for
    it. Raises InvalidRequestError, and ContextLengthError where no counting is needed.
    """
    for words, param in zip(endings, params, strict=True):
        _require_sane(model, words, param)
    runs = [_runs(words) for words in endings]
    encoded = iter(model.encode_plain([run for own in runs for run in own]))
    made: list[Prompt] = []
    for own, digests, param in zip(runs, image_digests, params, strict=True):
        made.append(_join(model, [next(encoded) for _ in own], digests, param))
    return made


def _require_sane(model: TextModel, words: Words, param: str) -> None:
    characters = 0
    for part in words:
        if isinstance(part, TextPart):
            characters += len(part.text)
        elif model.image_tokens is None:
            raise InvalidRequestError("This model takes no images.", param=param)
    model.require_fitting(characters, what="This alone has", param=param)


def _runs(words: Words) -> list[str]:
    """Text before, between and behind the images."""
    runs = [""]
    for part in words:
        if isinstance(part, TextPart):
            runs[-1] += part.text
        else:
            runs[-1] += _AROUND_IMAGE
            runs.append(_AROUND_IMAGE)
    runs[-1] = runs[-1].rstrip()
    return runs


def _join(model: TextModel, runs: Sequence[Iterable[int]], digests: Sequence[str], param: str) -> Prompt:
    forbidden = set(model.control.ids.values()) - {model.unknown_id}
    token_ids: list[int] = []
    spans: list[ImageSpan] = []
    for index, run in enumerate(runs):
        if index:
            image = model.image_tokens
            assert image is not None
            spans.append(ImageSpan(len(token_ids) + 1, image.count, digests[index - 1]))
            token_ids += [image.begin_id, *[image.soft_token_id] * image.count, image.end_id]
        if not forbidden.isdisjoint(run):
            raise InvalidRequestError("The text cannot be told from control tokens.", param=param)
        token_ids += run
    assert len(spans) == len(digests)
    return Prompt(tuple(token_ids), tuple(spans))
