"""One choice of a reply: from its worker's tokens to pieces that a client can be shown."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from gemmad.api.pieces import Ending, LikelyToken, Piece, Said, SaidToken
from gemmad.dispatch.ticket import Progress
from gemmad.generation import FinishReason, TokenLogprobs
from gemmad.text.calls import CallReader, Heard
from gemmad.text.reply import ReplyText
from gemmad.text.spelling import Spelling


class Trail:
    """Tokens whose log-probabilities are told, each with the piece that first shows some of its text.

    So what is held back because a stop string may begin, or a character is not whole, is held back here too, and what a
    stop string swallows is never told.
    """

    def __init__(self, spelling: Spelling) -> None:
        self._spelling = spelling
        self._held: deque[tuple[int, int, SaidToken]] = deque()
        """How many characters had been written before it, its id, and it."""

    def hold(self, token_id: int, logprobs: TokenLogprobs, *, before: int, after: int) -> None:
        """A token that was drawn, and how many characters had been written before and after it."""
        spelled, likely = self._spelling[token_id], self._likely
        written = before if spelled.characters is None else max(before, after - spelled.characters)
        top = tuple(likely(each, logprob) for each, logprob in zip(logprobs.top_ids, logprobs.top, strict=True))
        self._held.append((written, token_id, SaidToken(spelled.text, spelled.bytes, logprobs.token, top)))

    def release(self, *, shown: int) -> tuple[SaidToken, ...]:
        """Those of whose text the first `shown` characters have some; a token without text waits for the next one's."""
        released: list[SaidToken] = []
        while self._held and self._held[0][0] < shown:
            released.append(self._held.popleft()[2])
        return tuple(released)

    def release_all(self) -> tuple[SaidToken, ...]:
        """Those that were held, at the end of a reply that no stop string has ended."""
        released = tuple(token for _, _, token in self._held)
        self._held.clear()
        return released

    def drop_last(self, is_silent: Callable[[int], bool]) -> None:
        """Forget the token that ended the reply if it says nothing."""
        if self._held and is_silent(self._held[-1][1]):
            self._held.pop()

    def _likely(self, token_id: int, logprob: float) -> LikelyToken:
        spelled = self._spelling[token_id]
        return LikelyToken(spelled.text, spelled.bytes, logprob)


class Speaker:
    """Feed it what its ticket says."""

    def __init__(
        self, index: int, text: ReplyText, *, trail: Trail | None = None, calls: CallReader | None = None
    ) -> None:
        """A `trail` where log-probabilities are told, `calls` where there can be any."""
        self._index = index
        self._text = text
        self._trail = trail
        self._calls = calls
        self._shown = 0
        self._released: tuple[SaidToken, ...] = ()
        """Tokens of text that may yet be a call's."""

    @property
    def tokens(self) -> int:
        """That the choice is made of so far."""
        return self._text.tokens

    def take(self, progress: Progress) -> Piece | None:
        """What can be shown now, and the end if it is one; after it nothing more may be fed."""
        text, trail = self._text, self._trail
        said = text.feed(progress.token_ids) if trail is None else self._feed_traced(progress, trail)
        over = progress.finish is not None or text.stop is not None
        if over:
            said += text.finish()
        if trail is not None or self._calls is not None:
            return self._piece(said, progress.finish, over=over)
        if over:
            return Piece(self._index, said, _ending(text, progress.finish), stop=text.stop)
        return Piece(self._index, said) if said else None

    def whole(self, pieces: Iterable[Piece]) -> Said:
        """All its pieces put together; a call that was cut off is left out."""
        *_, last = pieces = list(pieces)
        assert last.finish is not None
        return Said(
            "".join(piece.text for piece in pieces),
            last.finish,
            () if self._calls is None else tuple(self._calls.calls),
            None if self._trail is None else tuple(token for piece in pieces for token in piece.logprobs),
            last.stop,
        )

    def _feed_traced(self, progress: Progress, trail: Trail) -> str:
        text, said = self._text, ""
        for token_id, logprobs in zip(progress.token_ids, progress.logprobs, strict=True):
            if text.stopped:
                break
            before = text.written
            said += text.feed((token_id,))
            trail.hold(token_id, logprobs, before=before, after=text.written)
        return said

    def _piece(self, said: str, finish: FinishReason | None, *, over: bool) -> Piece | None:
        """One with calls or log-probabilities."""
        heard = self._hear(said, over=over)
        if self._trail is not None:
            self._shown += len(said)
            if finish is FinishReason.STOP:
                self._trail.drop_last(self._text.is_silent)
            self._released += self._trail.release(shown=self._shown)
            if over and not self._text.stopped:
                self._released += self._trail.release_all()
        if not (over or heard.text or heard.calls):
            return None
        released, self._released = self._released, ()
        if not over:
            return Piece(self._index, heard.text, None, heard.calls, released)
        ending = _ending(self._text, finish)
        if ending == "stop" and self._calls is not None and self._calls.calls and not self._calls.is_cut:
            ending = "tool_calls"
        return Piece(self._index, heard.text, ending, heard.calls, released, self._text.stop)

    def _hear(self, said: str, *, over: bool) -> Heard:
        if self._calls is None:
            return Heard(said)
        heard = self._calls.feed(said)
        if not over:
            return heard
        rest = self._calls.finish()
        return Heard(heard.text + rest.text, heard.calls + rest.calls)


def _ending(text: ReplyText, finish: FinishReason | None) -> Ending:
    return "length" if finish is FinishReason.LENGTH and not text.stopped else "stop"
