"""Who is at the other end of the control socket, and what they may."""

from __future__ import annotations

from msgspec import Struct
from starlette.requests import Request


class Peer(Struct, frozen=True):
    """A process on this machine, as the kernel vouches for it: who it was when it connected."""

    pid: int
    uid: int
    groups: frozenset[int]
    """Ids of all its groups."""


class Wardens(Struct, frozen=True):
    """Who may change something. Reading is for everyone who can reach the socket."""

    uid: int
    """The daemon's own user."""
    group: int | None
    """Id of the group of operators, if there is one on this machine."""
    group_name: str

    def admit(self, peer: Peer) -> bool:
        """Whether this peer is one of them."""
        return peer.uid in (0, self.uid) or (self.group is not None and self.group in peer.groups)

    @property
    def words(self) -> str:
        """Who they are, for whom they refuse."""
        own = f", the daemon's own user (uid {self.uid})" if self.uid else ""
        return f"root{own} and members of the group {self.group_name}"


def peer_of(request: Request) -> Peer:
    """Who asks, as the server of the control socket noted when they connected."""
    peer: Peer = request.scope["state"]["peer"]
    return peer
