"""Workers that need not import: forked by a process that has, where there is one, and spawned where there is none.

Nothing here is needed for a worker to start. A zygote that is slow, stopped, killed, unfit or older than the code on
disk is passed over, and replaced after a pause that grows.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping

from gemmad.logs import get_logger
from gemmad.supervisor.brood import Brood
from gemmad.supervisor.child import Child, Spawn
from gemmad.supervisor.installed import Installed, installed_code
from gemmad.supervisor.process import Process

READ_LATE = frozenset({"CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"})
"""Variables that are read after all imports, so that workers of one zygote may differ in them: CUDA's when it is first
used, and the other stands behind the number of threads that an engine sets. All others must be the zygote's own."""
LOOK_SECONDS = 30.0
"""So late at most is it seen that the setting or the code has changed; before a worker is forked, it is looked at."""
PAUSE_SECONDS = (1.0, 300.0)
"""Before the next one: the first pause, and the longest."""
HEALTHY_SECONDS = 60.0
"""The pause after a zygote that lived so long is the first one again."""

log = get_logger("gemmad.supervisor")


class Zygote:
    """A `Spawn` that begins workers as forks when it can, and by `spawn` when not. `run` keeps the zygote.

    `wanted` is asked again and again. `hatch` makes a brood; `installed` tells which code is on disk.
    """

    def __init__(
        self,
        spawn: Spawn,
        *,
        wanted: Callable[[], bool],
        hatch: Callable[..., Brood] = Brood,
        installed: Callable[[], Installed] = installed_code,
        pause_seconds: tuple[float, float] = PAUSE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spawn = spawn
        self._wanted = wanted
        self._hatch = hatch
        self._installed = installed
        self._first_pause, self._longest_pause = pause_seconds
        self._pause_seconds = self._first_pause
        self._clock = clock
        self._begun = False
        self._env: dict[str, str] = {}
        """Of the last worker; the zygote is made to its measure."""
        self._lives = 0
        self._brood: Brood | None = None
        self._code: Installed | None = None
        """That the brood was begun with."""
        self._brood_env: dict[str, str] = {}
        self._began_at = self._not_before = 0.0
        self._unfit: Installed | None = None
        """Code whose imports do not stand a fork."""
        self._bell = asyncio.Event()

    def __call__(
        self,
        *,
        env: Mapping[str, str],
        socket_fd: int,
        on_line: Callable[[str], None],
        on_exit: Callable[[int], None],
    ) -> Child:
        self._env = dict(env)
        self._drop_old()
        brood = self._brood
        spare = brood.take() if brood is not None and _read_early(env) == _read_early(self._brood_env) else None
        if brood is not None and spare is not None:
            try:
                return Process((), env=env, socket_fd=socket_fd, on_line=on_line, on_exit=on_exit, popen=spare.start)
            except OSError as error:  # it has died just now, or no descriptors are left
                brood.end(f"spare {spare.pid} could not be taken: {error}")
        return self._spawn(env=env, socket_fd=socket_fd, on_line=on_line, on_exit=on_exit)

    @property
    def pid(self) -> int | None:
        """Of the zygote that is there."""
        return None if self._brood is None else self._brood.pid

    @property
    def spares(self) -> int:
        """How many workers could begin at once."""
        return 0 if self._brood is None else self._brood.spares

    def begin(self) -> None:
        """A zygote may be made now: a worker was started, which shows how, and nobody waits for one."""
        self._begun = True
        self._bell.set()

    async def run(self) -> None:
        """Keep one until cancelled. Cancelled, it leaves no process behind but workers."""
        try:
            while True:
                self._bell.clear()
                self._drop_old()
                pause_seconds = self._not_before - self._clock()
                if self._brood is None and self._begun and self._wanted() and pause_seconds <= 0:
                    self._make()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(max(pause_seconds, 0.0) or LOOK_SECONDS, LOOK_SECONDS)):
                        await self._bell.wait()
        finally:
            self._drop()

    def _make(self) -> None:
        self._code = self._installed()
        if self._code == self._unfit:
            return
        self._lives += 1
        self._began_at = self._clock()
        # no GPU is there for it: if an import asks for one after all, it gets none
        self._brood_env = self._env | {"CUDA_VISIBLE_DEVICES": ""}
        gpu = bool(self._env.get("CUDA_VISIBLE_DEVICES"))
        try:
            self._brood = self._hatch(number=self._lives, env=self._brood_env, gpu=gpu, on_end=self._note_end)
        except OSError as error:
            self._note_end(f"it cannot be started: {error}")

    def _drop_old(self) -> None:
        if self._brood is None or (self._wanted() and self._installed() == self._code):
            return
        reason = "the code on disk has changed" if self._wanted() else "none is wanted"
        log.info("zygote is dropped", life=self._lives, reason=reason)
        self._drop()
        self._bell.set()

    def _drop(self) -> None:
        brood, self._brood = self._brood, None
        if brood is not None:
            brood.close()

    def _note_end(self, reason: str) -> None:
        brood, self._brood = self._brood, None
        now = self._clock()
        if brood is not None and brood.unfit:
            self._unfit = self._code
        if now - self._began_at >= HEALTHY_SECONDS:
            self._pause_seconds = self._first_pause
        self._not_before = now + self._pause_seconds
        log.warning("zygote is gone", life=self._lives, reason=reason, pause_seconds=self._pause_seconds)
        self._pause_seconds = min(2 * self._pause_seconds, self._longest_pause)
        self._bell.set()


def _read_early(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name not in READ_LATE}
