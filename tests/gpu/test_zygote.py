"""A worker on a GPU, forked by a zygote that has not touched it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gemmad.demo import CHECKPOINT
from gemmad.generation import EngineSettings
from tests.process.forked import Stage, ask_one, kept, play

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
VISIBLE = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
IMPORTED = """
import sys
from gemmad.worker.zygote import STANDARD_FDS, import_everything, why_unfit
import_everything(True)
print(why_unfit(STANDARD_FDS))
before = set(sys.modules)
from gemmad.demo import CHECKPOINT
from gemmad.generation import EngineSettings
from gemmad.worker.loop import build_engine
settings = EngineSettings(checkpoint=str(CHECKPOINT), device="cuda:0", kv_bytes=64 << 20)
engine = build_engine(settings, progress=lambda *_: None)
engine.warm_up()
print(*(name for name in sys.modules if name not in before))
"""


def test_it_is_like_a_spawned_one() -> None:
    """It gets its GPU, is ready without its imports, says what a spawned worker says, and leaves the zygote fit."""

    settings = EngineSettings(checkpoint=str(CHECKPOINT), device="cuda:0", kv_bytes=64 << 20)

    async def script(stage: Stage) -> None:
        stage.zygote = stage.real_zygote()
        async with kept(stage.zygote):
            spawned, slow = await ask_one(stage, visible=VISIBLE, settings=settings)
            print("spawned", slow)  # noqa: T201 - with -s: what is left to save
            stage.zygote.begin()
            await stage.until(lambda: stage.zygote.spares == 2)
            pid = stage.zygote.pid
            for _ in range(3):
                forked, quick = await ask_one(stage, visible=VISIBLE, settings=settings)
                print("forked", quick)  # noqa: T201
                assert forked == spawned
                assert quick["imports"] < slow["imports"] / 3
                await stage.until(lambda: stage.zygote.spares == 2)
            assert stage.zygote.pid == pid
            files = [os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()]
            assert not [file for file in files if "nvidia" in file]

    play(Stage, script)


def test_the_zygote_has_imported_what_its_workers_need() -> None:
    """It stays fit to be forked; of gemmad, nothing is imported after the fork, and of others, what is shows here."""
    result = subprocess.run(
        [sys.executable, "-c", IMPORTED], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    reason, modules = (result.stdout + "\n").splitlines()[:2]
    print(modules)  # noqa: T201 - with -s
    assert reason == "None"
    assert [name for name in modules.split() if name.startswith("gemmad")] == ["gemmad.demo"]
