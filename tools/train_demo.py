"""Train the bundled model from nothing, or measure a checkpoint of it; `docs/demo-model.md` describes the result.

python tools/train_demo.py --out gemmad/demo/checkpoint
python tools/train_demo.py --evaluate gemmad/demo/checkpoint
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

# Threads that wait for each other by spinning take several times as long where the cores are shared; OpenMP reads this
# once, when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from demo.batches import Encoder
from demo.checkpoint import build_config, build_model, build_processor, load_model, save_checkpoint
from demo.evaluation import evaluate, table
from demo.training import Plan, compile_layers, polish, train

REPORT_EVERY_STEPS = 50
SAVE_EVERY_STEPS = 200


def train_checkpoint(folder: Path, *, seed: int, course_steps: int, compiled: bool, polish_only: bool) -> None:
    """Build, train and save the model; a usable checkpoint lies in `folder` every few minutes of the course.

    `polish_only` takes up a checkpoint that lies there at the end of its course.
    """
    torch.manual_seed(seed)
    processor = build_processor()
    encoder = Encoder(processor)
    plan = Plan(course_steps=course_steps)
    # Never the config of a loaded model: loading writes the dtype that was asked for into its sub-configs.
    model = build_model(build_config(processor.tokenizer))
    losses: dict[str, list[float]] = {}
    began = time.monotonic()

    def report(phase: str, step: int, loss: float) -> None:
        losses.setdefault(phase, []).append(loss)
        if (step + 1) % REPORT_EVERY_STEPS == 0:
            recent = sum(losses[phase][-REPORT_EVERY_STEPS:]) / REPORT_EVERY_STEPS
            print(f"{phase} {step + 1}  loss {recent:.4f}  {time.monotonic() - began:.0f} s", flush=True)
        if phase == "course" and (step + 1) % SAVE_EVERY_STEPS == 0:
            save_checkpoint(model, model.state_dict(), processor, folder)

    if compiled:
        compile_layers(model)
    if not polish_only:
        train(model, encoder, plan, seed=seed, report=report)
        save_checkpoint(model, model.state_dict(), processor, folder)
    model.load_state_dict(load_model(folder).state_dict())
    polish(model, encoder, plan, seed=seed, report=report)
    save_checkpoint(model, model.state_dict(), processor, folder)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder to write the checkpoint to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2200, help="of the course, the longest phase")
    parser.add_argument("--polish-only", action="store_true", help="do the last phase alone, on what lies in --out")
    parser.add_argument("--threads", type=int, default=2, help="results are the same for the same number only")
    parser.add_argument("--no-compile", action="store_true", help="do without a C++ compiler, at half the speed")
    parser.add_argument("--evaluate", type=Path, metavar="CHECKPOINT", help="print the table of task and accuracy")
    parser.add_argument("--samples", type=int, default=40, help="held-out samples of each lesson")
    options = parser.parse_args()
    if options.out is None and options.evaluate is None:
        parser.error("give --out, --evaluate or both")
    torch.set_num_threads(options.threads)
    if options.out is not None:
        train_checkpoint(
            options.out,
            seed=options.seed,
            course_steps=options.steps,
            compiled=not options.no_compile,
            polish_only=options.polish_only,
        )
    if options.evaluate is not None:
        print(table(evaluate(options.evaluate, options.samples, print)))


if __name__ == "__main__":
    main()
