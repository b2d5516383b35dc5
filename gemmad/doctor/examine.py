"""All checks over one set of facts, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gemmad.config.schema import Config
from gemmad.doctor import check_daemon, check_gpus, check_host, check_model
from gemmad.doctor.facts import Facts, GpuFacts, HostFacts
from gemmad.doctor.finding import Finding
from gemmad.errors import ConfigError
from gemmad.supervisor.seating import selected

GROUPS = (
    check_gpus.GROUP,
    check_host.GROUP,
    check_daemon.SETTINGS,
    check_model.GROUP,
    check_daemon.DAEMON,
    check_daemon.SERVICE,
)


def examine(facts: Facts, *, environ: Mapping[str, str], flash: bool = False) -> tuple[Finding, ...]:
    """What each check found. `flash`: whether flash-attn is installed."""
    config = facts.settings.config or Config()
    gpus, model, overview = facts.gpus.value, facts.model.value, facts.daemon.overview
    used = gpus if uses_gpus(facts) else None
    wanted = wanted_gpus(used, config, environ)
    findings: list[Finding] = [
        check_gpus.check_driver(facts.gpus, config.engine.device),
        check_gpus.check_torch(facts.torch, has_gpu=used is not None and bool(used.gpus.found)),
        check_gpus.check_cuda(used, facts.torch.value),
        *check_gpus.check_memory(used, overview, config.memory, wanted),
        *check_gpus.check_health(used),
        *_host(facts, config, wanted),
        check_daemon.check_config(facts.settings),
        *check_daemon.check_key_files(facts.settings),
        check_daemon.check_port(facts.ports, config.server, host=facts.host, daemon=facts.daemon, uid=facts.uid),
        check_model.check_files(facts.model, config.model.path),
        check_model.check_text(model),
        check_model.check_plan(
            model,
            facts.settings.config,
            gpu_bytes=check_model.smallest_gpu(used, wanted),
            host_bytes=_host_bytes(facts.host),
            capability=None if used is None else used.least_capability,
            flash=flash,
        ),
        *(finding for finding in (check_model.check_served(overview, facts.settings.config),) if finding is not None),
        check_daemon.check_control(facts.daemon),
        *check_daemon.check_state(overview),
        *check_daemon.check_reload(overview),
        *check_daemon.check_service(facts.service, uid=facts.uid),
    ]
    return tuple(findings)


def uses_gpus(facts: Facts) -> bool:
    """Whether workers compute on GPUs: those that run tell, else settings and driver do."""
    if facts.daemon.overview is not None and facts.daemon.overview.workers:
        return any(worker.gpu is not None for worker in facts.daemon.overview.workers)
    device = (facts.settings.config or Config()).engine.device
    if device != "auto":
        return device == "cuda"
    gpus = facts.gpus.value
    return gpus is not None and bool(gpus.gpus.found)


def wanted_gpus(gpus: GpuFacts | None, config: Config, environ: Mapping[str, str]) -> frozenset[str]:
    """UUIDs of those that workers are to use."""
    if gpus is None:
        return frozenset()
    try:
        return frozenset(gpu.uuid for gpu in selected(gpus.gpus, config.workers, environ=environ))
    except ConfigError:  # one that is not there is the daemon's to wait for
        return frozenset()


def _host(facts: Facts, config: Config, wanted: frozenset[str]) -> Iterator[Finding]:
    host, daemon, on_gpu = facts.host, facts.daemon, uses_gpus(facts)
    needed = check_model.host_bytes_needed(
        facts.model.value,
        facts.settings.config,
        on_gpu=on_gpu,
        gpu_workers=len(wanted) * config.workers.per_gpu,
        each_bytes=check_host.GPU_WORKER_BYTES,
        host_bytes=_host_bytes(host),
    )
    runs = daemon.overview is not None and any(worker.pid for worker in daemon.overview.workers)
    yield check_host.check_memory(host, needed_bytes=needed, workers_run=runs)
    yield check_host.check_swap(host)
    limit = daemon.open_files or host.open_files
    yield check_host.check_open_files(limit, config, of_daemon=daemon.open_files is not None)
    yield check_host.check_locked_memory(host.locked_bytes)
    yield check_host.check_processors(host, cpu_workers=0 if on_gpu else config.workers.count)
    yield from check_host.check_folders(
        facts.folders,
        daemon=daemon,
        uid=facts.uid,
        wanted_bytes=check_host.pulled_bytes(facts.settings.config, facts.model.value),
    )
    yield check_host.check_clock(host)
    yield check_host.check_versions(facts.version, facts.parts, daemon.overview)


def _host_bytes(host: HostFacts) -> int:
    return min(host.memory_bytes, host.cgroup_limit_bytes or host.memory_bytes)
