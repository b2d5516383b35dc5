"""Asking through the official SDK, and noting what went wrong."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
import time
from collections.abc import Mapping, Sequence

from openai import AsyncOpenAI, OpenAIError

from tests.chaos.questions import Answer, Question, difference, difference_so_far
from tests.process.daemon import MODEL

LEAVING_SHARE = 0.05
"""Of the streams: their client leaves in the middle."""
WHOLE_SHARE = 0.1
"""Of the requests: not streamed."""


class BrokenStreamError(Exception):
    """A stream that ended otherwise than it should."""


@dataclasses.dataclass(eq=False)
class Results:
    """What became of all requests."""

    seconds: list[float] = dataclasses.field(default_factory=list)
    """How long each finished one took."""
    silences: list[float] = dataclasses.field(default_factory=list)
    """The longest time without a token of each stream, after its first."""
    left: int = 0
    tokens: int = 0
    faults: list[str] = dataclasses.field(default_factory=list)
    """In words, each with the id of its request."""

    @property
    def requests(self) -> int:
        """All that were asked."""
        return len(self.seconds) + self.left + len(self.faults)


class Asker:
    """Asks questions, many at a time. The answers of the calm are what the others are held against."""

    def __init__(self, client: AsyncOpenAI, questions: Sequence[Question]) -> None:
        self._client = client
        self._questions = tuple(questions)
        self._numbers = itertools.count()
        self.results = Results()

    async def ask_calmly(self, *, at_a_time: int) -> dict[str, Answer]:
        """Each question's answer while nothing is in the way, by its name."""
        gate = asyncio.Semaphore(at_a_time)

        async def ask(question: Question) -> Answer:
            async with gate:
                return await self._stream(question, request_id=f"calm-{question.name}")

        answers = await asyncio.gather(*map(ask, self._questions))
        return {question.name: answer for question, answer in zip(self._questions, answers, strict=True)}

    async def ask_until(self, over: asyncio.Event, *, calm: Mapping[str, Answer], chance: random.Random) -> None:
        """One question after another. What is wrong with an answer goes to the results."""
        while not over.is_set():
            question = chance.choice(self._questions)
            request_id = f"chaos-{next(self._numbers)}"
            began = time.monotonic()
            try:
                wrong = await self._ask(question, calm[question.name], chance, request_id=request_id)
            except (OpenAIError, BrokenStreamError, TimeoutError) as error:
                wrong = f"{question.name}: {type(error).__name__}: {error}"
            if wrong is None:
                self.results.left += 1
            elif wrong:
                self.results.faults.append(f"{request_id}: {wrong}")
            else:
                self.results.seconds.append(time.monotonic() - began)

    async def _ask(self, question: Question, expected: Answer, chance: random.Random, *, request_id: str) -> str | None:
        """What is wrong with the answer, if anything; None when its client left before the end."""
        way = chance.random()
        if way < LEAVING_SHARE:
            said = await self._begin(question, chance.randrange(1, 20), request_id=request_id)
            return difference_so_far(question, calm=expected, said=said) or None
        ask = self._whole if way < LEAVING_SHARE + WHOLE_SHARE else self._stream
        answer = await ask(question, request_id=request_id)
        self.results.tokens += answer.completion_tokens
        return difference(question, calm=expected, wild=answer)

    async def _stream(self, question: Question, *, request_id: str) -> Answer:
        texts, finishes = [""] * question.choices, [None] * question.choices
        usage, silence, heard_at = None, 0.0, None
        stream = await self._client.chat.completions.create(
            model=MODEL,
            **question.fields,
            stream=True,
            stream_options={"include_usage": True},
            extra_headers={"x-request-id": request_id},
        )
        async for chunk in stream:
            for choice in chunk.choices:
                if finishes[choice.index] is not None:
                    raise BrokenStreamError("a choice went on after its end")
                if choice.delta.content:
                    now = time.monotonic()
                    silence, heard_at = max(silence, now - (heard_at or now)), now
                texts[choice.index] += choice.delta.content or ""
                finishes[choice.index] = choice.finish_reason
            usage = chunk.usage or usage
        if usage is None or None in finishes:
            raise BrokenStreamError(f"it ended without an end, after {texts}")
        self.results.silences.append(silence)
        return Answer(tuple(texts), tuple(finishes), usage.prompt_tokens, usage.completion_tokens)

    async def _whole(self, question: Question, *, request_id: str) -> Answer:
        reply = await self._client.chat.completions.create(
            model=MODEL, **question.fields, extra_headers={"x-request-id": request_id}
        )
        texts = tuple(choice.message.content or "" for choice in reply.choices)
        finishes = tuple(choice.finish_reason for choice in reply.choices)
        assert reply.usage is not None
        return Answer(texts, finishes, reply.usage.prompt_tokens, reply.usage.completion_tokens)

    async def _begin(self, question: Question, chunks: int, *, request_id: str) -> tuple[str, ...]:
        """What was said until the client left."""
        texts = [""] * question.choices
        stream = await self._client.chat.completions.create(
            model=MODEL, **question.fields, stream=True, extra_headers={"x-request-id": request_id}
        )
        async with stream:
            async for chunk in stream:
                for choice in chunk.choices:
                    texts[choice.index] += choice.delta.content or ""
                chunks -= 1
                if chunks <= 0:
                    break
        return tuple(texts)
