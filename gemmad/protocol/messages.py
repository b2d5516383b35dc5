"""The wire between daemon and worker: two closed unions of frozen structs.

The first message each way carries the protocol's version. Images travel beside `Submit` as sealed memfds, one for each
entry of `prompt.images`, in their order: raw RGB bytes `[height, width, 3]` uint8, sized as the checkpoint's processor
wants them. A request id is the daemon's and is used for one submission only, so a late answer cannot be mistaken.
"""

from __future__ import annotations

from msgspec import Struct

from gemmad.generation import (
    Capacity,
    EngineLoad,
    EngineSettings,
    FinishReason,
    MemoryRow,
    Prompt,
    SamplingParams,
    TokenLogprobs,
)

PROTOCOL_VERSION = 2

EXIT_ASKED = 0
"""The worker was asked to stop."""
EXIT_SETTINGS = 3
"""Settings or weights that cannot work: no retry until they change."""
EXIT_DEVICE_LOST = 4
"""The GPU is gone or broken."""


class Message(Struct, frozen=True, tag=True):
    """One frame."""


# --- daemon → worker --------------------------------------------------------------------------------------------------


class Configure(Message, frozen=True):
    """First frame: build the engine from these settings."""

    protocol: int
    worker: str
    life: int
    settings: EngineSettings


class Submit(Message, frozen=True):
    """Generate. `generated` are tokens that this request has said already, in an earlier life or on another worker."""

    request_id: int
    prompt: Prompt
    sampling: SamplingParams
    generated: tuple[int, ...] = ()


class Abort(Message, frozen=True):
    """Forget a request; its pages are free within a step. Unknown ids are ignored (it may have just ended)."""

    request_id: int


class Drain(Message, frozen=True):
    """Finish what runs and waits, then exit with `EXIT_ASKED`."""


class Shutdown(Message, frozen=True):
    """Exit with `EXIT_ASKED` now."""


ToWorker = Configure | Submit | Abort | Drain | Shutdown

# --- worker → daemon --------------------------------------------------------------------------------------------------


class Loading(Message, frozen=True):
    """Sign of life before `Ready`; the first one carries the version."""

    protocol: int
    stage: str
    """imports, weights, memory, warm-up"""
    fraction: float


class Ready(Message, frozen=True):
    """The worker has served its own warm-up requests and takes others now."""

    capacity: Capacity
    pid: int
    seconds: float
    """From the process's start."""
    memory: tuple[MemoryRow, ...] = ()
    """The plan, as measured after the warm-up."""


class Output(Struct, frozen=True, array_like=True):
    """What one request said in one step."""

    request_id: int
    token_ids: tuple[int, ...]
    finish: FinishReason | None = None
    cached_tokens: int = 0
    """Prompt tokens that were not computed because a page held them; counts in the first output only."""
    logprobs: tuple[TokenLogprobs, ...] = ()
    """One for each of `token_ids`, if they were asked for."""


class Stepped(Message, frozen=True):
    """One step's tokens, for the whole batch."""

    step: int
    outputs: tuple[Output, ...]


class Rejected(Message, frozen=True):
    """A submission that this worker will never be able to serve; it holds nothing of it."""

    request_id: int
    reason: str


class Heartbeat(Message, frozen=True):
    """From the step loop itself, at least every second, also when idle."""

    load: EngineLoad


class Dying(Message, frozen=True):
    """Last words. The exit code follows."""

    exit_code: int
    reason: str


FromWorker = Loading | Ready | Stepped | Rejected | Heartbeat | Dying
