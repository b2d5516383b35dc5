"""The routes of the control socket, over a pool whose children the test plays."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import pytest
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gemmad.api.admin import AdminServices, create_admin_app
from gemmad.api.dashboard.snapshot import LivePoints, Snapshot, Token
from gemmad.api.dashboard.watched import Watched
from gemmad.api.operator import Levers, Operator, is_degraded
from gemmad.api.overview import Asked, ConfigDiff, Overview, Reload, RequestList, SettingDiff, WorkerOverview
from gemmad.api.peer import Peer, Wardens
from gemmad.api.services import Services
from gemmad.config.schema import DispatchSection, ModelSection, RecycleSection
from gemmad.dispatch.dispatcher import Dispatcher
from gemmad.dispatch.listing import Listed
from gemmad.generation import EngineLoad
from gemmad.metrics import Metrics, Reading
from gemmad.monitor.live import LivePoint
from gemmad.monitor.tail import LogLine
from gemmad.protocol.messages import PROTOCOL_VERSION, Heartbeat, Loading
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.listener import Outlook
from gemmad.supervisor.wishes import WorkerStatus
from tests.fakes.clock import settle
from tests.fakes.desk import PlayedWorker
from tests.unit.dispatch.office import ask as request
from tests.unit.supervisor.stage import Stage, play

PAGE = (Path(__file__).parents[3] / "docs" / "control.md").read_text()
WARDEN = Peer(pid=1, uid=1000, groups=frozenset())
VISITOR = Peer(pid=2, uid=1001, groups=frozenset({5}))
WARDENS = Wardens(uid=1000, group=4242, group_name="gemmad")


class Desk:
    """The control socket's app beside a stage; whoever asks through it is `peer`."""

    def __init__(
        self,
        stage: Stage,
        *,
        pool_is_there: bool = True,
        reload: Reload | None = None,
        watched: Watched | None = None,
    ) -> None:
        unused: Any = None
        self.peer = WARDEN
        self.reloads: list[bool] = []
        """Those that were asked for: whether they were to change nothing."""
        section, model = DispatchSection(), ModelSection(served_names=("gemma",))
        self.services = Services(
            version="1.2.3",
            served=lambda: None,
            dispatcher=Dispatcher(section=lambda: section, clock=stage.clock),
            workers=stage.pool.status,
            metrics=Metrics(lambda: Reading(version="1.2.3")),
            server=unused,
            model=lambda: model,
            sampling=unused,
            media=unused,
            max_context=lambda: 8192,
            watched=watched or Watched(),
            clock=stage.clock,
        )
        levers = Levers(
            pool=lambda: stage.pool if pool_is_there else None,
            last_reload=lambda: reload,
            reload=self._reload,
            config_diff=self._config_diff,
            config_path=Path("/etc/gemmad/gemmad.toml"),
            url="http://127.0.0.1:4363",
        )
        self.admin = AdminServices(operator=Operator(self.services, levers), wardens=WARDENS)
        self._app = create_admin_app(self.admin)

    async def ask(self, method: str, path: str) -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(self._with_peer), base_url="http://gemmad"
        ) as client:
            response = await client.request(method, path)
        await settle()
        return response

    async def see(self) -> Overview:
        response = await self.ask("GET", "/status")
        assert response.status_code == 200
        return msgspec.json.decode(response.content, type=Overview)

    async def post(self, path: str) -> tuple[WorkerOverview, ...]:
        response = await self.ask("POST", path)
        assert response.status_code == 200, response.text
        return msgspec.json.decode(response.content, type=Asked).workers

    async def _reload(self, *, dry_run: bool) -> Reload:
        self.reloads.append(dry_run)
        return Reload(ok=False, seconds_ago=0.0, errors=("gemmad.toml:3: a.b: no",))

    async def _config_diff(self) -> ConfigDiff:
        return ConfigDiff((SettingDiff("server.port", "1", None, "restart"),))

    async def _with_peer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "state": {"peer": self.peer}}, receive, send)


def test_a_worker_from_loading_to_its_next_life() -> None:
    """The overview has its stage while it loads, its load when it is ready, and its error and next try afterwards."""

    async def script(stage: Stage) -> None:
        desk = Desk(stage)
        stage.child.say(Loading(PROTOCOL_VERSION, "weights", 0.5))
        await asyncio.sleep(3)
        seen = await desk.see()
        (worker,) = seen.workers
        assert (seen.state, seen.degraded, seen.uptime_seconds) == ("loading", True, 3.0)
        assert (worker.state, worker.stage, worker.progress, worker.state_seconds) == ("starting", "weights", 0.5, 3.0)
        await stage.get_ready()
        stage.child.say(Heartbeat(EngineLoad(running=2, full_pages_used=256, sliding_pages_used=512)))
        await settle()
        (worker,) = (await desk.see()).workers
        assert (worker.state, worker.life, worker.stage, worker.kv_usage) == ("ready", 1, None, 0.5)
        assert worker.load is not None
        assert worker.load.running == 2
        assert (worker.next_recycle_in_seconds or 0) > 60
        stage.child.exit(-11)
        await settle()
        (worker,) = (await desk.see()).workers
        assert (worker.state, worker.pid, worker.faults, worker.load) == ("backoff", None, 1.0, None)
        assert "SIGSEGV" in (worker.last_error or "")
        assert (worker.retry_in_seconds or 0) > 0

    play(script, recycle=RecycleSection(every=100))


