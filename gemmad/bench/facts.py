"""What must be known to run a measurement again: versions, commit, machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

import gemmad

_LIBRARIES = ("torch", "triton", "transformers", "flash-attn", "flash-attn-4", "numpy")


def library_versions() -> dict[str, str | None]:
    """Installed versions; None is not installed."""
    return {"python": platform.python_version()} | {name: _version(name) for name in _LIBRARIES}


def git_commit() -> str | None:
    """The commit of the checkout that this package runs from, with a + when files differ from it; None elsewhere."""
    root = Path(gemmad.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def device_facts(device: torch.device) -> dict[str, str]:
    """Name, memory and driver of a GPU; name and threads of a CPU."""
    if device.type != "cuda":
        return {"name": _cpu_name(), "threads": f"{len(os.sched_getaffinity(0))} threads"}
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "memory": f"{properties.total_memory / 2**30:.1f} GiB",
        "driver": f"driver {_driver_version()}",
        "cuda": f"CUDA {torch.version.cuda}",
    }


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _driver_version() -> str:
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            version = pynvml.nvmlSystemGetDriverVersion()
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return "unknown"
    return version.decode() if isinstance(version, bytes) else str(version)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
