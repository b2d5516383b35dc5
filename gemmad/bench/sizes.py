"""How large each scenario is: as the published figures are on a GPU, small enough for seconds elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Sizes:
    """Tokens and requests, where the name does not say otherwise."""

    sequences: int
    """Sequences of the engine, unless the command line says so."""
    context: int
    prompt: int
    batches: tuple[int, ...]
    window_steps: int
    """Steps in one sample of a decode rate."""
    long_decodes: tuple[tuple[int, int], ...]
    """(batch, prompt)."""
    prefills: tuple[int, ...]
    constrained_batch: int
    """Requests that are all held to a grammar, or all not."""
    load_batch: int
    long_prompt: int
    requests: int
    reply: int
    """Of each of those requests, whose prompts are `prompt`."""
    traffic_seconds: float
    clients: int
    """Requests of mixed traffic that are under way at a time."""
    idle_batches: tuple[int, ...]
    idle_steps: int
    compared_batches: tuple[int, ...]
    compared_prefill: int
    compared_reply: int


_GPU = Sizes(
    sequences=128,
    context=36864,
    prompt=512,
    batches=(1, 8, 32, 64, 128),
    window_steps=32,
    long_decodes=((1, 32000), (64, 4096)),
    prefills=(8192, 512, 32768),
    constrained_batch=32,
    load_batch=64,
    long_prompt=8192,
    requests=256,
    reply=128,
    traffic_seconds=10.0,
    clients=96,
    idle_batches=(1, 64),
    idle_steps=20,
    compared_batches=(1, 8),
    compared_prefill=8192,
    compared_reply=32,
)
_GPU_QUICK = replace(
    _GPU,
    batches=(1, 64),
    window_steps=16,
    long_decodes=((1, 32000),),
    prefills=(8192,),
    requests=128,
    reply=32,
    traffic_seconds=3.0,
    compared_batches=(1,),
    compared_reply=16,
)
_CPU = Sizes(
    sequences=16,
    context=8192,
    prompt=64,
    batches=(1, 4, 16),
    window_steps=16,
    long_decodes=((1, 4096),),
    prefills=(256, 1024, 4096),
    constrained_batch=8,
    load_batch=8,
    long_prompt=1024,
    requests=32,
    reply=16,
    traffic_seconds=3.0,
    clients=8,
    idle_batches=(1, 8),
    idle_steps=10,
    compared_batches=(1, 4),
    compared_prefill=1024,
    compared_reply=16,
)
_CPU_QUICK = replace(
    _CPU,
    sequences=8,
    context=2048,
    prompt=32,
    batches=(1, 4),
    window_steps=4,
    long_decodes=((1, 512),),
    prefills=(64, 256),
    constrained_batch=4,
    load_batch=4,
    long_prompt=128,
    requests=8,
    reply=4,
    traffic_seconds=0.5,
    clients=4,
    idle_batches=(1,),
    compared_prefill=256,
    compared_reply=8,
)


def sizes_for(device: str, *, quick: bool) -> Sizes:
    """`device` is cpu or cuda."""
    if device == "cuda":
        return _GPU_QUICK if quick else _GPU
    return _CPU_QUICK if quick else _CPU