def test_what_the_daemon_is() -> None:
    """The overview says which daemon this is, what it serves, and how the configuration's last reload went."""
    reload = Reload(ok=False, seconds_ago=3.0, errors=("f:1: a: why",))

    async def script(stage: Stage) -> None:
        seen = await Desk(stage, reload=reload).see()
        assert (seen.version, seen.url, seen.models) == ("1.2.3", "http://127.0.0.1:4363", ("gemma",))
        assert (seen.max_context, seen.config.path, seen.config.reload) == (8192, "/etc/gemmad/gemmad.toml", reload)
        assert (seen.requests.total, seen.requests.running, seen.tokens.generated) == (0, 0, 0)

    play(script)


def test_drain_and_resume() -> None:
    """A drained worker is shown as such until it is resumed; the others stay as they are."""

    async def script(stage: Stage) -> None:
        desk = Desk(stage)
        for child in stage.nursery.children:
            child.load()
        await settle()
        (asked,) = await desk.post("/workers/cpu1/drain")
        assert (asked.name, asked.drained) == ("cpu1", True)
        stage.nursery.children[1].exit(0)
        await settle()
        first, second = (await desk.see()).workers
        assert (first.state, first.drained) == ("ready", False)
        assert (second.state, second.drained) == ("stopped", True)
        (asked,) = await desk.post("/workers/cpu1/resume")
        assert not asked.drained
        assert (await desk.see()).workers[1].state == "starting"

    play(script, seats=2)


def test_all_of_them() -> None:
    """`all` asks every worker."""

    async def script(stage: Stage) -> None:
        desk = Desk(stage)
        assert [worker.name for worker in await desk.post("/workers/all/drain")] == ["cpu0", "cpu1"]
        assert all(worker.drained for worker in (await desk.see()).workers)
        assert len(await desk.post("/workers/all/resume")) == 2
        assert not any(worker.drained for worker in (await desk.see()).workers)

    play(script, seats=2)


def test_recycle() -> None:
    """A worker that is asked to be renewed says so until its next life serves; who is drained is left out."""

    async def script(stage: Stage) -> None:
        desk = Desk(stage)
        for child in list(stage.nursery.children):
            child.load()
        await settle()
        await desk.post("/workers/cpu1/drain")
        stage.nursery.children[1].exit(0)
        await settle()
        (asked,) = await desk.post("/workers/all/recycle")
        assert (asked.name, asked.recycling, asked.life) == ("cpu0", True, 1)
        refused = await desk.ask("POST", "/workers/cpu1/recycle")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "worker_drained")
        first = (await desk.see()).workers[0]
        assert first.recycling
        assert first.successor is not None
        assert (first.successor.life, first.successor.state) == (2, "starting")
        stage.nursery.children[-1].load()
        await settle()
        stage.nursery.children[0].exit(0)
        await settle()
        first = (await desk.see()).workers[0]
        assert (first.life, first.state, first.recycling, first.successor) == (2, "ready", False, None)

    play(script, seats=2)


def test_drained_after_recycled() -> None:
    """Who is drained is not renewed any more, neither now nor when it is resumed."""

    async def script(stage: Stage) -> None:
        desk = Desk(stage)
        (asked,) = await desk.post("/workers/cpu0/recycle")
        assert asked.recycling
        (asked,) = await desk.post("/workers/cpu0/drain")
        assert not asked.recycling
        stage.child.exit(0)
        await settle()
        await desk.post("/workers/cpu0/resume")
        await stage.get_ready()
        await asyncio.sleep(10)
        (worker,) = (await desk.see()).workers
        assert (worker.life, worker.state, worker.recycling) == (2, "ready", False)

    play(script)


def test_an_unknown_worker() -> None:
    """A name that is none leads to those that are."""

    async def script(stage: Stage) -> None:
        for verb in ("drain", "resume", "recycle"):
            response = await Desk(stage).ask("POST", f"/workers/gpu7/{verb}")
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (404, "worker_not_found")
            assert error["message"] == "There is no worker 'gpu7'; there are cpu0, cpu1."

    play(script, seats=2)


