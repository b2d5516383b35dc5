"""What the daemon and a grammar process say to each other, over a socketpair, in the frames of `gemmad.protocol`.

`Begin` is the first frame down and `Idle` the first one up. Then each `Job` is answered by one `Done` or one `Refused`;
there is never more than one job under way.
"""

from __future__ import annotations

from msgspec import Struct

from gemmad.grammar.spec import Spec


class Message(Struct, frozen=True, tag=True):
    """One frame."""


# --- daemon → grammar process -----------------------------------------------------------------------------------------


class Begin(Message, frozen=True):
    """Whose vocabulary, and the address space that one job may take."""

    checkpoint: str
    vocab_size: int
    stop_token_ids: tuple[int, ...]
    memory_bytes: int


class Job(Message, frozen=True):
    """Make a source of a spec, which stands in the request's field `param`."""

    number: int
    spec: Spec
    param: str


ToGrammar = Begin | Job

# --- grammar process → daemon -----------------------------------------------------------------------------------------


class Idle(Message, frozen=True):
    """Confined and ready for a job."""


class Done(Message, frozen=True):
    """A source that compiles."""

    number: int
    source: str
    leaving: bool = False
    """The process ends now, since it has grown; it takes no other job."""


class Refused(Message, frozen=True):
    """The client's fault, who may read it."""

    number: int
    message: str
    param: str | None
    code: str | None
    leaving: bool = False


FromGrammar = Idle | Done | Refused
