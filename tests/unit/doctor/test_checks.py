"""Each fault that `gemmad doctor` knows, in its words, and what it tells to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gemmad.api.overview import Configuration, PendingSetting, Reload
from gemmad.api.services import Trouble
from gemmad.config.schema import Config, MemorySection, ServerSection
from gemmad.doctor import check_daemon, check_gpus, check_host, check_model
from gemmad.doctor.examine import GROUPS, examine, uses_gpus
from gemmad.doctor.facts import (
    DaemonFacts,
    GpuFacts,
    GpuHealth,
    KeyFileFacts,
    Limit,
    PortHolder,
    ServiceFacts,
    SettingsFacts,
    Told,
    UnitFacts,
)
from gemmad.doctor.finding import Finding, Level
from gemmad.planning.shape import published_shape
from gemmad.supervisor.gpus import Gpus, Holder
from tests.unit.cli.operated import overview, worker
from tests.unit.doctor.patients import (
    GIB,
    HEALTHY,
    config,
    facts,
    folder,
    gpu,
    gpus,
    host,
    model,
    replace,
    said,
    torch,
    unit,
)

MEMORY = MemorySection()
OURS = frozenset({"GPU-1"})


def level(finding: Finding) -> str:
    return finding.level.value


def test_a_machine_that_is_well() -> None:
    """Nothing is found on it, every group has its lines, and a daemon that does not run is no fault."""
    found = examine(facts(), environ={})
    assert {each.level for each in found} == {Level.OK, Level.SKIP}
    assert tuple(dict.fromkeys(each.group for each in found)) == GROUPS
    assert [each.name for each in found if each.level is Level.SKIP] == ["control"]


def test_what_is_not_well_has_a_remedy() -> None:
    """Whatever is asked of a machine on which nothing answers, each fault says what to do."""
    broken = facts(
        gpus=Told(problem="no answer"),
        torch=Told(problem="no answer"),
        folders=Told(problem="no answer"),
        model=Told(problem="no answer"),
        ports=Told(problem="no answer"),
        service=Told(ServiceFacts(runs=True, problem="no answer"), "no answer"),
        settings=SettingsFacts(path=None, config=None, errors=("a", "b")),
        daemon=DaemonFacts(socket="/s", silent="timed out"),
    )
    found = examine(broken, environ={})
    assert sum(each.level is Level.FAIL for each in found) >= 5
    assert all(each.remedy for each in found if each.level in (Level.WARN, Level.FAIL))


# --- GPU --------------------------------------------------------------------------------------------------------------


def driver(found: Gpus, device: str = "auto") -> Finding:
    return check_gpus.check_driver(Told(replace(gpus(), gpus=found)), device)


def test_driver() -> None:
    """One that is missing, hangs, shows nothing or is not needed is told apart."""
    assert said(check_gpus.check_driver(Told(gpus()), "auto")) == (
        "ok",
        "580.95.05, speaks CUDA 13.0, 1 GPUs or slices",
        "",
    )
    hung = said(check_gpus.check_driver(Told(problem="no answer within 6 seconds"), "auto"))
    assert hung[:2] == ("fail", "the driver does not tell: no answer within 6 seconds")
    assert "dmesg" in hung[2]
    assert said(driver(Gpus((), "no NVIDIA driver is installed")))[:2] == (
        "skip",
        "no GPU, so workers compute on the CPU (no NVIDIA driver is installed)",
    )
    assert level(driver(Gpus((), "none"), "cuda")) == "fail"
    assert level(driver(Gpus((), "none"), "cpu")) == "skip"
    assert said(driver(Gpus((), "version mismatch", may_come=True)))[:2] == ("fail", "version mismatch")
    assert "reboot" in driver(Gpus((), "version mismatch", may_come=True)).remedy
    assert level(driver(Gpus((gpu(),), "GPU 1 is in MIG mode and has no slices"))) == "warn"


def test_torch() -> None:
    """A Python without torch, a torch for the CPU beside a GPU, and one that does not answer."""
    assert said(check_gpus.check_torch(Told(torch()), has_gpu=True))[:2] == (
        "ok",
        "2.13.0 for CUDA 13.0, in engine cuda-1",
    )
    assert level(check_gpus.check_torch(Told(torch(cuda=None)), has_gpu=False)) == "ok"
    assert said(check_gpus.check_torch(Told(torch(cuda=None)), has_gpu=True))[0::2] == (
        "fail",
        "`gemmad engine install cuda`, or pip install a torch for CUDA",
    )
    assert level(check_gpus.check_torch(Told(problem="no answer within 6 seconds"), has_gpu=True)) == "warn"
    missing = check_gpus.check_torch(Told(torch(problem="torch is not installed")), has_gpu=False)
    assert said(missing)[:2] == ("fail", "no worker can run in engine cuda-1: torch is not installed")


def test_cuda() -> None:
    """A driver too old for torch, CUDA that does not begin, and a GPU that torch has no kernels for."""
    assert level(check_gpus.check_cuda(gpus(), torch())) == "ok"
    assert level(check_gpus.check_cuda(gpus(cuda=(13, 0)), torch(cuda="13.4"))) == "ok"
    old = check_gpus.check_cuda(gpus(cuda=(12, 4), driver="550.1"), torch())
    assert said(old)[:2] == ("fail", "driver 550.1 speaks CUDA 12.4, torch is built for 13.0")
    assert "580 or newer" in old.remedy
    fabric = check_gpus.check_cuda(gpus(), torch(cuda_problem="Error 802: system not yet initialized"))
    assert "nvidia-fabricmanager" in fabric.remedy
    assert "nvidia-modprobe" in check_gpus.check_cuda(gpus(), torch(cuda_problem="unknown error")).remedy
    assert level(check_gpus.check_cuda(gpus(), torch(cuda=None))) == "skip"
    assert level(check_gpus.check_cuda(None, torch())) == "skip"


@pytest.mark.parametrize(
    ("arches", "capability", "runs"),
    [
        (("sm_90",), (9, 0), True),
        (("sm_80",), (8, 9), True),
        (("sm_90",), (8, 0), False),
        (("sm_90a",), (12, 0), False),
        (("sm_90", "compute_90"), (12, 0), True),
        (("compute_100",), (9, 0), False),
        (("sm_100",), (10, 0), True),
        (("odd",), (9, 0), False),
    ],
)
def test_kernels_for_a_gpu(arches: tuple[str, ...], capability: tuple[int, int], runs: bool) -> None:
    """Machine code runs within a major version, PTX on all newer ones."""
    facts = gpus(health=(replace(HEALTHY, capability=capability),))
    found = check_gpus.check_cuda(facts, torch(arches=arches))
    assert level(found) == ("ok" if runs else "fail")
    assert runs or "no kernels for GPU 0" in found.words


def memory(held: Any, seen: Any = None, wanted: frozenset[str] = OURS, **fields: Any) -> Finding:
    (finding,) = check_gpus.check_memory(gpus(held, **fields), seen, MEMORY, wanted)
    return finding


def test_who_holds_a_gpu() -> None:
    """Our own workers by their names, others by theirs; one that leaves workers too little is a fault."""
    ours = Holder(4711, "python", 70 * GIB)
    full = gpu(ours, used_bytes=70 * GIB)
    assert said(memory(full, overview(worker()), workers=frozenset({4711})))[:2] == (
        "ok",
        "NVIDIA H200, 70.00 GiB of 140.00 GiB free; held by our worker gpu0 (pid 4711) 70.00 GiB",
    )
    other = gpu(Holder(9, "train.py", 70 * GIB), used_bytes=70 * GIB)
    found = memory(other)
    assert level(found) == "fail"
    assert "train.py (pid 9) 70.00 GiB; workers may take 126.00 GiB" in found.words
    assert "workers.gpus" in found.remedy
    assert level(memory(other, wanted=frozenset())) == "ok"
    lost = memory(full, workers=frozenset({4711}))
    assert level(lost) == "fail"
    assert "a gemmad worker (pid 4711)" in lost.words
    assert lost.remedy.endswith("`ps -fp 4711` tells")
    assert level(memory(gpu(total_bytes=None))) == "skip"


@pytest.mark.parametrize(
    ("fields", "found", "words", "remedy"),
    [
        ({}, "ok", "no memory errors, PCIe x16", ""),
        ({"uncorrected_errors": None}, "ok", "nothing known", ""),
        ({"remap_failed": True}, "fail", "no rows to replace them", "replaced"),
        ({"remap_pending": True}, "warn", "rows wait", "--gpu-reset"),
        ({"uncorrected_errors": 2}, "warn", "2 uncorrected memory errors", "--gpu-reset"),
        ({"pcie_width": 8}, "warn", "8 lanes of 16", "LnkSta"),
        ({"persistent": False}, "warn", "persistence is off", "nvidia-persistenced"),
    ],
)
def test_health_of_a_gpu(fields: dict[str, Any], found: str, words: str, remedy: str) -> None:
    """Memory errors, a narrow link and missing persistence, the worst of them."""
    (finding,) = check_gpus.check_health(gpus(health=(replace(HEALTHY, **fields),)))
    assert level(finding) == found
    assert words in finding.words
    assert remedy in finding.remedy


def test_xids() -> None:
    """Faults in the kernel's log are counted, and the latest is told."""
    (finding,) = check_gpus.check_health(gpus(health=(), xids=("Xid (PCI:1): 31", "Xid (PCI:1): 79")))
    assert (level(finding), finding.details) == ("warn", ("Xid (PCI:1): 31",))
    assert finding.words.endswith("2 faults since boot, at last: Xid (PCI:1): 79")
    assert list(check_gpus.check_health(None)) == []


