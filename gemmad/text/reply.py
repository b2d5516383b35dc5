"""What a client sees of a reply while its tokens arrive."""

from __future__ import annotations

from collections.abc import Sequence

from gemmad.text.checkpoint import TextModel
from gemmad.text.detokenizer import Detokenizer
from gemmad.text.stops import StopMatcher


class ReplyText:
    """The text of one reply: whole characters only, up to the first stop string.

    Its state depends on the tokens that were fed and on nothing else, not even on how they were grouped: fed again,
    they say the same.
    """

    def __init__(self, model: TextModel, *, stop: Sequence[str] = (), stop_token_ids: Sequence[int] = ()) -> None:
        """`stop_token_ids` say nothing, whatever text they have. Raises InvalidRequestError on impossible `stop`."""
        self._detokenizer = Detokenizer(model.texts)
        self._matcher = StopMatcher(stop)
        self._silent = frozenset(stop_token_ids)
        self.tokens = 0
        """Tokens that the reply is made of so far; the one that completed a stop string is the last."""
        self._written = 0

    @property
    def written(self) -> int:
        """Characters that they have made, those that are held back included."""
        return self._written + self._detokenizer.held

    @property
    def stopped(self) -> bool:
        """Whether a stop string was met; nothing comes after it."""
        return self._matcher.stopped

    @property
    def stop(self) -> str | None:
        """The stop string that was met."""
        return self._matcher.met

    def is_silent(self, token_id: int) -> bool:
        """Whether it is one of `stop_token_ids`."""
        return token_id in self._silent

    def feed(self, token_ids: Sequence[int]) -> str:
        """The text that is now certain to be shown. Tokens after a stop string are not counted."""
        shown: list[str] = []
        for token_id in token_ids:
            if self.stopped:
                break
            self.tokens += 1
            if token_id not in self._silent:
                text = self._detokenizer.feed((token_id,))
                self._written += len(text)
                shown.append(self._matcher.feed(text))
        return "".join(shown)

    def finish(self) -> str:
        """What was held back, now that no more tokens come; it may still complete a stop string."""
        return self._matcher.feed(self._detokenizer.finish()) + self._matcher.finish()
