"""The worker's memory: planned for the device that it has, capped, taken, and measured once everything has run.

The arithmetic is `gemmad.planning`'s. What torch's allocator has reserved in the end is weights, pages, pictures and
inputs, whose bytes are known, and what is over: the workspace. What the device lacks beyond that is outside of the
allocator: CUDA's context, and after it the graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from gemmad.errors import MemoryPlanError
from gemmad.generation import EngineSettings, MemoryRow
from gemmad.kernels.pages import Pages, zeroed_pages
from gemmad.models.config import ModelConfig, TextShape
from gemmad.models.gemma3 import KVPools
from gemmad.planning import budget
from gemmad.planning.budget import plan_memory
from gemmad.planning.coding import CodedFormats
from gemmad.planning.host import host_bytes, host_rss_bytes
from gemmad.planning.pages import PagePlan
from gemmad.planning.remedies import advise
from gemmad.planning.shape import ModelShape, VisionShape
from gemmad.planning.sizes import format_bytes, setting_bytes
from gemmad.planning.table import measured_bytes


@dataclass(frozen=True)
class Reading:
    """Bytes of a device, as of now. On a CPU the process's memory is what is reserved."""

    total: int
    free: int
    reserved: int
    """By this process's allocator; and of those"""
    tensors: int = 0
    """as many as tensors asked for."""

    @property
    def outside(self) -> int:
        """Neither free nor this allocator's: CUDA contexts, graphs, other processes."""
        return self.total - self.free - self.reserved

    @property
    def available(self) -> int:
        """What this process could still have."""
        return self.free + self.reserved - self.tensors


def read_device(device: torch.device) -> Reading:
    """What the driver and torch's allocator tell now."""
    if device.type != "cuda":
        total, rss = host_bytes(), host_rss_bytes()
        return Reading(total=total, free=total - rss, reserved=rss)
    free, total = torch.cuda.mem_get_info(device)
    stats = torch.cuda.memory_stats(device)
    return Reading(
        total=total,
        free=free,
        reserved=stats.get("reserved_bytes.all.current", 0),
        tensors=stats.get("requested_bytes.all.current", 0),
    )


def shape_of(config: ModelConfig, coded: CodedFormats | None = None) -> ModelShape:
    """A checkpoint's shape as the planner takes it; `coded`: what its matrices come in, if they come coded."""
    text, vision = config.text, config.vision
    tower = None
    if vision is not None:
        tower = VisionShape(**{name: getattr(vision, name) for name in VisionShape.__struct_fields__})
    return ModelShape(
        vocab_size=text.vocab_size,
        hidden_size=text.hidden_size,
        intermediate_size=text.intermediate_size,
        heads=text.heads,
        kv_heads=text.kv_heads,
        head_dim=text.head_dim,
        full_layers=text.full_layers,
        window=text.window,
        max_context=text.max_context,
        vision=tower,
        image_tokens=config.image_tokens,
        coded=coded,
    )