# --- host -------------------------------------------------------------------------------------------------------------


def test_memory_of_the_host() -> None:
    """Less than workers take is a fault, less than is free just now a warning, and none while they run."""
    limited = host(cgroup_limit_bytes=2 * GIB)
    found = check_host.check_memory(limited, needed_bytes=8 * GIB, workers_run=False)
    assert level(found) == "fail"
    assert "limited to 2.00 GiB by its cgroup; workers need about 8.00 GiB" in found.words
    busy = host(available_bytes=GIB)
    assert level(check_host.check_memory(busy, needed_bytes=8 * GIB, workers_run=False)) == "warn"
    assert level(check_host.check_memory(busy, needed_bytes=8 * GIB, workers_run=True)) == "ok"
    assert level(check_host.check_memory(busy, needed_bytes=None, workers_run=False)) == "ok"


def test_limits_and_the_rest_of_the_host() -> None:
    """Open files against the queue, swap in use, processors, clock and versions."""
    few = check_host.check_open_files(Limit(1024, 4096), Config(), of_daemon=True)
    assert level(few) == "warn"
    assert "a full queue takes up to 1344" in few.words
    assert level(check_host.check_open_files(Limit(None, None), Config(), of_daemon=False)) == "ok"
    assert "unlimited" in check_host.check_locked_memory(Limit(None, None)).words
    assert "8.00 MiB" in check_host.check_locked_memory(Limit(8 << 20, None)).words
    assert level(check_host.check_swap(host(swap_bytes=20 * GIB, swap_used_bytes=19 * GIB))) == "warn"
    assert level(check_host.check_swap(host(swap_bytes=20 * GIB))) == "ok"
    assert level(check_host.check_processors(host(usable_cores=1), cpu_workers=0)) == "warn"
    assert "workers.count" in check_host.check_processors(host(), cpu_workers=17).remedy
    assert level(check_host.check_clock(host(clock_synchronised=False))) == "warn"
    assert "1970-01-01" in check_host.check_clock(host(wall_seconds=0.0)).words
    assert level(check_host.check_clock(host(clock_synchronised=None))) == "ok"
    other = check_host.check_versions("2.0", {}, overview())
    assert said(other)[:2] == ("warn", "gemmad 2.0; the daemon that runs is 1.2.3")


