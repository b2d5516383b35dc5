"""Sessions of the dashboard: whoever has the token of one may look and act, until it is over.

Wardens get one over the control socket. A token is 256 random bits, so there is nothing to guess; the daemon keeps its
SHA-256 only, in memory, and all sessions end with the daemon.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from hashlib import sha256

from msgspec import Struct

TOKEN_PREFIX = "gemmad-session-"  # noqa: S105 - what tokens begin with is no secret
"""So that people, and programs that look for leaked secrets, know what it is."""
TOKEN_BYTES = 32
SESSION_SECONDS = 12 * 3600.0
MOST_SESSIONS = 16
"""One more ends the oldest."""
NAME_CHARACTERS = 8


class Session(Struct, frozen=True):
    """Somebody who was given a token."""

    name: str
    """For the log; the token cannot be read off it."""
    ends_at: float
    """On the sessions' clock."""
    uid: int | None = None
    """Who asked for it."""


class Sessions:
    """All that are not over."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, seconds: float = SESSION_SECONDS) -> None:
        self._clock = clock
        self._seconds = seconds
        self._by_digest: dict[bytes, Session] = {}
        """The oldest first."""

    def begin(self, *, uid: int | None = None) -> tuple[str, Session]:
        """A new one, and its token, which is not kept."""
        self._forget_those_over()
        while len(self._by_digest) >= MOST_SESSIONS:
            self._by_digest.pop(next(iter(self._by_digest)))
        token = TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
        digest = _digest(token)
        session = Session(digest.hex()[:NAME_CHARACTERS], self._clock() + self._seconds, uid)
        self._by_digest[digest] = session
        return token, session

    def find(self, token: str) -> Session | None:
        """Whose `token` is, None if nobody's. How long it takes does not depend on how much of a token is right."""
        self._forget_those_over()
        digest = _digest(token)
        found: Session | None = None
        for known, session in self._by_digest.items():
            if hmac.compare_digest(known, digest):
                found = session
        return found

    def is_on(self, session: Session) -> bool:
        """Whether it is not over yet."""
        self._forget_those_over()
        return session in self._by_digest.values()

    def __len__(self) -> int:
        self._forget_those_over()
        return len(self._by_digest)

    def __repr__(self) -> str:
        return f"Sessions({len(self)})"  # whatever prints it shows no digests

    def _forget_those_over(self) -> None:
        now = self._clock()
        for digest in [digest for digest, session in self._by_digest.items() if session.ends_at <= now]:
            del self._by_digest[digest]


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogateescape")).digest()
