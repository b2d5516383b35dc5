"""`gemmad evaluate`: what quantising costs in truth. This process becomes the comparing program."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
import typer

from gemmad.bench.wanted import ShapeName
from gemmad.cli.exits import EXIT_FAILED, EXIT_USAGE, fail
from gemmad.cli.program import become_the_program
from gemmad.evaluate.wanted import KV, WEIGHTS, Mode, Wanted
from gemmad.generation import AttentionBackend

Name = TypeVar("Name", bound=str)

_WEIGHTS_HELP = "Formats of weights, with commas between."
_KV_HELP = "Formats of keys and values, with commas between."
_MODE_HELP = "Compute the scored tokens in long pieces, or one by one as replies are."


def evaluate(  # noqa: PLR0913, PLR0917 - each is a flag
    text: Annotated[list[Path] | None, typer.Option(help="File of text; may be given again.", metavar="FILE")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Evaluate the tiny bundled model.")] = False,
    model: Annotated[
        str | None, typer.Option(help="A checkpoint's folder, or a pulled model.", metavar="DIR|NAME")
    ] = None,
    random_weights: Annotated[
        ShapeName | None, typer.Option(help="Evaluate a shape of Gemma 3 without a checkpoint, on random tokens.")
    ] = None,
    layers: Annotated[int | None, typer.Option(help="Only the first so many layers.", min=1)] = None,
    weights: Annotated[str, typer.Option(help=_WEIGHTS_HELP, metavar="NAMES")] = ",".join(WEIGHTS),
    kv: Annotated[str, typer.Option(help=_KV_HELP, metavar="NAMES")] = ",".join(KV),
    mode: Annotated[Mode, typer.Option(help=_MODE_HELP)] = "prefill",
    replies: Annotated[
        bool, typer.Option("--replies", help="Score only what the model says, in a text laid out as Gemma's chats are.")
    ] = False,
    context: Annotated[int, typer.Option(help="Tokens of a window.", min=4)] = 2048,
    stride: Annotated[
        int | None, typer.Option(help="Tokens from one window to the next; by default as many as it has.", min=1)
    ] = None,
    tokens: Annotated[int, typer.Option(help="Tokens of the text to take, at most.", min=4)] = 16384,
    step_tokens: Annotated[int, typer.Option(help="engine.max_step_tokens.", min=1)] = 2048,
    sequences: Annotated[int, typer.Option(help="Windows that are decoded side by side.", min=1)] = 8,
    page_tokens: Annotated[int | None, typer.Option(help="engine.page_tokens.", min=1, max=256)] = None,
    attention: Annotated[AttentionBackend, typer.Option(help="engine.attention.")] = "auto",
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="Threads to compute with on a CPU.", min=1)] = None,
    scratch: Annotated[
        Path | None, typer.Option(help="Folder for the reference's logits meanwhile.", metavar="DIR")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write everything here, as it comes.", metavar="FILE")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the table here in the end.", metavar="FILE")] = None,
) -> None:
    """Compare quantised weights and KV caches with what they were made of: perplexity, KL divergence, top-1 agreement.

    Exit status: 0 all was compared, 1 something failed, 78 the model or a text is wrong.
    """
    texts = tuple(text or ())
    _require_one_subject(demo=demo, model=model, random_weights=random_weights, texts=texts)
    if tokens < context:
        fail(f"--tokens {tokens} are less than a window's --context {context}", EXIT_USAGE)
    for file in (json, markdown):
        if file is not None and not file.absolute().parent.is_dir():
            fail(f"{file}: there is no such folder", EXIT_USAGE)
    wanted = Wanted(
        model=_folder(demo=demo, model=model),
        random_weights=random_weights,
        layers=layers,
        texts=tuple(str(file.absolute()) for file in texts),
        weights=_chosen("--weights", weights, WEIGHTS),
        kv=_chosen("--kv", kv, KV),
        replies=replies,
        mode=mode,
        context=context,
        stride=stride,
        tokens=tokens,
        step_tokens=step_tokens,
        sequences=sequences,
        page_tokens=page_tokens,
        attention=attention,
        device=device,
        threads=threads,
        scratch=_scratch(scratch),
        json=str(json.absolute()) if json is not None else None,
        markdown=str(markdown.absolute()) if markdown is not None else None,
        command=("gemmad", *sys.argv[1:]),
    )
    become_the_program("gemmad.evaluate", msgspec.json.encode(wanted).decode())


def _require_one_subject(*, demo: bool, model: str | None, random_weights: str | None, texts: tuple[Path, ...]) -> None:
    if [demo, model is not None, random_weights is not None].count(True) != 1:
        fail("what to evaluate is one of --demo, --model DIR and --random-weights SHAPE", EXIT_USAGE)
    if texts and random_weights is not None:
        fail("random weights have no tokenizer: leave --text out", EXIT_USAGE)
    if not texts and random_weights is None:
        fail("give a text to evaluate on: --text FILE", EXIT_USAGE)


def _chosen(flag: str, names: str, known: tuple[Name, ...]) -> tuple[Name, ...]:
    asked = {name.strip() for name in names.split(",")}
    unknown = sorted(asked.difference(known))
    if unknown:
        fail(f"{flag}: there is no format {unknown[0]!r}; there are {', '.join(known)}", EXIT_USAGE)
    return tuple(name for name in known if name in asked)


def _folder(*, demo: bool, model: str | None) -> str | None:
    from gemmad.config.models import is_name_at, model_folder
    from gemmad.config.paths import find_paths
    from gemmad.demo import CHECKPOINT

    if demo:
        return str(CHECKPOINT)
    if model is None:
        return None
    path = Path(model) if is_name_at(model, Path.cwd()) else Path(model).absolute()
    return str(model_folder(path, find_paths(os.environ)))


def _scratch(folder: Path | None) -> str:
    """Gemma's logits are gigabytes, and the usual folder for what passes may lie in memory."""
    from gemmad.config.paths import find_paths, make_private

    if folder is not None:
        if not folder.is_dir():
            fail(f"{folder}: there is no such folder", EXIT_USAGE)
        return str(folder.absolute())
    try:
        return str(make_private(find_paths(os.environ).cache_dir))
    except OSError as error:
        fail(f"{error}; name another folder with --scratch", EXIT_FAILED)
