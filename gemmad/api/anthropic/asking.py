"""A request in Anthropic's words as all dialects mean it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from gemmad.api.anthropic.schema import (
    Base64Source,
    CountRequest,
    DocumentBlock,
    ImageBlock,
    MessageIn,
    MessagesRequest,
    OutputFormat,
    ResultBlock,
    SearchResultBlock,
    TextBlock,
    ToolChoiceIn,
    ToolIn,
    ToolResultBlock,
    ToolUseBlock,
)
from gemmad.api.asks import Ask, Conversation, ImageAsked, Names, Wishes
from gemmad.api.fields import json_text
from gemmad.errors import InvalidRequestError
from gemmad.generation import Tool, ToolChoice
from gemmad.grammar.spec import JsonSchema
from gemmad.text.messages import CallPart, ImagePart, Message, Part, ResultPart, TextPart

BILLING_LINE = "x-anthropic-billing-header:"
"""Claude Code begins its system blocks with a line for Anthropic's proxies, which differs from conversation to
conversation and request to request: said to the model it would part every prompt from the cached ones at its start."""
ERROR_WORD = "Error: "

_NAMES = Names(grammar="output_config.format.schema", tools="tools")


def counting_ask(request: CountRequest, *, model: str, max_images: int) -> Ask:
    """What `count_tokens` is asked about."""
    messages = Reader(max_images).read(request)
    return Ask(
        model=model,
        prompt=messages,
        tools=_tools(request.tools or []),
        tool_choice=_choice(request.tool_choice, request.tools or []),
        continue_final=messages.messages[-1].role == "assistant",
        names=_NAMES,
    )


def messages_ask(request: MessagesRequest, *, model: str, max_images: int) -> Ask:
    """Raises InvalidRequestError for what has no place in a conversation, and for too many images."""
    plain = counting_ask(request, model=model, max_images=max_images)
    return Ask(
        model=model,
        prompt=plain.prompt,
        wishes=Wishes(
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            seed=request.seed,
            max_tokens=request.max_tokens,
            shorten=True,
            stop=tuple(request.stop_sequences or ()),
        ),
        tools=plain.tools,
        tool_choice=plain.tool_choice,
        grammar=_grammar(request),
        continue_final=plain.continue_final,
        names=_NAMES if request.output_format is None else Names(grammar="output_format.schema", tools="tools"),
    )


class Reader:
    """Reads one conversation; it counts images and remembers the calls that wait for their results."""

    def __init__(self, max_images: int) -> None:
        self._max_images = max_images
        self._images: list[ImageAsked] = []
        self._open: dict[str, str] = {}
        """Ids of calls without a result, and where they stand."""

    def read(self, request: CountRequest) -> Conversation:
        """All that was said, the system's words first."""
        messages = [Message("system", (TextPart(text),)) for text in _system(request)]
        for index, message in enumerate(request.messages):
            path = f"messages[{index}].content"
            messages.extend(self._message(message, path))
            if message.role != "assistant":
                self._check_answered()
        self._check_answered()
        if not messages:
            raise InvalidRequestError("All messages are empty.", param="messages")
        return Conversation(tuple(messages), tuple(self._images))

    def _message(self, message: MessageIn, path: str) -> Iterator[Message]:
        """One message; of one with results, one for each of them and for the words before, between and after."""
        if isinstance(message.content, str):
            yield Message(message.role, (TextPart(message.content),))
            return
        parts: list[Part] = []
        for index, block in enumerate(message.content):
            here = f"{path}[{index}]"
            if isinstance(block, ToolResultBlock):
                self._require_role(message, "user", "results of tools", here)
                if parts:
                    yield Message(message.role, tuple(parts))
                    parts.clear()
                yield Message("tool", tuple(self._result(block, here)))
            elif isinstance(block, ToolUseBlock):
                self._require_role(message, "assistant", "calls of tools", here)
                self._open[block.id] = f"{here}.id"
                parts.append(CallPart(block.id, block.name, json_text(block.input, param=f"{here}.input")))
            elif isinstance(block, TextBlock):
                parts.append(TextPart(block.text))
            elif isinstance(block, ImageBlock | DocumentBlock | SearchResultBlock):
                self._require_role(message, "user", f"{block.type}s", here)
                parts.append(self._shown(block, here))
        if parts:
            yield Message(message.role, tuple(parts))

    def _result(self, block: ToolResultBlock, path: str) -> Iterator[Part]:
        if self._open.pop(block.tool_use_id, None) is None:
            raise InvalidRequestError(
                "A result of a tool without its call: each 'tool_result' answers a 'tool_use' of the message before.",
                param=f"{path}.tool_use_id",
            )
        yield ResultPart(block.tool_use_id)
        if block.is_error:
            yield TextPart(ERROR_WORD)
        if isinstance(block.content, str):
            yield TextPart(block.content)
            return
        for index, inner in enumerate(block.content or ()):
            yield self._shown(inner, f"{path}.content[{index}]")

    def _shown(self, block: ResultBlock, path: str) -> Part:
        if isinstance(block, TextBlock):
            return TextPart(block.text)
        if isinstance(block, DocumentBlock):
            return TextPart(_joined(block.title, block.context, block.source.data))
        if isinstance(block, SearchResultBlock):
            return TextPart(_joined(block.title, block.source, *(each.text for each in block.content)))
        return self._image(block, path)

    def _image(self, block: ImageBlock, path: str) -> ImagePart:
        source, is_base64 = block.source, isinstance(block.source, Base64Source)
        param = f"{path}.source.{'data' if is_base64 else 'url'}"
        if len(self._images) == self._max_images:
            raise InvalidRequestError(f"A request can have {self._max_images} images at most.", param=param)
        url = f"data:;base64,{source.data}" if isinstance(source, Base64Source) else source.url
        self._images.append(ImageAsked(url, param))
        return ImagePart(len(self._images) - 1)

    def _require_role(self, message: MessageIn, role: str, what: str, path: str) -> None:
        if message.role != role:
            raise InvalidRequestError(
                f"{what[:1].upper()}{what[1:]} can be in messages of the {role} only, not of the {message.role}.",
                param=path,
            )

    def _check_answered(self) -> None:
        for path in self._open.values():
            raise InvalidRequestError(
                "A call of a tool without its result: a 'tool_result' for each 'tool_use' must follow in the next "
                "message.",
                param=path,
            )


