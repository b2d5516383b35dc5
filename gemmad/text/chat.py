"""A conversation to token ids: as transformers' processor has it, except that nobody can type a control token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gemmad.errors import InvalidRequestError
from gemmad.generation import ImageSpan, Prompt
from gemmad.text.checkpoint import ImageTokens, TextModel
from gemmad.text.control import Disguise
from gemmad.text.messages import ImagePart, Message, TextPart
from gemmad.text.turns import settle

_AROUND_IMAGE = "\n\n"


def encode_chat(
    model: TextModel,
    messages: Sequence[Message],
    *,
    image_digests: Sequence[str] = (),
    continue_final: bool = False,
) -> Prompt:
    """The prompt for the model's next turn, or for more of its last one with `continue_final`.

    `image_digests` has one entry for each ImagePart, by its index. Takes time in proportion to the text: call it in a
    thread for a long one. Raises InvalidRequestError for what the template or the model cannot take, and
    ContextLengthError if the text is so long that no counting is needed.
    """
    if continue_final and (not messages or messages[-1].role != "assistant"):
        raise InvalidRequestError("Only a last message of the assistant can be continued.", param="messages")
    turns = settle(messages)
    images = [part for turn in turns for part in turn.parts if isinstance(part, ImagePart)]
    assert [part.index for part in images] == list(range(len(image_digests)))
    if images and model.image_tokens is None:
        raise InvalidRequestError("This model takes no images.", param="messages")
    rendered, disguise = _render(model, turns, continue_final)
    pieces = _lay_out(model, rendered, disguise)
    token_ids, starts = _encode(model, pieces)
    if len(starts) != len(images):
        raise InvalidRequestError(
            f"The model's chat template places {len(starts)} of {len(images)} images.", param="messages"
        )
    count = model.image_tokens.count if model.image_tokens else 0
    spans = (ImageSpan(start, count, digest) for start, digest in zip(starts, image_digests, strict=True))
    return Prompt(tuple(token_ids), tuple(spans))


def _render(model: TextModel, turns: Sequence[Message], continue_final: bool) -> tuple[str, Disguise]:
    """The template's text, in which every control token is the template's own."""
    disguise = model.control.disguise(part.text for turn in turns for part in turn.parts if isinstance(part, TextPart))
    texts = iter(disguise.texts)
    contents: list[list[dict[str, str]]] = [
        [
            {"type": "text", "text": next(texts)} if isinstance(part, TextPart) else {"type": "image"}
            for part in turn.parts
        ]
        for turn in turns
    ]
    blank = _mark_end(contents[-1], disguise.spare) if continue_final else ""
    rendered = model.template.render(
        [
            {"role": turn.role, "content": _simplify(content) if model.content_is_text else content}
            for turn, content in zip(turns, contents, strict=True)
        ],
        add_generation_prompt=not continue_final,
        **model.template_variables,
    )
    if continue_final:
        rendered = _cut_after(rendered, disguise.spare, blank)
    return rendered, disguise


def _simplify(content: list[dict[str, str]]) -> Any:
    """A message without images is a plain string: every template that takes strings understands it."""
    if any(part["type"] == "image" for part in content):
        return content
    return "".join(part["text"] for part in content)


def _mark_end(content: list[dict[str, str]], mark: str) -> str:
    """Puts `mark` and a space behind the message's last words; the white space that these end with."""
    if not content or content[-1]["type"] != "text":
        content.append({"type": "text", "text": ""})
    text = content[-1]["text"]
    content[-1]["text"] = f"{text}{mark} "
    return text[len(text.rstrip()) :]


def _cut_after(rendered: str, mark: str, blank: str) -> str:
    """The rendered text up to the words before `mark`; these lose their white space if the template trims it."""
    at = rendered.rfind(mark)
    if at < 0:
        raise InvalidRequestError("The model's chat template drops the last message.", param="messages")
    is_trimmed = rendered[at + 1 : at + 2] != " "
    return rendered[:at].removesuffix(blank) if is_trimmed else rendered[:at]


def _lay_out(model: TextModel, rendered: str, disguise: Disguise) -> Iterator[str | int | ImageTokens]:
    """Runs of plain text, control tokens' ids, and images, in order.

    The newlines around an image belong to the runs beside it: they are encoded together with the text that they touch.
    """
    run = ""
    for at, piece in enumerate(model.control.split(rendered)):
        if at % 2 == 0:
            run += disguise.undo(piece)
        elif model.image_tokens is not None and piece == model.image_tokens.begin:
            yield run + _AROUND_IMAGE
            yield model.image_tokens
            run = _AROUND_IMAGE
        else:
            yield run
            yield model.control.ids[piece]
            run = ""
    yield run


def _encode(model: TextModel, pieces: Iterator[str | int | ImageTokens]) -> tuple[list[int], list[int]]:
    """Token ids with one bos, and where each image's soft tokens start."""
    parts = [piece for piece in pieces if piece != ""]
    runs = [part for part in parts if isinstance(part, str)]
    encoded = iter(_encode_runs(model, runs))
    token_ids = [model.bos_id]
    starts: list[int] = []
    for part in parts:
        match part:
            case str():
                token_ids += next(encoded)
            case int():
                if token_ids != [part] or part != model.bos_id:
                    token_ids.append(part)
            case image:
                starts.append(len(token_ids) + 1)
                token_ids += [image.begin_id, *[image.soft_token_id] * image.count, image.end_id]
    if max(token_ids) >= model.vocab_size:
        raise InvalidRequestError("The model's chat template writes a token that it does not have.", param="messages")
    return token_ids, starts


def _encode_runs(model: TextModel, runs: Sequence[str]) -> list[list[int]]:
    model.require_fitting(sum(map(len, runs)), what="The messages have", param="messages")
    encoded = model.encode_plain(runs)
    forbidden = set(model.control.ids.values()) - {model.unknown_id}
    if not all(forbidden.isdisjoint(ids) for ids in encoded):
        raise InvalidRequestError("The messages have text that cannot be told from control tokens.", param="messages")
    return encoded
