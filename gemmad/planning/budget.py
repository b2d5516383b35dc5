"""Who gets which of a worker's bytes, before anything is taken: pure arithmetic on a network's shape and the settings.

    weights + KV pages + vision + steering + inputs + workspace + graphs + context + reserve = its share of the GPU

All but the pages follow from shape and settings; the pages take what is left, or what `memory.kv_bytes` gives them. A
CPU worker has no share to keep to but the host's whole memory, and pages as the settings say.
"""

from __future__ import annotations

from msgspec import Struct

from gemmad.errors import MemoryPlanError
from gemmad.generation import EngineSettings, KVFormat, MemoryRow
from gemmad.planning import step
from gemmad.planning.codes import check_columns, coding_of, weight_bytes, weight_pieces
from gemmad.planning.coding import Coding
from gemmad.planning.pages import PagePlan, PageRules, sequences_that_fit, split_pages
from gemmad.planning.shape import ModelShape
from gemmad.planning.sizes import format_bytes

WEIGHTS = "weights"
"""All of them, the vision tower's included."""
KV_FULL = "kv full"
KV_SLIDING = "kv sliding"
VISION = "vision"
"""Embeddings of the pictures that are kept, and what the tower computes one with."""
STEERING = "steering"
"""What each sequence wants of its logits: how often it has said what, biases, what its grammar allows."""
INPUTS = "inputs"
"""Buffers that a step is sent to and leaves its tokens in, and cuBLAS' own."""
GATHERED = "gathered"
"""Keys and values in one piece, for an attention backend that knows no pages."""
WORKSPACE = "workspace"
"""What the largest step computes on its way, coded weights that it decodes included, and what torch's allocator rounds
up."""
GRAPHS = "graphs"
"""Driver memory of captured graphs; like the next outside torch's allocator."""
CONTEXT = "context"
RESERVE = "reserve"
PROCESS = "process"
"""Python, torch and the libraries, which a CPU worker has in the memory that it computes in."""

CPU_KV_BYTES = 512 << 20
"""KV cache of a CPU worker when the settings are silent."""
LENGTHS = tuple(1024 << power for power in range(8))
"""Lengths of sequences that a plan counts, as far as the context reaches."""
_NORMALISE_TABLE_BYTES = 256 * 3 * 4


class Costs(Struct, frozen=True, kw_only=True):
    """Bytes that drivers and libraries take, which only a measurement tells: the defaults are an H200's with
    driver 580 and CUDA 13.0."""

    context_bytes: int = 704 << 20
    """A CUDA context with the kernels that are loaded into it."""
    matmul_bytes: int = 64 << 20
    """cuBLAS' workspace, one for each of the two streams that multiply."""
    graph_bytes: int = 256 << 10
    """Driver memory of a captured graph, and"""
    graph_layer_bytes: int = 100 << 10
    """for each layer of the network in it."""
    slack_bytes: int = 64 << 20
    """What torch's allocator holds in the segments of small tensors and cannot hand out."""
    process_bytes: int = 512 << 20


class Fit(Struct, frozen=True):
    """How many sequences of one length are computed side by side."""

    tokens: int
    sequences: int


class MemoryPlan(Struct, frozen=True, kw_only=True):
    """Where every byte goes. Where `problem` tells why that cannot be, the pages are the fewest that would do."""

    rows: tuple[MemoryRow, ...]
    total_bytes: int
    """Of the GPU, or of the host."""
    share_bytes: int
    """What the worker may take of it."""
    on_gpu: bool
    max_context: int
    coding: Coding | None
    """Of most of the layers' matrices; None: they are numbers, as is all that is not coded, of"""
    itemsize: int
    """bytes."""
    kv: KVFormat
    pages: PagePlan
    fits: tuple[Fit, ...]
    """Empty for a plan with a problem."""
    problem: str | None = None

    @property
    def dtype(self) -> str:
        """What is computed in, and what is not coded is kept in."""
        return {2: "bfloat16", 4: "float32"}[self.itemsize]

    @property
    def weights(self) -> str:
        """What the layers' matrices are kept in, in a word: int4, bfloat16."""
        return self.dtype if self.coding is None else self.coding.kind

    @property
    def planned_bytes(self) -> int:
        """Sum of all rows."""
        return sum(row.planned_bytes for row in self.rows)

    def planned(self, *names: str) -> int:
        """Sum of some rows; one that the plan does not have counts nothing."""
        return sum(row.planned_bytes for row in self.rows if row.name in names)