class Ledger:
    """One engine's plan, and what the device says of it.

    It is made before anything is taken, or with `held_bytes` of this engine's weights in place already. `coded` is what
    the checkpoint's matrices come in, if they come coded.

    Raises MemoryPlanError, with numbers, for settings that do not fit, and where others hold too much of the device.
    """

    def __init__(
        self,
        config: ModelConfig,
        settings: EngineSettings,
        *,
        read: Callable[[], Reading],
        held_bytes: int = 0,
        coded: CodedFormats | None = None,
    ) -> None:
        self._read = read
        self._start = start = read()
        self._held_bytes = held_bytes
        self._device = torch.device(settings.device)
        shape = shape_of(config, coded)
        self.plan = plan_memory(shape, settings, total_bytes=start.total)
        if self.plan.problem:
            raise MemoryPlanError(f"{self.plan.problem}; {advise(shape, settings, self.plan).words}")
        if self.plan.on_gpu and self._needed_bytes > start.available + held_bytes:
            raise MemoryPlanError(self._others_hold(settings))
        self._known: dict[str, int] = {}
        self._recorded: Reading | None = None

    @property
    def cap_bytes(self) -> int:
        """What the process's allocator may reserve: the share without what lives outside of it, beside what it holds
        already for others than this engine."""
        outside = self.plan.planned(budget.CONTEXT, budget.GRAPHS)
        return self.plan.share_bytes - outside + self._start.reserved - self._held_bytes

    @property
    def device(self) -> torch.device:
        """What is planned for."""
        return self._device

    def note(self, name: str, nbytes: int) -> None:
        """Tensors that stay for the engine's life are in place, on this row."""
        self._known[name] = nbytes

    def note_recorded(self) -> None:
        """All that steps need is in place; pictures were not computed yet."""
        self._recorded = self._read()

    def measure(self) -> tuple[MemoryRow, ...]:
        """The plan's rows as they came out, after a warm-up. Raises MemoryPlanError when that is over the share."""
        measured = self._measured_on_gpu() if self.plan.on_gpu else self._measured_on_cpu()
        rows = tuple(MemoryRow(row.name, row.planned_bytes, measured.get(row.name)) for row in self.plan.rows)
        if self.plan.on_gpu and measured_bytes(rows) > self.plan.share_bytes:
            raise MemoryPlanError(self._came_out_larger(rows))
        return rows

    @property
    def _needed_bytes(self) -> int:
        """Of the device, beside the context that is there already."""
        return self.plan.planned_bytes - self.plan.planned(budget.CONTEXT)

    def _came_out_larger(self, rows: tuple[MemoryRow, ...]) -> str:
        taken, share = measured_bytes(rows), self.plan.share_bytes
        parts = (f"{row.name} {format_bytes(row.measured_bytes)}" for row in rows if row.measured_bytes is not None)
        reserve = setting_bytes(self.plan.planned(budget.RESERVE) + taken - share, up=True)
        return (
            f"the worker has taken {format_bytes(taken)} and may take {format_bytes(share)} ({', '.join(parts)}); "
            f"set memory.reserve to {reserve} or more"
        )

    def _others_hold(self, settings: EngineSettings) -> str:
        start, context = self._start, self.plan.planned(budget.CONTEXT)
        available = start.available + self._held_bytes
        others = max(0, start.outside - context)
        fraction = max(0, available + context) * 1000 // start.total / 1000
        return (
            f"the worker needs {format_bytes(self._needed_bytes)} of the GPU's {format_bytes(start.total)} "
            f"and {format_bytes(available)} are free: other processes hold about {format_bytes(others)}; free them, or "
            f"set memory.fraction, now {settings.memory_fraction:g} for this worker, to {fraction:g} or less"
        )

    def _measured_on_cpu(self) -> dict[str, int]:
        process = self._read().reserved - self._known.get(budget.WEIGHTS, 0)  # pages count once they are touched
        names = (budget.WEIGHTS, budget.KV_FULL, budget.KV_SLIDING, budget.STEERING)
        known = {name: self._known[name] for name in names if name in self._known}
        return known | {budget.PROCESS: max(0, process)}

    def _measured_on_gpu(self) -> dict[str, int]:
        now, start, known = self._read(), self._start, dict(self._known)
        recorded = self._recorded or now
        inputs = max(0, recorded.tensors - (start.tensors - self._held_bytes) - sum(known.values()))
        workspace = recorded.reserved - (start.reserved - self._held_bytes) - sum(known.values()) - inputs
        pictures = now.reserved - recorded.reserved
        measured = known | {
            budget.VISION: known.get(budget.VISION, 0) + (pictures if self.plan.planned(budget.VISION) else 0),
            budget.INPUTS: inputs,
            budget.GATHERED: known.get(budget.GATHERED, 0),
            budget.WORKSPACE: workspace + (0 if self.plan.planned(budget.VISION) else pictures),
            budget.GRAPHS: max(0, now.outside - start.outside),
        }
        if start.outside <= 2 * self.plan.planned(budget.CONTEXT):  # else others are on the GPU: whose is whose?
            measured[budget.CONTEXT] = start.outside
        return measured


def cap_allocator(device: torch.device, ledger: Ledger) -> None:
    """From here on torch refuses to reserve more of a GPU than the plan gives it."""
    if device.type == "cuda":
        total = torch.cuda.mem_get_info(device)[1]
        torch.cuda.set_per_process_memory_fraction(min(1.0, ledger.cap_bytes / total), device)


def allocate_pools(
    shape: TextShape, plan: PagePlan, *, page_tokens: int, device: torch.device, dtype: torch.dtype
) -> KVPools:
    """Take both pools, zeroed; `dtype`: a `page_type`."""

    def pool(layers: int, pages: int) -> tuple[Pages, ...]:
        return zeroed_pages(layers, (pages, page_tokens, shape.kv_heads, shape.head_dim), dtype=dtype, device=device)

    full_layers = sum(shape.full_layers)
    return KVPools(
        full=pool(full_layers, plan.full_pages),
        sliding=pool(len(shape.full_layers) - full_layers, plan.sliding_pages),
    )
