"""Which formats a device takes where the settings leave it to it: the truest that fits.

Numbers as they are; then 8 bits, fp8 where the device multiplies it, for then long prompts
are faster too; then 4 bits. Keys and values give way before weights do.
"""

from __future__ import annotations

import msgspec

from gemmad.errors import MemoryPlanError
from gemmad.generation import EngineSettings, KVFormat, WeightFormat
from gemmad.planning.budget import Costs, plan_memory
from gemmad.planning.codes import check_columns
from gemmad.planning.coding import CodedFormats
from gemmad.planning.shape import ModelShape

FP8_CAPABILITY = (8, 9)
"""Compute capability from which on a GPU multiplies e4m3."""

Capability = tuple[int, int]


def resolve(
    settings: EngineSettings,
    shape: ModelShape,
    total_bytes: int,
    *,
    capability: Capability | None,
    coded: CodedFormats | None = None,
    costs: Costs | None = None,
) -> EngineSettings:
    """The settings without `auto` in `weights` and `kv`, for a device with `total_bytes`.

    `capability` is the GPU's; None on a CPU, and where nobody knows. `coded` is what the checkpoint's matrices come in;
    None takes the shape's word. Where nothing fits it is the truest, so that the plan's problem is the real one.
    Raises MemoryPlanError as `plan_memory` does.
    """
    if coded is not None:
        shape = msgspec.structs.replace(shape, coded=coded)
    choices = combinations(settings, shape, capability=capability)
    if len(choices) == 1:
        return choices[0]
    fitting = (
        each for each in choices if plan_memory(shape, each, total_bytes=total_bytes, costs=costs).problem is None
    )
    return next(fitting, choices[0])


def combinations(
    settings: EngineSettings, shape: ModelShape, *, capability: Capability | None
) -> tuple[EngineSettings, ...]:
    """The settings with each choice of formats that they leave open, the truest first; never none."""
    return tuple(
        msgspec.structs.replace(settings, weights=weights, kv=kv)
        for weights in _weights(settings.weights, shape, capability)
        for kv in _kv(settings.kv, capability)
    )


def eight_bits(capability: Capability | None) -> WeightFormat:
    """The format of 8 bits for a device; fp8 and int8 take the same room."""
    return "fp8" if capability is not None and capability >= FP8_CAPABILITY else "int8"


def _weights(asked: WeightFormat, shape: ModelShape, capability: Capability | None) -> tuple[WeightFormat, ...]:
    if asked != "auto":
        return (asked,)
    if shape.coded is not None:
        return (shape.coded.layers.kind,)
    choices: tuple[WeightFormat, ...] = (eight_bits(capability), "int4")
    return ("bf16", *(each for each in choices if _can_be(shape, each)))


def _kv(asked: KVFormat, capability: Capability | None) -> tuple[KVFormat, ...]:
    if asked != "auto":
        return (asked,)
    return ("bf16", "fp8" if eight_bits(capability) == "fp8" else "int8")


def _can_be(shape: ModelShape, weights: WeightFormat) -> bool:
    try:
        check_columns(shape, weights)
    except MemoryPlanError:
        return False
    return True
