"""Checks of settings, keys, port, control socket, the daemon's own word, and the service."""

from __future__ import annotations

from collections.abc import Iterator

from gemmad.api.overview import Overview, WorkerOverview
from gemmad.config.schema import ServerSection
from gemmad.doctor.facts import DaemonFacts, HostFacts, PortHolder, ServiceFacts, SettingsFacts, Told, UnitFacts
from gemmad.doctor.finding import Finding, fail, ok, skip, warn

SETTINGS, DAEMON, SERVICE = "Settings", "Daemon", "Service"
_READABLE_BY_ALL = 0o004
_BROKEN = frozenset({"failed", "backoff", "hung"})


def check_config(settings: SettingsFacts) -> Finding:
    """The same words as `gemmad config check`."""
    where = settings.path or "no file, the defaults are in force"
    if settings.closed:
        return skip(SETTINGS, "config", f"{where}: only others may read it", remedy="run this as root")
    if settings.errors:
        count = "1 error" if len(settings.errors) == 1 else f"{len(settings.errors)} errors"
        return fail(
            SETTINGS, "config", f"{where}: {count}",
            remedy="mend each, and `gemmad config check` tells whether all is well", details=settings.errors,
        )  # fmt: skip
    return ok(SETTINGS, "config", where)


def check_key_files(settings: SettingsFacts) -> Iterator[Finding]:
    """Who may read the keys; nothing of the keys."""
    for file in settings.key_files:
        if file.mode is None:
            yield skip(SETTINGS, "keys", f"{file.path}: not for you to look at", remedy="run this as root")
        elif file.mode & _READABLE_BY_ALL:
            yield warn(
                SETTINGS, "keys", f"{file.path}: every user of this machine can read it (mode {file.mode:o})",
                remedy=f"`chmod 600 {file.path}`",
            )  # fmt: skip
        else:
            count = "" if file.keys is None else f"{file.keys} keys, "
            yield ok(SETTINGS, "keys", f"{file.path}: {count}mode {file.mode:o}")


def check_port(  # noqa: PLR0911 - each is a fault of its own
    ports: Told[tuple[PortHolder, ...]], server: ServerSection, *, host: HostFacts, daemon: DaemonFacts, uid: int
) -> Finding:
    """Whether a daemon could listen where it is to, or does."""
    name = "port"
    seen = daemon.overview
    if server.uds is not None:
        return skip(SETTINGS, name, f"it listens on the Unix socket {server.uds}")
    if ports.value is None:
        return warn(
            SETTINGS, name, f"{server.host}:{server.port}: {ports.problem}",
            remedy="server.host may be a name whose lookup hangs: an address needs none",
        )  # fmt: skip
    if not server.port:
        return ok(SETTINGS, name, "any that is free" + ("" if seen is None else f"; the daemon has {seen.url}"))
    where = f"{server.host}:{server.port}"
    if not ports.value:
        if server.port < host.first_port and uid != 0 and seen is None:
            return fail(
                SETTINGS, name, f"{where} is free, and only root may listen below {host.first_port}",
                remedy="take a higher server.port, or have systemd listen (`gemmad.socket`)",
            )  # fmt: skip
        if seen is not None:
            return ok(SETTINGS, name, f"{where} is free; the daemon that runs listens at {seen.url}")
        return ok(SETTINGS, name, f"{where} is free")
    return _taken(ports.value[0], where, seen)


def check_control(daemon: DaemonFacts) -> Finding:
    """Whether the daemon can be asked, and by whom it is told what to do."""
    name, remedy = "control", ""
    if daemon.closed:
        remedy = "as root, or as a member of the group gemmad (`usermod -aG gemmad USER`, then log in again)"
        return warn(DAEMON, name, f"a daemon runs, and you may not connect to {daemon.socket}", remedy=remedy)
    if daemon.silent is not None:
        return fail(
            DAEMON, name, f"a daemon has {daemon.socket} and does not answer: {daemon.silent}",
            remedy="`gemmad logs` tells what it was at last; systemd ends it by its watchdog, else `kill -ABRT` prints "
            "its stacks",
        )  # fmt: skip
    if daemon.overview is None:
        words = f"no daemon runs; looked for {daemon.socket}"
        return skip(DAEMON, name, words + (", which a killed one has left" if daemon.left else ""))
    if daemon.is_warden:
        return ok(DAEMON, name, f"{daemon.socket}, and you may operate the daemon")
    return ok(DAEMON, name, f"{daemon.socket}; you may look, and root and the group gemmad may operate the daemon")


def check_state(overview: Overview | None) -> Iterator[Finding]:
    """The daemon's own word on itself and each worker."""
    if overview is None:
        return
    words = f"{overview.state}, pid {overview.pid}, at {overview.url}"
    if overview.trouble is not None:
        yield fail(DAEMON, "state", f"{words}: {overview.trouble.reason}", remedy=overview.trouble.remedy)
    elif overview.degraded and overview.state == "loading":
        yield warn(DAEMON, "state", words, remedy="wait: `gemmad wait --ready`, or see it load with `gemmad top`")
    elif overview.degraded:
        yield fail(DAEMON, "state", words, remedy="its workers below tell why; `gemmad logs` has more")
    else:
        yield ok(DAEMON, "state", words)
    for worker in overview.workers:
        yield _worker(worker)


