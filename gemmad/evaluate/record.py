"""The record of a comparison: a row for each combination, and all that is needed to run it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gemmad.bench.record import replace_json
from gemmad.evaluate.divergence import Tally, mean, percentile, perplexity
from gemmad.evaluate.wanted import AS_IT_COMES, CodedKV
from gemmad.generation import WeightFormat

SCHEMA_VERSION = 1

Ended = Literal["running", "complete", "interrupted"]


class Likeness(Struct, frozen=True, kw_only=True):
    """How near a network is to the reference, over all scored tokens. Divergences are in nats."""

    perplexity_ratio: float
    """Its perplexity over the reference's."""
    ratio_error: float
    """Standard error of that."""
    kl_mean: float
    kl_error: float
    """Standard error of the mean, as if tokens were independent."""
    kl_median: float
    kl_99: float
    """99 of 100 tokens are below."""
    kl_max: float
    top1_agreement: float
    """Share of tokens before which both think the same one likeliest."""


class Row(Struct, frozen=True, kw_only=True):
    """One combination."""

    weights: WeightFormat
    """auto: as the checkpoint comes, which is coded."""
    kv: CodedKV
    status: Literal["ok", "failed"] = "ok"
    reason: str = ""
    perplexity: float | None = None
    perplexity_error: float | None = None
    """Standard error, as if tokens were independent."""
    likeness: Likeness | None = None
    """None: it is the reference, or it failed."""
    weight_bytes: int | None = None
    """Of the language model, embedding and norms included; the vision tower is not loaded."""
    kv_bytes_per_token: int | None = None
    """Of all layers, as long as a sliding layer's window has not let the token go."""
    seconds: float = 0.0
    """Of the network and the figures, without loading."""

    @property
    def name(self) -> str:
        """As it is called on the way."""
        return f"{self.weights_name} weights, {self.kv} KV"

    @property
    def weights_name(self) -> str:
        """For people."""
        return "its own" if self.weights == AS_IT_COMES else self.weights


class Report(Struct, frozen=True, kw_only=True):
    """One run. `facts`: command, versions, device, model, text, and how it was cut."""

    schema: int = SCHEMA_VERSION
    ended: Ended = "running"
    facts: dict[str, Any]
    rows: tuple[Row, ...] = ()


def likeness(tally: Tally) -> Likeness:
    """Of a tally that has compared."""
    middle, ratio = mean(tally.divergences), perplexity(tally.rises)
    return Likeness(
        perplexity_ratio=ratio.value,
        ratio_error=ratio.error,
        kl_mean=middle.value,
        kl_error=middle.error,
        kl_median=percentile(tally.divergences, 50),
        kl_99=percentile(tally.divergences, 99),
        kl_max=max(tally.divergences),
        top1_agreement=tally.agreed / len(tally.divergences),
    )


def figures(row: Row, tally: Tally) -> Row:
    """`row` with what was counted."""
    told = perplexity(tally.losses)
    near = likeness(tally) if tally.divergences else None
    return msgspec.structs.replace(row, perplexity=told.value, perplexity_error=told.error, likeness=near)


class Recorder:
    """Holds the report of the run under way, and writes it whenever it changes. One writer: the run."""

    def __init__(self, path: Path | None, facts: dict[str, Any]) -> None:
        self._path = path
        self.report = Report(facts=facts)
        self._write()

    def add(self, row: Row) -> None:
        """One more row."""
        self._change(rows=(*self.report.rows, row))

    def end(self, ended: Ended) -> None:
        """The last change."""
        self._change(ended=ended)

    def _change(self, **fields: Any) -> None:
        self.report = msgspec.structs.replace(self.report, **fields)
        self._write()

    def _write(self) -> None:
        if self._path is not None:
            replace_json(self._path, self.report)
