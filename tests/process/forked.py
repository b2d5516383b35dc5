"""A zygote without a pool: it is kept, and workers are begun through it one by one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from gemmad.generation import EngineSettings, Prompt, SamplingParams
from gemmad.protocol.channel import BlockingChannel
from gemmad.protocol.messages import PROTOCOL_VERSION, Configure, FromWorker, Ready, Shutdown, Stepped, Submit
from gemmad.supervisor.brood import Brood
from gemmad.supervisor.child import Child
from gemmad.supervisor.installed import Installed
from gemmad.supervisor.process import Process, worker_environment
from gemmad.supervisor.zygote import Zygote
from tests.fakes.worker import Behaviour
from tests.fakes.zygote import hatch, program

PATIENCE_SECONDS = 30.0
WORKER = (sys.executable, "-m", "gemmad.worker")
TOKENS = 24


class Plain:
    """Spawns, and counts."""

    def __init__(self, *flags: str, behaviour: Behaviour | None = None) -> None:
        self.count = 0
        self._command = program("--plain", *flags, behaviour=behaviour)

    def __call__(self, **options: Any) -> Child:
        self.count += 1
        return Process(self._command, **options)


class Stage:
    """A zygote that is kept, and all that it needs."""

    def __init__(
        self, *flags: str, behaviour: Behaviour | None = None, make: Callable[..., Brood] | None = None
    ) -> None:
        """`make` is for a zygote that is not the light one with these flags."""
        self.plain = Plain("--probe" if "--probe" in flags else "--plain", behaviour=behaviour)
        self.wanted = True
        self.code = Installed(newest=1, modules=1, beside=1)
        self.zygote = Zygote(
            self.plain,
            wanted=lambda: self.wanted,
            installed=lambda: self.code,
            hatch=make or hatch(*program(*flags, behaviour=behaviour)),
            pause_seconds=(0.02, 0.05),
        )

    async def until(self, condition: Callable[[], object]) -> None:
        """Poll, with a deadline."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                await asyncio.sleep(0.005)

    def real_zygote(self) -> Zygote:
        """One that imports all that the real worker needs, in the place of the light one."""
        return Zygote(partial(Process, WORKER), wanted=lambda: True, installed=lambda: self.code)

    def kill_zygote(self) -> None:
        """The one that is there."""
        assert self.zygote.pid is not None
        os.kill(self.zygote.pid, signal.SIGKILL)

    async def warm(self) -> None:
        """As the daemon does it: a worker is spawned, and then a zygote is wanted."""
        if not self.plain.count:
            async with Begun(self, {}) as first:
                first.child.kill()
                await self.until(lambda: first.codes)
        self.zygote.begin()
        await self.until(lambda: self.zygote.spares == 2)


class Begun:
    """A worker that was begun through the zygote's `Spawn`."""

    def __init__(self, stage: Stage, env: Mapping[str, str]) -> None:
        self.lines: list[str] = []
        self.codes: list[int] = []
        ours, theirs = socket.socketpair()
        with theirs:
            self.child = stage.zygote(
                env=worker_environment(os.environ, {"CUDA_VISIBLE_DEVICES": "GPU-1"} | dict(env)),
                socket_fd=theirs.fileno(),
                on_line=self.lines.append,
                on_exit=self.codes.append,
            )
        ours.settimeout(PATIENCE_SECONDS)
        self.wire: BlockingChannel[Any] = BlockingChannel(ours, FromWorker)

    async def __aenter__(self) -> Begun:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.wire.close()
        self.child.close()

    def configure(self, settings: EngineSettings | None = None) -> None:
        """Its first frame; a fake needs no checkpoint."""
        self.wire.send(Configure(PROTOCOL_VERSION, "cpu0", 1, settings or EngineSettings(checkpoint="none")))

    async def until(self, kind: type[Any]) -> Any:
        """The next message of a kind."""
        while True:
            message = await asyncio.to_thread(self.wire.receive)
            assert message is not None, self.lines
            if isinstance(message, kind):
                return message

    async def ready(self) -> None:
        """Once it serves."""
        self.configure()
        await self.until(Ready)


@contextlib.asynccontextmanager
async def kept(zygote: Zygote) -> AsyncIterator[None]:
    """While it is kept, as the daemon does it."""
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(zygote.run())
        yield
        keeping.cancel()


def play(stage: Callable[[], Stage], script: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
    """Run a script while the zygote is kept."""

    async def main() -> None:
        made = stage()
        async with kept(made.zygote):
            await script(made)

    asyncio.run(main())


async def ask_one(stage: Stage, *, visible: str, settings: EngineSettings) -> tuple[list[int], dict[str, Any]]:
    """Begin a real worker, let it say something, and end it: its tokens, and how it says that it has loaded."""
    async with Begun(stage, {"CUDA_VISIBLE_DEVICES": visible}) as begun:
        begun.configure(settings)
        await begun.until(Ready)
        words = Path(f"/proc/{begun.child.pid}/cmdline").read_bytes().split(b"\0")
        assert words[1:4] == [b"-m", b"gemmad.worker", b"--fd"]
        sampling = SamplingParams(max_tokens=TOKENS, seed=7, temperature=0.5)
        begun.wire.send(Submit(1, Prompt((1, 100, 200, 300)), sampling))
        tokens: list[int] = []
        while len(tokens) < TOKENS:
            for output in (await begun.until(Stepped)).outputs:
                tokens += output.token_ids
        begun.wire.send(Shutdown())
        await stage.until(lambda: begun.codes)
        assert begun.codes == [0]
        (loaded,) = [json.loads(line) for line in begun.lines if '"worker loaded"' in line]
        return tokens, loaded
