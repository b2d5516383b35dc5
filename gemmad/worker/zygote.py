"""`python -m gemmad.worker.zygote --fd N`: a process that has imported all that a worker needs, and forks workers.

It computes nothing and never touches CUDA, whose state does not survive a fork. Neither do threads: whoever held a
lock in the copy would hold it for ever. So it looks at itself before each fork, and gives up rather than fork badly.

What it forks are spares, which wait for a word before they run the worker's program. They are its siblings, children
of the daemon: to it a spare is like a worker that it has spawned. It is told of the exit, and reaps; the kernel kills
the spare with the daemon, and the end of the zygote is nothing to it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from gemmad.protocol.channel import BlockingChannel
from gemmad.protocol.messages import PROTOCOL_VERSION
from gemmad.protocol.zygote import Become, Born, Fork, Idle, Unfit, Warm
from gemmad.worker.parent import die_with_parent
from gemmad.worker.sibling import NoSibling, fork_sibling

EXIT_ASKED, EXIT_CRASH = 0, 1
STANDARD_FDS = frozenset({0, 1, 2})
_ARG_START, _ARG_END = 48 - 3, 49 - 3
"""Fields of /proc/self/stat, counted from the one behind the name. (proc(5))"""


def run_worker() -> int:
    """The worker's program; the return value is the exit code."""
    from gemmad.worker.__main__ import main

    return main()


def import_everything(gpu: bool) -> None:
    """All modules that a worker would import before it is ready."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy's, which torch imports; else it starts a thread for each core
    import gemmad.worker.__main__
    import gemmad.worker.loop  # noqa: F401

    if gpu:
        from gemmad.kernels.ops import triton_ops

        with contextlib.suppress(ImportError):  # the worker will say so
            triton_ops()


def main(*, load: Callable[[bool], None] = import_everything, worker: Callable[[], int] = run_worker) -> int:
    """Fork as often as the daemon asks for it, until it hangs up; the return value is the exit code.

    `load` is told whether there is a GPU. `worker` is what a fork runs, with the worker's arguments in `sys.argv`.
    """
    began = time.monotonic()
    parser = argparse.ArgumentParser(prog="gemmad.worker.zygote")
    parser.add_argument("--fd", type=int, required=True, help="socket that the daemon speaks on")
    parser.add_argument("--gpu", action="store_true", help="import what a worker on a GPU needs, too")
    arguments = parser.parse_args()
    die_with_parent()
    gc.disable()
    load(arguments.gpu)
    gc.collect()
    gc.freeze()  # the collector writes into what it looks at; pages that nobody writes to stay shared
    channel: BlockingChannel[Fork] = BlockingChannel(socket.socket(fileno=arguments.fd), Fork)
    own = STANDARD_FDS | {arguments.fd}
    reason = why_unfit(own)
    if reason is None:
        channel.send(Warm(PROTOCOL_VERSION, time.monotonic() - began))
    while reason is None and channel.receive() is not None:
        (spare,) = channel.take_fds(1)
        reason = why_unfit(own | {spare})
        if reason is None:
            try:
                _fork(channel, spare, worker=worker)
            except NoSibling as error:
                reason = str(error)
    if reason is not None:
        channel.send(Unfit(reason))
    return EXIT_ASKED


def why_unfit(expected: frozenset[int]) -> str | None:
    """Why this process must not be forked, if so; `expected` are the descriptors that it may have open.

    A descriptor that nobody knows of belongs to a library: its copy would be shared with the zygote's other forks, and
    that of a GPU's device file means that CUDA has been touched.
    """
    if threading.active_count() > 1:
        return f"it has threads: {', '.join(thread.name for thread in threading.enumerate()[1:])}"
    if (count := len(os.listdir("/proc/self/task"))) > 1:
        return f"native code has started {count - 1} threads"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return "CUDA is initialised"
    for fd in _descriptors() - expected:
        with contextlib.suppress(OSError):
            return f"{os.readlink(f'/proc/self/fd/{fd}')} is open"
    return None


def _descriptors() -> set[int]:
    """Without the one that lists them."""
    return {int(name) for name in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{name}")}


def _fork(channel: BlockingChannel[Fork], spare: int, *, worker: Callable[[], int]) -> None:
    parent = os.getppid()
    if fork_sibling():
        os.close(spare)
        return
    try:
        channel.close()
        become, wire, output = _wait(spare, parent)
        _enter(become, wire, output)
        _leave(worker())
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:  # never back into the zygote's loop
        os._exit(EXIT_CRASH)


def _wait(fd: int, parent: int) -> tuple[Become, int, int]:
    """What a spare does until it is told to become a worker; with the worker's socket and its output."""
    die_with_parent()
    if os.getppid() != parent:  # the daemon is gone
        os._exit(EXIT_ASKED)
    channel: BlockingChannel[Become] = BlockingChannel(socket.socket(fileno=fd), Become)
    channel.send(Born(os.getpid()))
    os.setsid()
    channel.send(Idle())
    become = channel.receive()
    if become is None:
        os._exit(EXIT_ASKED)
    wire, output = channel.take_fds(2)
    channel.close()
    return become, wire, output


def _enter(become: Become, wire: int, output: int) -> None:
    """Make this process what one would be that was just spawned."""
    for standard in (1, 2):
        os.dup2(output, standard)
    os.close(output)
    os.environ.clear()
    os.environ.update(become.env)
    arguments = ["--fd", str(wire)]
    sys.argv = ["gemmad.worker", *arguments]
    show_as([sys.orig_argv[0], "-m", *sys.argv])
    if (numpy_random := sys.modules.get("numpy.random")) is not None:
        numpy_random.seed()  # Python's own generator does so at a fork; torch's begins alike in every process


def show_as(command: Sequence[str]) -> None:
    """What others see as this process's command line, as far as the old one leaves room."""
    stat = Path("/proc/self/stat").read_text(errors="replace")
    fields = stat[stat.rindex(")") + 2 :].split()
    start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
    if start < end:
        line = b"\0".join(os.fsencode(word) for word in command)[: end - start - 1]
        ctypes.memmove(start, line.ljust(end - start, b"\0"), end - start)


def _leave(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _leave(main())
