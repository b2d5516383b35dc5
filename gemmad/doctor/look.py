"""`python -m gemmad.doctor.look WHAT [ARGUMENT...]`: one part of the machine, told as JSON.

It is a process of its own so that what hangs in it can be given up.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

GPUS, FOLDERS, MODEL, PORT = "gpus", "folders", "model", "port"


def look(what: str, arguments: Sequence[str]) -> Any:
    """What it is."""
    match what:
        case "gpus":
            from gemmad.doctor.read_gpus import read_gpus

            return read_gpus()
        case "folders":
            from gemmad.doctor.read_host import read_folders

            kinds = [argument.partition("=") for argument in arguments]
            return read_folders([(kind, Path(path)) for kind, _, path in kinds])
        case "model":
            from gemmad.doctor.read_model import read_model

            return read_model(Path(arguments[0]), chat_template=Path(arguments[1]) if len(arguments) > 1 else None)
        case "port":
            from gemmad.doctor.read_ports import read_port

            return read_port(arguments[0], int(arguments[1]))
        case _:
            raise ValueError(f"nobody looks at {what!r}")


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(look(sys.argv[1], sys.argv[2:])))
