from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gemmad.cli.plan import smallest_gpu
from gemmad.config.schema import Config, WorkersSection
from gemmad.demo import CHECKPOINT
from gemmad.errors import ConfigError
from gemmad.planning.shape import PUBLISHED
from gemmad.supervisor.gpus import Gpu, Gpus
from tests.unit.cli.conftest import Command

GIB = 1 << 30


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has, it is hidden."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_a_plan_that_fits(gemmad: Command) -> None:
    """A published size on a GPU of some size: where its memory goes, and how many sequences of which length fit."""
    said = gemmad("plan", "--gpu-memory", "24GiB", "--context", "32768", "--model", "4b")
    assert (said.exit_code, said.stderr) == (0, "")
    lines = said.stdout.splitlines()
    assert lines[0] == "4b, one worker"
    assert [line.split()[0] for line in lines[3:15]] == [
        "weights", "kv", "kv", "vision", "steering", "inputs", "gathered", "workspace", "graphs", "context", "reserve",
        "sum",
    ]  # fmt: skip
    assert "The worker may take 21.60 GiB of the GPU's 24.00 GiB." in lines
    assert "Weights are bfloat16, keys and values bfloat16." in lines
    assert lines[-2].split() == ["tokens", "1024", "2048", "4096", "8192", "16384", "32768"]
    assert all(int(count) >= 1 for count in lines[-1].split()[1:])


def test_12b_in_24_gib(gemmad: Command) -> None:
    """What does not fit leaves with 78, the numbers, and what would do."""
    said = gemmad("plan", "--gpu-memory", "24GiB", "--context", "32768", "--model", "12B", "--weights", "bf16")
    assert said.exit_code == 78
    assert said.stdout.startswith("12b, one worker\n")
    assert said.stdout.endswith(
        "None of the formats of weights and KV cache that are left open has room for a context here.\n"
    )
    first, second = said.stderr.splitlines()
    assert first.startswith("gemmad: the worker needs 28.")
    assert "may take 21.60 GiB" in first
    assert second == "to make it fit, set engine.weights to int8"
    auto = gemmad("plan", "--gpu-memory", "24GiB", "--context", "32768", "--model", "12B")
    assert (auto.exit_code, auto.stderr) == (0, "")
    assert "Weights are int8, keys and values bfloat16." in auto.stdout


def test_12b_in_12_gib(gemmad: Command, config_dir: Path) -> None:
    """The best that fits is proposed with its context; as a configuration it is a plan that fits."""
    said = gemmad("plan", "--gpu-memory", "12GiB", "--model", "12b")
    assert said.exit_code == 78
    assert [line.split()[:3] for line in said.stdout.splitlines() if line.startswith("*")] == [["*", "int4", "int8"]]
    assert "engine.weights int4, engine.kv int8, engine.max_context 13312 together would fit" in said.stderr
    (config_dir / "gemmad.toml").write_text(said.stdout[said.stdout.index("[engine]") :])
    fitting = gemmad("plan", "--gpu-memory", "12GiB", "--model", "12b")
    assert (fitting.exit_code, fitting.stderr) == (0, "")
    assert "Weights are int4 in groups of 128, keys and values int8." in fitting.stdout


def test_proposals_where_it_fits(gemmad: Command) -> None:
    """They are asked for by a flag; a format that a flag names is all that is proposed."""
    plain = gemmad("plan", "--gpu-memory", "24GiB", "--model", "4b", "--context", "8192")
    assert "[engine]" not in plain.stdout
    said = gemmad("plan", "--gpu-memory", "24GiB", "--model", "4b", "--context", "8192", "--propose", "--json")
    facts = json.loads(said.stdout)["proposals"]
    assert [(each["weights"], each["kv"]) for each in facts] == [
        ("bf16", "bf16"), ("bf16", "int8"), ("int8", "bf16"), ("int8", "int8"), ("int4", "bf16"), ("int4", "int8"),
    ]  # fmt: skip
    assert [each["best"] for each in facts] == [True] + [False] * 5
    assert facts[-1]["sequences"] == [{"tokens": 4096, "sequences": 64}, {"tokens": 8192, "sequences": 64}]
    assert facts[-1]["settings"] == {"engine.weights": "int4", "engine.kv": "int8"}
    held = ("--weights", "fp8", "--kv", "fp8", "--propose", "--json")
    facts = json.loads(gemmad("plan", "--gpu-memory", "24GiB", "--model", "4b", *held).stdout)
    assert [(each["weights"], each["kv"]) for each in facts["proposals"]] == [("fp8", "fp8")]
    assert (facts["weights"], facts["kv"]) == ("fp8", "fp8")


def test_a_checkpoint_that_comes_coded(gemmad: Command, tmp_path: Path) -> None:
    """Its own groups are planned with, and no other format of weights is proposed."""
    quantised = {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True, "desc_act": False}
    config = {**PUBLISHED["1b"], "quantization_config": quantised}
    (tmp_path / "config.json").write_text(json.dumps(config))
    asked = ("plan", "--gpu-memory", "12GiB", "--model", str(tmp_path), "--propose")
    said = gemmad(*asked)
    assert said.exit_code == 0
    assert "Weights are int4 in groups of 32, keys and values bfloat16." in said.stdout
    facts = json.loads(gemmad(*asked, "--json").stdout)
    assert [(each["weights"], each["kv"]) for each in facts["proposals"]] == [("int4", "bf16"), ("int4", "int8")]


