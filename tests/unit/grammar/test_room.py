"""The daemon's side: real grammar processes, and what hostile specs do to them."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest

from gemmad.config.schema import GrammarSection
from gemmad.errors import InvalidRequestError, QueueFullError, UnavailableError
from gemmad.grammar.room import GrammarRoom
from gemmad.grammar.source import HEADER
from gemmad.grammar.spec import Choice, Ebnf, JsonObject, JsonSchema, Regex, Spec

from .vocabularies import CHECKPOINT, STOPS, VOCAB_SIZE

SLOW = JsonSchema('{"type": "integer", "multipleOf": 1000003}')
"""Takes more than ten seconds to compile, in 40 bytes."""


@asynccontextmanager
async def room(
    command: Sequence[str] | None = None, *, waiting_limit: int = 16, **settings: Any
) -> AsyncIterator[GrammarRoom]:
    section = GrammarSection(**{"timeout": 20.0, "memory": 256 << 20, **settings})
    options: dict[str, Any] = {} if command is None else {"command": command}
    made = GrammarRoom(
        CHECKPOINT,
        vocab_size=VOCAB_SIZE,
        stop_token_ids=STOPS,
        section=lambda: section,
        waiting_limit=waiting_limit,
        **options,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(made.run())
        try:
            yield made
        finally:
            made.close()


def test_a_spec_becomes_a_source_once() -> None:
    """Equal specs are compiled once, also if they come together; the second answer is the first one's."""

    async def main() -> None:
        async with room() as one:
            first = await asyncio.gather(*(one.compile(JsonObject(), param="a") for _ in range(5)))
            assert len(set(map(id, first))) == 1
            assert first[0].startswith(HEADER)
            assert await one.compile(JsonObject(), param="b") is first[0]
            assert one.status().cached == 1

    asyncio.run(main())


def test_the_cache_is_bounded() -> None:
    """Beyond `grammar.cached` the one that was not asked for longest goes."""

    async def main() -> None:
        async with room(cached=2) as one:
            for pattern in ("a", "b", "a", "c"):
                await one.compile(Regex(pattern), param="x")
            assert one.status().cached == 2
            kept = await one.compile(Regex("a"), param="x")
            assert await one.compile(Regex("a"), param="x") is kept

    asyncio.run(main())


