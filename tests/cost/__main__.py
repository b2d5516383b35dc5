"""What the daemon costs: workers that only talk, clients that only read, and the daemon in the middle.

    python -m tests.cost --seconds 10

Prints the daemon's CPU time for each token event, and how much later than its worker said it a token reaches the
client. `--profile` tells where that time goes (and makes it longer), `--watched` what dashboards and scrapes cost.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pstats
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from gemmad.api.overview import Overview
from gemmad.cli.health import UnixConnection
from gemmad.demo import CHECKPOINT
from gemmad.text.checkpoint import TextModel
from tests.cost import watched, worker
from tests.cost.client import Task
from tests.cost.figures import Figures
from tests.process.daemon import MODEL, ROOT, DaemonProcess

PATIENCE_SECONDS = 120.0
PROFILE_LINES = 40
ROUNDS = 3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.cost", description="What the daemon costs a token.")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=10_000, help="a second, of all streams together")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--watched", action="store_true", help="what 20 dashboards and a scrape a second cost")
    arguments = parser.parse_args()
    load = f"{os.getloadavg()[0]:.2f}"
    with tempfile.TemporaryDirectory(prefix="gemmad-cost-") as folder:
        rows = look_on(Path(folder), arguments) if arguments.watched else carry(Path(folder), arguments)
    rows |= {"load before": f"{load} on {os.cpu_count()} cores"}
    sys.stdout.writelines(f"{name:16} {value}\n" for name, value in rows.items())


def carry(folder: Path, arguments: argparse.Namespace) -> dict[str, str]:
    """What a token costs."""
    return measure(
        folder,
        streams=arguments.streams,
        tokens=arguments.tokens,
        seconds=arguments.seconds,
        workers=arguments.workers,
        profile=arguments.profile,
    ).row()


def look_on(folder: Path, arguments: argparse.Namespace) -> dict[str, str]:
    """What watching costs."""
    plan = plan_of(folder, streams=arguments.streams, tokens=arguments.tokens, workers=arguments.workers)
    with start(folder, plan, workers=arguments.workers, profile=None) as daemon:
        wait_for(daemon, workers=arguments.workers)
        windows, seen = asyncio.run(
            watched.measure(
                daemon.port,
                MODEL,
                daemon=daemon.process.pid,
                streams=arguments.streams,
                seconds=arguments.seconds,
                rounds=ROUNDS,
            )
        )
        daemon.stop()
    return watched.rows(windows, seen)


def measure(folder: Path, *, streams: int, tokens: int, seconds: float, workers: int, profile: bool) -> Figures:
    """One daemon, one measurement. Raises CalledProcessError when the clients fail."""
    plan = plan_of(folder, streams=streams, tokens=tokens, workers=workers)
    with start(folder, plan, workers=workers, profile=folder / "profile" if profile else None) as daemon:
        wait_for(daemon, workers=workers)
        task = Task(
            port=daemon.port,
            model=MODEL,
            streams=streams,
            seconds=seconds,
            daemon=daemon.process.pid,
            workers=pids(daemon),
            stamps=plan.stamps,
            words={
                name: {word: index for index, word in enumerate(ids)}
                for name, ids in words(TextModel.load(CHECKPOINT, chat_template=None), workers=workers).items()
            },
        )
        command = [sys.executable, "tests/cost/client.py", "--task", msgspec.json.encode(task).decode()]
        told = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=PATIENCE_SECONDS + seconds)
        daemon.stop()
    if profile:
        pstats.Stats(str(folder / "profile")).sort_stats("tottime").print_stats(PROFILE_LINES)
    return msgspec.json.decode(told.stdout, type=Figures)


def plan_of(folder: Path, *, streams: int, tokens: int, workers: int) -> worker.Plan:
    """For workers that say so many tokens a second together."""
    stamps = folder / "stamps"
    stamps.mkdir()
    said = words(TextModel.load(CHECKPOINT, chat_template=None), workers=workers)
    return worker.Plan(
        step_seconds=streams / tokens,
        streams=-(-streams // workers),
        token_ids={name: tuple(ids.values()) for name, ids in said.items()},
        stamps=str(stamps),
    )


def wait_for(daemon: DaemonProcess, *, workers: int) -> None:
    """Until all are ready."""
    daemon.wait_ready()
    daemon.wait_until(lambda: len(ready := pids(daemon)) == workers and all(ready.values()))


def start(folder: Path, plan: worker.Plan, *, workers: int, profile: Path | None) -> DaemonProcess:
    """The daemon with such workers."""
    command = [sys.executable, "tests/cost/daemon.py", "--workers", str(workers)]
    command += ["--worker-command", msgspec.json.encode(worker.command(plan)).decode()]
    if profile is not None:
        command += ["--profile", str(profile)]
    return DaemonProcess(command, folder)


def words(text: TextModel, *, workers: int) -> dict[str, dict[str, int]]:
    """For each worker the words that it says, each one token, and nobody else does."""
    found: dict[str, int] = {}
    for token_id in range(text.vocab_size):
        said = text.texts[token_id]
        if isinstance(said, str) and re.fullmatch(" [A-Za-z]+", said):
            found.setdefault(said.strip(), token_id)
    return {
        f"cpu{number}": dict(list(found.items())[number::workers][: len(found) // workers]) for number in range(workers)
    }


def pids(daemon: DaemonProcess) -> dict[str, int]:
    """Ready workers, by their names."""
    connection = UnixConnection(daemon.folder / "runtime" / "control.sock", PATIENCE_SECONDS)
    try:
        connection.request("GET", "/status")
        overview = msgspec.json.decode(connection.getresponse().read(), type=Overview)
    finally:
        connection.close()
    return {
        worker.name: worker.pid for worker in overview.workers if worker.state == "ready" and worker.pid is not None
    }


if __name__ == "__main__":
    main()
