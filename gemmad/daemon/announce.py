"""Tells people, other programs and the service manager how the daemon is."""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gemmad.api.health import NO_MODEL
from gemmad.config.paths import Paths, make_private
from gemmad.daemon.loading import LoadingShow, is_loading
from gemmad.daemon.notify import Notifier
from gemmad.logs import get_logger
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.wishes import WorkerStatus

STARTING_LOOK_SECONDS = 0.1
LOOK_SECONDS = 5.0
PATIENCE_SECONDS = 30.0
"""What the service manager is asked for, again and again, while the model loads."""

_log = get_logger(__name__)

HINTS = """
{model} is ready at {url}/v1, and {url}/ shows it in a browser

Try it:
  curl {flags}{url}/v1/chat/completions -H 'Content-Type: application/json' {key_header}\\
    -d '{{"model": "{model}", "max_tokens": 100, "messages": [{{"role": "user", "content": "{prompt}"}}]}}'

or with the OpenAI SDK (pip install openai):
  from openai import OpenAI
  client = OpenAI(base_url="{url}/v1", api_key="{key}")
  for chunk in client.chat.completions.create(
      model="{model}", messages=[{{"role": "user", "content": "{prompt}"}}], stream=True
  ):
      print(chunk.choices[0].delta.content or "", end="", flush=True)

Stop it with Ctrl-C.
"""


async def announce(
    state: Callable[[], str],
    notifier: Notifier,
    *,
    on_ready: Callable[[], None],
    workers: Callable[[], Sequence[WorkerStatus]] = tuple,
    silence_seconds: Callable[[], float] = lambda: math.inf,
    remedy: Callable[[], str] = lambda: "",
    look_seconds: float = LOOK_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Follow the daemon's state until cancelled; `on_ready` is called once, when it is first ready. Workers that load
    are shown on standard error.

    A service whose model is not there is up nevertheless, or whoever starts it would wait for ever; its status tells
    the `remedy`. A service manager's watchdog is not told of progress while a worker that should speak has been silent
    for `silence_seconds`: whoever had to end it does not.
    """
    was, has_been_ready, is_up, ask_again_at = "", False, False, clock()
    pause = min(look_seconds, (notifier.watchdog_seconds or look_seconds) / 3)
    with contextlib.closing(LoadingShow(sys.stderr)) as show:
        while True:
            now, seen = state(), workers()
            words = f"no model: {remedy()}" if now == NO_MODEL else status_words(now, seen)
            show.look(seen)
            if now == "ready" and not has_been_ready:
                has_been_ready = is_up = True
                show.close()  # what comes now is for people, too
                notifier.ready(words)
                on_ready()
            elif now == NO_MODEL and not is_up:
                is_up = True
                notifier.ready(words)
            elif words != was and now != "draining":  # who drains has said more of it
                notifier.status(words)
            was = words
            if not is_up and clock() >= ask_again_at:
                notifier.extend_timeout(PATIENCE_SECONDS)
                ask_again_at = clock() + PATIENCE_SECONDS / 3
            if notifier.watchdog_seconds and are_heard(seen, now=clock(), silence_seconds=silence_seconds()):
                notifier.watchdog()
            busy = (not has_been_ready and now != NO_MODEL) or any(is_loading(worker) for worker in seen)
            await asyncio.sleep(min(pause, STARTING_LOOK_SECONDS) if busy else pause)


def status_words(state: str, workers: Sequence[WorkerStatus]) -> str:
    """The daemon's state in a few words, for `systemctl status`; they change seldom."""
    loading = [f"{worker.name} {_tenths(worker)}" for worker in workers if is_loading(worker)]
    ready = sum(worker.state is State.READY for worker in workers)
    words = "serving" if state == "ready" else state
    if workers and state == "ready":
        words += f", {ready} of {len(workers)} workers ready"
    if state == "failed":
        words += "".join(f"; {worker.name}: {worker.last_error}" for worker in workers if worker.last_error)
    return f"{words}; loading {', '.join(loading)}" if loading else words


def are_heard(workers: Sequence[WorkerStatus], *, now: float, silence_seconds: float) -> bool:
    """Whether every worker that has to speak has spoken within so long."""
    speaking = (worker for worker in workers if worker.state in (State.READY, State.DRAINING))
    return all(worker.heard_at is None or now - worker.heard_at < silence_seconds for worker in speaking)


def _tenths(worker: WorkerStatus) -> str:
    done = "" if worker.fraction is None else f" {int(worker.fraction * 10) * 10}%"
    return f"{worker.stage}{done}"


def print_hints(url: str, *, model: str, prompt: str = "Count to 10.", with_key: bool = False) -> None:
    """What to try, for someone who has just started it by hand. `with_key`: clients need one."""
    flags, key = "", "YOUR-KEY" if with_key else "none"
    key_header = f"-H 'Authorization: Bearer {key}' " if with_key else ""
    if url.startswith("unix:"):
        flags, url = f"--unix-socket {url.removeprefix('unix:')} ", "http://gemmad"
    with contextlib.suppress(OSError):  # nobody reads it
        sys.stderr.write(HINTS.format(url=url, model=model, prompt=prompt, flags=flags, key=key, key_header=key_header))
        sys.stderr.flush()


@contextlib.contextmanager
def address_file(paths: Paths, url: str) -> Iterator[Path | None]:
    """`address` in the runtime folder has the URL as long as the daemon listens; with port 0 nobody could know it."""
    path = paths.runtime_dir / "address"
    try:
        make_private(paths.runtime_dir)
        path.write_text(url + "\n")
    except OSError as error:
        _log.warning("address not written", path=str(path), reason=error.strerror)
        yield None
        return
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
