"""The daemon: the one place that builds objects and connects them, and the order in which they begin and end.

The sockets listen first, so that `/health/live` is answered and requests are told to come back while the tokenizer is
read and the workers load. At the end running requests finish first, then the HTTP side closes and the workers stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gemmad import __version__, logs
from gemmad.api.app import create_app
from gemmad.api.dashboard.routes import Dashboard
from gemmad.api.health import Health
from gemmad.api.operator import Operator
from gemmad.api.services import Services
from gemmad.config.files import MORE, config_digest
from gemmad.config.load import Loaded
from gemmad.config.models import model_folder
from gemmad.config.paths import Paths
from gemmad.config.schema import Config
from gemmad.daemon.announce import announce, print_hints
from gemmad.daemon.control import control_socket, levers
from gemmad.daemon.doorkeeper import Doorkeeper
from gemmad.daemon.inherited import take_inherited
from gemmad.daemon.modelfolder import ModelFolder
from gemmad.daemon.monitoring import Monitoring, Sources
from gemmad.daemon.notify import Notifier
from gemmad.daemon.readings import reading
from gemmad.daemon.reload import Current, Reloader
from gemmad.daemon.rooms import Rooms
from gemmad.daemon.server import FLUSH_SECONDS, HttpServer
from gemmad.daemon.settings import engine_settings
from gemmad.daemon.sockets import AddressTakenError, Listening, listen
from gemmad.dispatch.dispatcher import Dispatcher
from gemmad.engines.store import EngineStore, engines_dir
from gemmad.errors import ConfigError
from gemmad.generation import EngineSettings
from gemmad.metrics import Metrics, Reading
from gemmad.monitor.tail import LogTail
from gemmad.monitor.thresholds import Change
from gemmad.supervisor.caches import compile_caches
from gemmad.supervisor.cgroups import settle
from gemmad.supervisor.gpus import Gpus, find_gpus
from gemmad.supervisor.interpreter import Interpreter
from gemmad.supervisor.pool import Pool, State
from gemmad.supervisor.process import Process
from gemmad.supervisor.seat import Seat
from gemmad.supervisor.seating import Seating
from gemmad.supervisor.surroundings import Host
from gemmad.supervisor.watch import GpuWatch, in_thread
from gemmad.supervisor.wishes import WorkerStatus
from gemmad.supervisor.zygote import Zygote
from gemmad.tracing.tracer import open_tracer

EXIT_ASKED = 0
EXIT_CRASHED = 1
EXIT_TRY_AGAIN = 75
"""EX_TEMPFAIL. (78, EX_CONFIG, is for the errors that `run` raises.)"""
OVERSIGHT_SECONDS = 30.0
"""After a worker's `hang_timeout` it has been dealt with; if not, the supervisor itself is stuck."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = logs.get_logger(__name__)


def run(loaded: Loaded, *, paths: Paths, hints: bool = False, worker_command: Sequence[str] | None = None) -> int:
    """Serve until a signal says stop; the exit code.

    Raises ConfigError for what stays wrong until somebody changes it; a model that is missing or broken is waited for.
    `hints` are printed once the model answers. `worker_command` is run for workers instead of gemmad's own program.
    """
    config = loaded.config
    logs.configure(config.logging.level, config.logging.format)
    if config.model.path is None:
        raise ConfigError("model.path: no model is set")
    inherited = take_inherited(os.environ)
    doorkeeper = Doorkeeper(config, env=os.environ, exposed=inherited.leads_outside)
    try:
        listening = listen(config.server, inherited=inherited, notifier=Notifier(os.environ))
    except AddressTakenError as error:
        log.error("cannot listen", reason=str(error))  # noqa: TRY400 - the reason says it all
        return EXIT_TRY_AGAIN
    with (
        listening,
        LogTail().attached() as tail,
        compile_caches(paths.cache_dir, os.environ) as caches,
        asyncio.Runner() as runner,
    ):
        log.info("listening", url=listening.url)
        options = {"paths": paths, "hints": hints, "worker_command": worker_command, "worker_env": caches, "tail": tail}
        return runner.run(_serve(loaded, listening, doorkeeper=doorkeeper, **options))


async def _serve(loaded: Loaded, listening: Listening, **options: Any) -> int:
    daemon = Daemon(loaded, listening, **options)
    return await daemon.serve()