def disk(*, uid: int = 0, wanted: int | None = None, daemon_uid: int | None = None, **fields: Any) -> Finding:
    (finding,) = check_host.check_folders(
        Told((folder(**fields),)), daemon=DaemonFacts(socket="", uid=daemon_uid), uid=uid, wanted_bytes=wanted
    )
    return finding


def test_folders() -> None:
    """One that is full, closed, read-only, too small for the model, or somebody else's."""
    assert level(disk()) == "ok"
    assert level(disk(free_bytes=1 << 20)) == "warn"
    assert level(disk(free_bytes=None)) == "fail"
    assert "read-only" in disk(read_only=True).words
    assert "GEMMAD_STATE_DIR" in disk(writable=False).remedy
    assert level(disk(writable=False, kind="cache")) == "warn"
    assert level(disk(writable=False, uid=1000, daemon_uid=99)) == "skip"
    assert "takes about 600.00 GiB" in disk(wanted=600 * GIB).words
    assert "not made yet" in disk(exists=False).words


def test_what_is_still_to_be_pulled() -> None:
    """A published size is known by the model's name; nothing is to be pulled where it is."""
    named = config(model={"path": "google/gemma-3-12b-it"})
    assert check_host.pulled_bytes(named, None) == published_shape("12b").weight_bytes(2)
    assert check_host.pulled_bytes(named, model()) is None
    assert check_host.pulled_bytes(config(model={"path": "a/b"}), None) is None
    assert check_host.pulled_bytes(None, None) is None