def plan_memory(
    shape: ModelShape, settings: EngineSettings, *, total_bytes: int, costs: Costs | None = None
) -> MemoryPlan:
    """Plan a worker on a device with `total_bytes`; what does not fit is told in the plan's `problem`.

    What is `auto` in the settings counts as if nobody had to choose (`formats.resolve` does): weights as the checkpoint
    has them, keys and values as numbers. Raises MemoryPlanError for a context longer than the network was trained for,
    and for weights in a format that its matrices cannot have.
    """
    check_columns(shape, settings.weights)
    max_context = context_of(shape, settings)
    on_gpu = computes_on_gpu(settings)
    share_bytes = int(total_bytes * settings.memory_fraction) if on_gpu else total_bytes
    others = _other_rows(shape, settings, costs or Costs())
    left_bytes = share_bytes - sum(row.planned_bytes for row in others)
    rules = page_rules(shape, settings)
    least = rules.least(max_context)
    kv_bytes = settings.kv_bytes or (left_bytes if on_gpu else CPU_KV_BYTES)
    pages = least if kv_bytes < least.nbytes else _split(rules, kv_bytes, max_context, settings)
    problem = None
    if pages.nbytes > left_bytes:
        problem = _too_much(share_bytes - left_bytes + pages.nbytes, total_bytes, settings, on_gpu=on_gpu)
    elif kv_bytes < least.nbytes:
        problem = (
            f"one sequence of {max_context} tokens needs {format_bytes(least.nbytes)} of KV cache, "
            f"and there are {format_bytes(kv_bytes)}"
        )
    kv_rows = (MemoryRow(KV_FULL, pages.full_bytes), MemoryRow(KV_SLIDING, pages.sliding_bytes))
    return MemoryPlan(
        rows=(others[0], *kv_rows, *others[1:]),
        total_bytes=total_bytes,
        share_bytes=share_bytes,
        on_gpu=on_gpu,
        max_context=max_context,
        coding=coding_of(shape, settings.weights),
        itemsize=itemsize_of(settings),
        kv="bf16" if settings.kv == "auto" else settings.kv,
        pages=pages,
        fits=() if problem else _count_fits(rules, pages, max_context, settings.max_sequences),
        problem=problem,
    )


def context_of(shape: ModelShape, settings: EngineSettings) -> int:
    """Longest sequence that is served. Raises MemoryPlanError for one longer than the network was trained for."""
    asked = settings.max_context
    if asked is not None and asked > shape.max_context:
        raise MemoryPlanError(f"engine.max_context is {asked}, the model was trained for {shape.max_context}")
    return asked or shape.max_context


def computes_on_gpu(settings: EngineSettings) -> bool:
    """Whether the device that the settings name is a GPU."""
    return settings.device != "cpu"


def itemsize_of(settings: EngineSettings) -> int:
    """Bytes of a number in activations, and in weights and pages that are not coded."""
    if settings.dtype == "auto":
        return 2 if computes_on_gpu(settings) else 4
    return {"float32": 4, "bfloat16": 2}[settings.dtype]


def page_rules(shape: ModelShape, settings: EngineSettings) -> PageRules:
    """What sequences hold of the pages of this worker."""
    return PageRules.of(
        shape,
        page_tokens=settings.page_tokens,
        longest_chunk=max(settings.max_step_tokens, shape.image_tokens),
        itemsize=itemsize_of(settings),
        kv=settings.kv,
    )