def _system(request: CountRequest) -> list[str]:
    if request.system is None:
        return []
    texts = [request.system] if isinstance(request.system, str) else [block.text for block in request.system]
    return [text for text in texts if not text.startswith(BILLING_LINE)]


def _joined(*texts: str | None) -> str:
    return "\n".join(text for text in texts if text)


def _tools(tools: list[ToolIn]) -> tuple[Tool, ...]:
    return tuple(
        Tool(
            name=tool.name,
            description=tool.description or "",
            parameters=json_text(tool.input_schema, param=f"tools[{index}].input_schema"),
            strict=tool.strict is True,
        )
        for index, tool in enumerate(tools)
    )


def _choice(choice: ToolChoiceIn | None, tools: list[ToolIn]) -> ToolChoice:
    if choice is None:
        return ToolChoice()
    parallel = choice.disable_parallel_tool_use is not True
    if choice.type == "tool":
        if choice.name not in {tool.name for tool in tools}:
            raise InvalidRequestError("No tool has the name that is chosen.", param="tool_choice.name")
        return ToolChoice(mode="required", allowed=(choice.name,), parallel=parallel)
    if choice.type == "any":
        return ToolChoice(mode="required", parallel=parallel)
    return ToolChoice(mode=choice.type, parallel=parallel)


def _grammar(request: MessagesRequest) -> JsonSchema | None:
    configured = request.output_config.format if request.output_config else None
    if configured is not None and request.output_format is not None:
        raise InvalidRequestError(
            "'output_format' is the older name of 'output_config.format': only one of them can be given.",
            param="output_format",
        )
    wanted: OutputFormat | None = configured or request.output_format
    if wanted is None:
        return None
    param = "output_config.format.schema" if configured else "output_format.schema"
    return JsonSchema(json_text(wanted.schema_, param=param), strict=True)