class Daemon:
    """All objects of one daemon. Built inside the event loop."""

    def __init__(
        self,
        loaded: Loaded,
        listening: Listening,
        *,
        doorkeeper: Doorkeeper,
        paths: Paths,
        hints: bool,
        worker_command: Sequence[str] | None,
        worker_env: Mapping[str, str],
        tail: LogTail,
    ) -> None:
        """`worker_env`: variables of every worker, beside its seat's own. `tail` keeps what is logged."""
        self._loaded = loaded
        self._listening = listening
        self._doorkeeper = doorkeeper
        self._hints = hints
        self._worker_env = dict(worker_env)
        self._tail = tail
        self._current = current = Current(loaded.config)
        self._folder_of = partial(model_folder, paths=paths)
        self._coded_copies = paths.cache_dir / "weights"
        self._model = ModelFolder(lambda: current.config.model, folder_of=self._folder_of)
        self._rooms = Rooms(self._model, config=lambda: current.config)
        self._notifier = Notifier(os.environ)
        self._reloader = Reloader(
            current,
            load=loaded.again,
            notifier=self._notifier,
            followers=[lambda config: logs.set_level(config.logging.level)],
            prepare=doorkeeper.prepare,
            check=doorkeeper.check,
            roll=self._roll,
        )
        self._dispatcher = Dispatcher(section=lambda: current.config.dispatch)
        self._pool: Pool | None = None
        interpreter = Interpreter(EngineStore(engines_dir(paths)))
        self._zygote = Zygote(
            interpreter.spawn if worker_command is None else partial(Process, tuple(worker_command)),
            wanted=lambda: worker_command is None and current.config.workers.zygote,
            hatch=interpreter.hatch,
            installed=interpreter.installed,
        )
        self._cgroups = settle()
        self._monitoring = Monitoring(paths.state_dir, self._sources(), version=__version__, count=self._count_alert)
        self._tracer = open_tracer(
            loaded.config.tracing.endpoint, share=lambda: current.config.tracing.sample, version=__version__
        )
        self._services = self._describe()
        operator = Operator(
            self._services,
            levers(
                url=listening.url,
                config_path=loaded.path,
                config=lambda: current.config,
                pool=lambda: self._pool,
                reloader=self._reloader,
            ),
        )
        self._dashboard = Dashboard(operator)
        self._http = HttpServer(create_app(self._services, self._dashboard), listening.sockets)
        self._control = control_socket(paths, operator)
        self._stop = asyncio.Event()
        self._patience: asyncio.Timeout | None = None
        """While stopping: what a second signal cuts short."""
        self._fatal: ConfigError | None = None

    async def serve(self) -> int:
        """Run until a signal. Raises what makes serving pointless."""
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._take_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._reloader.ring)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work, name=name) for name, work in self._work().items()]
            await self._stop.wait()
            await self._wind_down()
            await self._control.stop()
            for task in tasks:
                task.cancel()
        if self._tracer is not None:
            self._tracer.close()
        if self._fatal is not None:
            raise self._fatal
        log.info("stopped")
        return EXIT_ASKED

    def _work(self) -> dict[str, Coroutine[Any, Any, None]]:
        work = {
            "http": self._http.run(),
            "control": self._control.run(),
            "workers": self._or_give_up(self._run_workers()),
            "model": self._or_give_up(self._run_model()),
            "zygote": self._zygote.run(),
            "reload": self._reloader.run(),
            "monitoring": self._monitoring.run(),
            "keys": self._doorkeeper.watch(self._reloader.ring),
            "announce": announce(
                Health(self._services).state,
                self._notifier,
                on_ready=self._note_ready,
                workers=self._workers,
                silence_seconds=lambda: self._current.config.workers.hang_timeout + OVERSIGHT_SECONDS,
                remedy=lambda: "" if self._model.trouble is None else self._model.trouble.remedy,
            ),
        }
        if self._loaded.path is not None:
            work["watch"] = self._watch(self._loaded.path)
        return work

    # --- what runs ----------------------------------------------------------------------------------------------------

    async def _run_workers(self) -> None:
        config = self._current.config
        seating = Seating(config.engine.device, config.workers, env=self._worker_env)
        watch = GpuWatch(partial(in_thread, find_gpus), seats_after=seating.settle)
        seats = seating.settle(await watch.look() if seating.on_gpus else Gpus(()))
        await self._model.plausible.wait()
        self._pool = Pool(
            seats,
            section=lambda: self._current.config.workers,
            recycle=lambda: self._current.config.recycle,
            settings=lambda seat: self._engine_settings(self._current.config, seat),
            listener=self._dispatcher,
            spawn=self._zygote,
            watch=watch if seating.on_gpus else None,
            host=Host(cgroups=self._cgroups),
        )
        await self._pool.run()

    async def _run_model(self) -> None:
        await self._rooms.run(changed=self._begin_anew, is_broken=self._is_broken)

    def _begin_anew(self) -> None:
        """Workers have read, or failed to read, what the model's folder had before."""
        if self._pool is not None:
            self._pool.recycle()

    def _is_broken(self) -> bool:
        """Whether every worker has given up."""
        workers = self._workers()
        return bool(workers) and all(worker.state is State.FAILED for worker in workers)

    def _engine_settings(self, config: Config, seat: Seat) -> EngineSettings:
        assert config.model.path is not None
        folder = self._folder_of(config.model.path)
        return engine_settings(config, seat, checkpoint=folder, coded_copies=self._coded_copies)

    def _roll(self, config: Config, ended: Callable[[str | None], None]) -> None:
        """Have a worker try this config; where there is none yet, all begin with it."""
        if self._pool is None:
            asyncio.get_running_loop().call_soon(ended, None)
        else:
            self._pool.try_settings(partial(self._engine_settings, config), ended=ended)

    async def _watch(self, path: Path) -> None:
        from gemmad.daemon.watch import ConfigWatcher  # watchdog; nobody waits for it

        watcher = ConfigWatcher(
            path,
            seen=self._loaded.digest,
            ring=self._reloader.ring,
            digest=config_digest,
            beside=path.parent / MORE,
        )
        await watcher.run()

    async def _or_give_up(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except ConfigError as error:
            self._fatal = error
            self._stop.set()

    def _note_ready(self) -> None:
        self._zygote.begin()
        name = self._services.names()[0]
        log.info("ready", url=self._listening.url, model=name)
        if self._hints:
            print_hints(self._listening.url, model=name, with_key=bool(self._doorkeeper.keyring))

    # --- the end ------------------------------------------------------------------------------------------------------

    def _take_signal(self, number: int) -> None:
        """The first asks, the second insists."""
        log.info("signal", signal=signal.Signals(number).name)
        if self._patience is not None:
            with contextlib.suppress(RuntimeError):  # it is over already
                self._patience.reschedule(asyncio.get_running_loop().time())
        self._stop.set()

    async def _wind_down(self) -> None:
        try:
            async with asyncio.timeout(None) as self._patience:
                await self._let_requests_finish()
                self._dispatcher.close()  # streams that are left end with an error event
                self._rooms.close()
                self._dashboard.close()
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._http.stop())
                    if self._pool is not None and self._dispatcher.max_context is not None:
                        group.create_task(self._pool.stop())  # one that only loads is killed instead, with its task
        except TimeoutError:
            log.warning("stopping at once", requests=self._dispatcher.status().running)
            self._dispatcher.close()
            self._http.abort()

    async def _let_requests_finish(self) -> None:
        grace_seconds = 0.0 if self._fatal else self._current.config.shutdown.grace
        self._dispatcher.begin_drain()
        status = self._dispatcher.status()
        log.info("draining", running=status.running, waiting=status.waiting, grace_seconds=grace_seconds)
        self._notifier.stopping(f"draining {status.running + status.waiting} requests")
        self._notifier.extend_timeout(grace_seconds + FLUSH_SECONDS + self._current.config.workers.stop_grace)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                await self._dispatcher.drained()

    # --- what the rooms are given -------------------------------------------------------------------------------------

    def _describe(self) -> Services:
        current = self._current
        return Services(
            version=__version__,
            served=lambda: self._rooms.served,
            dispatcher=self._dispatcher,
            workers=self._workers,
            metrics=Metrics(self._read, states=[state.value for state in State]),
            server=lambda: current.config.server,
            model=lambda: current.config.model,
            sampling=lambda: current.config.sampling,
            media=lambda: current.config.media,
            max_context=self._max_context,
            trouble=lambda: self._model.trouble,
            folder_of=self._folder_of,
            auth=lambda: current.config.auth,
            keyring=lambda: self._doorkeeper.keyring,
            exposed=self._doorkeeper.exposed,
            tracer=self._tracer,
            watched=dataclasses.replace(self._monitoring.watched, log=self._tail.after),
        )

    def _sources(self) -> Sources:
        return Sources(
            section=lambda: self._current.config.monitor,
            recycle=lambda: self._current.config.recycle,
            workers=self._workers,
            dispatch=self._dispatcher.status,
        )

    def _count_alert(self, change: Change) -> None:
        if change.event != "ends":
            self._services.metrics.memory_alerts.labels(change.alert.level, change.alert.about).inc()

    def _workers(self) -> tuple[WorkerStatus, ...]:
        return self._pool.status() if self._pool is not None else ()

    def _max_context(self) -> int | None:
        """What the workers serve; before they do, what they will at most."""
        if (served := self._dispatcher.max_context) is not None:
            return served
        trained = None if self._rooms.served is None else self._rooms.served.text.context_length
        limits = [limit for limit in (self._current.config.engine.max_context, trained) if limit is not None]
        return min(limits, default=None)

    def _read(self) -> Reading:
        return reading(
            self._services.version,
            self._dispatcher.status(),
            self._workers(),
            config=self._reloader.reading(),
            waiting_limit=self._current.config.dispatch.max_waiting,
            rooms=self._rooms.sources,
            gpus=self._monitoring.watched.gauges(),
            alerts=self._monitoring.watched.alerts(),
        )
