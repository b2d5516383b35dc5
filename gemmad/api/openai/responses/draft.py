"""From a request to what is asked of the model, and to the response as it is before anything is said. Pure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from msgspec import Struct

from gemmad.api.asks import Ask, Names, Wishes
from gemmad.api.fields import json_text
from gemmad.api.openai.responses import wire
from gemmad.api.openai.responses.conversation import conversation, cuts
from gemmad.api.openai.responses.intake import Find, intake
from gemmad.api.openai.responses.items import Item, Listed, new_id
from gemmad.api.openai.responses.schema import CountRequest, CreateRequest, FormatIn
from gemmad.api.openai.responses.store import Kept, Turn
from gemmad.api.openai.responses.tools import Called, Toolbox, toolbox
from gemmad.errors import InvalidRequestError
from gemmad.grammar.spec import JsonObject, JsonSchema

NAMES = Names(max_tokens="max_output_tokens", grammar="text.format", tools="tools")


class Draft(Struct, frozen=True):
    """A request that is understood."""

    request: CountRequest
    model: str
    """As it is reported."""
    listed: tuple[Listed, ...]
    """Those of the previous responses, then its own."""
    own: tuple[Item, ...]
    before: tuple[Turn, ...]
    box: Toolbox
    max_images: int

    @property
    def names(self) -> dict[str, Called]:
        """Of functions, as the client has them."""
        return dict(self.box.names)

    def ask(self, listed: Sequence[Listed] | None = None) -> Ask:
        """What is asked of the model, with these items, or all. Raises InvalidRequestError for a conversation that
        makes no sense."""
        request = self.request
        talk = conversation(
            self.listed if listed is None else listed,
            instructions=request.instructions or None,
            max_images=self.max_images,
        )
        return Ask(
            model=self.model,
            prompt=talk,
            wishes=_wishes(request) if isinstance(request, CreateRequest) else Wishes(),
            priority=(request.priority or 0) if isinstance(request, CreateRequest) else 0,
            tools=self.box.tools,
            tool_choice=self.box.choice,
            grammar=_grammar(request.text.format if request.text else None),
            names=NAMES,
        )


def draft(request: CountRequest, *, model: str, previous: Kept | None, find: Find, max_images: int) -> Draft:
    """Raises InvalidRequestError that names the field at fault."""
    box = toolbox(request.tools, request.tool_choice, parallel=request.parallel_tool_calls)
    before = previous.turns if previous is not None else ()
    own = intake(request.input, find=find)
    earlier = tuple(Listed(item, "previous_response_id") for turn in before for item in turn.items)
    return Draft(request, model, earlier + own, tuple(each.item for each in own), before, box, max_images)


async def fitting(draft: Draft, *, count: Callable[[Ask], Awaitable[int]], room: int) -> Ask:
    """What is asked with as few of the oldest items left out as make the prompt at most `room` tokens; with all of
    them if even the last one is too long, and then it is for admission to say so."""
    whole = draft.ask()
    if await count(whole) <= room:
        return whole
    places = cuts(draft.listed)[1:]
    fit: Ask | None = None
    low, high = 0, len(places)
    while low < high:
        middle = (low + high) // 2
        shorter = draft.ask(draft.listed[places[middle] :])
        if await count(shorter) <= room:
            fit, high = shorter, middle
        else:
            low = middle + 1
    return fit or whole


def blank(draft: Draft, request: CreateRequest, *, created_at: int, temperature: float, top_p: float) -> wire.Response:
    """The response before anything is said; temperature and top_p are told as they came to be."""
    text = request.text
    reasoning = request.reasoning or {}
    return wire.Response(
        id=new_id("resp"),
        created_at=created_at,
        status="queued",
        background=bool(request.background),
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        model=draft.model,
        parallel_tool_calls=request.parallel_tool_calls is not False,
        previous_response_id=request.previous_response_id,
        prompt_cache_key=request.prompt_cache_key,
        reasoning=wire.Reasoning(reasoning.get("effort"), reasoning.get("summary")),
        safety_identifier=request.safety_identifier,
        store=request.store is not False,
        temperature=temperature,
        text=wire.TextConfig(_told_format(text.format if text else None), text.verbosity if text else None),
        tool_choice=draft.box.told_choice,
        tools=draft.box.told,
        top_logprobs=request.top_logprobs or 0,
        top_p=top_p,
        truncation=request.truncation or "disabled",
        user=request.user,
        metadata=request.metadata or {},
    )


def _wishes(request: CreateRequest) -> Wishes:
    return Wishes(
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        min_p=request.min_p,
        frequency_penalty=request.frequency_penalty or 0.0,
        presence_penalty=request.presence_penalty or 0.0,
        repetition_penalty=1.0 if request.repetition_penalty is None else request.repetition_penalty,
        logit_bias=tuple((request.logit_bias or {}).items()),
        seed=request.seed,
        max_tokens=request.max_output_tokens,
        logprobs=(request.top_logprobs or 0) if request.traced else None,
    )


def _grammar(given: FormatIn | None) -> JsonObject | JsonSchema | None:
    if given is None or given.type == "text":
        return None
    if given.type == "json_object":
        return JsonObject()
    for field, value in (("name", given.name), ("schema", given.schema_)):
        if value is None:
            param = f"text.format.{field}"
            raise InvalidRequestError(
                f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
            )
    assert given.schema_ is not None
    return JsonSchema(json_text(given.schema_, param="text.format.schema"), bool(given.strict))


def _told_format(given: FormatIn | None) -> dict[str, Any]:
    if given is None or given.type != "json_schema":
        return {"type": given.type if given else "text"}
    return {
        "type": "json_schema",
        "name": given.name,
        "description": given.description,
        "schema": given.schema_,
        "strict": bool(given.strict),
    }