def check_reload(overview: Overview | None) -> Iterator[Finding]:
    """How the last edit of the configuration went."""
    reload = None if overview is None else overview.config.reload
    if reload is None:
        return
    if not reload.ok:
        yield warn(
            DAEMON, "reload", "the last one was refused; the settings before it are in force",
            remedy="mend the configuration; it is read again when it is saved", details=reload.errors,
        )  # fmt: skip
    elif reload.pending:
        keys = ", ".join(f"{setting.key} ({setting.until})" for setting in reload.pending)
        yield warn(DAEMON, "reload", f"settings wait: {keys}", remedy="restart: `systemctl restart gemmad`, or anew")
    else:
        yield ok(DAEMON, "reload", "the last one is in force")


def check_service(service: Told[ServiceFacts], *, uid: int) -> Iterator[Finding]:
    """Each unit that is installed, the system's and the user's."""
    facts = service.value
    if facts is None or not facts.runs:
        yield skip(SERVICE, "unit", "this machine does not run systemd")
        return
    if facts.problem is not None:
        yield warn(SERVICE, "unit", facts.problem, remedy="systemd is busy or hangs: `systemctl list-jobs`")
    elif not facts.units:
        option = "" if uid == 0 else " --user"
        yield skip(
            SERVICE, "unit", "not installed", remedy=f"`gemmad service install{option} --now`, if it is to be one"
        )
    for unit in facts.units:
        yield _unit(unit)


def _taken(holder: PortHolder, where: str, seen: Overview | None) -> Finding:
    name = "port"
    who = f"uid {holder.uid}" if holder.pid is None else f"{holder.name or 'a process'} (pid {holder.pid})"
    if seen is not None and (holder.pid == seen.pid or (holder.pid is None and seen.url.endswith(where))):
        return ok(SETTINGS, name, f"{where} is our daemon's (pid {seen.pid})")
    if holder.pid == 1:
        return ok(SETTINGS, name, f"{where} is held by systemd, which keeps it for the service")
    if holder.pid is None:
        who = f"a process of {who}, which only root sees"
    return fail(
        SETTINGS, name, f"{where} is held by {who}",
        remedy="stop that, or take another server.port; a daemon that cannot listen leaves with 75",
    )  # fmt: skip


def _worker(worker: WorkerOverview) -> Finding:
    name = worker.name
    words = f"{worker.state}, life {worker.life}"
    if worker.drained:
        return ok(DAEMON, name, f"{words}, drained; `gemmad resume {name}` starts it again")
    if worker.waits_for is not None:
        return warn(DAEMON, name, f"{words}, waits for {worker.waits_for}", remedy="the group GPU tells who holds what")
    if worker.state in _BROKEN:
        why = worker.last_error or "it does not tell why"
        return fail(DAEMON, name, f"{words}: {why}", remedy="`gemmad logs` has its last words")
    if worker.faults >= 1 and worker.last_error is not None:
        return warn(
            DAEMON, name, f"{words}; it crashed lately: {worker.last_error}", remedy="`gemmad logs` has its last words"
        )
    return ok(DAEMON, name, words)


def _unit(unit: UnitFacts) -> Finding:  # noqa: PLR0911 - each is a fault of its own
    scope, name = (" --user", "user's unit") if unit.of_user else ("", "system's unit")
    state, enabled = unit.get("ActiveState"), unit.get("UnitFileState")
    restarts = int(unit.get("NRestarts")) if unit.get("NRestarts").isdigit() else 0
    words = f"{state}, {enabled or 'not enabled'}" + (f", restarted {restarts} times" if restarts else "")
    if unit.get("LoadState") != "loaded":
        return fail(
            SERVICE, name, f"systemd cannot take it: {unit.get('LoadState')}",
            remedy=f"`systemctl{scope} status gemmad` says why; a mask goes with `systemctl{scope} unmask gemmad`",
        )  # fmt: skip
    if state == "failed":
        return fail(SERVICE, name, f"{words}: {_ended(unit)}", remedy=_restart(unit, scope))
    if unit.get("NeedDaemonReload") == "yes":
        return warn(
            SERVICE, name, f"{words}; its file has changed since systemd read it",
            remedy=f"`systemctl{scope} daemon-reload`",
        )  # fmt: skip
    if state == "active" and restarts:
        return warn(SERVICE, name, words, remedy=f"`journalctl{scope} -u gemmad` tells why it ended")
    if enabled not in ("enabled", "enabled-runtime", "static"):
        return warn(SERVICE, name, f"{words}; it does not start at boot", remedy=f"`systemctl{scope} enable gemmad`")
    if unit.lingers is False:
        return warn(SERVICE, name, f"{words}; it ends when you log out", remedy="`loginctl enable-linger`")
    return ok(SERVICE, name, words)


def _ended(unit: UnitFacts) -> str:
    status, result = unit.get("ExecMainStatus"), unit.get("Result")
    if status == "78":
        return "the configuration is wrong, or no model is set (exit status 78)"
    return {
        "start-limit-hit": "it crashed too often",
        "watchdog": "it gave no sign of life, and systemd ended it",
        "oom-kill": "the kernel ended it for lack of memory",
        "timeout": "it did not start or stop in time",
    }.get(result, f"{result}, exit status {status}")


def _restart(unit: UnitFacts, scope: str) -> str:
    first = "mend the configuration (`gemmad config check`)" if unit.get("ExecMainStatus") == "78" else ""
    first = first or f"`journalctl{scope} -u gemmad` tells why"
    return f"{first}; then `systemctl{scope} reset-failed gemmad` and start it"
