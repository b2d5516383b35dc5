"""Wakes the GPU while Python is still busy importing torch, which would otherwise begin only after that."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any

from gemmad.generation import EngineSettings


def driver() -> Any:
    """CUDA's driver library. Raises OSError where there is none."""
    return ctypes.CDLL("libcuda.so.1")


def wake_device(settings: EngineSettings, *, library: Callable[[], Any] = driver) -> threading.Thread | None:
    """Begin to make the primary context of the worker's GPU, the one that torch will use; None for another device.

    What fails here fails again, and is told, when torch asks for the same.
    """
    kind, _, index = settings.device.partition(":")
    if kind != "cuda":
        return None
    os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")  # as torch says when it is the first
    thread = threading.Thread(target=_retain, args=(library, int(index or 0)), name="wake", daemon=True)
    thread.start()
    return thread


def _retain(library: Callable[[], Any], index: int) -> None:
    """cuInit, cuDeviceGet, cuDevicePrimaryCtxRetain (CUDA Driver API). It is kept for the life of the process."""
    device, context = ctypes.c_int(), ctypes.c_void_p()
    with contextlib.suppress(OSError, AttributeError):
        cuda = library()
        if cuda.cuInit(0) == 0 and cuda.cuDeviceGet(ctypes.byref(device), index) == 0:
            cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