# --- settings, daemon, service ----------------------------------------------------------------------------------------


def test_config() -> None:
    """All mistakes are told, and a file that only others may read is none."""
    wrong = check_daemon.check_config(SettingsFacts(path="/g.toml", config=None, errors=("/g.toml:1: a", "b")))
    assert said(wrong)[:2] == ("fail", "/g.toml: 2 errors")
    assert wrong.details == ("/g.toml:1: a", "b")
    closed = SettingsFacts(path="/g.toml", config=None, errors=("denied",), closed=True)
    assert level(check_daemon.check_config(closed)) == "skip"
    assert "defaults" in check_daemon.check_config(SettingsFacts(path=None, config=Config())).words


def test_key_files() -> None:
    """Keys that everybody can read are warned about; how many there are is all that is told of them."""
    files = (
        KeyFileFacts(path="/k", mode=0o600, keys=2),
        KeyFileFacts(path="/k", mode=0o644, keys=2),
        KeyFileFacts(path="/k", mode=None),
    )
    found = list(check_daemon.check_key_files(SettingsFacts(path=None, config=None, key_files=files)))
    assert [said(each) for each in found] == [
        ("ok", "/k: 2 keys, mode 600", ""),
        ("warn", "/k: every user of this machine can read it (mode 644)", "`chmod 600 /k`"),
        ("skip", "/k: not for you to look at", "run this as root"),
    ]


def port(*holders: PortHolder, seen: Any = None, uid: int = 1000, **server: Any) -> Finding:
    daemon = DaemonFacts(socket="/s", overview=seen)
    return check_daemon.check_port(Told(holders), ServerSection(**server), host=host(), daemon=daemon, uid=uid)


def test_port() -> None:
    """Free, ours, systemd's, or held by somebody, who is named as far as the kernel tells."""
    mine = PortHolder(address="127.0.0.1", uid=0, pid=123, name="gemmad")
    assert said(port())[:2] == ("ok", "127.0.0.1:4363 is free")
    assert said(port(mine, seen=overview()))[:2] == ("ok", "127.0.0.1:4363 is our daemon's (pid 123)")
    assert said(port(replace(mine, pid=7, name="nginx")))[:2] == ("fail", "127.0.0.1:4363 is held by nginx (pid 7)")
    hidden = replace(mine, pid=None, name=None, uid=33)
    assert port(hidden).words.endswith("held by a process of uid 33, which only root sees")
    assert level(port(hidden, seen=overview())) == "ok"
    assert "systemd" in port(replace(mine, pid=1, name="systemd")).words
    assert level(port(port=80)) == "fail"
    assert level(port(port=80, uid=0)) == "ok"
    assert level(port(port=0)) == "ok"
    assert level(port(uds=Path("/s"))) == "skip"
    assert "the daemon that runs listens at http://127.0.0.1:4363" in port(port=9999, seen=overview()).words


def test_control() -> None:
    """A daemon that is closed to us, silent, gone or at our command."""

    def control(**fields: Any) -> tuple[str, str, str]:
        return said(check_daemon.check_control(DaemonFacts(socket="/s", **fields)))

    assert control()[:2] == ("skip", "no daemon runs; looked for /s")
    assert "a killed one has left" in control(left=True)[1]
    assert control(closed=True)[0] == "warn"
    assert "group gemmad" in control(closed=True)[2]
    assert control(silent="timed out")[:2] == ("fail", "a daemon has /s and does not answer: timed out")
    assert "you may operate" in control(overview=overview(), is_warden=True)[1]
    assert "you may look" in control(overview=overview())[1]


