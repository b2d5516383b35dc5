"""Being another user for a moment, which only root can."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

import pytest

NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


@contextlib.contextmanager
def somebody_else(uid: int = NOBODY, *, groups: Sequence[int] = ()) -> Iterator[None]:
    """This process, all its threads, with the rights of that user and of the group of the same number."""
    before = os.getgroups()
    os.setgroups(list(groups))
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)
