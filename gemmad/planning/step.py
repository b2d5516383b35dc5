"""What a step needs beside weights and pages: its inputs, what it computes on the way, and the graphs that replay it.

The sizes follow the network of `models.gemma3`, the runner of `engine.graphs` and the kernels, none of which can be
imported here; tests hold the ladders equal and the estimates above what is really taken.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from functools import lru_cache

from msgspec import Struct

from gemmad.generation import AttentionBackend, WeightFormat
from gemmad.planning.codes import coding_of
from gemmad.planning.shape import ModelShape, VisionShape

MOST_BIASES = 1024
"""Tokens of one request whose logits may be biased."""
MOST_LOGPROBS = 20
"""Likeliest tokens that are reported with one that was drawn."""
KEPT_PICTURES = 32
"""Embeddings of pictures kept at least: one of a chat that goes on, or of a prompt computed in several chunks."""
GATHER_TOKENS = 32_768
"""Most keys that are gathered into one piece for an attention backend that knows no pages."""
GATHER_ROWS = 256
"""Shorter steps are not worth gathering for."""
SEGMENT_BYTES = 2 << 20
"""torch's allocator takes large tensors from the device in multiples of this."""
SCRATCH_BYTES = 64 << 20
"""Most of a coded matrix's rows that are decoded at a time, for the products of long steps."""

_REFERENCE_ROWS = 4096
"""Rows of a coded matrix that are decoded at a time on a CPU, and"""
_REFERENCE_BYTES = 16
"""bytes that this takes for a number: words of all planes, the planes in one, their numbers, and these scaled."""
_BLOCK_BYTES = 512
"""What it hands out are multiples of this. Tensors of at most"""
_SMALL_BYTES = 1 << 20
"""share segments of `SEGMENT_BYTES`, larger ones below"""
_OWN_SEGMENT_BYTES = 10 << 20
"""share segments of"""
_SHARED_BYTES = 20 << 20
"""bytes. (c10/cuda/CUDACachingAllocator.cpp)"""
_SPLITS = 64
"""Programs for each head, at most, that a decoding step with few sequences is split into."""
_ROW_BYTES = 32
"""Of a step's inputs, for each token: seven int32."""
_SEQUENCE_BYTES = 128
"""And for each sequence: how to sample, ids that may not be drawn, where it lies."""
_ALIGNMENT_BYTES = 1024
_SAMPLER_ROW_BYTES = 128 << 10
"""What the sampler keeps of a row beside its logits: lists and histograms, and a few numbers for each 1024 tokens."""


class StepSizes(Struct, frozen=True, kw_only=True):
    """The largest step."""

    tokens: int
    sequences: int
    page_tokens: int
    max_context: int
    itemsize: int
    """Bytes of a number in an activation."""
    attention: AttentionBackend


def longest_step(*, max_step_tokens: int, max_sequences: int, image_tokens: int) -> int:
    """Tokens that a step may have: one image may go over the budget."""
    return max(max_step_tokens, max_sequences + image_tokens)


