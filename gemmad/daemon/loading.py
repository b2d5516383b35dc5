"""Shows people how far workers are while they load: a bar on a terminal, elsewhere a line at each change of stage."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TextIO, cast

from gemmad.logs import get_logger
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.wishes import WorkerStatus

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

_log = get_logger(__name__)


def is_loading(worker: WorkerStatus) -> bool:
    """Whether it has begun, and says what it is at."""
    return worker.state is State.STARTING and worker.stage is not None


class LoadingShow:
    """What to call again and again with the state of all workers, and `close()` in the end."""

    def __init__(self, stream: TextIO, *, env: Mapping[str, str] = os.environ) -> None:
        """`stream` is where the log goes."""
        self._stream = stream
        self._lines = LoadingLines()
        draws = stream.isatty() and env.get("TERM", "dumb") != "dumb"
        self._bar = LoadingBar(stream, env=env) if draws else None

    def look(self, workers: Sequence[WorkerStatus]) -> None:
        """Show what has changed. A terminal that has gone away is no error; lines go on."""
        if self._bar is not None and not self._stream.isatty():
            self.close()
            self._bar = None
        if self._bar is None:
            self._lines.look(workers)
            return
        with contextlib.suppress(OSError):  # it goes away just now
            self._bar.look(workers)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.close()


class _Seen(NamedTuple):
    life: int
    stage: str
    since: float


class LoadingLines:
    """One log line at each change of stage, with the seconds that the stage before it took."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    def look(self, workers: Sequence[WorkerStatus]) -> None:
        """Log what has changed."""
        for worker in workers:
            seen = self._seen.pop(worker.name, None)
            if not is_loading(worker) or worker.stage is None:
                continue
            if seen is None or seen.life != worker.life:
                _log.info("worker loading", worker=worker.name, life=worker.life, stage=worker.stage)
            elif seen.stage != worker.stage:
                done = {"done": seen.stage, "seconds": round(self._clock() - seen.since, 1)}
                _log.info("worker loading", worker=worker.name, life=worker.life, stage=worker.stage, **done)
            else:
                self._seen[worker.name] = seen
                continue
            self._seen[worker.name] = _Seen(worker.life, worker.stage, self._clock())


class LoadingBar:
    """A bar for each worker that loads, below the log lines; there is none while nobody loads."""

    def __init__(self, stream: TextIO, *, env: Mapping[str, str]) -> None:
        self._stream = stream
        self._env = env
        self._progress: Progress | None = None
        self._tasks: dict[str, tuple[str | None, TaskID]] = {}
        """By worker: the stage that it is in, and its line. The clock on a line is the stage's."""
        self._moved: list[logging.StreamHandler[TextIO]] = []

    def look(self, workers: Sequence[WorkerStatus]) -> None:
        """Draw it anew. Raises OSError when the terminal cannot be written."""
        loading = {worker.name: worker for worker in workers if is_loading(worker)}
        if not loading:
            self.close()
            return
        progress = self._progress or self._open()
        for name, (stage, task) in list(self._tasks.items()):
            if name not in loading or loading[name].stage != stage:
                progress.remove_task(task)
                del self._tasks[name]
        for name, worker in loading.items():
            if name not in self._tasks:  # it pulses as long as there is no share to tell
                self._tasks[name] = worker.stage, progress.add_task(name, stage=worker.stage, total=None)
            if worker.fraction:
                progress.update(self._tasks[name][1], total=1.0, completed=worker.fraction)
        progress.refresh()

    def close(self) -> None:
        """Remove it; log lines go straight to the stream again."""
        progress, self._progress = self._progress, None
        self._tasks.clear()
        for handler in self._moved:
            handler.setStream(self._stream)
        self._moved.clear()
        if progress is not None:
            progress.stop()

    def _open(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        console = Console(file=self._stream, _environ=self._env)
        columns = ("[bold]{task.description}", "loading {task.fields[stage]}")
        self._progress = Progress(
            *(TextColumn(column) for column in columns),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=console,
            auto_refresh=False,  # `look` is called often enough, and there is no thread
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        above = _AboveBar(console)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is self._stream:
                handler.setStream(cast("TextIO", above))
                self._moved.append(handler)
        self._progress.start()
        return self._progress


class _AboveBar:
    """A stream for log lines: what is written to the terminal itself would tear the bar apart."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def write(self, lines: str) -> None:
        """Whole lines."""
        from rich.text import Text

        self._console.print(Text.from_ansi(lines.rstrip("\n")), soft_wrap=True)

    def flush(self) -> None:
        """They are out already."""
