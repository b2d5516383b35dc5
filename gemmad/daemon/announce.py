"""Tells people, other programs and the service manager how the daemon is."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gemmad.config.paths import Paths, make_private
from gemmad.daemon.loading import LoadingShow, is_loading
from gemmad.daemon.notify import Notifier
from gemmad.logs import get_logger
from gemmad.supervisor.wishes import WorkerStatus

STARTING_LOOK_SECONDS = 0.1
LOOK_SECONDS = 5.0
PATIENCE_SECONDS = 30.0
"""What the service manager is asked for, again and again, while the model loads."""

_log = get_logger(__name__)

HINTS = """
{model} is ready at {url}/v1

Try it:
  curl {flags}{url}/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{{"model": "{model}", "max_tokens": 100, "messages": [{{"role": "user", "content": "{prompt}"}}]}}'

or with the OpenAI SDK (pip install openai):
  from openai import OpenAI
  client = OpenAI(base_url="{url}/v1", api_key="none")
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
    look_seconds: float = LOOK_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Follow the daemon's state until cancelled; `on_ready` is called once, when it is first ready. Workers that load
    are shown on standard error."""
    was, has_been_ready, ask_again_at = "", False, clock()
    pause = min(look_seconds, (notifier.watchdog_seconds or look_seconds) / 3)
    with contextlib.closing(LoadingShow(sys.stderr)) as show:
        while True:
            now, seen = state(), workers()
            show.look(seen)
            if now == "ready" and not has_been_ready:
                has_been_ready = True
                show.close()  # what comes now is for people, too
                notifier.ready("serving")
                on_ready()
            elif now != was:
                notifier.status(now)
            was = now
            if not has_been_ready and clock() >= ask_again_at:
                notifier.extend_timeout(PATIENCE_SECONDS)
                ask_again_at = clock() + PATIENCE_SECONDS / 3
            if notifier.watchdog_seconds:
                notifier.watchdog()
            busy = not has_been_ready or any(is_loading(worker) for worker in seen)
            await asyncio.sleep(min(pause, STARTING_LOOK_SECONDS) if busy else pause)


def print_hints(url: str, *, model: str, prompt: str = "Count to 10.") -> None:
    """What to try, for someone who has just started it by hand."""
    flags = ""
    if url.startswith("unix:"):
        flags, url = f"--unix-socket {url.removeprefix('unix:')} ", "http://gemmad"
    with contextlib.suppress(OSError):  # nobody reads it
        sys.stderr.write(HINTS.format(url=url, model=model, prompt=prompt, flags=flags))
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
