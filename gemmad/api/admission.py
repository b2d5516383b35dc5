"""From what is asked for to a reply that is under way, the same for every dialect."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from msgspec.structs import replace

from gemmad.api.asks import Ask, Conversation, ImageAsked, PlainText, TokenIds
from gemmad.api.errors import GONE
from gemmad.api.images import close_all, prepare_images
from gemmad.api.record import Record
from gemmad.api.reply import Reply
from gemmad.api.sampling import check_vocabulary, choice_seed, room_in_context, sampling_params
from gemmad.api.services import Served, Services
from gemmad.api.speaker import Speaker, Trail
from gemmad.dispatch.ticket import Request
from gemmad.errors import InvalidRequestError
from gemmad.generation import Prompt, SamplingParams
from gemmad.grammar.spec import Calls
from gemmad.media.pixels import Pixels
from gemmad.text.calls import CallReader
from gemmad.text.chat import encode_chat
from gemmad.text.checkpoint import TextModel
from gemmad.text.messages import Message
from gemmad.text.plain import encode_text
from gemmad.text.reply import ReplyText
from gemmad.text.tools import render_tools

LONG_TEXT_CHARACTERS = 16_384
"""Text above this is tokenised in a thread: it takes longer than the event loop should stand still."""

T = TypeVar("T")


class Admission:
    """What each dialect's routes share."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def admit(self, ask: Ask, record: Record, *, key: str) -> Reply:
        """From here on a worker, or the queue, has the request. Raises what the table of errors translates.

        `key` is whom it counts for; `record` learns of images and prompt.
        """
        return await self.admit_all((ask,), record, key=key)

    async def admit_all(self, asks: Sequence[Ask], record: Record, *, key: str) -> Reply:
        """Several at once, or none of them; their choices are counted through, ask by ask. Several show no images."""
        requests: list[Request] = []
        speakers: list[Speaker] = []
        try:
            for ask in asks:
                request, text = await self._prepare(ask, record, key=key)
                requests += _for_each_choice(request, ask.n)
                speakers += [_speaker(ask, text, len(speakers) + index) for index in range(ask.n)]
            choices = self._services.dispatcher.submit_choices(requests)
        except BaseException:
            for request in requests:
                close_all(request.pixels)
            raise
        return Reply(
            choices,
            speakers,
            on_gap=self._services.metrics.inter_token.observe,
            on_first=lambda now: self._services.watched.first_token(now - record.began),
            clock=self._services.clock,
        )

    async def count(self, ask: Ask) -> int:
        """Tokens of its prompt. Images are not looked at: each has as many as any other."""
        return len((await self.encode(ask)).token_ids)

    async def encode(self, ask: Ask) -> Prompt:
        """Its prompt, for who wants to see the tokens; its images have no digests."""
        ask.check()
        served = self._services.ready()
        if _images(ask) and served.media is None:
            raise InvalidRequestError("This model takes no images.", param=_images(ask)[0].param)
        return await self._encode(served.text, ask, digests=[""] * len(_images(ask)))

    def note_end(self, reply: Reply, record: Record, error: str | None) -> None:
        """For the log line and the metrics; `error` is the code that the client was told."""
        metrics = self._services.metrics
        usage = reply.usage
        for journey in reply.journeys:
            record.note_journey(journey)
        record.completion_tokens, record.cached_tokens = usage.completion_tokens, usage.cached_tokens
        record.error = error
        if reply.first_token_at is not None:
            record.ttft_seconds = round(reply.first_token_at - record.began, 4)
            metrics.first_token.observe(record.ttft_seconds)
        if reply.finish is not None and error is None:
            record.finish = reply.finish
            metrics.whole_request.observe(self._services.clock() - record.began)
        else:
            record.finish = "gone" if error in (None, GONE) else "error"
        metrics.requests.labels(outcome=record.finish).inc()

    async def _prepare(self, ask: Ask, record: Record, *, key: str) -> tuple[Request, TextModel]:
        """Whoever gets it owns its pixels."""
        ask.check()
        served = self._services.ready()
        record.images = len(_images(ask)) or None
        record.choices = ask.n if ask.n > 1 else None
        pixels = await self._pixels(served, ask, record)
        try:
            with record.phase("tokenise"):
                prompt = await self._encode(served.text, ask, digests=[one.digest for one in pixels])
            record.prompt_tokens = (record.prompt_tokens or 0) + len(prompt.token_ids)
            record.sampling = await self._sampling(ask, served.text, prompt, record)
            request = Request(
                prompt=prompt,
                sampling=record.sampling,
                pixels=pixels,
                request_id=record.request_id,
                key=key,
                priority=ask.priority,
            )
        except BaseException:
            close_all(pixels)
            raise
        return request, served.text

    async def _pixels(self, served: Served, ask: Ask, record: Record) -> tuple[Pixels, ...]:
        images = _images(ask)
        if not images:
            return ()
        if served.media is None:
            raise InvalidRequestError("This model takes no images.", param=images[0].param)
        with record.phase("media", images=len(images)):
            return await prepare_images(served.media, images, record)

    async def _encode(self, text: TextModel, ask: Ask, *, digests: list[str]) -> Prompt:
        match ask.prompt:
            case Conversation(messages, _, param) as talk:
                encode = partial(_encode_chat, text, ask, messages, digests)
                characters = talk.characters + sum(len(tool.parameters) for tool in ask.tools)
                return await _work(partial(_blaming, param, encode), characters)
            case PlainText(typed, param):
                return await _work(partial(encode_text, text, typed, param=param), len(typed))
            case TokenIds(ids, param):
                for token_id in ids:
                    check_vocabulary(token_id, text, param=param)
                return Prompt(ids)

    async def _sampling(self, ask: Ask, text: TextModel, prompt: Prompt, record: Record) -> SamplingParams:
        max_context = self._services.max_context() or text.context_length
        room = room_in_context(ask, prompt_tokens=len(prompt.token_ids), max_context=max_context)
        sampling = sampling_params(ask, section=self._services.sampling(), text=text, room=room)
        record.has_seed = ask.wishes.seed is not None
        if ask.grammar is None and not _can_call(ask):
            return sampling
        with record.phase("grammar"):
            return replace(sampling, grammar=await self._grammar(ask))

    async def _grammar(self, ask: Ask) -> str | None:
        spec, names, calls = ask.grammar, ask.names, _can_call(ask)
        assert not isinstance(spec, Calls)
        if calls and ask.tool_choice.mode == "required":
            spec = None
        if spec is None and not calls:
            return None
        grammars = self._services.ready().grammars
        if grammars is None:
            param = names.tools if spec is None else names.grammar
            raise InvalidRequestError("Replies cannot be held here.", param=param, code="unsupported_parameter")
        if not calls:
            assert spec is not None
            return await grammars.compile(spec, param=names.grammar)
        if spec is not None:  # alone first, so that what is wrong with it is blamed on it
            await grammars.compile(spec, param=names.grammar)
        return await grammars.compile(Calls(ask.tools, ask.tool_choice, spec), param=names.tools)


