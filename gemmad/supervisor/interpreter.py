"""Which Python a worker's next life runs in: the current engine's, else the daemon's own."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gemmad.engines.install import module_command
from gemmad.engines.store import Engine, EngineError, EngineStore
from gemmad.supervisor.brood import Brood
from gemmad.supervisor.installed import Installed, installed_code
from gemmad.supervisor.process import Process

WORKER = "gemmad.worker"
ZYGOTE = "gemmad.worker.zygote"


class Interpreter:
    """Asked anew for every life, so that an engine that was changed is used by the next one."""

    def __init__(self, store: EngineStore, *, library: str = "torch") -> None:
        """`library`: what the daemon's own Python must have to be of use."""
        self._store = store
        self._library = library

    def command(self, module: str) -> tuple[str, ...]:
        """What runs it. Raises OSError that says what to do, if neither an engine nor our own Python can."""
        try:
            engine = self._store.current()
        except EngineError as error:
            raise OSError(f"{error}; `gemmad engine list` shows the others") from None
        if engine is not None:
            return module_command(engine.python, module)
        if importlib.util.find_spec(self._library) is None:
            raise OSError(f"{self._library} is not installed, and there is no engine: `gemmad engine install cuda`")
        return (sys.executable, "-m", module)

    def spawn(
        self,
        *,
        env: Mapping[str, str],
        socket_fd: int,
        on_line: Callable[[str], None],
        on_exit: Callable[[int], None],
    ) -> Process:
        """A worker's program. Raises OSError when it cannot be started."""
        return Process(self.command(WORKER), env=env, socket_fd=socket_fd, on_line=on_line, on_exit=on_exit)

    def hatch(self, **options: Any) -> Brood:
        """A zygote, and its spares. Raises OSError when it cannot be started."""
        return Brood(self.command(ZYGOTE), **options)

    def installed(self) -> Installed:
        """The code on disk that the next worker would run; it differs when another engine is current, too."""
        code = installed_code(library=self._library)
        try:
            engine = self._store.current()
        except EngineError as error:
            return msgspec.structs.replace(code, engine=str(error))
        return code if engine is None else _with(code, engine)


def _with(code: Installed, engine: Engine) -> Installed:
    try:
        beside = os.stat(engine.site).st_mtime_ns
    except OSError:
        beside = 0
    return msgspec.structs.replace(code, engine=f"{engine.name} {engine.made}", beside=beside)
