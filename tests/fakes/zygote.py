"""The real zygote without the imports: what it forks runs the fake worker, or tells what it was born with.

`hatch(*program())` makes broods of it for `gemmad.supervisor.zygote.Zygote`.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import re
import signal
import socket
import sys
import threading
import time
from functools import partial
from pathlib import Path

if not __package__:  # run by its path, from wherever
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import msgspec

from gemmad.protocol.channel import BlockingChannel
from gemmad.protocol.messages import PROTOCOL_VERSION
from gemmad.protocol.zygote import Fork, Warm
from gemmad.supervisor.brood import Brood
from gemmad.worker.sibling import fork_sibling
from gemmad.worker.zygote import main as zygote
from tests.fakes import worker
from tests.fakes.worker import Behaviour

HELD = "/dev/zero"
"""What a library might have opened."""


def program(*flags: str, behaviour: Behaviour | None = None) -> tuple[str, ...]:
    """A command line. Flags: --probe (workers tell what they were born with), --plain (be a worker, not a zygote),
    --threads, --open, --old, --odd, --deaf (faults of the zygote)."""
    text = msgspec.json.encode(behaviour or Behaviour()).decode()
    return (sys.executable, str(Path(__file__).resolve()), "--behaviour", text, *flags)


def hatch(*command: str, fork_seconds: float = 10.0) -> partial[Brood]:
    """For a Zygote; `command` as of `program`."""
    return partial(Brood, command, fork_seconds=fork_seconds)


def probe() -> int:
    """A worker that prints facts about its process as JSON, and ends."""
    stray = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_char_p
    facts = {
        "arguments": [re.sub(r"^\d+$", "N", word) for word in sys.argv[1:3]],
        "environ": dict(os.environ),
        "native": [str(libc.getenv(name)) for name in (b"CUDA_VISIBLE_DEVICES", b"OPENBLAS_NUM_THREADS")],
        "descriptors": sorted(_open_files()),
        "inheritable": [fd for fd in (0, 1, 2) if os.get_inheritable(fd)],
        "parent": os.getppid(),
        "leads": (os.getpid() == os.getpgid(0), os.getpid() == os.getsid(0)),
        "handlers": [str(signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE)],
        "blocked": [int(number) for number in stray],
        "number": ~(time.pthread_getcpuclockid(threading.get_ident()) >> 3) == threading.get_native_id() == os.getpid(),
        "threads": (len(os.listdir("/proc/self/task")), threading.current_thread() is threading.main_thread()),
        "folder": os.getcwd(),
        "death_signal": _death_signal(),
    }
    sys.stdout.write(json.dumps({"pid": os.getpid(), "random": random.random(), "facts": facts}) + "\n")
    sys.stdout.flush()
    sys.stderr.write("and on standard error\n")
    return 0


def _open_files() -> list[str]:
    paths = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return [re.sub(r"\d+", "N", os.readlink(path)) for path in paths if os.path.islink(path)]


def _death_signal() -> int:
    """What the kernel sends it with its parent's end. (prctl(2), PR_GET_PDEATHSIG)"""
    number = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(number))
    return number.value


def _warm_and_deaf(fd: int) -> int:
    channel: BlockingChannel[Fork] = BlockingChannel(socket.socket(fileno=fd), Fork)
    channel.send(Warm(PROTOCOL_VERSION, 0.0))
    time.sleep(600)
    return 1


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--behaviour", default="{}")
    for flag in ("--probe", "--plain", "--threads", "--open", "--deaf", "--old", "--odd"):
        parser.add_argument(flag, action="store_true")
    mine, sys.argv[1:] = parser.parse_known_args()
    if mine.deaf:
        return _warm_and_deaf(int(sys.argv[-1]))

    def load(gpu: bool) -> None:
        if mine.threads:
            threading.Thread(target=time.sleep, args=(600,), name="left over", daemon=True).start()
        if mine.open:
            os.open(HELD, os.O_RDONLY)
        if mine.old:
            vars(sys.modules[zygote.__module__])["PROTOCOL_VERSION"] = PROTOCOL_VERSION - 1
        if mine.odd:
            vars(sys.modules[fork_sibling.__module__])["_CLONE"].clear()

    def run_worker() -> int:
        if mine.probe:
            return probe()
        sys.argv += ["--behaviour", mine.behaviour]
        worker.main()

    if mine.plain:
        from gemmad.worker.parent import die_with_parent

        die_with_parent()  # as the worker's program does
        return run_worker()
    return zygote(load=load, worker=run_worker)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
