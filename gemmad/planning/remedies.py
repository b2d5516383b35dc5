"""What would make a plan fit that does not: each setting by itself, the others as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from gemmad.generation import EngineSettings
from gemmad.planning.budget import (
    CONTEXT,
    KV_FULL,
    KV_SLIDING,
    WEIGHTS,
    Costs,
    MemoryPlan,
    computes_on_gpu,
    itemsize_of,
    page_rules,
    plan_memory,
)
from gemmad.planning.shape import PUBLISHED, ModelShape, published_shape
from gemmad.planning.sizes import format_bytes, setting_bytes

LARGEST_FRACTION = 0.98
_SMALLEST = {"max_context": 16, "max_sequences": 1, "max_step_tokens": 16, "reserve_bytes": 0}
_SECTION = {"reserve_bytes": "memory.reserve"}


class Remedy(Struct, frozen=True):
    """One setting that would do."""

    setting: str
    value: int | float | str
    words: str
    """Such as `engine.max_context to 40960 or less`."""


class Advice(Struct, frozen=True):
    """What to do about a plan that does not fit."""

    remedies: tuple[Remedy, ...]
    gpu_bytes: int | None
    """The smallest GPU that the settings as they are would fit on; None for a CPU worker."""
    models: tuple[str, ...]
    """Published sizes that fit with these settings, when no setting helps this one."""
    words: str


def advise(shape: ModelShape, settings: EngineSettings, plan: MemoryPlan, *, costs: Costs | None = None) -> Advice:
    """For a plan of this shape and these settings that has a problem."""

    def fits(**changes: Any) -> bool:
        changed = msgspec.structs.replace(settings, **changes)
        return plan_memory(shape, changed, total_bytes=plan.total_bytes, costs=costs).problem is None

    remedies = tuple(_remedies(shape, settings, plan, fits))
    gpu_bytes = int(plan.planned_bytes / settings.memory_fraction) + 1 if computes_on_gpu(settings) else None
    models = () if remedies else tuple(_models(settings, plan, costs))
    return Advice(remedies, gpu_bytes, models, _words(settings, plan, remedies, gpu_bytes, models))


def _remedies(
    shape: ModelShape, settings: EngineSettings, plan: MemoryPlan, fits: Callable[..., bool]
) -> Iterator[Remedy]:
    on_gpu = computes_on_gpu(settings)
    left_bytes = plan.share_bytes - plan.planned_bytes + plan.planned(KV_FULL, KV_SLIDING)
    least_bytes = page_rules(shape, settings).least(plan.max_context).nbytes
    if least_bytes <= left_bytes and fits(kv_bytes=least_bytes):
        small = (settings.kv_bytes or 0) < least_bytes
        size = setting_bytes(least_bytes if small else left_bytes, up=small)
        yield Remedy("memory.kv_bytes", size, f"memory.kv_bytes to {size} or {'more' if small else 'less'}")
    now = {"max_context": plan.max_context, "max_sequences": settings.max_sequences}
    now |= {"max_step_tokens": settings.max_step_tokens} | ({"reserve_bytes": settings.reserve_bytes} if on_gpu else {})
    for name, high in now.items():
        found = _largest(_SMALLEST[name], high, lambda value, name=name: fits(**{name: value}))  # type: ignore[misc]
        if found is not None:
            shown = setting_bytes(found, up=False) if name == "reserve_bytes" else found
            setting = _SECTION.get(name, f"engine.{name}")
            yield Remedy(setting, shown, f"{setting} to {shown} or less")
    fraction = plan.planned_bytes / plan.total_bytes
    if on_gpu and settings.memory_fraction < fraction <= LARGEST_FRACTION - 0.001:
        share = round(fraction + 0.0005, 3)
        yield Remedy("memory.fraction", share, f"memory.fraction to {share:g} or more for each worker on the GPU")
    if itemsize_of(settings) == 4 and fits(dtype="bfloat16"):
        yield Remedy("engine.dtype", "bfloat16", "engine.dtype to bfloat16")


def _largest(low: int, high: int, fits: Callable[[int], bool]) -> int | None:
    """The largest of [low, high) that fits, given that all smaller ones do then; None when `low` does not."""
    if low >= high or not fits(low):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _models(settings: EngineSettings, plan: MemoryPlan, costs: Costs | None) -> Iterator[str]:
    for name in reversed(tuple(PUBLISHED)):
        shape = published_shape(name)
        changed = msgspec.structs.replace(settings, max_context=min(plan.max_context, shape.max_context))
        smaller = shape.weight_bytes(itemsize_of(settings)) < plan.planned(WEIGHTS)
        if smaller and plan_memory(shape, changed, total_bytes=plan.total_bytes, costs=costs).problem is None:
            yield name


def _words(
    settings: EngineSettings,
    plan: MemoryPlan,
    remedies: tuple[Remedy, ...],
    gpu_bytes: int | None,
    models: tuple[str, ...],
) -> str:
    if remedies:
        return "to make it fit, set " + ", or ".join(remedy.words for remedy in remedies)
    parts = ["no setting alone makes it fit"]
    if plan.planned(WEIGHTS, CONTEXT) > plan.share_bytes:
        dtype = {2: "bfloat16", 4: "float32"}[itemsize_of(settings)]
        parts = [
            f"the weights alone take {format_bytes(plan.planned(WEIGHTS))} in {dtype}, "
            f"and quantised ones, which are smaller, are not supported yet"
        ]
    if gpu_bytes is not None:
        parts.append(f"a GPU with {format_bytes(gpu_bytes)} would do for these settings")
    if models:
        parts.append(f"of the published sizes {', '.join(models)} would fit here")
    return "; ".join(parts)
