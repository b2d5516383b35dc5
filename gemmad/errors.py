"""What can go wrong, by whose fault. Raised where it is known, translated once at the edge."""

from __future__ import annotations


class GemmadError(Exception):
    """Everything that gemmad raises on purpose."""


# --- the client's fault ---------------------------------------------------------------------------------------------


class InvalidRequestError(GemmadError):
    """A request that cannot be honoured as it stands; `param` is the path of the field that is to blame."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


class ContextLengthError(InvalidRequestError):
    """The prompt, or prompt and requested reply, is longer than the context that is served."""

    def __init__(
        self,
        message: str,
        *,
        param: str = "messages",
        prompt_tokens: int | None = None,
        limit_tokens: int | None = None,
    ) -> None:
        """`limit_tokens`: what prompt and reply may have together."""
        super().__init__(message, param=param, code="context_length_exceeded")
        self.prompt_tokens = prompt_tokens
        self.limit_tokens = limit_tokens


class UnknownModelError(InvalidRequestError):
    """A model that this daemon does not serve."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The model {name[:200]!r} does not exist.", param="model", code="model_not_found")


class UnknownResponseError(InvalidRequestError):
    """A response that is not stored, for whoever asks."""

    REASONS = "It was never stored, has been deleted, or newer ones have taken its room"

    def __init__(self, response_id: str) -> None:
        super().__init__(
            f"Response with id '{response_id[:128]}' not found. {self.REASONS}.", code="response_not_found"
        )


class BodyTooLargeError(InvalidRequestError):
    """A request body over `server.max_body`."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The request body is larger than the limit of {limit_bytes} bytes.", code="body_too_large")


class UnauthorizedError(GemmadError):
    """A wrong API key. The edge has its own words for it, so that nothing of the key is told."""


class MissingKeyError(UnauthorizedError):
    """No API key where one is needed."""


class ForeignPageError(GemmadError):
    """A web page of another origin, which nobody has allowed to call."""


class MisdirectedError(GemmadError):
    """A request for a host that this server is not."""


# --- nobody's fault: come back later ----------------------------------------------------------------------------------


class BusyError(GemmadError):
    """No room or no one to serve the request now. `retry_after_seconds` is an honest guess of when there will be."""

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_seconds = retry_after_seconds


class QueueFullError(BusyError):
    """The waiting queue is at its bound, or the request waited its longest."""


class TooManyAtOnceError(QueueFullError):
    """More requests under way than one key may have."""


class UnavailableError(BusyError):
    """Loading, draining, or without a worker."""


# --- the daemon's or a worker's fault ----------------------------------------------------------------------


class RequestFailedError(GemmadError):
    """An admitted request that ended without an answer."""

    def __init__(self, message: str, *, code: str, retryable: bool = True) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.retryable = retryable


class ProtocolError(GemmadError):
    """The other end of a wire sent what the protocol does not allow."""


# --- the operator's fault -------------------------------------------------------------------------------


class ConfigError(GemmadError):
    """Settings that cannot be used; the message says which and why, one line for each."""


class CheckpointError(GemmadError):
    """A model folder that is missing, incomplete or not a Gemma 3 checkpoint."""


class MemoryPlanError(GemmadError):
    """Settings that ask for more memory than there is; the message has the numbers and the largest that would fit."""
