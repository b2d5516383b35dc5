"""The vocabulary that daemon and worker share: what is asked for, how to sample it, how it ended."""

from __future__ import annotations

import enum
from typing import Literal

from msgspec import Struct


class ImageSpan(Struct, frozen=True):
    """Where one image's soft tokens lie in a prompt. Attention is two-way inside, a chunk never cuts it."""

    start: int
    """Index of the first soft token in `Prompt.token_ids`."""
    length: int
    """Number of soft tokens, the checkpoint's `mm_tokens_per_image`."""
    digest: str
    """Hash of the pixels: equal digests have equal embeddings, whatever request they come from."""


class Prompt(Struct, frozen=True):
    """Token ids, and where in them the images are (ascending, not overlapping)."""

    token_ids: tuple[int, ...]
    images: tuple[ImageSpan, ...] = ()


class SamplingParams(Struct, frozen=True, kw_only=True):
    """How the next token is drawn: a function of these, the logits and the position, of nothing else in the batch."""

    temperature: float = 1.0
    """0 is greedy."""
    top_k: int = 0
    """0 is off."""
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    """64 bits; with the position it keys the counter-based generator."""
    max_tokens: int
    """Tokens to generate in the whole life of the request, those of an earlier worker included."""
    min_tokens: int = 0
    """No stop id is drawn before this many tokens."""
    stop_token_ids: tuple[int, ...] = ()
    """Ids that end the reply; the id itself is reported as its last token."""
    frequency_penalty: float = 0.0
    """Taken off a token's logit for each time that the reply has said it."""
    presence_penalty: float = 0.0
    """Taken off a token's logit if the reply has said it."""
    repetition_penalty: float = 1.0
    """A token that prompt or reply have: its logit is divided by this if positive, else multiplied (Keskar et al.,
    arXiv:1909.05858)."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Ids, ascending, and what is added to their logits."""
    logprobs: int | None = None
    """How many of the likeliest tokens are reported with each one drawn, 0 to 20; None: no log-probabilities at all.
    They are the network's own: before penalties, bias, grammar and temperature."""
    grammar: str | None = None
    """What the reply must match, as `gemmad.grammar` has compiled it; opaque to all others."""


class TokenLogprobs(Struct, frozen=True, array_like=True):
    """Natural logarithms of what the network held of one token that was drawn, and of the likeliest."""

    token: float
    top_ids: tuple[int, ...] = ()
    """The likeliest first, as many as were asked for."""
    top: tuple[float, ...] = ()


class Tool(Struct, frozen=True):
    """A function that the model may call."""

    name: str
    description: str = ""
    parameters: str = '{"type":"object","properties":{}}'
    """JSON Schema of its arguments, as JSON text with the keys in the client's order."""
    strict: bool = False


class ToolChoice(Struct, frozen=True):
    """Whether the model calls, and what."""

    mode: Literal["none", "auto", "required"] = "auto"
    allowed: tuple[str, ...] | None = None
    """Names that it may call; None: all. One name and `required` is a call of that function."""
    parallel: bool = True
    """Whether it may make several calls in one reply."""


class FinishReason(enum.Enum):
    """How a worker ended a request by itself."""

    STOP = "stop"
    LENGTH = "length"


class Usage(Struct, frozen=True):
    """Token counts as a client is told them."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


AttentionBackend = Literal["auto", "triton", "torch", "flash"]
"""Who computes the attention of long prompts on a GPU."""


WeightFormat = Literal["auto", "bf16", "fp8", "int8", "int4"]
"""What matrices are kept in; bf16 is `dtype`, whatever that is. auto: what the checkpoint has if it is coded, else the
first of these that fits, fp8 only where the device multiplies it."""
KVFormat = Literal["auto", "bf16", "fp8", "int8"]
"""What keys and values are kept in; bf16 is `dtype`."""


def usual_page_tokens(device: str) -> int:
    """Tokens in a page where nobody says how many: on a GPU as many keys as its kernels take in one turn."""
    return 64 if device.startswith("cuda") else 16


class EngineSettings(Struct, frozen=True, kw_only=True):
    """All that a worker must know to build its engine. Sizes are in tokens unless the name says bytes."""

    checkpoint: str
    """Folder in the hub's layout."""
    device: str = "cpu"
    """As torch names it inside the worker: `cpu` or `cuda:0` (the daemon narrows CUDA_VISIBLE_DEVICES)."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: float32 on a CPU, bfloat16 on a GPU."""
    max_context: int | None = None
    """None: what the checkpoint was trained for."""
    max_sequences: int = 64
    max_step_tokens: int = 2048
    """Tokens that one step computes at most: decode tokens and prefill chunks together."""
    page_tokens: int = 16
    kv_bytes: int | None = None
    """Bytes for both page pools; None: what `memory_fraction` leaves on a GPU, a modest share on a CPU."""
    memory_fraction: float = 0.9
    reserve_bytes: int = 1 << 30
    cpu_threads: int | None = None
    attention: AttentionBackend = "auto"
    prefix_cache: bool = True
    """Whether pages of tokens that an earlier request had in common are used again."""
    weights: WeightFormat = "auto"
    kv: KVFormat = "bf16"
    coded_copies: str | None = None
    """Folder for copies of weights that were coded at load; None keeps none."""


class Capacity(Struct, frozen=True, kw_only=True):
    """What a worker holds, told when it is ready."""

    max_context: int
    max_sequences: int
    max_step_tokens: int
    page_tokens: int
    full_pages: int
    sliding_pages: int
    weights: WeightFormat = "bf16"
    """What most of the layers' matrices are kept in, and"""
    kv: KVFormat = "bf16"
    """what keys and values are; bf16 is the dtype that is computed in."""


class MemoryRow(Struct, frozen=True):
    """One line of a worker's memory plan."""

    name: str
    planned_bytes: int
    measured_bytes: int | None = None
    """None: not measured, or not yet."""


class EngineLoad(Struct, frozen=True, kw_only=True):
    """What a worker is busy with, told with every heartbeat."""

    steps: int = 0
    running: int = 0
    waiting: int = 0
    full_pages_used: int = 0
    sliding_pages_used: int = 0
    preemptions: int = 0
    generated_tokens: int = 0
    prefilled_tokens: int = 0
    host_rss_bytes: int = 0
    device_bytes: int = 0
    """Bytes that the worker's allocator has reserved on its device; 0 on a CPU."""
    device_allocated_bytes: int = 0
    """Those of them that it has handed out; the others lie idle in segments that it keeps."""
    device_segments: int = 0
    """Segments that its allocator has taken from the device since the start; after warm-up it must not rise."""
    device_allocations: int = 0
    """Blocks that its allocator has handed out since the start, out of segments it had or new ones."""
    prompt_tokens: int = 0
    """Tokens of prompts that were admitted, and of those"""
    cached_tokens: int = 0
    """the ones that the prefix cache held."""