def _images(ask: Ask) -> tuple[ImageAsked, ...]:
    return ask.prompt.images if isinstance(ask.prompt, Conversation) else ()


async def _work(work: Callable[[], T], characters: int) -> T:
    return await asyncio.to_thread(work) if characters > LONG_TEXT_CHARACTERS else work()


def _encode_chat(text: TextModel, ask: Ask, messages: tuple[Message, ...], digests: list[str]) -> Prompt:
    """With tools, calls and results as the words that they are to the model."""
    said = render_tools(messages, ask.tools, ask.tool_choice, param=ask.names.tools)
    return encode_chat(text, said, image_digests=digests, continue_final=ask.continue_final)


def _blaming(param: str, encode: Callable[[], Prompt]) -> Prompt:
    """The text room counts through `messages`, which not every dialect calls so or has in that order."""
    try:
        return encode()
    except InvalidRequestError as error:
        if param != "messages" and error.param is not None and error.param.startswith("messages"):
            error.param = param
        raise


def _can_call(ask: Ask) -> bool:
    return bool(ask.tools) and ask.tool_choice.mode != "none"


def _speaker(ask: Ask, text: TextModel, index: int) -> Speaker:
    trail = None if ask.wishes.logprobs is None else Trail(text.spelling)
    said = ReplyText(text, stop=ask.wishes.stop, stop_token_ids=text.stop_token_ids)
    return Speaker(index, said, trail=trail, calls=_call_reader(ask) if _can_call(ask) else None)


def _call_reader(ask: Ask) -> CallReader:
    choice, names = ask.tool_choice, [tool.name for tool in ask.tools]
    if choice.allowed is not None:
        names = [name for name in names if name in choice.allowed]
    is_forced = choice.mode == "required"
    has_form = ask.grammar is not None
    return CallReader(names, key=uuid.uuid4().hex, is_forced=is_forced, has_form=has_form)


def _for_each_choice(request: Request, count: int) -> list[Request]:
    seed = request.sampling.seed
    return [
        dataclasses.replace(request, sampling=replace(request.sampling, seed=choice_seed(seed, index)))
        for index in range(count)
    ]
