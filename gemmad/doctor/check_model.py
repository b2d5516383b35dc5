"""Checks of the model: is it set, whole and readable, and does a worker with it fit."""

from __future__ import annotations

from pathlib import Path

import msgspec

from gemmad.api.overview import Overview
from gemmad.config.models import name_in
from gemmad.config.schema import Config
from gemmad.daemon.settings import engine_settings
from gemmad.doctor.facts import GpuFacts, ModelFacts, Told
from gemmad.doctor.finding import Finding, fail, ok, skip, warn
from gemmad.errors import MemoryPlanError
from gemmad.generation import EngineSettings
from gemmad.planning.budget import MemoryPlan, plan_memory
from gemmad.planning.formats import Capability, resolve
from gemmad.planning.remedies import advise
from gemmad.planning.sizes import format_bytes
from gemmad.supervisor.seat import Seat

GROUP = "Model"


def check_files(model: Told[ModelFacts], path: Path | None) -> Finding:
    """`path` as `model.path` has it; None: no model is set."""
    name, facts = "files", model.value
    if facts is None:
        if model.problem is None:
            return fail(
                GROUP, name, "no model is set",
                remedy="`gemmad pull google/gemma-3-4b-it`, and that name into model.path; or `gemmad serve --demo`",
            )  # fmt: skip
        return fail(
            GROUP, name, f"the model's folder: {model.problem}", remedy="its disk may be slow or hang: try `ls` on it"
        )
    pull = _pull(path)
    if facts.closed:
        return skip(GROUP, name, f"{facts.folder}: not for you to look into", remedy="run this as root")
    if not facts.exists:
        words = f"there is no {facts.folder}" + ("; a pull of it is under way, or was cut" if facts.unfinished else "")
        return fail(GROUP, name, words, remedy=pull or "put the checkpoint there, or correct model.path")
    if facts.faults:
        return fail(
            GROUP, name, f"{facts.folder} is not whole", details=facts.faults,
            remedy="`gemmad pull --verify` mends what was pulled" if facts.pulled else "copy it anew",
        )  # fmt: skip
    source = f", {facts.pulled}, {facts.hashed} checksums right" if facts.pulled else ""
    return ok(GROUP, name, f"{facts.folder}, {facts.files} files, {format_bytes(facts.bytes)}{source}")


def check_text(model: ModelFacts | None) -> Finding:
    """Tokenizer and chat template, as the daemon reads them."""
    if model is None or not model.exists or model.closed:
        return skip(GROUP, "tokenizer", "there is no model to look at")
    if model.text_problem is not None:
        return fail(
            GROUP, "tokenizer", model.text_problem,
            remedy="fetch the model's small files anew (`gemmad pull --verify`); model.chat_template names another one",
        )  # fmt: skip
    return ok(GROUP, "tokenizer", "it and the chat template can be used")


def check_plan(
    model: ModelFacts | None,
    config: Config | None,
    *,
    gpu_bytes: int | None,
    host_bytes: int,
    capability: Capability | None = None,
    flash: bool = False,
) -> Finding:
    """`gpu_bytes`: of the smallest GPU that is used, None where the CPU computes; `capability`: of the oldest. `flash`:
    whether flash-attn is there."""
    name = "plan"
    if model is None or model.shape is None or config is None:
        return skip(GROUP, name, "it takes a model and a configuration without errors")
    settings = planned_settings(config, model, on_gpu=gpu_bytes is not None, flash=flash)
    total = host_bytes if gpu_bytes is None else gpu_bytes
    try:
        settings = resolve(settings, model.shape, total, capability=capability)
        plan = plan_memory(model.shape, settings, total_bytes=total)
    except MemoryPlanError as error:
        return fail(GROUP, name, str(error), remedy="correct that setting; `gemmad plan` shows what fits")
    if plan.problem is not None:
        words = advise(model.shape, settings, plan, capability=capability).words
        return fail(GROUP, name, plan.problem, remedy=f"{words}; `gemmad plan` shows it all")
    return _planned(plan)


def host_bytes_needed(
    model: ModelFacts | None,
    config: Config | None,
    *,
    on_gpu: bool,
    gpu_workers: int,
    each_bytes: int,
    host_bytes: int | None = None,
) -> int | None:
    """Of the host's memory, for all workers; `each_bytes` is what one takes whose GPU has the rest. `host_bytes` is
    what there is, which formats may follow from."""
    if on_gpu:
        return gpu_workers * each_bytes
    if model is None or model.shape is None or config is None:
        return None
    settings = planned_settings(config, model, on_gpu=False, flash=False)
    try:
        settings = resolve(settings, model.shape, host_bytes or 1 << 62, capability=None)
        plan = plan_memory(model.shape, settings, total_bytes=1 << 62)
    except MemoryPlanError:
        return None
    return plan.planned_bytes * config.workers.count


def planned_settings(config: Config, model: ModelFacts, *, on_gpu: bool, flash: bool) -> EngineSettings:
    """What the daemon would tell a worker."""
    seat = Seat("plan", "cuda:0", {}, gpu="any") if on_gpu else Seat("plan", "cpu", {})
    named = config.model_copy(update={"model": config.model.model_copy(update={"path": Path(model.folder)})})
    settings = engine_settings(named, seat, checkpoint=Path(model.folder))
    if settings.attention == "auto" and not flash:
        return msgspec.structs.replace(settings, attention="triton")
    return settings


def smallest_gpu(gpus: GpuFacts | None, wanted: frozenset[str]) -> int | None:
    """Bytes of the smallest one that workers are to use; None where there is none that tells."""
    found = () if gpus is None else gpus.gpus.found
    return min((gpu.total_bytes for gpu in found if gpu.uuid in wanted and gpu.total_bytes), default=None)


def check_served(overview: Overview | None, config: Config | None) -> Finding | None:
    """Whether the daemon serves what the configuration names; None where there is nothing to compare."""
    if overview is None or config is None or config.model.path is None or overview.checkpoint is None:
        return None
    wanted = config.model.path
    if name_in(wanted) is not None or Path(overview.checkpoint) == wanted:
        return None
    return warn(
        GROUP, "served", f"the daemon serves {overview.checkpoint}, and model.path is {wanted}",
        remedy="it was started with --model or --demo, or waits for a restart",
    )  # fmt: skip


def _planned(plan: MemoryPlan) -> Finding:
    where = "the GPU's" if plan.on_gpu else "the host's"
    words = f"a worker takes {format_bytes(plan.planned_bytes)} of {where} {format_bytes(plan.total_bytes)}"
    words += f", weights in {plan.weights}"
    longest = plan.fits[-1] if plan.fits else None
    if longest is not None:
        words += f"; {longest.sequences} sequences of {longest.tokens} tokens at a time"
    return ok(GROUP, "plan", words)


def _pull(path: Path | None) -> str:
    named = None if path is None else name_in(path)
    return "" if named is None else f"`gemmad pull {named}`"