def test_state_of_the_daemon() -> None:
    """Its own word, and each worker's: what it waits for, and why it died."""
    seen = overview(
        worker("a"),
        worker("b", state="waiting", waits_for="12 GiB"),
        worker("c", state="backoff", last_error="killed by SIGSEGV"),
        worker("d", state="stopped", drained=True),
        worker("e", faults=1.5, last_error="CUDA error"),
        state="recovering",
    )
    found = list(check_daemon.check_state(seen))
    assert [level(each) for each in found] == ["fail", "ok", "warn", "fail", "ok", "warn"]
    assert found[3].words == "backoff, life 1: killed by SIGSEGV"
    loading = check_daemon.check_state(overview(state="loading"))
    assert [level(each) for each in loading] == ["warn"]
    trouble = Trouble("a/b is not here", "`gemmad pull a/b`")
    (missing,) = check_daemon.check_state(overview(state="no_model", trouble=trouble))
    assert said(missing)[0::2] == ("fail", "`gemmad pull a/b`")


def test_reload() -> None:
    """Settings that were refused or wait are told."""

    def reload(**fields: Any) -> list[Finding]:
        told = Reload(seconds_ago=1.0, **fields)
        return list(check_daemon.check_reload(overview(config=Configuration(path="/g", reload=told))))

    (refused,) = reload(ok=False, errors=("/g:1: no",))
    assert (level(refused), refused.details) == ("warn", ("/g:1: no",))
    (waits,) = reload(ok=True, pending=(PendingSetting("server.port", "restart"),))
    assert waits.words == "settings wait: server.port (restart)"
    assert [level(each) for each in reload(ok=True)] == ["ok"]
    assert list(check_daemon.check_reload(overview())) == []


@pytest.mark.parametrize(
    ("properties", "found", "words", "remedy"),
    [
        ({}, "ok", "active, enabled", ""),
        ({"NRestarts": "3"}, "warn", "restarted 3 times", "journalctl"),
        ({"LoadState": "masked"}, "fail", "masked", "unmask"),
        ({"ActiveState": "failed", "ExecMainStatus": "78"}, "fail", "exit status 78", "gemmad config check"),
        ({"ActiveState": "failed", "Result": "start-limit-hit"}, "fail", "crashed too often", "reset-failed"),
        ({"ActiveState": "failed", "Result": "signal", "ExecMainStatus": "9"}, "fail", "signal, exit status 9", "jour"),
        ({"NeedDaemonReload": "yes"}, "warn", "has changed", "daemon-reload"),
        ({"UnitFileState": "disabled"}, "warn", "does not start at boot", "enable"),
    ],
)
def test_unit(properties: dict[str, str], found: str, words: str, remedy: str) -> None:
    """What systemd says, and what to do."""
    (finding,) = check_daemon.check_service(Told(ServiceFacts(runs=True, units=(unit(**properties),))), uid=0)
    assert level(finding) == found
    assert words in finding.words
    assert remedy in finding.remedy


def test_units_that_are_not_there() -> None:
    """No systemd and no unit are no faults; a user's unit that ends at logout is warned about."""
    (none,) = check_daemon.check_service(Told(ServiceFacts(runs=False)), uid=0)
    assert level(none) == "skip"
    (missing,) = check_daemon.check_service(Told(ServiceFacts(runs=True)), uid=1000)
    assert "--user" in missing.remedy
    lazy = UnitFacts(of_user=True, properties=unit().properties, lingers=False)
    (user,) = check_daemon.check_service(Told(ServiceFacts(runs=True, units=(lazy,))), uid=1000)
    assert user.remedy == "`loginctl enable-linger`"


# --- model ------------------------------------------------------------------------------------------------------------


