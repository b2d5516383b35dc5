"""All that goes wrong in a chaos run: workers are killed and stopped, renewed, and the configuration is edited."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from gemmad.api.overview import Overview

GOOD_EDITS = (
    "[logging]\nlevel = 'debug'\n",
    "[dispatch]\nmax_failovers = 20\nmax_waiting = 500\n",
    "[recycle]\ngrace = 5\n",
    "[server]\nping_every = 0.5\n",
    "",
)
BAD_EDITS = (
    "[dispatch]\nmax_waiting = 'many'\n",
    "[no such section\n",
    "[workers]\ncount = 2\n",
    "[nobody]\nknows = 1\n",
)


class Pauses(Struct, frozen=True, kw_only=True):
    """Seconds between troubles of a kind, on average."""

    kill: float = 4.0
    hang: float = 17.0
    recycle: float = 11.0
    reload: float = 3.0
    zygote: float = 23.0


class Trouble:
    """Makes it, as a task, until it is cancelled. `made` counts it."""

    def __init__(
        self,
        *,
        see: Callable[[], Overview],
        ask: Callable[[str], int],
        config: Path,
        text: str,
        zygotes: Callable[[], set[int]],
        chance: random.Random,
    ) -> None:
        """`see` and `ask` go to the control socket; `ask` posts and tells the status. `config` is the file, `text` what
        is in it."""
        self._see = see
        self._ask = ask
        self._config = config
        self._text = text
        self._zygotes = zygotes
        self._chance = chance
        self._stopped: list[int] = []
        self.made: collections.Counter[str] = collections.Counter()
        self.faults: list[str] = []

    async def run(self, pauses: Pauses) -> None:
        """All kinds beside each other, each in its own time."""
        kinds = {
            self.kill: pauses.kill,
            self.hang: pauses.hang,
            self.recycle: pauses.recycle,
            self.edit: pauses.reload,
            self.kill_zygote: pauses.zygote,
        }
        async with asyncio.TaskGroup() as group:
            for act, pause in kinds.items():
                group.create_task(self._again_and_again(act, pause))

    def kill(self) -> None:
        """SIGKILL to one that is ready, wherever it is in its step."""
        pid = self._any_ready()
        if pid is not None and _send(pid, signal.SIGKILL):
            self.made["kills"] += 1

    def hang(self) -> None:
        """SIGSTOP to one that is ready: what the daemon sees is that nothing comes."""
        pid = self._any_ready()
        if pid is not None and _send(pid, signal.SIGSTOP):
            self._stopped.append(pid)
            self.made["hangs"] += 1

    def recycle(self) -> None:
        """What `gemmad recycle` asks for."""
        which = self._chance.choice([*(worker.name for worker in self._see().workers), "all"])
        status = self._ask(f"/workers/{which}/recycle")
        if status == 200:
            self.made["recycles"] += 1
        else:
            self.faults.append(f"recycle {which}: the control socket answered {status}")

    def edit(self) -> None:
        """Write the file anew, well or badly; in half of the cases as editors do, by a new name."""
        good = self._chance.random() < 0.7
        text = self._text + self._chance.choice(GOOD_EDITS if good else BAD_EDITS)
        if self._chance.random() < 0.5:
            self._config.write_text(text)
        else:
            replace(self._config, text)
        self.made["good edits" if good else "bad edits"] += 1

    def kill_zygote(self) -> None:
        """SIGKILL to what the next lives would be forked from."""
        for pid in sorted(self._zygotes())[:1]:
            if _send(pid, signal.SIGKILL):
                self.made["zygote kills"] += 1

    def mend(self) -> None:
        """The configuration is what it was."""
        replace(self._config, self._text)

    async def _again_and_again(self, act: Callable[[], None], pause: float) -> None:
        while True:
            await asyncio.sleep(self._chance.uniform(0.5, 1.5) * pause)
            await asyncio.to_thread(act)

    def _any_ready(self) -> int | None:
        workers = self._see().workers
        pids = [
            worker.pid for worker in workers if worker.state == "ready" and worker.pid not in {None, *self._stopped}
        ]
        return self._chance.choice(pids) if pids else None


def replace(path: Path, text: str) -> None:
    """Write beside it and rename."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.rename(path)


def _send(pid: int, number: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False
