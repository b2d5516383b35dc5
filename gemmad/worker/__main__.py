"""`python -m gemmad.worker --fd N`: one engine behind one socket. Started by the supervisor, not by hand."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gc
import os
import signal
import socket
import sys
import time

from gemmad import logs
from gemmad.errors import CheckpointError, ConfigError, MemoryPlanError, ProtocolError
from gemmad.protocol.channel import BlockingChannel
from gemmad.protocol.messages import EXIT_SETTINGS, PROTOCOL_VERSION, Configure, Dying, Loading, ToWorker
from gemmad.worker.context import wake_device
from gemmad.worker.parent import die_with_parent

EXIT_CRASH = 1


def main() -> int:
    """Serve until asked to stop; the return value is the exit code."""
    started = time.monotonic()
    gc.disable()  # imports make many objects and next to no garbage; the loop turns it on again
    parser = argparse.ArgumentParser(prog="gemmad.worker")
    parser.add_argument("--fd", type=int, required=True, help="socket that the supervisor speaks on")
    arguments = parser.parse_args()
    die_with_parent()
    faulthandler.enable()
    faulthandler.register(
        signal.SIGUSR1, all_threads=True
    )  # by which the supervisor asks one that hangs for its stacks
    channel: BlockingChannel[ToWorker] = BlockingChannel(socket.socket(fileno=arguments.fd), ToWorker)
    channel.send(Loading(PROTOCOL_VERSION, "imports", 0.0))
    logs.configure("info", "json")  # the daemon reads it, and shows what its own level lets through
    try:
        return _serve(channel, started)
    except (CheckpointError, ConfigError, MemoryPlanError) as error:
        return _die(channel, EXIT_SETTINGS, str(error))
    except ProtocolError as error:
        return _die(channel, EXIT_CRASH, str(error))
    except BaseException as error:
        _die(channel, _exit_code(error), f"{type(error).__name__}: {error}")
        raise


def _serve(channel: BlockingChannel[ToWorker], started: float) -> int:
    message = channel.receive()
    if message is None:
        return 0
    if not isinstance(message, Configure):
        raise ProtocolError(f"the first message is {type(message).__name__}, not Configure")
    if message.protocol != PROTOCOL_VERSION:
        raise ProtocolError(f"the daemon speaks version {message.protocol}, this worker {PROTOCOL_VERSION}")
    wake_device(message.settings)
    from gemmad.worker.loop import WorkerLoop  # torch: seconds

    return WorkerLoop(channel, message, started=started).run()


def _exit_code(error: BaseException) -> int:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.AcceleratorError):
        from gemmad.protocol.messages import EXIT_DEVICE_LOST

        return EXIT_DEVICE_LOST
    return EXIT_CRASH


def _die(channel: BlockingChannel[ToWorker], code: int, reason: str) -> int:
    with contextlib.suppress(OSError):  # nobody listens any more; the exit code tells
        channel.send(Dying(code, reason[:4000]))
    return code


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # interpreter shutdown would wait for threads that sit in the socket
