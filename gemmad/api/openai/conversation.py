"""A chat request as all dialects mean it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from gemmad.api.asks import Ask, Conversation, ImageAsked, Names, Wishes
from gemmad.api.fields import json_text
from gemmad.api.openai.chat_schema import ChatMessage, ChatRequest, FunctionTool, ImageContent, NamedTool, TextContent
from gemmad.errors import InvalidRequestError
from gemmad.generation import Tool, ToolChoice
from gemmad.text.messages import CallPart, ImagePart, Message, Part, ResultPart, TextPart


def chat_ask(chat: ChatRequest, *, model: str, max_images: int) -> Ask:
    """Raises InvalidRequestError that names the field at fault."""
    grammar, param = chat.hold()
    newer = chat.max_completion_tokens is not None and _max_tokens(chat) == chat.max_completion_tokens
    return Ask(
        model=model,
        prompt=conversation(chat, max_images=max_images),
        wishes=_wishes(chat),
        n=chat.n or 1,
        priority=chat.priority or 0,
        tools=tuple(_tool(tool, index) for index, tool in enumerate(chat.tools or ())),
        tool_choice=_tool_choice(chat),
        grammar=grammar,
        continue_final=_goes_on(chat),
        names=Names(max_tokens="max_completion_tokens" if newer else "max_tokens", grammar=param),
    )


def conversation(chat: ChatRequest, *, max_images: int) -> Conversation:
    """Raises InvalidRequestError for what a message of its role must have and has not, or cannot have."""
    images: list[ImageAsked] = []
    messages: list[Message] = []
    for index, message in enumerate(chat.messages):
        path = f"messages[{index}]"
        _check(message, path)
        role = "system" if message.role == "developer" else message.role
        parts = (*_result(message), *_contents(message, f"{path}.content", images, max_images), *_calls(message))
        messages.append(Message(role, parts))
    return Conversation(tuple(messages), tuple(images))


def _check(message: ChatMessage, path: str) -> None:
    if message.content is None and not message.tool_calls:
        if "content" in message.model_fields_set:
            words, code = f"Invalid value for '{path}.content': expected a string or an array of parts.", "invalid_type"
        else:
            words, code = f"Missing required parameter: '{path}.content'.", "missing_required_parameter"
        raise InvalidRequestError(words, param=f"{path}.content", code=code)
    if message.tool_calls and message.role != "assistant":
        words = f"Invalid value for '{path}.tool_calls': only the assistant makes calls."
        raise InvalidRequestError(words, param=f"{path}.tool_calls", code="invalid_value")
    if message.role == "tool" and not message.tool_call_id:
        param = f"{path}.tool_call_id"
        raise InvalidRequestError(
            f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
        )


def _result(message: ChatMessage) -> Iterator[Part]:
    if message.role == "tool":
        assert message.tool_call_id is not None
        yield ResultPart(message.tool_call_id)


def _calls(message: ChatMessage) -> Iterator[Part]:
    for call in message.tool_calls or ():
        yield CallPart(call.id, call.function.name, call.function.arguments)


def _contents(message: ChatMessage, path: str, images: list[ImageAsked], max_images: int) -> Iterator[Part]:
    if isinstance(message.content, str):
        yield TextPart(message.content)
        return
    for index, part in enumerate(message.content or ()):
        if isinstance(part, TextContent):
            yield TextPart(part.text)
        elif isinstance(part, ImageContent):
            param = f"{path}[{index}].image_url.url"
            if message.role not in ("user", "tool"):
                raise InvalidRequestError(
                    f"Images can be in messages of the user and of tools only, not of the {message.role}.", param=param
                )
            if len(images) == max_images:
                raise InvalidRequestError(f"A request can have {max_images} images at most.", param=param)
            images.append(ImageAsked(part.image_url.url, param))
            yield ImagePart(len(images) - 1)
        else:
            yield TextPart(part.refusal)


def _tool(tool: FunctionTool, index: int) -> Tool:
    function, param = tool.function, f"tools[{index}].function.parameters"
    made = Tool(function.name, function.description or "", strict=function.strict is True)
    if function.parameters is None:
        return made
    return Tool(made.name, made.description, json_text(function.parameters, param=param), made.strict)


def _tool_choice(chat: ChatRequest) -> ToolChoice:
    """One function by its name is one call, unless several are asked for."""
    parallel = chat.parallel_tool_calls
    match chat.tool_choice:
        case None:
            return ToolChoice(parallel=parallel is not False)
        case str() as mode:
            return ToolChoice(mode, parallel=parallel is not False)
        case NamedTool(function=named):
            return ToolChoice("required", (named.name,), parallel is True)
        case choice:
            allowed = choice.allowed_tools
            names = tuple(dict.fromkeys(tool.function.name for tool in allowed.tools))
            return ToolChoice(allowed.mode, names, parallel is not False)


def _goes_on(chat: ChatRequest) -> bool:
    """Whether the last message is continued: then, and only then, no new turn begins."""
    if chat.continue_final_message and chat.add_generation_prompt:
        raise InvalidRequestError(
            "A reply goes on with the last message or begins a new turn: 'continue_final_message' and "
            "'add_generation_prompt' cannot both be true.",
            param="add_generation_prompt",
        )
    if chat.add_generation_prompt is False and not chat.continue_final_message:
        raise InvalidRequestError(
            "Unsupported parameter: 'add_generation_prompt' can be false with 'continue_final_message' only.",
            param="add_generation_prompt",
            code="unsupported_parameter",
        )
    return chat.continue_final_message is True


def _wishes(chat: ChatRequest) -> Wishes:
    if chat.top_logprobs and not chat.logprobs:
        raise InvalidRequestError(
            "'top_logprobs' is only allowed when 'logprobs' is true.", param="top_logprobs", code="invalid_value"
        )
    return Wishes(
        temperature=chat.temperature,
        top_p=chat.top_p,
        top_k=chat.top_k,
        min_p=chat.min_p,
        frequency_penalty=chat.frequency_penalty or 0.0,
        presence_penalty=chat.presence_penalty or 0.0,
        repetition_penalty=1.0 if chat.repetition_penalty is None else chat.repetition_penalty,
        logit_bias=chat.biases(),
        seed=chat.seed,
        max_tokens=_max_tokens(chat),
        min_tokens=chat.min_tokens or 0,
        ignore_eos=chat.ignore_eos or False,
        stop=chat.stops(),
        logprobs=(chat.top_logprobs or 0) if chat.logprobs else None,
    )


def _max_tokens(chat: ChatRequest) -> int | None:
    asked = [limit for limit in (chat.max_tokens, chat.max_completion_tokens) if limit is not None]
    return min(asked, default=None)
