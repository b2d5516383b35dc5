"""`gemmad bench`: how fast it is here. This process becomes the measuring program."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from gemmad.bench.wanted import SCENARIOS, ShapeName, Wanted
from gemmad.cli.exits import EXIT_USAGE, fail
from gemmad.cli.program import become_the_program
from gemmad.generation import AttentionBackend, KVFormat, WeightFormat

_ONLY_HELP = "Scenarios, with commas between: " + ", ".join(SCENARIOS) + "."


def bench(  # noqa: PLR0913, PLR0917 - each is a flag
    demo: Annotated[bool, typer.Option("--demo", help="Measure the tiny bundled model.")] = False,
    model: Annotated[Path | None, typer.Option(help="Folder of the checkpoint to measure.", metavar="DIR")] = None,
    random_weights: Annotated[
        ShapeName | None, typer.Option(help="Measure a shape of Gemma 3 without a checkpoint.")
    ] = None,
    layers: Annotated[int | None, typer.Option(help="Only the first so many layers.", min=1)] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")] = "auto",
    only: Annotated[str | None, typer.Option(help=_ONLY_HELP, metavar="NAMES")] = None,
    compare: Annotated[
        Literal["transformers"] | None,
        typer.Option(help="Measure this on the same weights too, and whether the logits agree."),
    ] = None,
    repeat: Annotated[int, typer.Option(help="Samples of each figure.", min=1)] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer sizes and shorter ones.")] = False,
    seconds: Annotated[float | None, typer.Option(help="Begin nothing more after so long.", min=1)] = None,
    traffic_seconds: Annotated[float | None, typer.Option(help="How long mixed traffic goes on.", min=0.1)] = None,
    sequences: Annotated[int | None, typer.Option(help="engine.max_sequences.", min=1)] = None,
    context: Annotated[int | None, typer.Option(help="engine.max_context.", min=1)] = None,
    threads: Annotated[int | None, typer.Option(help="Threads to compute with on a CPU.", min=1)] = None,
    page_tokens: Annotated[int | None, typer.Option(help="engine.page_tokens.", min=1, max=256)] = None,
    attention: Annotated[AttentionBackend, typer.Option(help="engine.attention.")] = "auto",
    weights: Annotated[WeightFormat, typer.Option(help="engine.weights.")] = "auto",
    kv: Annotated[KVFormat, typer.Option(help="engine.kv.")] = "bf16",
    json: Annotated[Path | None, typer.Option(help="Write everything here, as it comes.", metavar="FILE")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the table here in the end.", metavar="FILE")] = None,
) -> None:
    """Measure decode, prefill, time to first token and more, beside what the device could do at best.

    Exit status: 0 all was measured, 1 something failed, 78 the model is wrong.
    """
    if [demo, model is not None, random_weights is not None].count(True) != 1:
        fail("what to measure is one of --demo, --model DIR and --random-weights SHAPE", EXIT_USAGE)
    for file in (json, markdown):
        if file is not None and not file.absolute().parent.is_dir():
            fail(f"{file}: there is no such folder", EXIT_USAGE)
    wanted = Wanted(
        model=str(_demo_model() if demo else model) if demo or model is not None else None,
        random_weights=random_weights,
        layers=layers,
        device=device,
        only=_names(only),
        compare=compare is not None,
        repeat=repeat,
        quick=quick,
        seconds=seconds,
        traffic_seconds=traffic_seconds,
        sequences=sequences,
        context=context,
        threads=threads,
        page_tokens=page_tokens,
        attention=attention,
        weights=weights,
        kv=kv,
        json=_told(json),
        markdown=_told(markdown),
        command=("gemmad", *sys.argv[1:]),
    )
    become_the_program("gemmad.bench", msgspec.json.encode(wanted).decode())


def _names(only: str | None) -> tuple[str, ...]:
    names = tuple(name.strip() for name in only.split(",")) if only else ()
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        fail(f"there is no scenario {unknown[0]!r}; there are {', '.join(SCENARIOS)}", EXIT_USAGE)
    return names


def _told(file: Path | None) -> str | None:
    return str(file.absolute()) if file is not None else None


def _demo_model() -> Path:
    from gemmad.demo import CHECKPOINT

    return CHECKPOINT
