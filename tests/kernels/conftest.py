"""Kernels run on the GPU where there is one, and in Triton's interpreter where there is none.

Triton decides at import whether a function is compiled or interpreted, so the kernels are imported here, under
TRITON_INTERPRET, and the variable is set during these tests only: other tests and their children see nothing of it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
INTERPRETED = DEVICE.type == "cpu"


def _import_interpreted() -> None:
    os.environ["TRITON_INTERPRET"] = "1"
    try:
        was_compiled = "triton" in sys.modules
        importlib.import_module("triton.language")
        if was_compiled:
            _interpret_library()
        for name in [name for name in sys.modules if name.startswith("gemmad.kernels.triton.")]:
            del sys.modules[name]
        package = importlib.import_module("gemmad.kernels.triton")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    finally:
        del os.environ["TRITON_INTERPRET"]


def _interpret_library() -> None:
    """Something imported Triton before us (torch does, for some features): its own functions follow."""
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.jit import JITFunction

    for module in [module for name, module in sys.modules.items() if name.startswith("triton.language")]:
        for name, value in list(vars(module).items()):
            if isinstance(value, JITFunction):
                setattr(module, name, InterpretedFunction(value.fn))


def _mend_bfloat16() -> None:
    """Two faults of the interpreter (3.6 to 3.9): it cuts float32 down to bfloat16, where compiled kernels round to
    nearest, as torch does; and its products read bfloat16 as the integers that it stores them in."""
    from triton.runtime import interpreter

    cut, multiply = interpreter._convert_float, interpreter.InterpreterBuilder.create_dot

    def convert(data: Any, source: Any, target: Any, mode: Any) -> Any:
        if (source.name, target.name) != ("fp32", "bf16"):
            return cut(data, source, target, mode)
        rounded = torch.from_numpy(np.array(data, dtype=np.float32)).bfloat16()
        return rounded.view(torch.int16).numpy().view(np.uint16)

    def dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return multiply(self, _widened(a), _widened(b), *rest)

    def _widened(handle: Any) -> Any:
        if handle.dtype.scalar.name != "bf16":
            return handle
        wide = (handle.data.astype(np.uint32) << 16).view(np.float32)
        return interpreter.TensorHandle(wide, interpreter.tl.float32)

    interpreter._convert_float = convert
    interpreter.InterpreterBuilder.create_dot = dot


def _patch_once() -> None:
    """The interpreter puts its own functions into Triton's modules, and does so again for each call of one kernel's
    function by another, which takes half of all time: once in a launch is enough."""
    from triton.runtime import interpreter

    launch, patch = interpreter.GridExecutor.__call__, interpreter._patch_lang
    modules = interpreter.tl, interpreter.tl.core
    patched: set[frozenset[int]] = set()

    def launch_anew(self: Any, *args: Any, **kwargs: Any) -> None:
        patched.clear()
        launch(self, *args, **kwargs)

    def patch_anew(function: Any) -> Any:
        seen = frozenset(id(value) for value in function.__globals__.values() if any(value is m for m in modules))
        if seen not in patched:
            patched.add(seen)
            return patch(function)
        return None

    interpreter.GridExecutor.__call__ = launch_anew
    interpreter._patch_lang = patch_anew


if INTERPRETED and importlib.util.find_spec("triton"):
    _import_interpreted()
    _mend_bfloat16()
    _patch_once()
elif not INTERPRETED:
    torch.zeros(1, device=DEVICE)  # the driver opens files that a test would be blamed for


@pytest.fixture(autouse=True)
def _interpreter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Numpy, which the interpreter computes with, would warn of infinities that a GPU passes over."""
    if INTERPRETED:
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


@pytest.fixture
def device() -> torch.device:
    """Where kernels run here."""
    return DEVICE
