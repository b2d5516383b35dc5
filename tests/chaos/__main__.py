"""The chaos run: the real daemon with two real workers and the bundled model, asked by many clients at a time, while
workers are killed and stopped, renewed, and the configuration is edited.

    python -m tests.chaos --seconds 60

Before that everything is asked once in peace. Then every answer must be that answer, no request may fail, and when all
is over the daemon must hold what it held before and not a page or a descriptor more. Whatever else happened is told
with the id of the request, and the exit status is 1; the daemon's log is then kept.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import random
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec

from gemmad.api.overview import Overview
from gemmad.cli.health import UnixConnection
from tests.chaos.asking import Asker
from tests.chaos.ground import Ground, small_ground, wide_ground
from tests.chaos.leftovers import MARK, Holdings, growth, holdings, marked, zygotes
from tests.chaos.questions import Answer
from tests.chaos.report import miscounted, table, unsettled
from tests.chaos.trouble import Pauses, Trouble
from tests.clients import run_async
from tests.leaks import shared_memory
from tests.process.daemon import DaemonProcess

STREAMS = 32
CALM_STREAMS = 8
ANSWER_SECONDS = 120.0
"""For one whole reply, whatever happens to it: longer is lost."""
SETTLE_SECONDS = 45.0
"""For the daemon to come to rest."""
FAULTS_TOLD = 100
TRACEBACK = "Traceback (most recent call last)"


class ChaosRun:
    """One run with one daemon. `faults` are all that went wrong."""

    def __init__(self, folder: Path, ground: Ground, *, seconds: float, seed: int, pauses: Pauses) -> None:
        self.faults: list[str] = []
        self._ground = ground
        self._seconds = seconds
        self._pauses = pauses
        self._mark = uuid.uuid4().hex
        self._chance = random.Random(seed)
        config = folder / "config.toml"
        config.write_text(ground.config)
        command = [sys.executable, "-m", "gemmad", "serve", *ground.flags, "--port", "0", "--config", str(config)]
        self._shared_before = shared_memory()
        self._daemon = DaemonProcess(command, folder, env={**ground.env, MARK: self._mark})
        self._trouble = Trouble(
            see=self._see,
            ask=self._post,
            config=config,
            text=ground.config,
            zygotes=lambda: zygotes(self._mark),
            chance=random.Random(seed + 1),
        )

    def run(self) -> str:
        """The table."""
        with self._daemon as daemon:
            daemon.wait_ready(seconds=self._ground.start_seconds)
            calm = run_async(self._calm())
            self._settle("after the calm")
            before = self._hold()
            told = run_async(self._chaos(calm))
            self._trouble.mend()
            self._settle("after the chaos")
            self._check_holdings(before)
            self.faults += miscounted(self._see())
            if (code := daemon.stop()) != 0:
                self.faults.append(f"the daemon left with {code}")
        self._check_what_is_left()
        return told

    async def _calm(self) -> dict[str, Answer]:
        async with self._daemon.async_client(timeout=ANSWER_SECONDS) as client:
            return await Asker(client, self._ground.questions).ask_calmly(at_a_time=CALM_STREAMS)

    async def _chaos(self, calm: dict[str, Answer]) -> str:
        over, began = asyncio.Event(), time.monotonic()
        async with self._daemon.async_client(timeout=ANSWER_SECONDS) as client:
            asker = Asker(client, self._ground.questions)
            async with asyncio.TaskGroup() as group:
                trouble = group.create_task(self._trouble.run(self._pauses))
                streams = [
                    group.create_task(asker.ask_until(over, calm=calm, chance=random.Random(self._chance.random())))
                    for _ in range(STREAMS)
                ]
                await asyncio.sleep(self._seconds)
                over.set()
                await asyncio.wait(streams)  # the trouble goes on until the last answer is there
                trouble.cancel()
        self.faults += [*asker.results.faults, *self._trouble.faults]
        failovers = self._see().requests.failovers
        if not failovers:
            self.faults.append("no request ever moved on: that was no chaos")
        return table(asker.results, self._trouble.made, seconds=time.monotonic() - began, failovers=failovers)

    # --- looking at the daemon ----------------------------------------------------------------------------------------

    def _see(self) -> Overview:
        status, body = self._control("GET", "/status")
        assert status == http.client.OK, body
        return msgspec.json.decode(body, type=Overview)

    def _post(self, path: str) -> int:
        return self._control("POST", path)[0]

    def _control(self, method: str, path: str) -> tuple[int, bytes]:
        connection = UnixConnection(self._daemon.folder / "runtime" / "control.sock", ANSWER_SECONDS)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _settle(self, when: str) -> None:
        """Return once nothing is under way; what never comes to rest is a fault."""
        left = self._await_none(lambda: unsettled(self._see()))
        self.faults += [f"{when}: {each}" for each in left]

    def _hold(self) -> Holdings:
        """What it holds, once that is the same for a while: its spares have been forked."""
        now = holdings(self._daemon.process.pid, self._mark)
        give_up, same_since = time.monotonic() + SETTLE_SECONDS, time.monotonic()
        while time.monotonic() < min(give_up, same_since + 5.0):
            time.sleep(0.2)
            before, now = now, holdings(self._daemon.process.pid, self._mark)
            if before != now:
                same_since = time.monotonic()
        return now

    def _check_holdings(self, before: Holdings) -> None:
        left = self._await_none(lambda: growth(before, holdings(self._daemon.process.pid, self._mark)))
        self.faults += [f"leaked: {each}" for each in left]
        for name in ("requests_running", "requests_waiting"):
            if (count := self._daemon.metric(f"gemmad_{name}")) != 0:
                self.faults.append(f"the metric {name} is {count}")

    def _check_what_is_left(self) -> None:
        self.faults += [f"process {pid} outlived the daemon" for pid in marked(self._mark)]
        self.faults += [f"left in /dev/shm: {name}" for name in shared_memory() - self._shared_before]
        self.faults += [f"left in the runtime folder: {name}" for name in os.listdir(self._daemon.folder / "runtime")]
        if TRACEBACK in self._daemon.log:
            self.faults.append("there is a traceback in the log")

    def _await_none(self, look: Callable[[], list[str]]) -> list[str]:
        give_up = time.monotonic() + SETTLE_SECONDS
        while (found := look()) and time.monotonic() < give_up:
            time.sleep(0.1)
        return found


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="A chaos run; see docs/development.md.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long requests are begun")
    parser.add_argument("--seed", type=int, default=None, help="of all chance; chosen anew if it is not given")
    parser.add_argument("--gpus", metavar="SHAPE", help="on every GPU, with a network of this shape, such as 12b")
    parser.add_argument("--checkpoint", type=Path, help="with --gpus: the folder that it is made in, or found in")
    parser.add_argument("--fraction", type=float, default=0.9, help="with --gpus: memory.fraction")
    parser.add_argument("--kill-every", type=float, default=Pauses().kill, help="seconds between two kills")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 16) if arguments.seed is None else arguments.seed
    folder = Path(tempfile.mkdtemp(prefix="gemmad-chaos-"))
    ground = small_ground()
    if arguments.gpus:
        made = arguments.checkpoint or folder / "checkpoint"
        ground = wide_ground(made, shape=arguments.gpus, fraction=arguments.fraction)
    run = ChaosRun(folder, ground, seconds=arguments.seconds, seed=seed, pauses=Pauses(kill=arguments.kill_every))
    sys.stdout.write(f"{run.run()}\n")
    if not run.faults:
        shutil.rmtree(folder)
        return 0
    head = f"\n{len(run.faults)} faults with --seed {seed}; the daemon's log is {folder / 'log'}"
    sys.stderr.write("\n  ".join((head, *run.faults[:FAULTS_TOLD])) + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
