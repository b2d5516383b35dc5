"""Operations of OpenAI's Responses API."""

from __future__ import annotations

from gemmad.api.openai.responses import parameters, wire
from gemmad.api.openai.responses.listing import MAX_LIMIT, USUAL_LIMIT
from gemmad.api.openai.responses.schema import CountRequest, CreateRequest
from gemmad.api.openapi.operation import SSE, Operation, Query, Stream

_NOT_STORED = frozenset({404})

RESPONSE_EVENTS = (
    wire.Created,
    wire.Queued,
    wire.InProgress,
    wire.ItemAdded,
    wire.PartAdded,
    wire.TextDelta,
    wire.TextDone,
    wire.PartDone,
    wire.ArgumentsDelta,
    wire.ArgumentsDone,
    wire.ItemDone,
    wire.Completed,
    wire.Incomplete,
    wire.Failed,
    wire.Failure,
)
_RESPONSE_STREAM = Stream(RESPONSE_EVENTS, f"{SSE} Each event is named like its type.")

RESPONSES = (
    Operation(
        method="post",
        path="/v1/responses",
        name="create_response",
        summary="A response, of text and calls",
        tag="responses",
        body=CreateRequest,
        fields=parameters.RESPONSES,
        parts=(("Items of the input", parameters.ITEMS), ("Parts of an item", parameters.PARTS)),
        answer=wire.Response,
        stream=_RESPONSE_STREAM,
    ),
    Operation(
        method="get",
        path="/v1/responses/{response_id}",
        name="retrieve_response",
        summary="A stored response, or the events of one in the background",
        tag="responses",
        query=(
            Query("stream", {"type": "boolean"}, "The events of one that was created with `background` and `stream`."),
            Query("starting_after", {"type": "integer", "minimum": 0}, "Those after this sequence number."),
        ),
        answer=wire.Response,
        stream=_RESPONSE_STREAM,
        refuses=_NOT_STORED | {400},
    ),
    Operation(
        method="delete",
        path="/v1/responses/{response_id}",
        name="delete_response",
        summary="Forget a stored response",
        tag="responses",
        answer=wire.Deleted,
        refuses=_NOT_STORED | {403},
    ),
    Operation(
        method="post",
        path="/v1/responses/{response_id}/cancel",
        name="cancel_response",
        summary="End a response in the background",
        tag="responses",
        answer=wire.Response,
        refuses=_NOT_STORED | {400, 403, 429},
    ),
    Operation(
        method="get",
        path="/v1/responses/{response_id}/input_items",
        name="list_input_items",
        summary="What a response was made from",
        tag="responses",
        query=(
            Query(
                "order", {"type": "string", "enum": ["asc", "desc"], "default": "desc"}, "The latest first, or last."
            ),
            Query("after", {"type": "string"}, "Those after the item with this id."),
            Query("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": USUAL_LIMIT}, "At most."),
        ),
        answer=wire.ItemList,
        refuses=_NOT_STORED | {400},
    ),
    Operation(
        method="post",
        path="/v1/responses/input_tokens",
        name="count_input_tokens",
        summary="How many tokens a response's prompt would have",
        tag="responses",
        body=CountRequest,
        fields=tuple(field for field in parameters.RESPONSES if field.name in CountRequest.model_fields),
        answer=wire.InputTokens,
    ),
)
