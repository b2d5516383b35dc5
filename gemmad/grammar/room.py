"""The daemon's side: what clients want replies held to, made into sources that workers will be able to compile.

The work is done in confined processes (`gemmad.grammar.process`); here are their queue, and a cache of what they made.
Equal specs that come together are compiled once.
"""

from __future__ import annotations

import asyncio
import collections
import hashlib
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from gemmad.config.schema import GrammarSection
from gemmad.errors import InvalidRequestError, QueueFullError, UnavailableError
from gemmad.grammar.compiler import Compiler
from gemmad.grammar.spec import Spec
from gemmad.grammar.wire import Begin, Job

RETRY_SECONDS = 1.0


class GrammarStatus(Struct, frozen=True):
    """What the room is busy with."""

    busy: int
    """Processes that compile."""
    waiting: int
    cached: int
    deaths: int
    """Processes that died or had to be killed."""


class GrammarRoom:
    """Turns specs into sources. `run()` keeps the room open; `compile()` is for everyone else."""

    def __init__(
        self,
        checkpoint: Path,
        *,
        vocab_size: int,
        stop_token_ids: tuple[int, ...],
        section: Callable[[], GrammarSection],
        waiting_limit: int = 256,
        longest_wait_seconds: float = 30.0,
        command: Sequence[str] = (sys.executable, "-m", "gemmad.grammar"),
    ) -> None:
        """No process is started before the first spec comes. The number of processes and their memory are those of
        now, the other settings those of the moment."""
        self._section = section
        self._waiting_limit = waiting_limit
        self._longest_wait_seconds = longest_wait_seconds
        begin = Begin(str(checkpoint), vocab_size, stop_token_ids, section().memory)
        self._compilers = [Compiler(tuple(command), begin) for _ in range(section().processes)]
        self._free: collections.deque[Compiler] = collections.deque(self._compilers)
        self._seats = asyncio.Semaphore(len(self._compilers))
        self._cache: collections.OrderedDict[bytes, str] = collections.OrderedDict()
        self._flights: dict[tuple[bytes, str], asyncio.Task[str]] = {}
        self._numbers = itertools.count(1)
        self._closing = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled or closed; nothing is left running afterwards."""
        try:
            await self._closing.wait()
        finally:
            self.close()

    def close(self) -> None:
        """End all processes and fail whoever waits; idempotent. No process is left when it returns."""
        self._closing.set()
        for flight in self._flights.values():
            flight.cancel()
        for compiler in self._compilers:
            compiler.close()

    def status(self) -> GrammarStatus:
        """How busy it is."""
        busy = len(self._compilers) - len(self._free)
        deaths = sum(compiler.deaths for compiler in self._compilers)
        return GrammarStatus(busy, max(0, len(self._flights) - busy), len(self._cache), deaths)

    async def compile(self, spec: Spec, *, param: str) -> str:
        """The source for `SamplingParams.grammar`.

        Raises InvalidRequestError, which blames `param` (of a tool: the tool) and says where in the schema, with code
        `invalid_schema`, `invalid_grammar` or `grammar_too_complex`; and BusyError when too many wait or the daemon
        stops.
        """
        body = msgspec.msgpack.encode(spec)
        limit = self._section().max_bytes
        if len(body) > limit:
            message = f"The grammar has {len(body)} bytes; at most {limit} are allowed."
            raise InvalidRequestError(message, param=param, code="grammar_too_complex")
        digest = hashlib.blake2b(body, digest_size=16).digest()
        if (source := self._cache.get(digest)) is not None:
            self._cache.move_to_end(digest)
            return source
        flight = self._flights.get((digest, param)) or self._begin(spec, digest, param)
        try:
            return await asyncio.shield(flight)
        except asyncio.CancelledError:
            if self._closing.is_set() and flight.cancelled():
                raise _stopping() from None
            raise

    def _begin(self, spec: Spec, digest: bytes, param: str) -> asyncio.Task[str]:
        """A task for a spec that nobody else has asked for. It goes on when its client goes: others may want it."""
        if self._closing.is_set():
            raise _stopping()
        if len(self._flights) >= self._waiting_limit:
            raise QueueFullError("Too many grammars wait to be compiled.", retry_after_seconds=RETRY_SECONDS)
        key = (digest, param)
        flight = self._flights[key] = asyncio.create_task(self._compile(spec, digest, param), name="grammar")
        flight.add_done_callback(lambda done: self._land(key, done))
        return flight

    def _land(self, key: tuple[bytes, str], flight: asyncio.Task[str]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # looked at, also where nobody waits any more

    async def _compile(self, spec: Spec, digest: bytes, param: str) -> str:
        job = Job(next(self._numbers), spec, param)
        try:
            async with asyncio.timeout(self._longest_wait_seconds):
                await self._seats.acquire()
        except TimeoutError:
            message = f"No process was free to compile the grammar within {self._longest_wait_seconds:g} seconds."
            raise QueueFullError(message, retry_after_seconds=RETRY_SECONDS) from None
        compiler = self._free.popleft()
        try:
            source = await compiler.do(job, seconds=self._section().timeout)
        finally:
            self._free.appendleft(compiler)  # the one that runs is taken first
            self._seats.release()
        self._cache[digest] = source
        while len(self._cache) > self._section().cached:
            self._cache.popitem(last=False)
        return source


def _stopping() -> UnavailableError:
    return UnavailableError("The daemon is stopping.", retry_after_seconds=RETRY_SECONDS)
