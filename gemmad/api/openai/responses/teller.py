"""Tells a reply as OpenAI's events: which may follow which, and what the response has become. Pure but for the clock.

    created queued? in_progress { item.added part.added text.delta* text.done part.done item.done
                        | item.added arguments.delta* arguments.done item.done }* (completed | incomplete)

A reply that fails ends with `error failed` instead, wherever it stands. A call that was cut off is begun and never
done, and not in the response: nobody must take half a call for a whole one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import UNSET
from msgspec.structs import replace

from gemmad.api.errors import answer
from gemmad.api.openai.responses import wire
from gemmad.api.openai.responses.items import FunctionCall, LikelyLogprob, Logprob, Message, OutputText, Status, new_id
from gemmad.api.openai.responses.tools import Called
from gemmad.api.openai.usage import UsageBody
from gemmad.api.pieces import CallDelta, Ending, LikelyToken, Piece, SaidToken
from gemmad.api.whole import is_object
from gemmad.errors import BusyError, InvalidRequestError
from gemmad.generation import Usage


@dataclass
class _OpenText:
    index: int
    id: str = field(default_factory=lambda: new_id("msg"))
    texts: list[str] = field(default_factory=list)
    logprobs: list[Logprob] = field(default_factory=list)


@dataclass
class _OpenCall:
    index: int
    number: int
    """Which of the reply's calls."""
    call: FunctionCall
    arguments: list[str] = field(default_factory=list)


