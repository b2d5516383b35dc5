"""gemmad as a service of a real systemd, with the bundled model: one box, in which the tests follow each other."""

from __future__ import annotations

import http.client
import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.system.installed import (
    COMMAND,
    CONFIG,
    READY_SECONDS,
    SETTINGS,
    UNIT,
    WATCHDOG_SECONDS,
    Installed,
    Load,
    Stream,
    gone,
)

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

GONE_SECONDS = 5.0


def test_a_start_is_over_when_a_worker_serves(installed: Installed) -> None:
    """While the model loads the unit is activating and requests are told to come back; once it is active, they are
    answered."""
    box = installed.box
    box.systemctl("start", "--no-block", UNIT)
    loading = box.wait_until(lambda: installed.get("/health")[1], seconds=READY_SECONDS, words="listening")
    assert box.show(UNIT, "ActiveState") == "activating"
    assert loading["status"] == "loading"
    box.wait_until(lambda: box.show(UNIT, "ActiveState") != "activating", seconds=READY_SECONDS)
    assert installed.get("/health")[0] == http.client.OK
    assert installed.answer() == "1, 2, 3."
    assert box.show(UNIT, "StatusText").startswith("serving")


def test_a_worker_that_is_killed_costs_no_request(gemmad: Installed) -> None:
    """SIGKILL of a worker leaves the unit active; its streams go on in its next life, and nobody is refused."""
    restarts, tokens = gemmad.box.show(UNIT, "NRestarts"), gemmad.tokens_in(2.0)
    calm = Stream(gemmad, tokens=tokens)
    calm.join()
    with Load(gemmad, askers=2) as load:
        stream = Stream(gemmad, tokens=tokens)
        (worker,) = gemmad.workers()
        os.kill(worker, signal.SIGKILL)
        stream.join()
        gemmad.box.wait_until(lambda: gemmad.workers() not in (set(), {worker}))
    assert (stream.error, stream.finish, stream.text) == (None, "length", calm.text)
    assert (load.failures, set(load.statuses)) == ([], {http.client.OK})
    assert (gemmad.box.show(UNIT, "ActiveState"), gemmad.box.show(UNIT, "NRestarts")) == ("active", restarts)


def test_each_worker_has_a_cgroup_of_its_own(gemmad: Installed) -> None:
    """The daemon and each worker are in cgroups of their own below the unit's; one whose worker is gone is removed."""
    gemmad.box.wait_until(lambda: len(cgroups(gemmad)) == 2, words=str(cgroups(gemmad)))
    found = cgroups(gemmad)
    assert gemmad.main_pid() in found.pop("daemon")
    ((name, processes),) = found.items()
    assert name.startswith("worker-cpu0-")
    assert gemmad.workers() <= processes


def test_a_reload_waits_for_its_outcome(gemmad: Installed) -> None:
    """`systemctl reload` returns once the new settings are in force."""
    gemmad.box.write(CONFIG, SETTINGS + "[dispatch]\nmax_waiting = 77\n")
    gemmad.box.systemctl("reload", UNIT)
    assert gemmad.box.run(COMMAND, "reload").stdout == "nothing has changed\n"
    assert "max_waiting" in gemmad.box.journal(UNIT)
    assert gemmad.box.show(UNIT, "ActiveState") == "active"


def test_a_bad_reload_fails_and_changes_nothing(gemmad: Installed) -> None:
    """`systemctl reload` of a wrong configuration fails, the journal says where it is wrong, and the old settings serve
    on."""
    main = gemmad.main_pid()
    gemmad.box.write(CONFIG, SETTINGS + "[dispatch]\nmax_waiting = 77\nmax_wating = 5\n")
    dry = gemmad.box.run(COMMAND, "reload", "--dry-run", check=False)
    said = gemmad.box.systemctl("reload", UNIT, check=False)
    refused = gemmad.box.run(COMMAND, "reload", check=False)
    gemmad.box.write(CONFIG, SETTINGS + "[dispatch]\nmax_waiting = 77\n")
    assert "failed" in said.lower()
    assert (dry.returncode, refused.returncode) == (1, 1)
    assert f"{CONFIG}:5: dispatch.max_wating: " in refused.stderr
    assert f"{CONFIG}:5: dispatch.max_wating: " in gemmad.box.journal(UNIT)
    assert gemmad.box.show(UNIT, "ActiveState") == "active"
    assert gemmad.main_pid() == main
    assert gemmad.answer() == "1, 2, 3."
    gemmad.box.systemctl("reload", UNIT)


def test_a_restart_under_load_refuses_nobody(gemmad: Installed) -> None:
    """`systemctl restart` while many ask: every connection is taken, and every request gets an answer."""
    with Load(gemmad) as load:
        gemmad.box.wait_until(lambda: load.statuses.get(http.client.OK, 0) > 10)
        gemmad.box.systemctl("restart", UNIT, seconds=READY_SECONDS)
        before = load.statuses[http.client.OK]
        gemmad.box.wait_until(lambda: load.statuses[http.client.OK] > before + 10)
    assert load.failures == []
    assert set(load.statuses) <= {http.client.OK, http.client.SERVICE_UNAVAILABLE}


