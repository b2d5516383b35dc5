"""The real HTTP side on a real port, with a worker that says what a test writes.

Everything from the socket to the dispatcher is the daemon's own; only the pool of workers is played, by
`ScriptedWorker`. It runs in a thread with a loop of its own, so that tests can use blocking clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

from msgspec import Struct
from openai import AsyncOpenAI, OpenAI

import gemmad.demo
from gemmad.api.app import create_app
from gemmad.api.dashboard.routes import Dashboard
from gemmad.api.dashboard.watched import Watched
from gemmad.api.operator import Levers, Operator
from gemmad.api.services import Served, Services
from gemmad.config.keyring import Keyring
from gemmad.config.schema import Config, ModelSection, Section, ServerSection
from gemmad.daemon.readings import reading
from gemmad.daemon.server import HttpServer
from gemmad.daemon.sockets import listen
from gemmad.dispatch.dispatcher import Dispatcher
from gemmad.errors import InvalidRequestError
from gemmad.generation import Capacity, FinishReason, TokenLogprobs
from gemmad.grammar.spec import Regex, Spec
from gemmad.media.pool import MediaPool
from gemmad.media.spec import ImageSpec
from gemmad.metrics import ConfigReading, Metrics
from gemmad.monitor.tail import LogTail
from gemmad.protocol.messages import Abort, Output, Ready, Rejected, Stepped, Submit, ToWorker
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.listener import Outlook, Verdict, WorkerHandle
from gemmad.supervisor.wishes import WorkerStatus
from gemmad.text.checkpoint import TextModel
from gemmad.tracing.tracer import Tracer

CHECKPOINT = Path(gemmad.demo.__file__).parent / "checkpoint"
MODEL = "gemma-3-demo"
PATIENCE_SECONDS = 20.0

T = TypeVar("T")


class Script(Struct, frozen=True, kw_only=True):
    """What the worker does with a request."""

    token_ids: tuple[int, ...] = ()
    at_once: int = 1
    """Tokens in one step."""
    pause_seconds: float = 0.0
    """Before each step."""
    then: Literal["finish", "silence", "reject"] = "finish"
    logprobs: tuple[TokenLogprobs, ...] = ()
    """One for each of `token_ids`; told to those that ask."""


class ScriptedWorker:
    """The pool's side of the dispatcher, inside its loop."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.script: Callable[[Submit], Script] = lambda _submit: Script()
        self.submits: list[Submit] = []
        self.aborted: list[int] = []
        self.at_work: set[int] = set()
        self.handle: WorkerHandle | None = None
        self._dispatcher = dispatcher
        self._lives = 0
        self._steps = 0

    def arrive(self, *, max_context: int = 8192, max_sequences: int = 64) -> None:
        """Get ready."""
        assert self.handle is None
        self._lives += 1
        capacity = Capacity(
            max_context=max_context,
            max_sequences=max_sequences,
            max_step_tokens=2048,
            page_tokens=16,
            full_pages=1 << 16,
            sliding_pages=1 << 16,
        )
        self.handle = WorkerHandle("scripted", life=self._lives, capacity=capacity, send=self._receive)
        self._dispatcher.worker_ready(self.handle, Ready(capacity, pid=0, seconds=0.0))
        self._dispatcher.outlook_changed(Outlook.SERVING, wait_seconds=0.0)

    def leave(self, outlook: Outlook, *, wait_seconds: float = 3.0, verdict: Verdict = Verdict.INNOCENT) -> None:
        """Be gone, and judged."""
        self._dispatcher.outlook_changed(outlook, wait_seconds=wait_seconds)
        if self.handle is not None:
            handle, self.handle = self.handle, None
            self.at_work.clear()
            self._dispatcher.worker_gone(handle, "the test says so")
            self._dispatcher.worker_judged(handle, verdict, "the test says so")
            self._dispatcher.outlook_changed(outlook, wait_seconds=wait_seconds)

    def _receive(self, message: ToWorker, fds: Sequence[int]) -> None:
        if isinstance(message, Submit):
            assert len(fds) == len(message.prompt.images)
            self.submits.append(message)
            self.at_work.add(message.request_id)
            self._continue(message, self.script(message), len(message.generated))
        elif isinstance(message, Abort):
            self.aborted.append(message.request_id)
            self.at_work.discard(message.request_id)

    def _continue(self, submit: Submit, script: Script, position: int) -> None:
        asyncio.get_running_loop().call_later(script.pause_seconds, self._step, submit, script, position)

    def _step(self, submit: Submit, script: Script, position: int) -> None:
        if submit.request_id not in self.at_work or self.handle is None:
            return
        end = min(position + script.at_once, len(script.token_ids), submit.sampling.max_tokens)
        token_ids = script.token_ids[position:end]
        finish = self._finish(submit, script, token_ids, end)
        if token_ids or finish is not None:
            self._steps += 1
            told = () if submit.sampling.logprobs is None else script.logprobs[position:end]
            output = Output(submit.request_id, token_ids, finish, cached_tokens=3, logprobs=told)
            if finish is not None:
                self.at_work.discard(submit.request_id)
            self._dispatcher.worker_said(self.handle, Stepped(self._steps, (output,)))
        if finish is None and end < len(script.token_ids):
            self._continue(submit, script, end)
        elif finish is None and script.then == "reject":
            self.at_work.discard(submit.request_id)
            self._dispatcher.worker_said(self.handle, Rejected(submit.request_id, "it does not fit"))

    def _finish(self, submit: Submit, script: Script, token_ids: tuple[int, ...], end: int) -> FinishReason | None:
        if set(token_ids) & set(submit.sampling.stop_token_ids):
            return FinishReason.STOP
        if end == submit.sampling.max_tokens:
            return FinishReason.LENGTH
        done = end == len(script.token_ids) and script.then == "finish"
        return FinishReason.STOP if done else None