class Teller:
    """Of one response, with one choice. Each call returns the events that follow, in order."""

    def __init__(
        self,
        response: wire.Response,
        *,
        names: Mapping[str, Called],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`response` is what it is before anything is said; `names` are the client's, by the model's."""
        self.response = response
        self._names = names
        self._clock = clock
        self._sequence = 0
        self._begun = False
        self._output: list[wire.OutputItem] = []
        self._opened = 0
        self._open: _OpenText | _OpenCall | None = None
        self._finish: Ending | None = None

    def begin(self) -> list[wire.Event]:
        """Nothing, the second time."""
        if self._begun:
            return []
        self._begun = True
        events: list[wire.Event] = []
        if self.response.background:
            events = [wire.Created(self._next(), self.response), wire.Queued(self._next(), self.response)]
        self.response = replace(self.response, status="in_progress")
        if not events:
            events = [wire.Created(self._next(), self.response)]
        return [*events, wire.InProgress(self._next(), self.response)]

    def hear(self, piece: Piece) -> list[wire.Event]:
        """What a piece says."""
        events: list[wire.Event] = []
        if piece.text or (piece.logprobs and isinstance(self._open, _OpenText)):
            events += self._hear_text(piece)
        for delta in piece.calls:
            events += self._hear_call(delta)
        if piece.finish is not None:
            self._finish = piece.finish
            if self._open is None and not self._output and piece.finish != "length":
                events += self._open_text()
            events += self._close("incomplete" if piece.finish == "length" else "completed")
        return events

    def end(self, usage: Usage) -> list[wire.Event]:
        """The reply has finished."""
        told = UsageBody.of(usage)
        if self._finish == "length":
            self._settle("incomplete", incomplete_details=wire.IncompleteDetails(), usage=told)
            return [wire.Incomplete(self._next(), self.response)]
        self._settle("completed", completed_at=int(self._clock()), usage=told)
        return [wire.Completed(self._next(), self.response)]

    def fail(self, error: Exception) -> list[wire.Event]:
        """The reply will not be finished."""
        events = self.begin()
        told = answer(error).error
        code: wire.ErrorCode = "server_error"
        if isinstance(error, BusyError):
            code = "rate_limit_exceeded"
        elif isinstance(error, InvalidRequestError):
            code = "invalid_prompt"
        self._settle("failed", error=wire.ErrorDetails(code, told.message))
        failure = wire.Failure(self._next(), told.code, told.message, told.param)
        return [*events, failure, wire.Failed(self._next(), self.response)]

    def cancel(self) -> None:
        """Nobody wants the rest."""
        self._settle("cancelled")

    def _settle(self, status: wire.ResponseStatus, **changed: object) -> None:
        self.response = replace(self.response, status=status, output=tuple(self._output), **changed)

    def _next(self) -> int:
        number, self._sequence = self._sequence, self._sequence + 1
        return number

    # --- text ---------------------------------------------------------------------------------------------------------

    def _hear_text(self, piece: Piece) -> list[wire.Event]:
        events: list[wire.Event] = [] if isinstance(self._open, _OpenText) else self._open_text()
        assert isinstance(self._open, _OpenText)
        logprobs = tuple(map(_logprob, piece.logprobs))
        self._open.texts.append(piece.text)
        self._open.logprobs.extend(logprobs)
        delta = wire.TextDelta(self._next(), self._open.id, self._open.index, 0, piece.text, logprobs)
        return [*events, delta]

    def _open_text(self) -> list[wire.Event]:
        events = self._close("completed")
        self._open = opened = _OpenText(self._take_index())
        message = Message(opened.id, "assistant", (), "in_progress")
        return [
            *events,
            wire.ItemAdded(self._next(), opened.index, message),
            wire.PartAdded(self._next(), opened.id, opened.index, 0, OutputText("")),
        ]

    def _close_text(self, opened: _OpenText, status: Status) -> list[wire.Event]:
        text, logprobs = "".join(opened.texts), tuple(opened.logprobs)
        part = OutputText(text, logprobs=logprobs)
        message = Message(opened.id, "assistant", (part,), status)
        self._output.append(message)
        return [
            wire.TextDone(self._next(), opened.id, opened.index, 0, text, logprobs),
            wire.PartDone(self._next(), opened.id, opened.index, 0, part),
            wire.ItemDone(self._next(), opened.index, message),
        ]

    # --- calls --------------------------------------------------------------------------------------------------------

    def _hear_call(self, delta: CallDelta) -> list[wire.Event]:
        events: list[wire.Event] = []
        if not isinstance(self._open, _OpenCall) or self._open.number != delta.index:
            events = self._open_call(delta)
        assert isinstance(self._open, _OpenCall)
        if delta.arguments:
            self._open.arguments.append(delta.arguments)
            events.append(wire.ArgumentsDelta(self._next(), self._open.call.id, self._open.index, delta.arguments))
        return events

    def _open_call(self, delta: CallDelta) -> list[wire.Event]:
        assert delta.id is not None
        assert delta.name is not None
        events = self._close("completed")
        called = self._names.get(delta.name, Called(delta.name))
        namespace = called.namespace or UNSET
        call = FunctionCall(new_id("fc"), delta.id, called.name, "", "in_progress", namespace)
        self._open = opened = _OpenCall(self._take_index(), delta.index, call)
        return [*events, wire.ItemAdded(self._next(), opened.index, call)]

    def _close_call(self, opened: _OpenCall, status: Status) -> list[wire.Event]:
        arguments = "".join(opened.arguments)
        if status == "incomplete" and not (arguments and is_object(arguments)):
            return []
        call = replace(opened.call, arguments=arguments, status="completed")
        self._output.append(call)
        return [
            wire.ArgumentsDone(self._next(), call.id, opened.index, call.name, arguments),
            wire.ItemDone(self._next(), opened.index, call),
        ]

    # --- both ---------------------------------------------------------------------------------------------------------

    def _take_index(self) -> int:
        index, self._opened = self._opened, self._opened + 1
        return index

    def _close(self, status: Status) -> list[wire.Event]:
        opened, self._open = self._open, None
        if opened is None:
            return []
        return self._close_text(opened, status) if isinstance(opened, _OpenText) else self._close_call(opened, status)


class ResponseVoice:
    """A teller whose events are bytes. `settled` is told of the response once it has ended."""

    def __init__(self, teller: Teller, *, settled: Callable[[wire.Response], None] = lambda _response: None) -> None:
        self._teller = teller
        self._settled = settled

    def begin(self) -> bytes:
        """Nothing, if a ping has begun it."""
        return joined(self._teller.begin())

    def say(self, piece: Piece) -> bytes:
        """The piece."""
        return joined(self._teller.hear(piece))

    def end(self, usage: Usage) -> bytes:
        """The response, whole."""
        events = self._teller.end(usage)
        self._settled(self._teller.response)
        return joined(events)

    def fail(self, error: Exception) -> bytes:
        """The response, as far as it came."""
        return joined(self._teller.fail(error))

    def ping(self) -> bytes:
        """A comment; the first one, before anything was said, tells of the response instead."""
        return self.begin() or b": ping\n\n"


def joined(events: Sequence[wire.Event]) -> bytes:
    """As they are sent."""
    return b"".join(map(wire.sse, events))


def _likely(token: LikelyToken) -> LikelyLogprob:
    return LikelyLogprob(token.text, tuple(token.bytes), token.logprob)


def _logprob(token: SaidToken) -> Logprob:
    return Logprob(token.text, tuple(token.bytes), token.logprob, tuple(map(_likely, token.top)))
