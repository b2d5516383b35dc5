"""What every confined child of the daemon is around its work: a socket, and an end when the daemon is gone."""

from __future__ import annotations

import argparse
import faulthandler
import socket
from collections.abc import Callable, Sequence
from typing import Any

from gemmad.protocol.channel import BlockingChannel


def run_program(
    argv: Sequence[str] | None, *, prog: str, description: str, union: Any, serve: Callable[[BlockingChannel[Any]], int]
) -> int:
    """`python -m PROG --fd N`: `serve` the socket that descriptor N is, over which messages of `union` come. The exit
    status; 0 too when the daemon went away meanwhile."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--fd", type=int, required=True, help="the socket to the daemon")
    options = parser.parse_args(argv)
    faulthandler.enable()
    channel: BlockingChannel[Any] = BlockingChannel(socket.socket(fileno=options.fd), union)
    try:
        return serve(channel)
    except (BrokenPipeError, ConnectionResetError):  # the daemon is gone
        return 0
    finally:
        channel.close()
