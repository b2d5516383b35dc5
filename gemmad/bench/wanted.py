"""What is to be measured: the command line tells it to the measuring program as one JSON argument."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from gemmad.generation import AttentionBackend, KVFormat, WeightFormat

ShapeName = Literal["270m", "1b", "4b", "12b", "27b"]

SCENARIOS = {
    "memory": "where the memory went, beside the plan",
    "decode": "tokens a second in steady state, by batch",
    "prefill": "tokens a second of long prompts",
    "ttft": "time to the first token on an idle worker",
    "image": "time from pixels to the first token",
    "throughput": "many requests at once",
    "long": "decode with long contexts",
    "load": "time to the first token beside others, and how long a long prompt stalls them",
    "constrained": "decode with and without a JSON schema that replies are held to",
    "prefix": "time to the first token of a prompt that was seen before",
    "mixed": "short, long, images and aborts together; what the allocator did meanwhile",
    "idle": "the GPU's idle share, and the host's work in each step",
    "agreement": "logits of the first layers beside transformers', both judged by float32",
    "transformers": "transformers' generate on the same weights",
    "start": "from a worker's start to ready, with cold and with warm caches",
}
"""Name and sentence, in the order in which they run: memory while nothing has run yet, then what matters most; the
GPU's profiler late, since once begun it may slow what follows."""

COMPARISONS = ("agreement", "transformers")
"""Run by `--compare transformers`, or by name."""


class Wanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run of the benchmark. Exactly one of `model` and `random_weights` is set."""

    model: str | None = None
    """Folder of a checkpoint."""
    random_weights: ShapeName | None = None
    """Shape of a network without a checkpoint."""
    layers: int | None = None
    """Only the first so many."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    only: tuple[str, ...] = ()
    """Scenarios; none is all that need no further flag."""
    compare: bool = False
    repeat: int = 3
    quick: bool = False
    seconds: float | None = None
    """What is not begun by then is left out."""
    traffic_seconds: float | None = None
    sequences: int | None = None
    context: int | None = None
    page_tokens: int | None = None
    threads: int | None = None
    """On a CPU."""
    attention: AttentionBackend = "auto"
    weights: WeightFormat = "auto"
    """auto: as the checkpoint has them, made up ones uncoded."""
    kv: KVFormat = "bf16"
    json: str | None = None
    markdown: str | None = None
    command: tuple[str, ...] = ()
    """As it was typed, for the record."""

    @property
    def scenarios(self) -> tuple[str, ...]:
        """What to run, in order."""
        chosen = set(self.only) or self._usual()
        if self.compare:
            chosen |= set(COMPARISONS)
        if "transformers" in chosen:  # whose figures are set against these
            chosen |= {"decode", "prefill"}
        return tuple(name for name in SCENARIOS if name in chosen)

    def _usual(self) -> set[str]:
        left_out = set(COMPARISONS)
        if self.quick or self.random_weights is not None:  # seconds of imports; gigabytes to write
            left_out.add("start")
        return set(SCENARIOS) - left_out
