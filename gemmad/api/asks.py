"""A request as all dialects mean it: what was said, what is wished for.

The routes translate into it, `admission` serves it.

Paths of fields are the client's own, so that an error can name one.
"""

from __future__ import annotations

from msgspec import Struct

from gemmad.errors import InvalidRequestError
from gemmad.generation import Tool, ToolChoice
from gemmad.grammar.spec import Spec
from gemmad.text.messages import Message, TextPart


class ImageAsked(Struct, frozen=True):
    """An image that a request shows, and the path of the field that says so."""

    url: str
    """`data:`, `http:` or `https:`."""
    param: str


class Conversation(Struct, frozen=True):
    """What was said. `ImagePart.index` counts through `images`."""

    messages: tuple[Message, ...]
    images: tuple[ImageAsked, ...] = ()
    param: str = "messages"
    """What the client calls it, for errors that are about all of it."""

    @property
    def characters(self) -> int:
        """Length of all its text."""
        return sum(len(part.text) for message in self.messages for part in message.parts if isinstance(part, TextPart))


class PlainText(Struct, frozen=True):
    """Text to go on with, without any template: after the checkpoint's beginning-of-text token."""

    text: str
    param: str = "prompt"


class TokenIds(Struct, frozen=True):
    """The prompt itself."""

    ids: tuple[int, ...]
    param: str = "prompt"


class Wishes(Struct, frozen=True, kw_only=True):
    """How to sample. None: the config's default, else the checkpoint's. Whoever fills it has checked the ranges."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    """0 and -1 are off."""
    min_p: float | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None
    """None: a random one."""
    max_tokens: int | None = None
    """None: what config and context leave."""
    shorten: bool = False
    """Whether a reply of fewer tokens will do where the context leaves fewer than `max_tokens`; else it is an error."""
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    """How many of the likeliest are told with each token; None: no log-probabilities."""


class Names(Struct, frozen=True, kw_only=True):
    """What the client's dialect calls what errors are about."""

    max_tokens: str = "max_tokens"
    logit_bias: str = "logit_bias"
    grammar: str = "response_format"
    tools: str = "tools"


class Ask(Struct, frozen=True, kw_only=True):
    """One request. Its choices differ in their seeds alone."""

    model: str
    """As it is reported: checked and settled by the route."""
    prompt: Conversation | PlainText | TokenIds
    wishes: Wishes = Wishes()
    n: int = 1
    priority: int = 0
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    """Without tools it means nothing."""
    grammar: Spec | None = None
    """What the reply is held to; with tools, one without calls. Never `Calls`: admission makes those."""
    continue_final: bool = False
    """Go on with the assistant's last message instead of a new turn."""
    names: Names = Names()

    def check(self) -> None:
        """Raises InvalidRequestError for what no dialect can mean."""
        if self.tool_choice.mode == "required" and not self.tools:
            raise InvalidRequestError("A call is required, and there are no tools.", param=self.names.tools)
