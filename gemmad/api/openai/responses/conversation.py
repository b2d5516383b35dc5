"""From items to a conversation as the rooms below understand it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

from gemmad.api.asks import Conversation, ImageAsked
from gemmad.api.openai.responses.items import FunctionCall, FunctionCallOutput, InputImage, Item, Listed, Message
from gemmad.api.openai.responses.items import Part as ItemPart
from gemmad.api.openai.responses.tools import joined
from gemmad.errors import InvalidRequestError
from gemmad.text import messages as text
from gemmad.text.messages import CallPart, ImagePart, Part, ResultPart, TextPart


def conversation(items: Sequence[Listed], *, instructions: str | None, max_images: int) -> Conversation:
    """Calls belong to what the assistant said just before. Raises InvalidRequestError for results of no call, too many
    images, and nothing said at all."""
    if not items and instructions is None:
        raise InvalidRequestError(
            "Missing required parameter: 'input'.", param="input", code="missing_required_parameter"
        )
    _check_calls(items)
    talk = _Talk(max_images)
    if instructions is not None:
        talk.add("system", [TextPart(instructions)])
    for listed in items:
        talk.add_item(listed.item, listed.path)
    return Conversation(talk.messages(), tuple(talk.images), param="input")


def cuts(items: Sequence[Listed]) -> tuple[int, ...]:
    """Where a conversation can be cut so that what comes after stands on its own, ascending: never between a call and
    its result."""
    calls: dict[str, int] = {}
    opened = [0] * (len(items) + 2)
    for index, listed in enumerate(items):
        if isinstance(listed.item, FunctionCall):
            calls[listed.item.call_id] = index
        elif isinstance(listed.item, FunctionCallOutput) and listed.item.call_id in calls:
            opened[calls[listed.item.call_id] + 1] += 1
            opened[index + 1] -= 1
    return tuple(cut for cut, open_pairs in enumerate(accumulate(opened[: len(items)])) if not open_pairs)


def _check_calls(items: Iterable[Listed]) -> None:
    called: set[str] = set()
    for listed in items:
        if isinstance(listed.item, FunctionCall):
            called.add(listed.item.call_id)
        elif isinstance(listed.item, FunctionCallOutput) and listed.item.call_id not in called:
            raise InvalidRequestError(
                f"No tool call found for function call output with call_id {listed.item.call_id[:128]}.",
                param=f"{listed.path}.call_id",
            )


class _Talk:
    def __init__(self, max_images: int) -> None:
        self.images: list[ImageAsked] = []
        self._max_images = max_images
        self._messages: list[tuple[text.Role, list[Part]]] = []
        self._names: dict[str, str] = {}
        """Of functions, by call."""

    def messages(self) -> tuple[text.Message, ...]:
        return tuple(text.Message(role, tuple(parts)) for role, parts in self._messages)

    def add(self, role: text.Role, parts: list[Part]) -> None:
        self._messages.append((role, parts))

    def add_item(self, item: Item, path: str) -> None:
        match item:
            case Message(_, role, content):
                self.add("system" if role == "developer" else role, self._parts(content, f"{path}.content"))
            case FunctionCall(_, call_id, name, arguments):
                name = joined(item.namespace or None, name)
                self._names[call_id] = name
                call = CallPart(call_id, name, arguments)
                if self._messages and self._messages[-1][0] == "assistant":
                    self._messages[-1][1].append(call)
                else:
                    self.add("assistant", [call])
            case FunctionCallOutput(_, call_id, output):
                said: list[Part] = (
                    [TextPart(output)] if isinstance(output, str) else self._parts(output, f"{path}.output")
                )
                self.add("tool", [ResultPart(call_id, self._names[call_id]), *said])

    def _parts(self, content: Iterable[ItemPart], path: str) -> list[Part]:
        return [
            self._image(part, f"{path}[{index}].image_url") if isinstance(part, InputImage) else TextPart(part.text)
            for index, part in enumerate(content)
        ]

    def _image(self, image: InputImage, param: str) -> ImagePart:
        if len(self.images) == self._max_images:
            raise InvalidRequestError(f"A request can have {self._max_images} images at most.", param=param)
        self.images.append(ImageAsked(image.image_url, param))
        return ImagePart(len(self.images) - 1)
