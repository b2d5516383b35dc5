"""`POST /tokenize` and `POST /detokenize`, as vLLM has them."""

from __future__ import annotations

import asyncio
from functools import partial

from msgspec import Struct
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from gemmad.api.admission import LONG_TEXT_CHARACTERS, Admission
from gemmad.api.asks import Ask
from gemmad.api.body import decode_object, read_body
from gemmad.api.openai import wire
from gemmad.api.openai.chat_schema import ChatRequest
from gemmad.api.openai.completion_schema import DetokenizeRequest, TokenizeRequest
from gemmad.api.openai.conversation import chat_ask
from gemmad.api.openai.schema import parse
from gemmad.api.record import record_of
from gemmad.api.sampling import check_vocabulary
from gemmad.api.services import Services
from gemmad.errors import InvalidRequestError
from gemmad.text.plain import encode_text


class Tokenized(Struct, frozen=True):
    """The answer to `/tokenize`."""

    count: int
    max_model_len: int
    tokens: tuple[int, ...]
    token_strs: tuple[str, ...] | None = None
    """As the tokenizer's own file writes them, if they were asked for."""


class Detokenized(Struct, frozen=True):
    """The answer to `/detokenize`; control tokens are in it."""

    prompt: str


class Tokenizing:
    """The endpoints."""

    def __init__(self, services: Services, admission: Admission) -> None:
        self._services = services
        self._admission = admission

    async def tokenize(self, http: HttpRequest) -> Response:
        """Ids of a prompt, or of a conversation as the model would get it; images count and are not looked at."""
        asked = parse(TokenizeRequest, await self._body(http))
        model = self._note_model(http, asked.model)
        text = self._services.ready().text
        if asked.messages is None:
            ids = await self._of_prompt(asked)
        else:
            ids = (await self._admission.encode(self._ask(asked, model))).token_ids
        return _json(
            Tokenized(
                len(ids),
                self._services.max_context() or text.context_length,
                ids,
                tuple(text.tokenizer.id_to_token(each) or "" for each in ids) if asked.return_token_strs else None,
            )
        )

    async def detokenize(self, http: HttpRequest) -> Response:
        """Text of token ids."""
        asked = parse(DetokenizeRequest, await self._body(http))
        self._note_model(http, asked.model)
        text = self._services.ready().text
        for token_id in asked.tokens:
            check_vocabulary(token_id, text, param="tokens")
        decode = partial(text.decode, asked.tokens, control_tokens=True)
        return _json(Detokenized(await asyncio.to_thread(decode)))

    async def _body(self, http: HttpRequest) -> dict[str, object]:
        return decode_object(await read_body(http, limit_bytes=self._services.server().max_body))

    def _note_model(self, http: HttpRequest, asked: str | None) -> str:
        record = record_of(http)
        record.model = self._services.names()[0] if asked is None else self._services.model_name(asked)
        return record.model

    async def _of_prompt(self, asked: TokenizeRequest) -> tuple[int, ...]:
        if asked.prompt is None:
            raise InvalidRequestError(
                "Missing required parameter: 'prompt', or 'messages'.",
                param="prompt",
                code="missing_required_parameter",
            )
        begin = asked.add_special_tokens is not False
        encode = partial(encode_text, self._services.ready().text, asked.prompt, param="prompt", begin=begin)
        is_long = len(asked.prompt) > LONG_TEXT_CHARACTERS
        return (await asyncio.to_thread(encode) if is_long else encode()).token_ids

    def _ask(self, asked: TokenizeRequest, model: str) -> Ask:
        assert asked.messages is not None
        if asked.prompt is not None:
            raise InvalidRequestError("Either 'prompt' or 'messages', not both.", param="messages")
        chat = ChatRequest(
            model=model,
            messages=asked.messages,
            tools=asked.tools,
            add_generation_prompt=asked.add_generation_prompt,
            continue_final_message=asked.continue_final_message,
        )
        return chat_ask(chat, model=model, max_images=self._services.media().max_images)


def _json(body: Tokenized | Detokenized) -> Response:
    return Response(wire.encode(body), media_type="application/json")