class WrittenGrammars:
    """Takes whatever a reply is to be held to, and notes it: what holds a reply is a worker's business."""

    def __init__(self) -> None:
        self.asked: list[tuple[Spec, str]] = []
        """With the field that is to blame."""

    async def compile(self, spec: Spec, *, param: str) -> str:
        """A source that says which spec it was. Raises InvalidRequestError for the regular expression `(`."""
        self.asked.append((spec, param))
        if spec == Regex("("):
            raise InvalidRequestError("The expression is not complete.", param=param, code="invalid_schema")
        return f"grammar {len(self.asked)}"


class Stage:
    """Use it in `with`. What belongs to the loop is touched through `call` only."""

    def __init__(self, *, tracer: Tracer | None = None) -> None:
        self.tracer = tracer
        self.text = TextModel.load(CHECKPOINT)
        self.served = True
        self.keyring = Keyring()
        self.grammars = WrittenGrammars()
        self.config = self._default_config()
        self.dispatcher: Dispatcher
        self.worker: ScriptedWorker
        self.services: Services
        self.dashboard: Dashboard
        self.tail = LogTail()
        self.url = ""
        self.port = 0
        self._loop: asyncio.AbstractEventLoop
        self._over: asyncio.Event
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="stage")

    def __enter__(self) -> Stage:
        self._thread.start()
        assert self._ready.wait(PATIENCE_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(PATIENCE_SECONDS)

    def reset(self) -> None:
        """As it was at the beginning."""
        self.config = self._default_config()
        self.keyring = Keyring()
        self.grammars.asked.clear()
        self.served = True
        self.call(self._reset_worker)

    @contextlib.contextmanager
    def settings(self, **sections: dict[str, Any]) -> Iterator[None]:
        """Other settings, live."""
        was = self.config
        changed: dict[str, Section] = {
            name: getattr(was, name).model_copy(update=values) for name, values in sections.items()
        }
        self.config = was.model_copy(update=changed)
        try:
            yield
        finally:
            self.config = was

    def say(self, text: str, **how: Any) -> None:
        """From now on replies are `text`, and end as the model ends a turn."""
        token_ids = (*self.tokens(text), self.text.stop_token_ids[-1])
        self.play(Script(token_ids=token_ids, **how))

    def play(self, script: Script | Callable[[Submit], Script]) -> None:
        """From now on requests are served so."""
        self.worker.script = script if callable(script) else lambda _submit: script

    def tokens(self, text: str) -> tuple[int, ...]:
        """Token ids of a plain text."""
        return tuple(self.text.encode_plain([text])[0])

    def call(self, function: Callable[[], T]) -> T:
        """Run something inside the loop."""

        async def in_loop() -> T:
            return function()

        return self.run(in_loop())

    def run(self, work: Awaitable[T]) -> T:
        """Await something inside the loop."""

        async def awaited() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result(PATIENCE_SECONDS)

    def wait_until(self, condition: Callable[[], bool], *, seconds: float = PATIENCE_SECONDS) -> None:
        """Return once it holds, seen from inside the loop; fail if it never does."""
        give_up = time.monotonic() + seconds
        while not self.call(condition):
            assert time.monotonic() < give_up, "it did not come to that"
            time.sleep(0.01)

    def is_idle(self) -> bool:
        """Nothing in the table, nothing at the worker."""
        status = self.dispatcher.status()
        return status.running == status.waiting == 0 and not self.worker.at_work

    def client(self, **options: Any) -> OpenAI:
        """The official SDK; it does not retry unless told to."""
        return OpenAI(base_url=f"{self.url}/v1", api_key="none", **{"max_retries": 0, **options})

    def async_client(self, **options: Any) -> AsyncOpenAI:
        """The same, for asyncio."""
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", **{"max_retries": 0, **options})

    def _default_config(self) -> Config:
        server = ServerSection(port=0, max_body=1 << 20, ping_every=0.1)
        return Config(server=server, model=ModelSection(path=CHECKPOINT, served_names=(MODEL, "gemma")))

    def _reset_worker(self) -> None:
        if self.worker.handle is not None:
            self.worker.leave(Outlook.RETURNING)
        self.worker.submits.clear()
        self.worker.aborted.clear()
        self.worker.script = lambda _submit: Script()
        self.worker.arrive()

    async def _run(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_default_executor(ThreadPoolExecutor(1))
        await asyncio.to_thread(lambda: None)  # its thread is there before any test looks at threads
        self.dispatcher = Dispatcher(section=lambda: self.config.dispatch)
        self.worker = ScriptedWorker(self.dispatcher)
        self.worker.arrive()
        spec = ImageSpec.load(CHECKPOINT)
        assert spec is not None
        media = MediaPool(spec, section=lambda: self.config.media, processes=1, memory_bytes=1 << 30)
        with listen(self.config.server) as listening:
            self.url = listening.url
            self.port = int(listening.url.rpartition(":")[2])
            self.services = self._services(media)
            self.dashboard = Dashboard(Operator(self.services, Levers(config=lambda: self.config, url=self.url)))
            http = HttpServer(create_app(self.services, self.dashboard), listening.sockets)
            async with asyncio.TaskGroup() as group:
                group.create_task(http.run())
                group.create_task(media.run())
                while not media.status().ready:
                    await asyncio.sleep(0.01)
                self._ready.set()
                await self._over.wait()
                self.dispatcher.close()
                self.dashboard.close()
                await http.stop()
                media.close()

    def _services(self, media: MediaPool) -> Services:
        served = Served(self.text, media, self.grammars)
        return Services(
            version="1.2.3",
            served=lambda: served if self.served else None,
            dispatcher=self.dispatcher,
            workers=self._workers,
            metrics=Metrics(
                lambda: reading("1.2.3", self.dispatcher.status(), self._workers(), config=ConfigReading()),
                states=[state.value for state in State],
            ),
            server=lambda: self.config.server,
            model=lambda: self.config.model,
            sampling=lambda: self.config.sampling,
            media=lambda: self.config.media,
            max_context=lambda: self.dispatcher.max_context,
            auth=lambda: self.config.auth,
            keyring=lambda: self.keyring,
            tracer=self.tracer,
            watched=Watched(log=self.tail.after),
        )

    def _workers(self) -> tuple[WorkerStatus, ...]:
        loading = self.worker.handle is None
        return (
            WorkerStatus(
                name="cpu0",
                device="cpu",
                state=State.STARTING if loading else State.READY,
                life=1,
                pid=None,
                stage="weights" if loading else None,
                fraction=0.5 if loading else None,
                since=0.0,
                retry_at=None,
                faults=0.0,
                last_error=None,
                load=None,
                capacity=None,
            ),
        )
