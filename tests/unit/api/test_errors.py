from __future__ import annotations

import inspect
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from gemmad import errors
from gemmad.api.errors import MESSAGE_LIMIT, TABLE, answer, retry_after

ERRORS: list[Exception] = [
    errors.InvalidRequestError("bad", param="stop", code="invalid_value"),
    errors.ContextLengthError("too long"),
    errors.UnknownModelError("gpt"),
    errors.BodyTooLargeError(5),
    errors.UnauthorizedError("sk-secret"),
    errors.QueueFullError("full", retry_after_seconds=3),
    errors.UnavailableError("loading", retry_after_seconds=3),
    errors.RequestFailedError("lost", code="worker_lost"),
    errors.ProtocolError("broken"),
    ValueError("ours"),
    HTTPException(404, "no such thing"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_kind_has_the_same_body(error: Exception) -> None:
    """Whatever is raised, the body is OpenAI's: four keys, all strings, param and code may be null."""
    told = answer(error)
    body = json.loads(told.body())["error"]
    assert body.keys() == {"message", "type", "param", "code"}
    assert body["message"]
    assert isinstance(body["type"], str)
    assert isinstance(body["code"], str)
    assert 400 <= told.status < 600


def test_every_kind_of_client_and_server_fault_has_its_row() -> None:
    """A new kind of error that a client can be told must be put into the table."""
    operators = {errors.ConfigError, errors.CheckpointError, errors.MemoryPlanError, errors.ProtocolError}
    abstract = {errors.GemmadError, errors.BusyError}
    kinds = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.GemmadError)}
    assert kinds - operators - abstract <= TABLE.keys()


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.InvalidRequestError("bad"), 400, None),
        (errors.ContextLengthError("long"), 400, "context_length_exceeded"),
        (errors.UnauthorizedError(), 401, "invalid_api_key"),
        (errors.UnknownModelError("gpt"), 404, "model_not_found"),
        (errors.BodyTooLargeError(5), 413, "body_too_large"),
        (errors.QueueFullError("full", retry_after_seconds=1), 429, "queue_full"),
        (errors.UnavailableError("loading", retry_after_seconds=1), 503, "service_unavailable"),
        (errors.RequestFailedError("lost", code="worker_lost"), 500, "worker_lost"),
        (KeyError("x"), 500, "internal_error"),
    ],
)
def test_statuses_and_codes(error: Exception, status: int, code: str | None) -> None:
    """Each kind has its status and its code."""
    told = answer(error)
    assert (told.status, told.error.code) == (status, code)


def test_who_may_try_again() -> None:
    """x-should-retry says what the error itself knows, and nothing where the status says enough."""
    lost = errors.RequestFailedError("lost", code="worker_lost")
    poison = errors.RequestFailedError("poison", code="worker_lost", retryable=False)
    assert answer(lost).headers["x-should-retry"] == "true"
    assert answer(poison).headers["x-should-retry"] == "false"
    assert answer(ValueError("ours")).headers["x-should-retry"] == "false"
    assert "x-should-retry" not in answer(errors.InvalidRequestError("bad")).headers


def test_a_wrong_key_is_never_told() -> None:
    """An authentication error challenges, and shows nothing of what was sent."""
    told = answer(errors.UnauthorizedError("sk-secret"))
    assert told.headers["WWW-Authenticate"] == "Bearer"
    assert told.error.type == "authentication_error"
    assert b"sk-secret" not in told.body()


def test_what_nobody_foresaw_tells_nothing() -> None:
    """The text of an unforeseen error stays in the log."""
    assert b"/etc/shadow" not in answer(OSError("/etc/shadow")).body()


def test_a_message_is_short() -> None:
    """An error does not echo a large body."""
    told = answer(errors.InvalidRequestError("x" * 1_000_000))
    assert len(told.error.message) == MESSAGE_LIMIT


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_retry_after_is_what_clients_understand(seconds: float) -> None:
    """Whole seconds from 1 to 120, and milliseconds that are no longer than those."""
    headers = retry_after(seconds)
    assert 1 <= int(headers["Retry-After"]) <= 120
    assert 0 < int(headers["retry-after-ms"]) <= int(headers["Retry-After"]) * 1000
