"""The daemon with a worker program of our choice, as a program of its own; profiled if wanted."""

from __future__ import annotations

import argparse
import cProfile
import os
import sys
from pathlib import Path

if not __package__:  # run by its path, from wherever
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import msgspec

from gemmad.config.load import load_config
from gemmad.config.paths import find_paths
from gemmad.daemon.run import run
from gemmad.demo import CHECKPOINT
from tests.process.daemon import MODEL


def main() -> int:
    """The daemon's exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--worker-command", required=True, help="as a JSON list")
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--profile", type=Path, default=None)
    arguments = parser.parse_args()
    overrides = {
        "server.port": 0,
        "model.path": CHECKPOINT,
        "model.served_names": [MODEL],
        "engine.device": "cpu",
        "workers.count": arguments.workers,
    }
    loaded = load_config(None, env=os.environ, overrides=overrides)
    command = msgspec.json.decode(arguments.worker_command, type=tuple[str, ...])
    if arguments.profile is None:
        return run(loaded, paths=find_paths(os.environ), worker_command=command)
    with cProfile.Profile() as profile:
        code = run(loaded, paths=find_paths(os.environ), worker_command=command)
    profile.dump_stats(arguments.profile)
    return code


if __name__ == "__main__":
    sys.exit(main())
