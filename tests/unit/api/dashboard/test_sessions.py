from __future__ import annotations

from hashlib import sha256

from gemmad.api.dashboard.sessions import MOST_SESSIONS, SESSION_SECONDS, TOKEN_PREFIX, Sessions


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_session() -> None:
    """The token that was given finds its session, and no other does."""
    sessions = Sessions()
    token, session = sessions.begin(uid=1000)
    assert token.startswith(TOKEN_PREFIX)
    assert sessions.find(token) == session
    assert session.uid == 1000
    for other in ("", token[:-1], token + "x", token.upper(), TOKEN_PREFIX, "\udcff" + token):
        assert sessions.find(other) is None
    assert sessions.begin()[0] != token


def test_nothing_of_a_token_is_kept() -> None:
    """What is in memory is a digest, what can be printed is a part of that."""
    sessions = Sessions()
    token, session = sessions.begin()
    assert session.name == sha256(token.encode()).hexdigest()[:8]
    secret = token.removeprefix(TOKEN_PREFIX)
    assert len(secret) == 43  # 256 bits
    assert secret not in str(vars(sessions))
    assert repr(sessions) == "Sessions(1)"


def test_it_ends() -> None:
    """After twelve hours a token is worth nothing."""
    clock = Clock()
    sessions = Sessions(clock=clock)
    token, session = sessions.begin()
    clock.now = SESSION_SECONDS - 1
    assert sessions.find(token) == session
    assert sessions.is_on(session)
    clock.now = SESSION_SECONDS
    assert sessions.find(token) is None
    assert not sessions.is_on(session)
    assert len(sessions) == 0


def test_there_are_few() -> None:
    """One too many ends the oldest."""
    sessions = Sessions()
    tokens = [sessions.begin()[0] for _ in range(MOST_SESSIONS + 1)]
    assert sessions.find(tokens[0]) is None
    assert all(sessions.find(token) is not None for token in tokens[1:])
    assert len(sessions) == MOST_SESSIONS