def test_who_may_only_look() -> None:
    """Everyone may read; who is no warden is told who is, and nothing happens."""

    async def script(stage: Stage) -> None:
        desk = Desk(stage)
        desk.peer = VISITOR
        assert len((await desk.see()).workers) == 1
        for verb in ("drain", "resume", "recycle"):
            response = await desk.ask("POST", f"/workers/all/{verb}")
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (403, "forbidden")
            assert "root, the daemon's own user (uid 1000) and members of the group gemmad" in error["message"]
        (worker,) = (await desk.see()).workers
        assert (worker.drained, worker.recycling) == (False, False)

    play(script)


@pytest.mark.parametrize(
    ("peer", "admitted"),
    [
        (Peer(1, 0, frozenset()), True),
        (Peer(1, 1000, frozenset()), True),
        (Peer(1, 1001, frozenset({7, 4242})), True),
        (Peer(1, 1001, frozenset({7})), False),
        (Peer(1, 65534, frozenset()), False),
    ],
)
def test_wardens(peer: Peer, admitted: bool) -> None:
    """Root, the daemon's user and the group of operators are admitted; without such a group only the first two."""
    assert WARDENS.admit(peer) is admitted
    without = Wardens(uid=1000, group=None, group_name="gemmad")
    assert without.admit(peer) is (peer.uid in (0, 1000))


def test_config_diff() -> None:
    """Everyone may see what the files say and the daemon does not have."""

    async def script(stage: Stage) -> None:
        desk = Desk(stage)
        desk.peer = VISITOR
        answer = await desk.ask("GET", "/config/diff")
        assert answer.status_code == 200
        setting = {"key": "server.port", "running": "1", "wanted": None, "when": "restart"}
        assert answer.json() == {"settings": [setting], "errors": []}

    play(script)


def test_reload() -> None:
    """A reload is answered with its outcome, good or bad, to wardens only; a dry run is asked for as one."""

    async def script(stage: Stage) -> None:
        desk = Desk(stage)
        for path in ("/reload", "/reload?dry_run=1", "/reload?dry_run=0"):
            response = await desk.ask("POST", path)
            assert response.status_code == 200
            assert msgspec.json.decode(response.content, type=Reload).errors == ("gemmad.toml:3: a.b: no",)
        assert desk.reloads == [False, True, False]
        desk.peer = VISITOR
        assert (await desk.ask("POST", "/reload")).status_code == 403
        assert len(desk.reloads) == 3

    play(script)


def test_requests_are_listed_and_cancelled() -> None:
    """Everyone sees what runs; a warden ends it by its client's id, slashes and all, and again is too late."""

    async def script(stage: Stage) -> None:
        desk = Desk(stage)
        dispatcher = desk.services.dispatcher
        worker = PlayedWorker(dispatcher, "cpu0")
        dispatcher.outlook_changed(Outlook.SERVING, wait_seconds=0.0)
        ticket = dispatcher.submit(request(1, 2, 3, max_tokens=9, request_id="a/b c"))
        worker.step()
        desk.peer = VISITOR
        (seen,) = msgspec.json.decode((await desk.ask("GET", "/requests")).content, type=RequestList).requests
        assert (seen.request_id, seen.worker, seen.said_tokens, seen.max_tokens) == ("a/b c", "cpu0", 1, 9)
        assert (await desk.ask("POST", "/requests/a%2Fb%20c/cancel")).status_code == 403
        assert ticket.ending is None
        desk.peer = WARDEN
        response = await desk.ask("POST", "/requests/a%2Fb%20c/cancel")
        assert msgspec.json.decode(response.content, type=RequestList).requests == (seen,)
        assert getattr(ticket.ending, "code", None) == "cancelled"
        again = await desk.ask("POST", "/requests/a%2Fb%20c/cancel")
        assert (again.status_code, again.json()["error"]["code"]) == (404, "request_not_found")

    play(script)


def line(number: int) -> LogLine:
    return LogLine(number=number, at="2026-01-01T00:00:00Z", level="info", logger="x", event="said", fields={})


def test_a_snapshot() -> None:
    """Everyone is shown how the daemon is; the log and the right to act are a warden's."""
    seen: list[int] = []

    def log(after: int) -> tuple[LogLine, ...]:
        seen.append(after)
        return (line(7), line(8))

    async def script(stage: Stage) -> None:
        looks: list[None] = []
        desk = Desk(stage, watched=Watched(log=log, looked_at=lambda: looks.append(None)))
        snapshot = msgspec.json.decode((await desk.ask("GET", "/snapshot")).content, type=Snapshot)
        assert (snapshot.may_act, [line.number for line in snapshot.log]) == (True, [7, 8])
        assert [worker.name for worker in snapshot.overview.workers] == ["cpu0"]
        await desk.ask("GET", "/snapshot?after=6")
        await desk.ask("GET", "/snapshot?after=nonsense")
        assert (seen, len(looks)) == ([0, 6, 0], 3)
        desk.peer = VISITOR
        snapshot = msgspec.json.decode((await desk.ask("GET", "/snapshot")).content, type=Snapshot)
        assert (snapshot.may_act, snapshot.log, len(snapshot.overview.workers)) == (False, (), 1)

    play(script)


