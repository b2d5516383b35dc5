"""Who asks, for fairness between those who do."""

from __future__ import annotations

import secrets
from hashlib import blake2b

from starlette.requests import Request

from gemmad.api.auth import holder_of

_SECRET = secrets.token_bytes(32)
"""Names mean nothing outside this process, and nobody can find a key by trying them."""


def asker(request: Request) -> str:
    """One name for all requests of one holder of API keys.

    Where keys are not checked, one for all with the same `Authorization` or `x-api-key`; without either, for those
    from the same address. Somebody who invents a key for each request then has as many shares. Such a name is neither
    logged nor told.
    """
    holder = holder_of(request)
    if holder is not None:
        return f"key {holder.name}"
    for header in ("authorization", "x-api-key"):
        value = request.headers.get(header, "").strip()
        if value.lower() not in ("", "bearer"):
            return f"key {blake2b(value.encode(), key=_SECRET, digest_size=16).hexdigest()}"
    return f"address {request.client.host}" if request.client else "local"
