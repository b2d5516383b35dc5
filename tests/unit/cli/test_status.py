from __future__ import annotations

import io
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from gemmad.api.overview import Configuration, PendingSetting, Reload
from gemmad.api.services import Trouble
from gemmad.cli.control import ControlError, ask, sockets
from gemmad.cli.exits import EXIT_FAILED, EXIT_NO_ACCESS, EXIT_NOT_RUNNING, EXIT_USAGE
from gemmad.cli.status import EXIT_DEGRADED, EXIT_SERVING
from gemmad.cli.status_text import duration, one_line, rendered, state_words
from tests.fakes.somebody import needs_root, somebody_else
from tests.unit.cli.conftest import Command
from tests.unit.cli.operated import BUSY, PlayedSocket, overview, played, worker

PAGE = (Path(__file__).parents[3] / "docs" / "control.md").read_text()


@pytest.fixture
def control(config_dir: Path) -> Iterator[PlayedSocket]:
    """The daemon's end."""
    with played(config_dir / "run") as socket:
        yield socket


def test_serving(gemmad: Command, control: PlayedSocket) -> None:
    """A daemon that is well is shown in plain words, with a line for each worker, and leaves with 0."""
    control.overviews = [
        overview(
            worker(load=BUSY, kv_usage=0.41, next_recycle_in_seconds=7200.0),
            worker("gpu1", load=BUSY, kv_usage=0.5, pid=4712),
        )
    ]
    said = gemmad("status")
    assert (said.exit_code, said.stderr) == (0, "")
    assert said.stdout.splitlines() == [
        "gemmad 1.2.3 is ready, pid 123, up 3h 3m",
        "serves   gemma-3-12b-it at http://127.0.0.1:4363/v1, context 8192",
        "requests 3 running, 1 waiting, 4 finished, 1 failed, 2 refused; 12.5 tokens/s",
        "config   no file, the defaults are in force",
        "",
        "WORKER  STATE    FOR  LIFE   PID     BUSY   KV  CACHED  PREEMPTED     DEVICE      HOST   RECYCLE",
        "gpu0    ready  1m 2s     1  4711  12+2/16  41%     25%          3  70.00 GiB  3.00 GiB  in 2h 0m",
        "gpu1    ready  1m 2s     1  4712  12+2/16  50%     25%          3  70.00 GiB  3.00 GiB",
    ]
    assert control.asked == ["GET /status"]


def test_without_a_model(gemmad: Command, control: PlayedSocket) -> None:
    """Why there is no model, and what mends it, stands before all else, and the command leaves with 1."""
    trouble = Trouble("a/b is not here", "`gemmad pull a/b`")
    control.overviews = [overview(state="no_model", models=("a/b", "b"), max_context=None, trouble=trouble)]
    said = gemmad("status")
    assert said.exit_code == 1
    lines = said.stdout.splitlines()
    assert lines[0].startswith("gemmad 1.2.3 is without a model, pid 123")
    assert lines[3:5] == ["model    a/b is not here", "         to mend it: `gemmad pull a/b`"]


def test_degraded(gemmad: Command, control: PlayedSocket) -> None:
    """What is wrong with whom is told below the table, and the command leaves with 1."""
    loading = worker("gpu0", state="starting", stage="weights", progress=0.4, life=2)
    control.overviews = [
        overview(
            worker(
                "gpu0",
                state="backoff",
                pid=None,
                retry_in_seconds=4.04,
                last_error="killed by SIGSEGV",
                successor=loading,
            ),
            worker("gpu1", state="waiting", pid=None, stage="memory", waits_for="12.0 GiB on its GPU"),
            worker("gpu2", state="stopped", pid=None, drained=True),
            state="recovering",
        )
    ]
    said = gemmad("status")
    assert said.exit_code == 1
    lines = [re.sub(" {2,}", "  ", line) for line in said.stdout.splitlines()]
    assert lines[0] == "gemmad 1.2.3 is recovering, pid 123, up 3h 3m"
    assert lines[5:] == [
        "WORKER  STATE  FOR  LIFE  PID",
        "gpu0  backoff, again in 4.0s  1m 2s  1",
        "  next  starting: weights 40%  1m 2s  2  4711",
        "gpu1  waiting: memory  1m 2s  1",
        "gpu2  drained  1m 2s  1",
        "",
        "gpu0: last error: killed by SIGSEGV",
        "gpu1: waits for: 12.0 GiB on its GPU",
    ]