def test_as_json(gemmad: Command) -> None:
    """For programs: numbers, and the remedies of what does not fit."""
    asked = ("plan", "--gpu-memory", "32GiB", "--model", "12b", "--weights", "bf16", "--json")
    said = gemmad(*asked)
    assert said.exit_code == 78
    facts = json.loads(said.stdout)
    assert (facts["model"], facts["total_bytes"], facts["max_context"]) == ("12b", 32 * GIB, 131_072)
    assert [remedy["setting"] for remedy in facts["remedies"]] == ["engine.max_context", "engine.weights"]
    fitting = gemmad(*asked, "--context", str(facts["remedies"][0]["value"]))
    assert fitting.exit_code == 0
    assert json.loads(fitting.stdout)["problem"] is None
    (proposal, other) = facts["proposals"]
    assert (proposal["weights"], proposal["kv"], other["kv"]) == ("bf16", "bf16", "int8")


def test_silent_values_are_the_configurations(gemmad: Command, config_dir: Path) -> None:
    """Model, memory and engine come from the file; workers on one GPU share it; flags win."""
    (config_dir / "gemmad.toml").write_text(
        f"[model]\npath = '{CHECKPOINT}'\n[memory]\nfraction = 0.8\nreserve = '100MiB'\n"
        "[engine]\nmax_sequences = 7\nmax_context = 2048\n[workers]\nper_gpu = 2\n"
    )
    facts = json.loads(gemmad("plan", "--gpu-memory", "8GiB", "--json").stdout)
    assert (facts["model"], facts["max_context"], facts["max_sequences"]) == (CHECKPOINT.name, 2048, 7)
    assert (facts["share_bytes"], facts["rows"]["reserve"]) == (int(8 * GIB * 0.4), 100 << 20)
    flags = ("--sequences", "3", "--context", "1024", "--model", "270m")
    facts = json.loads(gemmad("plan", "--gpu-memory", "8GiB", "--json", *flags).stdout)
    assert (facts["model"], facts["max_context"], facts["max_sequences"]) == ("270m", 1024, 3)
    other = config_dir / "other.toml"
    other.write_text("[engine]\ndevice = 'cpu'\n")
    facts = json.loads(gemmad("plan", "--config", str(other), "--model", str(CHECKPOINT), "--json").stdout)
    assert (facts["device"], facts["max_sequences"]) == ("cpu", 64)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--model", "12b"), 2, "say how much to plan with: --gpu-memory 24GiB"),
        (("--model", "12b", "--gpu-memory", "lots"), 2, "--gpu-memory: 'lots' is not a size"),
        (("--gpu-memory", "24GiB"), 78, "no model is set: give a published size (--model 12b)"),
        (("--gpu-memory", "24GiB", "--model", "13b"), 78, "13b is neither a folder, nor pulled, nor one of 270m, 1b"),
        (("--gpu-memory", "24GiB", "--model", "/"), 78, "/config.json is missing"),
        (("--gpu-memory", "24GiB", "--model", "1b", "--context", "99999"), 78, "the model was trained for 32768"),
        (("--gpu-memory", "24GiB", "--model", "1b", "--sequences", "0"), 78, "engine.max_sequences"),
        (("--gpu-memory", "24GiB", "--model", "1b", "--weights", "int3"), 78, "engine.weights"),
    ],
)
def test_mistakes(gemmad: Command, arguments: tuple[str, ...], code: int, words: str) -> None:
    """What is missing is asked for by name, what is wrong is told in plain words."""
    said = gemmad("plan", *arguments)
    assert said.exit_code == code
    assert words in said.stderr


def test_the_smallest_gpu_counts() -> None:
    """Of the GPUs that the configuration selects, the one with the least memory must do."""
    found = tuple(
        Gpu(index=index, uuid=f"GPU-{index}", name="x", total_bytes=size * GIB)
        for index, size in enumerate((80, 24, 141))
    )
    assert smallest_gpu(Config(), Gpus(found), {}) == 24 * GIB
    assert smallest_gpu(Config(workers=WorkersSection(gpus=("0", "2"))), Gpus(found), {}) == 80 * GIB
    assert smallest_gpu(Config(), Gpus(found), {"CUDA_VISIBLE_DEVICES": "2"}) == 141 * GIB
    with pytest.raises(ConfigError, match="there is no GPU '7'"):
        smallest_gpu(Config(workers=WorkersSection(gpus=("7",))), Gpus(found), {})
    with pytest.raises(ConfigError, match=r"\(the driver sleeps\)"):
        smallest_gpu(Config(), Gpus((), "the driver sleeps"), {})


def test_a_plan_needs_no_torch() -> None:
    """The verb answers without torch, transformers, or the daemon's HTTP side."""
    script = """
import sys
from gemmad.cli.main import app
try:
    app(["plan", "--gpu-memory", "80GiB", "--model", "4b"])
except SystemExit:
    pass
print(sorted({"torch", "transformers", "starlette", "uvicorn", "asyncio", "numpy"} & sys.modules.keys()))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
