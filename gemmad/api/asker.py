"""Who asks, for fairness between those who do."""

from __future__ import annotations

import secrets
from hashlib import blake2b

from starlette.requests import Request

_SECRET = secrets.token_bytes(32)
"""Names mean nothing outside this process, and nobody can find a key by trying them."""


def asker(request: Request) -> str:
    """One name for all requests with the same `Authorization`; without one, for those from the same address.

    Keys are not checked here, so somebody who invents one for each request has as many shares. The name is neither
    logged nor told.
    """
    authorization = request.headers.get("authorization", "").strip()
    if authorization.lower() not in ("", "bearer"):
        return f"key {blake2b(authorization.encode(), key=_SECRET, digest_size=16).hexdigest()}"
    return f"address {request.client.host}" if request.client else "local"