def test_all_are_drained(gemmad: Command, control: PlayedSocket) -> None:
    """A daemon whose workers were all sent away has not failed."""
    control.overviews = [overview(worker(state="stopped", drained=True), state="failed")]
    said = gemmad("status")
    assert said.exit_code == 1
    assert said.stdout.startswith("gemmad 1.2.3 is drained, pid 123")


def test_as_json(gemmad: Command, control: PlayedSocket) -> None:
    """--json prints all that the daemon says, fields that this version does not know too, and leaves with the same."""
    answer = json.loads(msgspec.json.encode(overview(worker(load=BUSY)))) | {"news": 1}
    control.body = json.dumps(answer).encode()
    said = gemmad("status", "--json")
    assert (said.exit_code, json.loads(said.stdout)) == (0, answer)
    control.body = json.dumps(answer | {"degraded": True}).encode()
    assert gemmad("status", "--json").exit_code == 1
    assert gemmad("status").exit_code == 1


def test_a_reload(gemmad: Command, control: PlayedSocket) -> None:
    """How the configuration's last reload went is told with every error, and what waits for what."""
    pending = (PendingSetting("engine.max_sequences", "recycle"),)
    taken = Configuration(path="/etc/g.toml", reload=Reload(ok=True, seconds_ago=75, pending=pending))
    control.overviews = [overview(config=taken)]
    lines = gemmad("status").stdout.splitlines()
    assert lines[3:] == [
        "config   /etc/g.toml, reloaded 1m 15s ago",
        "         engine.max_sequences waits for a recycle",
    ]
    refused = Reload(ok=False, seconds_ago=2.04, errors=("/etc/g.toml:1: a: why", "/etc/g.toml:2: b: why"))
    control.overviews = [overview(config=Configuration(path="/etc/g.toml", reload=refused))]
    lines = gemmad("status").stdout.splitlines()
    assert lines[3:] == [
        "config   /etc/g.toml, REFUSED, the one before stays in force, 2.0s ago",
        "         /etc/g.toml:1: a: why",
        "         /etc/g.toml:2: b: why",
    ]


def test_nobody_is_there(gemmad: Command, config_dir: Path) -> None:
    """Without a socket, or with one that nobody serves, no daemon is running: 3, and where it was looked for."""
    path = config_dir / "run" / "control.sock"
    path.parent.mkdir()
    for was_killed in (False, True):
        if was_killed:
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(str(path))
        said = gemmad("status")
        assert (said.exit_code, said.stdout) == (3, "")
        assert said.stderr == f"gemmad: no daemon is running; looked for {path}\n"


@needs_root
def test_a_folder_that_is_closed(control: PlayedSocket, config_dir: Path) -> None:
    """A socket that one may not reach is no access: 4."""
    assert ask("GET", "/status")
    with somebody_else(), pytest.raises(ControlError, match="no access") as caught:
        ask("GET", "/status")
    assert caught.value.code == 4


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"version": "9"}'])
@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_an_answer_that_is_not_ours(
    gemmad: Command, control: PlayedSocket, body: bytes, flags: tuple[str, ...]
) -> None:
    """An answer that cannot be read is said to be so, without a traceback."""
    control.body = body
    said = gemmad("status", *flags)
    assert said.exit_code == 1
    assert "not this version's" in said.stderr