def ladder(first: int, last: int, *, halves_from: int = 32) -> list[int]:
    """Powers of two from `first`, with the steps half way between from `halves_from` on, and `last` at the end."""
    steps, size = set(), first
    while size < last:
        steps.add(size)
        if size >= halves_from and size * 3 // 2 < last:
            steps.add(size * 3 // 2)
        size *= 2
    return sorted(steps | {last})


def graph_counts(sizes: StepSizes) -> tuple[int, int]:
    """How many graphs run the whole network, and how many the head alone.

    What requests may want of their logits has bodies that only decode, and heads, of its own (`steered_ladder`).
    """
    decoding, steered = ladder(1, sizes.sequences), steered_ladder(sizes.sequences)
    mixed = ladder(16, sizes.tokens, halves_from=256)
    gathered = [] if sizes.attention == "triton" else [rows for rows in mixed if rows >= GATHER_ROWS]
    return len(decoding) + len(steered) + len(mixed) + len(gathered), len(decoding) + len(steered)


def steered_ladder(max_sequences: int) -> list[int]:
    """Sizes of steps in which somebody's logits are steered or told: coarser, for they are fewer."""
    return ladder(1, max_sequences, halves_from=max_sequences)


def steering_bytes(shape: ModelShape, sizes: StepSizes) -> int:
    """Bytes of the tables that tell what each sequence wants of its logits, and of what is told of them."""
    counts = 2 * shape.vocab_size
    biases = 8 * MOST_BIASES
    mask = 4 * -(-shape.vocab_size // 32)
    wishes, told = 4 * 5, 4 * (1 + 2 * MOST_LOGPROBS)
    return sizes.sequences * (counts + biases + mask + wishes + told)


def input_bytes(shape: ModelShape, sizes: StepSizes) -> int:
    """Bytes of the buffers that a graph reads its step from and leaves its rows and tokens in."""
    window = -(-(shape.window - 1 + sizes.tokens) // sizes.page_tokens) + 1
    context = -(-sizes.max_context // sizes.page_tokens)
    row = shape.hidden_size * sizes.itemsize + 8
    tables = 4 * (window + context)
    return sizes.sequences * (_SEQUENCE_BYTES + tables + row) + sizes.tokens * _ROW_BYTES + _ALIGNMENT_BYTES


def workspace_bytes(shape: ModelShape, sizes: StepSizes) -> int:
    """Bytes of all that a step holds between its first and its last kernel.

    Tensors of one size take each other's place when they are dead, those of other sizes do not: a segment of the
    allocator does not grow into its neighbour. So each kind counts with the most of it that live at once.
    """
    head, queries = shape.head_dim, shape.heads * shape.head_dim
    hidden = 5 * shape.hidden_size  # at a block's end: what it gave, and normed row and residual, before and after
    attention = shape.qkv_size + 2 * queries
    mlp = 3 * shape.intermediate_size
    rows = sizes.tokens * (hidden + attention + mlp) * sizes.itemsize
    tables = sizes.tokens * (4 * head * 2 + 8 * 8)  # cosines and sines of both kinds of layers; ids and places
    splits = _SPLITS * queries * 4 + 2 * _SPLITS * shape.heads * 4
    logits = sizes.sequences * shape.vocab_size * (sizes.itemsize + 4)  # as the head gives them, and steered
    return rows + tables + splits + logits + sizes.sequences * _SAMPLER_ROW_BYTES


def decoding_bytes(shape: ModelShape, sizes: StepSizes, weights: WeightFormat, *, on_gpu: bool) -> int:
    """Bytes that the products of a long step take for coded weights, one product at a time.

    That is rows of a matrix, decoded; fp8 has the step's own rows in codes instead, with a float32 scale each, where
    the device multiplies those. The larger of both counts, for a plan does not know its device. On a CPU every product
    decodes rows, in a few tensors of words and of numbers.
    """
    coding = coding_of(shape, weights)
    if coding is None:
        return 0
    if not on_gpu:
        matrices = (*shape.layer_matrices(), (shape.vocab_size, shape.hidden_size))
        return _REFERENCE_BYTES * max(min(rows, _REFERENCE_ROWS) * columns for rows, columns in matrices)
    decoded = min(SCRATCH_BYTES, max(rows * columns for rows, columns in shape.layer_matrices()) * sizes.itemsize)
    if coding.kind != "fp8":
        return decoded
    widest = max(columns for _, columns in shape.layer_matrices())
    return max(decoded, sizes.tokens * (widest + 4))


def gathered_bytes(shape: ModelShape, sizes: StepSizes) -> int:
    """Bytes of the buffer that keys and values are gathered into for a backend that knows no pages; 0 without one."""
    if sizes.attention == "triton":
        return 0
    tokens = min(GATHER_TOKENS, sizes.sequences * sizes.max_context)
    return tokens * 2 * shape.kv_heads * shape.head_dim * sizes.itemsize


def picture_slots(max_step_tokens: int, image_tokens: int) -> int:
    """Pictures whose embeddings are kept: at least as many as one step may hold."""
    return max(KEPT_PICTURES, max_step_tokens // image_tokens + 1)


def picture_table_bytes(shape: ModelShape, *, max_step_tokens: int, itemsize: int) -> int:
    """Bytes of the table of embeddings; 0 without vision."""
    if shape.vision is None:
        return 0
    return picture_slots(max_step_tokens, shape.image_tokens) * shape.image_tokens * shape.hidden_size * itemsize


def tower_bytes(shape: ModelShape, vision: VisionShape, *, itemsize: int) -> int:
    """Bytes that the tower computes one picture with: attention keeps no scores, so rows are all there is."""
    numbers = vision.image_size**2 * 3
    pixels = numbers * (1 + 8 + 4 + 4 + 2 * itemsize)  # bytes, indices, looked up, stacked, rounded, in patches
    rows = vision.patches * (9 * vision.hidden_size + 2 * vision.intermediate_size) * itemsize
    pooled = shape.image_tokens * (4 * vision.hidden_size + 2 * shape.hidden_size) * max(4, itemsize)
    return pixels + rows + pooled


@lru_cache(maxsize=64)  # a search for settings that fit asks the same again and again
def rounding_bytes(pieces: tuple[int, ...]) -> int:
    """What the allocator adds to tensors of so many bytes, taken in this order: the largest have segments of their own
    in whole MiB; others share segments of one size, where each goes into the tightest gap."""
    added = 0
    gaps: dict[int, list[int]] = {SEGMENT_BYTES: [], _SHARED_BYTES: []}
    for nbytes in pieces:
        if nbytes >= _OWN_SEGMENT_BYTES:
            added += -nbytes % SEGMENT_BYTES
            continue
        size = SEGMENT_BYTES if nbytes <= _SMALL_BYTES else _SHARED_BYTES
        shared, block = gaps[size], nbytes + -nbytes % _BLOCK_BYTES
        at = bisect_left(shared, block)
        gap = shared.pop(at) if at < len(shared) else size
        insort(shared, gap - block)
        added += block - nbytes
    return added + sum(map(sum, gaps.values()))