HOSTILE: dict[str, Spec] = {
    "deep": JsonSchema('{"items":' * 20000 + "{}" + "}" * 20000),
    "deep list": JsonSchema("[" * 100_000),
    "endless": JsonSchema('{"$ref": "#"}'),
    "expressions": JsonSchema(
        json.dumps(
            {"allOf": [{"type": "string", "pattern": f"^(.{{{i}}}a.*b.{{{i}}}|[a-z]*)$"} for i in range(20, 40)]}
        )
    ),
    "parentheses": Ebnf("start: " + "(" * 50_000 + '"a"' + ")" * 50_000),
    "parentheses in GBNF": Ebnf("root ::= " + "(" * 50_000 + '"a"' + ")" * 50_000),
    "numbers": JsonSchema('{"type": "number", "minimum": -1e300, "maximum": 1e-300}'),
}
BENIGN: dict[str, Spec] = {
    "states": Regex("(a|b)*a(a|b){60}"),
    "repetition": Regex("((a{1000}){1000}){1000}"),
    "items": JsonSchema('{"type": "array", "minItems": 1000000, "items": {"type": "integer"}}'),
    "length": JsonSchema('{"type": "string", "maxLength": 1000000000}'),
    "ambiguity": Ebnf('start: e\ne: e e | "a" | ""'),
    "fan": JsonSchema(
        json.dumps(
            {
                "$ref": "#/$defs/a0",
                "$defs": {f"a{i}": {"anyOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 6} for i in range(14)}
                | {"a14": {"type": "string"}},
            }
        )
    ),
    "options": Choice(tuple(f"option {i}" for i in range(5000))),
}


def test_hostile_specs_are_refused_or_harmless_and_the_room_goes_on() -> None:
    """Whatever is sent is answered within the limits: a source, or the client's fault; never anything else."""

    async def main() -> None:
        async with room() as one:
            for name, spec in HOSTILE.items():
                with pytest.raises(InvalidRequestError) as caught:
                    await one.compile(spec, param="response_format")
                assert caught.value.param == "response_format", name
                assert caught.value.code in {"invalid_schema", "invalid_grammar", "grammar_too_complex"}, name
            for name, spec in BENIGN.items():
                began = time.monotonic()
                assert await one.compile(spec, param="response_format")
                assert time.monotonic() - began < 20, name
            assert await one.compile(JsonObject(), param="response_format")

    asyncio.run(main())


def test_one_that_takes_too_long_is_refused_and_its_process_replaced() -> None:
    """The time limit holds however the process is stuck, and the next spec gets a new one."""

    async def main() -> None:
        async with room(timeout=1.0) as one:
            with pytest.raises(InvalidRequestError, match="longer than 1 seconds") as caught:
                await one.compile(SLOW, param="response_format")
            assert caught.value.code == "grammar_too_complex"
            assert one.status().deaths == 1
        async with room() as one:
            assert await one.compile(Regex("a"), param="x")

    asyncio.run(main())


def test_one_that_takes_too_much_memory_is_refused() -> None:
    """The address space is bounded: what needs more ends the process, which is replaced, and nothing else."""

    async def main() -> None:
        async with room(memory=64 << 20) as one:
            with pytest.raises(InvalidRequestError) as caught:
                await one.compile(SLOW, param="response_format")
            assert caught.value.code == "grammar_too_complex"
            assert await one.compile(Regex("a"), param="x")

    asyncio.run(main())


def test_what_is_too_large_is_refused_before_any_process_sees_it() -> None:
    """`grammar.max_bytes` bounds the whole spec."""

    async def main() -> None:
        async with room(["false"], max_bytes=2048) as one:
            with pytest.raises(InvalidRequestError, match="at most 2048") as caught:
                await one.compile(Regex("a" * 4000), param="regex")
            assert (caught.value.param, caught.value.code) == ("regex", "grammar_too_complex")

    asyncio.run(main())


def test_too_many_that_wait_are_told_to_come_back() -> None:
    """The queue is bounded."""

    async def main() -> None:
        async with room(waiting_limit=1) as one:
            first = asyncio.create_task(one.compile(JsonObject(), param="x"))
            await asyncio.sleep(0)
            with pytest.raises(QueueFullError):
                await one.compile(Regex("a"), param="x")
            assert await first

    asyncio.run(main())


@pytest.mark.parametrize("command", [["false"], ["/nowhere/at/all"], [sys.executable, "-c", "print('hello')"]])
def test_without_a_process_nobody_waits_for_ever(command: list[str]) -> None:
    """A process that does not start is nobody's fault: the client may try again."""

    async def main() -> None:
        async with room(command) as one:
            with pytest.raises(UnavailableError):
                await one.compile(JsonObject(), param="x")

    asyncio.run(main())


def test_closing_ends_the_process_and_answers_whoever_waits() -> None:
    """After `close` no process is left, those who waited were told, and nobody is let in."""

    async def main() -> None:
        others = set(psutil.Process().children())
        async with room() as one:
            await one.compile(JsonObject(), param="x")
            waiting = asyncio.create_task(one.compile(SLOW, param="x"))
            while one.status().busy == 0:
                await asyncio.sleep(0.01)
            one.close()
            with pytest.raises(UnavailableError):
                await waiting
            with pytest.raises(UnavailableError):
                await one.compile(Regex("new"), param="x")
        assert not set(psutil.Process().children()) - others

    asyncio.run(main())


def test_a_client_that_goes_takes_nothing_from_another_with_the_same_wish() -> None:
    """Single flight: the one who stays gets the source."""

    async def main() -> None:
        async with room() as one:
            goes = asyncio.create_task(one.compile(JsonObject(), param="x"))
            stays = asyncio.create_task(one.compile(JsonObject(), param="x"))
            await asyncio.sleep(0)
            goes.cancel()
            assert await stays
            with pytest.raises(asyncio.CancelledError):
                await goes

    asyncio.run(main())