def test_somebody_silent(config_dir: Path) -> None:
    """A daemon that takes the connection and says nothing is given up on: it runs, but is not well."""
    (config_dir / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(config_dir / "run" / "control.sock"))
        silent.listen()
        with pytest.raises(ControlError, match="timed out") as caught:
            ask("GET", "/status", timeout_seconds=0.1)
    assert caught.value.code == 1


def test_an_error_of_the_daemon(gemmad: Command, control: PlayedSocket) -> None:
    """A daemon that cannot answer says why, or nothing."""
    control.refuse(500, "it hurts")
    said = gemmad("status")
    assert (said.exit_code, said.stderr) == (1, "gemmad: it hurts\n")
    control.body = b"?"
    assert "HTTP 500" in gemmad("status").stderr


def test_where_it_is_looked_for() -> None:
    """In the folder that is named and nowhere else, or in the user's own and then in the system's."""
    named = {"GEMMAD_RUNTIME_DIR": "/r", "XDG_RUNTIME_DIR": "/run/user/7"}
    assert sockets(named, uid=7) == (Path("/r/control.sock"),)
    session = {"XDG_RUNTIME_DIR": "/run/user/7"}
    assert sockets(session, uid=7) == (Path("/run/user/7/gemmad/control.sock"), Path("/run/gemmad/control.sock"))
    assert sockets(session, uid=0) == (Path("/run/gemmad/control.sock"),)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.0s"), (9.94, "9.9s"), (42.9, "42s"), (60, "1m 0s"), (3599, "59m 59s"), (7260, "2h 1m"), (277200, "3d 5h")],
)
def test_durations(seconds: float, words: str) -> None:
    """Two units at most."""
    assert duration(seconds) == words


def test_what_a_worker_wrote_moves_no_cursor() -> None:
    """Control characters and line ends in an error are shown as blanks."""
    assert one_line("a\x1b[2Jb\nc\r") == "a [2Jb c "


def test_what_a_worker_does() -> None:
    """The state in words: how far it loads, when it tries again, that it is drained or renewed."""
    assert state_words(worker(state="starting", stage="weights", progress=0.255)) == "starting: weights 26%"
    assert state_words(worker(state="failed", retry_in_seconds=61)) == "failed, again in 1m 1s"
    assert state_words(worker(state="draining", drained=True)) == "draining"
    assert state_words(worker(state="draining", recycling=True)) == "draining, recycling"


def test_colour_is_for_terminals_that_want_it() -> None:
    """On a terminal the state is coloured; NO_COLOR, and what is no terminal, are plain."""

    def shown(env: dict[str, str], *, terminal: bool) -> str:
        file = io.StringIO()
        Console(file=file, force_terminal=terminal, width=100, _environ=env).print(rendered(overview(worker())))
        return file.getvalue()

    assert "\x1b[32mready" in shown({"TERM": "xterm"}, terminal=True)
    assert "\x1b[32m" not in shown({"TERM": "xterm", "NO_COLOR": "1"}, terminal=True)
    assert "\x1b" not in shown({"TERM": "xterm"}, terminal=False)


def test_exit_statuses_are_documented() -> None:
    """docs/control.md has the statuses that the commands leave with."""
    section = PAGE[PAGE.index("## Exit status") : PAGE.index("## The control socket")]
    documented = [int(status) for status in re.findall(r"^\| (\d) \|", section, re.MULTILINE)]
    assert documented == [EXIT_SERVING, EXIT_FAILED, EXIT_USAGE, EXIT_NOT_RUNNING, EXIT_NO_ACCESS]
    assert EXIT_DEGRADED == EXIT_FAILED


@pytest.mark.parametrize("verb", ["status", "drain", "resume", "recycle"])
def test_exit_statuses_are_in_the_help(gemmad: Command, verb: str) -> None:
    """Each verb's help says what it leaves with, and docs/control.md names the verb."""
    words = re.sub(r"\s+", " ", gemmad(verb, "--help").stdout)
    assert "Exit status: 0" in words
    assert "3 not running, 4 no access" in words
    assert f"`gemmad {verb} " in PAGE
