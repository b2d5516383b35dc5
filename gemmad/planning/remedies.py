"""What would make a plan fit that does not: each setting by itself, the others as they are; else several together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from gemmad.errors import MemoryPlanError
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
from gemmad.planning.codes import coding_of, weight_bytes
from gemmad.planning.formats import Capability
from gemmad.planning.proposals import propose
from gemmad.planning.searching import largest_that_fits
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
    together: tuple[tuple[str, int | str], ...]
    """Settings and values that make it fit with each other, when none does by itself; none where nothing would."""
    models: tuple[str, ...]
    """Published sizes that fit with these settings, when no setting helps this one."""
    words: str


def advise(
    shape: ModelShape,
    settings: EngineSettings,
    plan: MemoryPlan,
    *,
    capability: Capability | None = None,
    costs: Costs | None = None,
) -> Advice:
    """For a plan of this shape and these settings that has a problem. `capability` is the GPU's, None where nobody
    knows."""

    def fits(**changes: Any) -> bool:
        changed = msgspec.structs.replace(settings, **changes)
        try:
            return plan_memory(shape, changed, total_bytes=plan.total_bytes, costs=costs).problem is None
        except MemoryPlanError:  # a format that this network cannot have
            return False

    remedies = tuple(_remedies(shape, settings, plan, fits))
    gpu_bytes = int(plan.planned_bytes / settings.memory_fraction) + 1 if computes_on_gpu(settings) else None
    together: tuple[tuple[str, int | str], ...] = ()
    if not remedies:
        free = msgspec.structs.replace(settings, weights="auto", kv="auto")
        best = propose(shape, free, plan.total_bytes, capability=capability, costs=costs).best
        together = () if best is None else tuple(best.changes(settings).items())
    models = () if remedies or together else tuple(_models(settings, plan, costs))
    told = Advice(remedies, gpu_bytes, together, models, "")
    return msgspec.structs.replace(told, words=_words(told, plan))


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
        found = largest_that_fits(_SMALLEST[name], high, lambda value, name=name: fits(**{name: value}))  # type: ignore[misc]
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
    yield from _formats(shape, settings, fits)


def _formats(shape: ModelShape, settings: EngineSettings, fits: Callable[..., bool]) -> Iterator[Remedy]:
    """Codes with fewer bits, of weights or of the cache; a checkpoint that comes coded is not coded once more."""
    coding = coding_of(shape, settings.weights)
    smaller = ("int8", "int4") if coding is None else ("int4",) if coding.kind != "int4" else ()
    for weights in smaller if shape.coded is None else ():
        if fits(weights=weights):
            yield Remedy("engine.weights", weights, f"engine.weights to {weights}")
            break
    if settings.kv in ("auto", "bf16") and fits(kv="int8"):
        yield Remedy("engine.kv", "int8", "engine.kv to int8")


def _models(settings: EngineSettings, plan: MemoryPlan, costs: Costs | None) -> Iterator[str]:
    for name in reversed(tuple(PUBLISHED)):
        shape = published_shape(name)
        changed = msgspec.structs.replace(settings, max_context=min(plan.max_context, shape.max_context))
        smaller = weight_bytes(shape, settings.weights, itemsize=itemsize_of(settings)) < plan.planned(WEIGHTS)
        if smaller and plan_memory(shape, changed, total_bytes=plan.total_bytes, costs=costs).problem is None:
            yield name


def _words(told: Advice, plan: MemoryPlan) -> str:
    if told.remedies:
        return "to make it fit, set " + ", or ".join(remedy.words for remedy in told.remedies)
    parts = ["no setting alone makes it fit"]
    if plan.planned(WEIGHTS, CONTEXT) > plan.share_bytes:
        parts = [f"the weights alone take {format_bytes(plan.planned(WEIGHTS))} in {plan.weights}"]
    if told.together:
        parts.append(f"{', '.join(f'{name} {value}' for name, value in told.together)} together would fit")
    if told.gpu_bytes is not None:
        parts.append(f"a GPU with {format_bytes(told.gpu_bytes)} would do for these settings")
    if told.models:
        parts.append(f"of the published sizes {', '.join(told.models)} would fit here")
    return "; ".join(parts)