def test_files_of_the_model() -> None:
    """None set, not here, cut, closed, or whole."""
    name = Path("google/gemma-3-4b-it")
    assert "no model is set" in check_model.check_files(Told(), None).words
    assert level(check_model.check_files(Told(problem="no answer"), name)) == "fail"
    away = check_model.check_files(Told(model(exists=False, unfinished=True)), name)
    assert said(away) == (
        "fail",
        "there is no /srv/gemma-3-4b-it; a pull of it is under way, or was cut",
        "`gemmad pull google/gemma-3-4b-it`",
    )
    cut = check_model.check_files(Told(model(faults=("/a: has 1 bytes and should have 2",), pulled="a/b at 1")), name)
    assert (level(cut), cut.remedy) == ("fail", "`gemmad pull --verify` mends what was pulled")
    assert level(check_model.check_files(Told(model(closed=True)), name)) == "skip"
    whole = check_model.check_files(Told(model(pulled="a/b at 12", hashed=7)), name)
    assert said(whole)[:2] == ("ok", "/srv/gemma-3-4b-it, 9 files, 9.00 GiB, a/b at 12, 7 checksums right")


def test_tokenizer() -> None:
    """Its fault is told in the daemon's words."""
    assert level(check_model.check_text(model())) == "ok"
    assert level(check_model.check_text(None)) == "skip"
    assert said(check_model.check_text(model(text_problem="/t: not JSON")))[:2] == ("fail", "/t: not JSON")


def test_plan() -> None:
    """A worker that would not fit is told with what would make it fit."""
    fits = check_model.check_plan(model(), config(), gpu_bytes=80 * GIB, host_bytes=GIB)
    assert level(fits) == "ok"
    assert "sequences of 131072 tokens at a time" in fits.words
    coded = check_model.check_plan(model(), config(), gpu_bytes=12 * GIB, host_bytes=GIB, capability=(8, 9))
    assert level(coded) == "ok"
    assert "weights in fp8" in coded.words
    plain = config(engine={"weights": "bf16"})
    tight = check_model.check_plan(model(), plain, gpu_bytes=12 * GIB, host_bytes=GIB)
    assert level(tight) == "fail"
    assert "engine.max_context to" in tight.remedy
    assert "engine.weights to int8" in tight.remedy
    assert level(check_model.check_plan(model(), config(), gpu_bytes=None, host_bytes=GIB)) == "fail"
    long = config(engine={"max_context": 1_000_000})
    assert level(check_model.check_plan(model(), long, gpu_bytes=80 * GIB, host_bytes=GIB)) == "fail"
    assert level(check_model.check_plan(None, config(), gpu_bytes=None, host_bytes=GIB)) == "skip"


def test_the_oldest_gpu_says_what_all_of_them_compute() -> None:
    """Those that do not tell are left out."""
    health = tuple(GpuHealth(index=index, capability=each) for index, each in enumerate(((9, 0), (8, 6), None)))
    assert GpuFacts(gpus=Gpus(()), health=health).least_capability == (8, 6)
    assert GpuFacts(gpus=Gpus(()), health=health[2:]).least_capability is None


def test_what_workers_take_of_the_host() -> None:
    """The plan on a CPU, a fixed part beside a GPU."""

    def needed(on_gpu: bool, **fields: Any) -> int | None:
        usual: dict[str, Any] = {"gpu_workers": 2, "each_bytes": 4 * GIB}
        return check_model.host_bytes_needed(model(), fields.pop("config", config()), on_gpu=on_gpu, **usual)

    assert needed(True) == 8 * GIB
    single = needed(False)
    assert single is not None
    assert single > 8 * GIB
    assert needed(False, config=config(workers={"count": 2})) == 2 * single
    assert needed(False, config=None) is None
    assert needed(False, config=config(engine={"max_context": 1_000_000})) is None


def test_another_model_is_served() -> None:
    """A daemon that serves another folder than the settings name is told."""
    other = check_model.check_served(overview(checkpoint="/demo"), config())
    assert other is not None
    assert level(other) == "warn"
    assert check_model.check_served(overview(checkpoint="/srv/gemma-3-4b-it"), config()) is None


def test_whether_gpus_are_used() -> None:
    """Running workers tell; else the setting does, and where that is auto what is there."""
    assert uses_gpus(facts())
    assert not uses_gpus(facts(gpus=Told(replace(gpus(), gpus=Gpus(())))))
    assert not uses_gpus(facts(settings=SettingsFacts(path=None, config=config(engine={"device": "cpu"}))))
    cpu = overview(worker("cpu0", gpu=None, device="cpu"))
    assert not uses_gpus(facts(daemon=DaemonFacts(socket="", overview=cpu)))