def test_the_last_minutes() -> None:
    """Everyone may have them, the oldest second first."""
    points = tuple(
        LivePoint(
            at=at,
            running=1,
            waiting=0,
            tokens_per_second=2.0,
            prompt_tokens_per_second=0.0,
            ttft_p50=None,
            ttft_p95=None,
        )
        for at in (1.0, 2.0)
    )

    async def script(stage: Stage) -> None:
        desk = Desk(stage, watched=Watched(live=lambda: points))
        desk.peer = VISITOR
        answer = await desk.ask("GET", "/live")
        assert msgspec.json.decode(answer.content, type=LivePoints).points == points
        assert answer.headers["cache-control"] == "no-store"

    play(script)


def test_a_session_for_the_dashboard() -> None:
    """A warden gets a token that opens the dashboard; who is none gets none."""

    async def script(stage: Stage) -> None:
        desk = Desk(stage)
        given = msgspec.json.decode((await desk.ask("POST", "/dashboard/token")).content, type=Token)
        session = desk.services.sessions.find(given.token)
        assert session is not None
        assert (session.uid, given.url) == (1000, "http://127.0.0.1:4363")
        desk.peer = VISITOR
        assert (await desk.ask("POST", "/dashboard/token")).status_code == 403
        assert len(desk.services.sessions) == 1

    play(script)


def test_before_the_workers_are_known() -> None:
    """While the GPUs are looked for there is nobody to drain, and a status all the same."""

    async def script(stage: Stage) -> None:
        desk = Desk(stage, pool_is_there=False)
        response = await desk.ask("POST", "/workers/all/drain")
        assert (response.status_code, response.json()["error"]["code"]) == (503, "no_workers_yet")
        assert (await desk.see()).state == "loading"

    play(script)


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("GET", "/workers/all/drain", 405)])
def test_what_is_no_route(method: str, path: str, status: int) -> None:
    """Other paths and methods are refused in the API's shape."""

    async def script(stage: Stage) -> None:
        response = await Desk(stage).ask(method, path)
        assert response.status_code == status
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}

    play(script)


def status(state: State, *, held: bool = False, successor: WorkerStatus | None = None) -> WorkerStatus:
    return WorkerStatus(
        name="gpu0",
        device="cuda:0",
        state=state,
        life=1,
        pid=None,
        stage=None,
        fraction=None,
        since=0.0,
        retry_at=None,
        faults=0.0,
        last_error=None,
        load=None,
        capacity=None,
        held=held,
        successor=successor,
    )


def test_what_is_degraded() -> None:
    """A worker that is drained on purpose, or renewed beside itself, is no trouble; any other that is not ready is."""
    ready, down = status(State.READY), status(State.BACKOFF)
    assert not is_degraded("ready", (ready, ready))
    assert is_degraded("ready", (ready, down))
    assert is_degraded("draining", (ready,))
    assert not is_degraded("ready", (ready, status(State.STOPPED, held=True)))
    assert not is_degraded("ready", (status(State.READY, successor=status(State.STARTING)),))
    assert not is_degraded("ready", (status(State.DRAINING, successor=ready),))


# --- docs/control.md --------------------------------------------------------------------------------------------------


def first_cells(heading: str, *, nth: int = 0) -> list[str]:
    """The first cells of the nth table under a heading."""
    section = PAGE[PAGE.index(f"\n{heading}\n") :]
    tables = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    return [line.strip("|").split(" |")[0].strip() for line in tables[nth].splitlines()[2:]]


def test_every_route_is_documented() -> None:
    """The table of routes is the app's."""

    async def script(stage: Stage) -> None:
        routes = cast("list[Route]", create_admin_app(Desk(stage).admin).routes)
        served = {f"`{method} {route.path}`" for route in routes for method in (route.methods or set()) - {"HEAD"}}
        assert set(first_cells("## The control socket")) == served

    play(script)


@pytest.mark.parametrize(("nth", "kind"), [(0, Overview), (1, WorkerOverview)])
def test_every_field_is_documented(nth: int, kind: type[msgspec.Struct]) -> None:
    """The tables of fields name each one, and no other."""
    named = re.findall(r"`(\w+)`", " ".join(first_cells("## `GET /status`", nth=nth)))
    assert sorted(named) == sorted(kind.__struct_fields__)


def test_every_field_of_a_request_is_documented() -> None:
    """The table of requests names each field, and no other."""
    named = re.findall(r"`(\w+)`", " ".join(first_cells("## `GET /requests`")))
    assert sorted(named) == sorted(Listed.__struct_fields__)
