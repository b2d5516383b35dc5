"""A request in Ollama's words as all dialects mean it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from gemmad.api.asks import Ask, Conversation, ImageAsked, Names, PlainText, Wishes
from gemmad.api.fields import json_text
from gemmad.api.ollama.schema import ChatRequest, GenerateRequest, MessageIn, Options, StreamedRequest, ToolIn
from gemmad.errors import InvalidRequestError
from gemmad.generation import Tool
from gemmad.grammar.spec import JsonObject, JsonSchema
from gemmad.text.messages import CallPart, ImagePart, Message, Part, ResultPart, TextPart

_NO_PARAMETERS = {"type": "object", "properties": {}}
_NAMES = Names(max_tokens="options.num_predict", grammar="format", tools="tools")


def chat_ask(request: ChatRequest, *, model: str, max_images: int) -> Ask:
    """Raises InvalidRequestError for what has no place in a conversation, and for too many images."""
    reader = Reader(max_images)
    messages = tuple(
        reader.message(message, f"messages[{index}]") for index, message in enumerate(request.messages or ())
    )
    return Ask(
        model=model,
        prompt=Conversation(messages, tuple(reader.images)),
        wishes=_wishes(request),
        tools=_tools(request.tools or []),
        grammar=_grammar(request),
        continue_final=messages[-1].role == "assistant",
        names=_NAMES,
    )


def generate_ask(request: GenerateRequest, *, model: str, max_images: int) -> Ask:
    """One turn, or with `raw` a text to go on with."""
    prompt: Conversation | PlainText
    if request.raw:
        if request.images:
            raise InvalidRequestError("A raw prompt has no place for images.", param="images")
        prompt = PlainText((request.system or "") + (request.prompt or ""))
    else:
        reader = Reader(max_images)
        system = (Message("system", (TextPart(request.system),)),) if request.system else ()
        parts = (*reader.pictures(request.images, "images"), TextPart(request.prompt or ""))
        prompt = Conversation((*system, Message("user", parts)), tuple(reader.images), param="prompt")
    return Ask(model=model, prompt=prompt, wishes=_wishes(request), grammar=_grammar(request), names=_NAMES)


class Reader:
    """Reads messages one after the other; it collects the images and knows which calls wait for their results."""

    def __init__(self, max_images: int) -> None:
        self._max_images = max_images
        self.images: list[ImageAsked] = []
        self._calls = 0
        self._open: list[tuple[str, str]] = []
        """Id and name."""

    def message(self, message: MessageIn, path: str) -> Message:
        """The pictures come before the words, as Ollama has them."""
        words = (TextPart(message.content),) if message.content else ()
        if message.images and message.role not in ("user", "tool"):
            raise InvalidRequestError(
                f"Images can be in messages of the user and of tools only, not of the {message.role}.",
                param=f"{path}.images",
            )
        shown = (*self.pictures(message.images, f"{path}.images"), *words)
        if message.role == "tool":
            return Message("tool", (self._result(message, path), *shown))
        if message.tool_calls and message.role != "assistant":
            raise InvalidRequestError("Calls of tools can be in messages of the assistant only.", param=path)
        return Message(message.role, (*shown, *self._called(message, path)))

    def pictures(self, images: list[str] | None, path: str) -> tuple[Part, ...]:
        """Raises InvalidRequestError when there are too many."""
        parts: list[Part] = []
        for index, encoded in enumerate(images or ()):
            param = f"{path}[{index}]"
            if len(self.images) == self._max_images:
                raise InvalidRequestError(f"A request can have {self._max_images} images at most.", param=param)
            parts.append(ImagePart(len(self.images)))
            self.images.append(ImageAsked(f"data:;base64,{encoded}", param))
        return tuple(parts)

    def _called(self, message: MessageIn, path: str) -> Iterator[CallPart]:
        for index, call in enumerate(message.tool_calls or ()):
            self._calls += 1
            call_id, name = call.id or f"call_{self._calls}", call.function.name
            self._open.append((call_id, name))
            here = f"{path}.tool_calls[{index}].function.arguments"
            yield CallPart(call_id, name, json_text(call.function.arguments or {}, param=here))

    def _result(self, message: MessageIn, path: str) -> ResultPart:
        """Ollama's clients need not say of which call: then it is the first that waits, of that name if one is said."""
        for call_id, name in self._open:
            if message.tool_call_id not in (None, "", call_id):
                continue
            if message.tool_call_id or message.tool_name in (None, "", name):
                self._open.remove((call_id, name))
                return ResultPart(call_id, name)
        raise InvalidRequestError("A result of a tool without its call.", param=path)


def _wishes(request: StreamedRequest) -> Wishes:
    options = request.options or Options()
    asked = options.num_predict or 0
    stop = options.stop or ()
    return Wishes(
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        min_p=options.min_p,
        frequency_penalty=options.frequency_penalty or 0.0,
        presence_penalty=options.presence_penalty or 0.0,
        repetition_penalty=options.repeat_penalty or 1.0,
        seed=None if options.seed == -1 else options.seed,
        max_tokens=asked if asked > 0 else None,
        shorten=True,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        logprobs=(request.top_logprobs or 0) if request.logprobs else None,
    )


def _tools(tools: list[ToolIn]) -> tuple[Tool, ...]:
    return tuple(
        Tool(
            name=tool.function.name,
            description=tool.function.description or "",
            parameters=json_text(
                tool.function.parameters or _NO_PARAMETERS, param=f"tools[{index}].function.parameters"
            ),
        )
        for index, tool in enumerate(tools)
    )


def _grammar(request: StreamedRequest) -> JsonObject | JsonSchema | None:
    if not request.format:
        return None
    if request.format == "json":
        return JsonObject()
    return JsonSchema(json_text(request.format, param="format"))
