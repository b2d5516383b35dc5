"""Facts of a machine on which all is well; a test changes one of them."""

from __future__ import annotations

from typing import Any

import msgspec

from gemmad.config.schema import Config
from gemmad.doctor.facts import (
    DaemonFacts,
    Facts,
    Folder,
    GpuFacts,
    GpuHealth,
    HostFacts,
    Limit,
    ModelFacts,
    ServiceFacts,
    SettingsFacts,
    Told,
    TorchFacts,
    UnitFacts,
)
from gemmad.doctor.finding import Finding
from gemmad.planning.shape import published_shape
from gemmad.supervisor.gpus import Gpu, Gpus, Holder

GIB = 1 << 30
MODEL = "/srv/gemma-3-4b-it"
HEALTHY = GpuHealth(
    index=0, capability=(9, 0), uncorrected_errors=0, persistent=True, pcie_width=16, pcie_width_most=16
)


def gpu(*holders: Holder, used_bytes: int = GIB, **fields: Any) -> Gpu:
    usual: dict[str, Any] = {"index": 0, "uuid": "GPU-1", "name": "NVIDIA H200", "total_bytes": 140 * GIB}
    return Gpu(holders=holders, used_bytes=used_bytes, **(usual | fields))


def gpus(*found: Gpu, **fields: Any) -> GpuFacts:
    usual: dict[str, Any] = {"driver": "580.95.05", "cuda": (13, 0), "health": (HEALTHY,), "xids": ()}
    return GpuFacts(gpus=Gpus(found or (gpu(),)), **(usual | fields))


def torch(**fields: Any) -> TorchFacts:
    usual: dict[str, Any] = {"torch": "2.13.0", "cuda": "13.0", "python": "3.12", "arches": ("sm_80", "sm_90")}
    return TorchFacts(where="engine cuda-1", **(usual | fields))


def host(**fields: Any) -> HostFacts:
    usual: dict[str, Any] = {
        "cores": 16,
        "usable_cores": 16,
        "numa_nodes": 2,
        "memory_bytes": 128 * GIB,
        "available_bytes": 100 * GIB,
        "cgroup_limit_bytes": None,
        "open_files": Limit(65536, 65536),
        "locked_bytes": Limit(None, None),
        "clock_synchronised": True,
        "wall_seconds": 1_800_000_000.0,
    }
    return HostFacts(**(usual | fields))


def folder(kind: str = "state", **fields: Any) -> Folder:
    usual: dict[str, Any] = {"path": f"/var/lib/{kind}", "exists": True, "writable": True, "free_bytes": 500 * GIB}
    return Folder(kind=kind, owner="gemmad", **(usual | fields))


def model(**fields: Any) -> ModelFacts:
    usual: dict[str, Any] = {"exists": True, "bytes": 9 * GIB, "files": 9, "shape": published_shape("4b")}
    return ModelFacts(folder=MODEL, **(usual | fields))


def config(**sections: dict[str, Any]) -> Config:
    return Config.model_validate({"model": {"path": MODEL}} | sections)


def unit(**properties: str) -> UnitFacts:
    usual = {"LoadState": "loaded", "UnitFileState": "enabled", "ActiveState": "active", "NRestarts": "0"}
    return UnitFacts(of_user=False, properties=usual | properties)


def facts(**fields: Any) -> Facts:
    usual: dict[str, Any] = {
        "version": "1.2.3",
        "uid": 0,
        "parts": {"Python": "3.12"},
        "settings": SettingsFacts(path="/etc/gemmad/gemmad.toml", config=config()),
        "daemon": DaemonFacts(socket="/run/gemmad/control.sock"),
        "host": host(),
        "gpus": Told(gpus()),
        "torch": Told(torch()),
        "folders": Told((folder(), folder("cache"))),
        "model": Told(model()),
        "ports": Told(()),
        "service": Told(ServiceFacts(runs=True, units=(unit(),))),
    }
    return Facts(**(usual | fields))


def said(finding: Finding) -> tuple[str, str, str]:
    """Level, words and remedy."""
    return finding.level.value, finding.words, finding.remedy


def replace(struct: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(struct, **changes)
