"""One grammar process and its jobs: started with the first one, killed when it overruns, replaced when it is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gemmad.errors import InvalidRequestError, UnavailableError
from gemmad.grammar.wire import Begin, Done, FromGrammar, Idle, Job, Refused
from gemmad.logs import bound_fields, get_logger
from gemmad.media.child import Child

START_SECONDS = 30.0
"""A process that is not ready after so long is killed."""

Said = Idle | Done | Refused

log = get_logger(__name__)


class Compiler:
    """The only one that speaks to its process. One job at a time."""

    def __init__(self, command: Sequence[str], begin: Begin, *, start_seconds: float = START_SECONDS) -> None:
        self.deaths = 0
        """Processes that ended without being asked to, or had to be killed."""
        self._command = command
        self._begin = begin
        self._start_seconds = start_seconds
        self._child: Child[Said] | None = None
        self._dying: set[Child[Said]] = set()
        self._expected: asyncio.Future[Said] | None = None
        self._bound: dict[str, str] = {}
        """What the process says next, while somebody waits for it."""

    async def do(self, job: Job, *, seconds: float) -> str:
        """The source of a spec. Raises InvalidRequestError, also for what took longer than `seconds` or ended the
        process, and UnavailableError if none starts."""
        child = self._child or await self._start()
        try:
            said = await self._hear(child, job, seconds)
        except TimeoutError:
            raise _too_complex(f"The grammar took longer than {seconds:g} seconds to compile.", job) from None
        except ConnectionError:
            raise _too_complex("The grammar could not be compiled: it takes too much memory.", job) from None
        match said:
            case Done(number=number) | Refused(number=number) if number == job.number:
                if said.leaving:
                    self._lose(child, "it has grown", at_fault=False)
            case _:
                self._lose(child, "it said what it was not asked")
                raise _too_complex("The grammar could not be compiled.", job)
        if isinstance(said, Done):
            return said.source
        assert isinstance(said, Refused)
        raise InvalidRequestError(said.message, param=said.param, code=said.code)

    def close(self) -> None:
        """End the process. Nothing is left running when it returns."""
        for child in {self._child, *self._dying} - {None}:
            assert child is not None
            child.close()
        self._child = None
        self._dying.clear()

    async def _start(self) -> Child[Said]:
        try:
            child = Child(self._command, self._begin, on_said=self._said, on_gone=self._gone, union=FromGrammar)
        except OSError as error:
            log.warning("grammar process could not be spawned", reason=str(error))
            raise UnavailableError("Grammars cannot be compiled just now.", retry_after_seconds=5) from error
        self._child = child
        try:
            await self._hear(child, None, self._start_seconds)
        except (TimeoutError, ConnectionError) as error:
            raise UnavailableError("Grammars cannot be compiled just now.", retry_after_seconds=5) from error
        log.debug("grammar process ready", pid=child.pid)
        return child

    async def _hear(self, child: Child[Said], job: Job | None, seconds: float) -> Said:
        """Send it the job, if any, and wait for what it says. Whoever gives up waiting loses the process. Raises
        TimeoutError, and ConnectionError if it dies."""
        expected: asyncio.Future[Said] = asyncio.get_running_loop().create_future()
        self._expected, self._bound = expected, bound_fields()
        if job is not None:
            child.send(job)
        try:
            async with asyncio.timeout(seconds):
                return await expected
        except TimeoutError:
            self._lose(child, "it took too long")
            raise
        except asyncio.CancelledError:
            self._lose(child, "nobody waits for it", at_fault=False)
            raise
        finally:
            self._expected, self._bound = None, {}

    def _said(self, child: Child[Said], message: Said) -> None:
        if child is not self._child:
            return
        if self._expected is None or self._expected.done():
            self._lose(child, "it said what it was not asked")
        else:
            self._expected.set_result(message)

    def _gone(self, child: Child[Said], reason: str) -> None:
        """It is dead and reaped."""
        self._dying.discard(child)
        if child is not self._child:
            return
        self._child = None
        self.deaths += 1
        over_a_grammar = self._expected is not None
        log.warning("grammar process died", pid=child.pid, reason=reason, over_a_grammar=over_a_grammar, **self._bound)
        if self._expected is not None and not self._expected.done():
            self._expected.set_exception(ConnectionError(reason))

    def _lose(self, child: Child[Said], reason: str, *, at_fault: bool = True) -> None:
        if child is not self._child:
            return
        self._child = None
        self._dying.add(child)
        child.kill()
        if at_fault:
            self.deaths += 1
            log.warning("grammar process killed", pid=child.pid, reason=reason)


def _too_complex(message: str, job: Job) -> InvalidRequestError:
    return InvalidRequestError(message, param=job.param, code="grammar_too_complex")
