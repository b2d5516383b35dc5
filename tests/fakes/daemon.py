"""The real daemon with a fake worker, as a program: what `gemmad serve` does, but for the command of its workers.

By hand: `python tests/fakes/daemon.py --behaviour '{"load_seconds": 1}' --set server.port=4363`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

if not __package__:  # run by its path, from wherever
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import msgspec

import gemmad.demo
from gemmad.config.load import load_config
from gemmad.config.paths import find_paths
from gemmad.daemon.run import run
from tests.fakes.worker import Behaviour, command


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--behaviour", default="{}")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    overrides = {
        "model.path": Path(gemmad.demo.__file__).parent / "checkpoint",
        "model.served_names": ["gemma-3-demo"],
        "engine.device": "cpu",
        **{key: value or None for key, value in (pair.split("=", 1) for pair in arguments.set)},  # empty: the default
    }
    loaded = load_config(None, env=os.environ, overrides=overrides)
    behaviour = msgspec.json.decode(arguments.behaviour, type=Behaviour)
    return run(loaded, paths=find_paths(os.environ), worker_command=command(behaviour))


if __name__ == "__main__":
    sys.exit(main())