def test_a_daemon_that_is_killed_leaves_nothing_and_is_back(gemmad: Installed) -> None:
    """SIGKILL of the daemon: its workers and zygote are gone at once, with all that it had made; systemd starts it
    again, and who connects meanwhile is not refused."""
    box, family = gemmad.box, set(gemmad.family())
    zygotes = [line for line in gemmad.family().values() if "gemmad.worker.zygote" in line]
    assert zygotes
    with Load(gemmad, askers=2) as load:
        os.kill(gemmad.main_pid(), signal.SIGKILL)
        box.wait_until(gone(family), seconds=GONE_SECONDS, words="no process is left")
        box.wait_until(lambda: not box.file("/run/gemmad").exists(), seconds=GONE_SECONDS, words="no runtime folder")
        assert os.listdir(box.file("/dev/shm")) == []
        gemmad.wait_ready()
    assert not [failure for failure in load.failures if "ConnectionRefused" in failure]
    assert gemmad.answer() == "1, 2, 3."


def test_a_daemon_that_hangs_is_killed_and_back(gemmad: Installed) -> None:
    """A stopped daemon says nothing to the watchdog: systemd aborts it, its stacks are in the journal, and it serves
    again."""
    family, since = set(gemmad.family()), time.strftime("%Y-%m-%d %H:%M:%S")
    os.kill(gemmad.main_pid(), signal.SIGSTOP)
    gemmad.box.wait_until(gone(family), seconds=WATCHDOG_SECONDS * 3, words="the watchdog bites")
    gemmad.wait_ready()
    journal = gemmad.box.journal(UNIT, "--since", since)
    assert "Watchdog timeout" in journal
    assert "Fatal Python error: Aborted" in journal
    assert "most recent call first" in journal
    assert gemmad.answer() == "1, 2, 3."


def test_a_stop_lets_a_stream_finish(gemmad: Installed) -> None:
    """`systemctl stop` drains: a running stream ends as it would have, new requests get 503 with Retry-After, health
    says draining; then nothing is left."""
    box, family = gemmad.box, set(gemmad.family())
    stream = Stream(gemmad, tokens=gemmad.tokens_in(5.0))
    box.systemctl("stop", "--no-block", UNIT)
    box.wait_until(is_draining(gemmad), seconds=10)
    with gemmad.ask() as refused:
        assert refused.status == http.client.SERVICE_UNAVAILABLE
        assert int(refused.headers["Retry-After"]) > 0
        refused.read()
    assert "draining" in box.show(UNIT, "StatusText")
    stream.join()
    assert (stream.error, stream.finish) == (None, "length")
    box.wait_until(lambda: box.show(UNIT, "ActiveState") == "inactive", seconds=20)
    assert (box.show(UNIT, "Result"), box.show(UNIT, "ExecMainStatus")) == ("success", "0")
    assert gone(family)()
    assert not box.file("/run/gemmad").exists()
    assert os.listdir(box.file("/dev/shm")) == []
    assert gemmad.get("/health") == (0, None)


def test_a_socket_unit_starts_it(installed: Installed) -> None:
    """With the socket unit systemd listens; the first connection starts the daemon, which serves on that socket."""
    box = installed.box
    box.systemctl("stop", UNIT, seconds=READY_SECONDS)
    box.systemctl("start", "gemmad.socket")
    assert box.show(UNIT, "ActiveState") == "inactive"
    with installed.ask() as first:
        assert first.status == http.client.SERVICE_UNAVAILABLE
        assert int(first.headers["Retry-After"]) > 0
        first.read()
    installed.wait_ready()
    assert installed.answer() == "1, 2, 3."
    box.systemctl("stop", UNIT, "gemmad.socket", seconds=READY_SECONDS)


def test_what_was_installed_can_be_removed(installed: Installed) -> None:
    """`gemmad service uninstall` stops it and removes its units; the settings stay."""
    units = installed.box.file("/etc/systemd/system")
    assert (units / UNIT).exists()
    installed.box.run(COMMAND, "service", "uninstall")
    assert not list(units.glob("gemmad*.service")) + list(units.glob("gemmad*.socket"))
    assert installed.box.file(CONFIG).exists()
    assert installed.box.run(COMMAND, "service", "status", check=False).returncode == 4


def cgroups(gemmad: Installed) -> dict[str, set[int]]:
    """Those below the unit's, with the numbers of their processes on the host."""
    folder = gemmad.box.file(f"/sys/fs/cgroup/system.slice/{UNIT}")
    found = {}
    for path in folder.iterdir():
        if path.is_dir():
            found[path.name] = {int(pid) for pid in (path / "cgroup.procs").read_text().split()}
    return found


def is_draining(gemmad: Installed) -> Callable[[], bool]:
    """Whether health says so."""

    def look() -> bool:
        status, health = gemmad.get("/health")
        return status == http.client.SERVICE_UNAVAILABLE and health["status"] == "draining"

    return look
