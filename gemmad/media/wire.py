"""What the daemon and a media process say to each other, over a socketpair, in the frames of `gemmad.protocol`.

`Begin` is the first frame down and `Idle` the first one up. Then each `Job` is answered by one `Done`, which carries
the sealed memfd, or one `Refused`; there is never more than one job under way.
"""

from __future__ import annotations

from msgspec import Struct

from gemmad.media.spec import ImageSpec


class Message(Struct, frozen=True, tag=True):
    """One frame."""


# --- daemon → media process -------------------------------------------------------------------------------------------


class Begin(Message, frozen=True):
    """What every picture becomes, and the address space that one may take."""

    spec: ImageSpec
    memory_bytes: int


class Job(Message, frozen=True):
    """Get, decode and resize one picture, under the limits of the moment."""

    number: int
    url: str
    max_bytes: int
    max_pixels: int
    allow_private: bool
    seconds: float
    """For the whole job; the daemon kills a process that takes longer."""


ToMedia = Begin | Job

# --- media process → daemon -------------------------------------------------------------------------------------------


class Idle(Message, frozen=True):
    """Confined and ready for a job."""


class Done(Message, frozen=True):
    """The picture; its memfd rides on this frame."""

    number: int
    digest: str
    leaving: bool = False
    """The process ends now, since it has grown; it takes no other job."""


class Refused(Message, frozen=True):
    """No picture, and by whose fault: the client's, who may read `message`."""

    number: int
    message: str
    code: str
    detail: str = ""
    """For the log only: what a library said."""
    leaving: bool = False


FromMedia = Idle | Done | Refused
