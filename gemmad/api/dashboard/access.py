"""Who may look at the dashboard's data, and who may act.

To look takes nothing where no API key is set, else an operator's key or a session. To act always takes one of the two:
whoever can connect may ask the model something, and not take its workers away.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from gemmad.api.auth import holder_of, keys_sent, session_of
from gemmad.api.operator import RefusedError
from gemmad.api.services import Services

_LOOK = "This key may ask the model, and not look at the daemon: that takes an operator's key (auth.admin_keys_file)"
_ACT = "To change something takes an operator's key (auth.admin_keys_file)"
_SESSION = "or a session, which `gemmad dashboard` begins on the machine that gemmad runs on."
_OVER = "This session is over, or never was: `gemmad dashboard` begins one on the machine that gemmad runs on."


def admit_to_look(request: Request, services: Services) -> bool:
    """Whether the one who asks may act too. Raises RefusedError for one who may not even look."""
    may_act = _may_act(request)
    if services.keyring() and not may_act:
        raise RefusedError(403, f"{_LOOK} {_SESSION}", code="forbidden")
    return may_act


def admit_to_act(request: Request) -> dict[str, Any]:
    """Who asks, for the log. Raises RefusedError."""
    session, holder = session_of(request), holder_of(request)
    if session is not None:
        return {"session": session.name, "uid": session.uid}
    if holder is not None and holder.admin:
        return {"key": holder.name}
    if holder is None and any(keys_sent(request.headers)):
        raise RefusedError(401, _OVER, code="invalid_session")
    raise RefusedError(403, f"{_ACT} {_SESSION}", code="forbidden")


def _may_act(request: Request) -> bool:
    holder = holder_of(request)
    return session_of(request) is not None or (holder is not None and holder.admin)
