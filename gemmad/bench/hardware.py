"""What the device can do, measured: a large copy and a large matrix product."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Literal

import torch

from gemmad.bench.floor import Roof

_TRIES = 10
_CPU_COPY_BYTES = 256 << 20
_GPU_COPY_BYTES = 2 << 30
_CPU_SIDE, _GPU_SIDE = 1024, 8192


def choose_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The first GPU, unless there is none or the CPU is asked for."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    return torch.device("cuda:0")


def dtype_on(device: torch.device) -> torch.dtype:
    """What the engine computes in when nothing else is asked for."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


@torch.inference_mode()
def measure_roof(device: torch.device) -> Roof:
    """Medians of ten tries. Takes up to 4 GiB of the device for a moment, less where less is free."""
    roof = Roof(bytes_per_second=_copy_rate(device), flop_per_second=_product_rate(device))
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    return roof


def _copy_rate(device: torch.device) -> float:
    on_gpu = device.type == "cuda"
    size = min(_GPU_COPY_BYTES, torch.cuda.mem_get_info(device)[0] // 4) if on_gpu else _CPU_COPY_BYTES
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / median_seconds(lambda: target.copy_(source), device=device)


def _product_rate(device: torch.device) -> float:
    side = _GPU_SIDE if device.type == "cuda" else _CPU_SIDE
    left, right = (torch.randn(side, side, device=device).to(dtype_on(device)) for _ in range(2))
    out = torch.empty_like(left)
    return 2 * side**3 / median_seconds(lambda: torch.mm(left, right, out=out), device=device)


def median_seconds(run: Callable[[], object], *, device: torch.device) -> float:
    """Of several runs after one that is not counted; on a GPU by its own clock."""
    run()
    seconds = [_gpu_seconds(run) if device.type == "cuda" else _host_seconds(run) for _ in range(_TRIES)]
    return statistics.median(seconds)


def _host_seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _gpu_seconds(run: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3