def step_sizes(shape: ModelShape, settings: EngineSettings) -> step.StepSizes:
    """The largest step of this worker."""
    return step.StepSizes(
        tokens=step.longest_step(
            max_step_tokens=settings.max_step_tokens,
            max_sequences=settings.max_sequences,
            image_tokens=shape.image_tokens,
        ),
        sequences=settings.max_sequences,
        page_tokens=settings.page_tokens,
        max_context=context_of(shape, settings),
        itemsize=itemsize_of(settings),
        attention=settings.attention,
    )


def _other_rows(shape: ModelShape, settings: EngineSettings, costs: Costs) -> tuple[MemoryRow, ...]:
    """All rows but the pages', weights first."""
    sizes, itemsize = step_sizes(shape, settings), itemsize_of(settings)
    weights = MemoryRow(WEIGHTS, weight_bytes(shape, settings.weights, itemsize=itemsize))
    vision = MemoryRow(VISION, _vision_bytes(shape, settings))
    steering = MemoryRow(STEERING, step.steering_bytes(shape, sizes))
    on_gpu = computes_on_gpu(settings)
    computed = step.workspace_bytes(shape, sizes)
    computed += step.decoding_bytes(shape, sizes, settings.weights, on_gpu=on_gpu)
    if not on_gpu:
        return (weights, vision, steering, MemoryRow(WORKSPACE, computed), MemoryRow(PROCESS, costs.process_bytes))
    pieces = weight_pieces(shape, settings.weights, itemsize=itemsize)
    rounded = step.rounding_bytes(pieces) + 4 * step.SEGMENT_BYTES
    whole, heads = step.graph_counts(sizes)
    graphs = (whole + heads) * costs.graph_bytes + whole * len(shape.full_layers) * costs.graph_layer_bytes
    return (
        weights,
        vision,
        steering,
        MemoryRow(INPUTS, step.input_bytes(shape, sizes) + costs.matmul_bytes),
        MemoryRow(GATHERED, step.gathered_bytes(shape, sizes)),
        MemoryRow(WORKSPACE, computed + rounded + costs.slack_bytes),
        MemoryRow(GRAPHS, graphs),
        MemoryRow(CONTEXT, costs.context_bytes),
        MemoryRow(RESERVE, settings.reserve_bytes),
    )


def _vision_bytes(shape: ModelShape, settings: EngineSettings) -> int:
    if shape.vision is None:
        return 0
    itemsize = itemsize_of(settings)
    table = step.picture_table_bytes(shape, max_step_tokens=settings.max_step_tokens, itemsize=itemsize)
    return table + _NORMALISE_TABLE_BYTES + step.tower_bytes(shape, shape.vision, itemsize=itemsize)


def _split(rules: PageRules, kv_bytes: int, max_context: int, settings: EngineSettings) -> PagePlan:
    return split_pages(
        rules,
        kv_bytes,
        max_context=max_context,
        max_sequences=settings.max_sequences,
        prefix_cache=settings.prefix_cache,
    )


def _too_much(needed_bytes: int, total_bytes: int, settings: EngineSettings, *, on_gpu: bool) -> str:
    needed, total = format_bytes(needed_bytes), format_bytes(total_bytes)
    if not on_gpu:
        return f"the worker needs {needed} and the host has {total}"
    share = format_bytes(int(total_bytes * settings.memory_fraction))
    return f"the worker needs {needed} and may take {share}, {settings.memory_fraction:g} of the GPU's {total}"


def _count_fits(rules: PageRules, pages: PagePlan, max_context: int, max_sequences: int) -> tuple[Fit, ...]:
    lengths = sorted({*(length for length in LENGTHS if length <= max_context), max_context})
    return tuple(Fit(n, min(max_sequences, sequences_that_fit(rules, pages, n))) for n in lengths)
