"""Workers do not outlive the daemon, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.fakes.worker import Behaviour, Faults
from tests.process.supervised import wait_for_exits

ROOT = Path(__file__).resolve().parents[2]
DRIVER = """
import asyncio, sys, msgspec
from tests.fakes.listener import RecordingListener
from tests.fakes.worker import Behaviour
from tests.process.supervised import Watched

async def main():
    listener = RecordingListener()
    watched = Watched(listener, msgspec.json.decode(sys.argv[1], type=Behaviour), seats=2)
    async with watched.running():
        await listener.until(lambda: len(listener.workers) == 2)
        print("pids", *[status.pid for status in watched.pool.status()], flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "faults",
    [
        Faults(ignore_end_of_file=True),
        Faults(outlive_parent=True),
        Faults(),
    ],
    ids=["killed by the kernel", "by end of file", "either"],
)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_its_daemon(faults: Faults, number: signal.Signals) -> None:
    """When the daemon is killed, its workers are gone: by the kernel's signal, or by the end of file alone."""
    behaviour = msgspec.json.encode(Behaviour(faults=faults)).decode()
    with subprocess.Popen([sys.executable, "-c", DRIVER, behaviour], cwd=ROOT, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        pidfds: list[int] = []
        for line in daemon.stdout:
            if line.startswith(b"pids "):
                pidfds = [os.pidfd_open(int(pid)) for pid in line.split()[1:]]
                break
        daemon.send_signal(number)
        assert len(pidfds) == 2
        assert wait_for_exits(pidfds)
