"""`python -m gemmad.worker --fd N`: one engine behind one socket. Started by the supervisor, not by hand."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import os
import socket
import sys
import time

from gemmad.errors import CheckpointError, MemoryPlanError, ProtocolError
from gemmad.protocol.channel import BlockingChannel
from gemmad.protocol.messages import EXIT_SETTINGS, PROTOCOL_VERSION, Configure, Dying, Loading, ToWorker
from gemmad.worker.parent import die_with_parent

EXIT_CRASH = 1


def main() -> int:
    """Serve until asked to stop; the return value is the exit code."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(prog="gemmad.worker")
    parser.add_argument("--fd", type=int, required=True, help="socket that the supervisor speaks on")
    arguments = parser.parse_args()
    die_with_parent()
    faulthandler.enable()
    channel: BlockingChannel[ToWorker] = BlockingChannel(socket.socket(fileno=arguments.fd), ToWorker)
    channel.send(Loading(PROTOCOL_VERSION, "imports", 0.0))
    try:
        return _serve(channel, started)
    except (CheckpointError, MemoryPlanError) as error:
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
    from gemmad.worker.loop import WorkerLoop  # torch and transformers: seconds

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
