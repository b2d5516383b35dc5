"""Which codes config.json says a checkpoint comes in, and which ways of quantising are refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gemmad.errors import CheckpointError
from gemmad.planning.coded import coded_formats
from gemmad.planning.coding import Coding


def compressed(form: str = "pack-quantized", **weights: Any) -> dict[str, Any]:
    """compressed-tensors with one group."""
    return {"quant_method": "compressed-tensors", "format": form, "config_groups": {"group_0": {"weights": weights}}}


def told(folder: Path, quantization: Any, *, key: str = "quantization_config", nested: bool = False) -> Any:
    """What is said of a folder whose config.json has this."""
    held = {key: quantization}
    (folder / "config.json").write_text(json.dumps({"text_config": held} if nested else held))
    return coded_formats(folder)


@pytest.mark.parametrize(
    ("quantization", "coding"),
    [
        (compressed(num_bits=4, strategy="group", group_size=128), Coding("int4")),
        (compressed(num_bits=4, strategy="group", group_size=32, symmetric=False), Coding("int4", 32, offsets=True)),
        (compressed(num_bits=4, strategy="channel"), Coding("int4")),
        (compressed(num_bits=4, strategy="group", group_size=16), Coding("int8")),
        (compressed(num_bits=8, strategy="channel"), Coding("int8")),
        (compressed("int-quantized", num_bits=8, strategy="channel"), Coding("int8")),
        (compressed("float-quantized", num_bits=8, type="float", strategy="tensor"), Coding("fp8")),
        (compressed("float-quantized", num_bits=8, type="float", strategy="block"), Coding("int8")),
        ({"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True}, Coding("int4", 64, offsets=True)),
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": False, "version": "GEMM"}, Coding("int4")),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}, Coding("int4")),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1, "sym": False}, Coding("int4", offsets=True)),
        (
            {"quant_method": "gptq", "bits": 4, "sym": True, "dynamic": {"x": {"sym": False}}},
            Coding("int4", offsets=True),
        ),
        ({"quant_method": "gptq", "bits": 8, "checkpoint_format": "gptq_v2"}, Coding("int8")),
        ({"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": None}, Coding("fp8")),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, Coding("int8")),
    ],
)
def test_codings(tmp_path: Path, quantization: dict[str, Any], coding: Coding) -> None:
    """Each way of quantising, wherever config.json has it."""
    formats = told(tmp_path, quantization)
    assert (formats.source, formats.layers) == (quantization["quant_method"], coding)
    assert told(tmp_path, quantization, nested=True) == formats
    assert told(tmp_path, quantization, key="compression_config") == formats


def test_the_largest_of_several_groups(tmp_path: Path) -> None:
    """Is what a plan reckons with."""
    mixed = compressed("mixed-precision", num_bits=4, strategy="group", group_size=128)
    mixed["config_groups"]["group_1"] = {"weights": {"num_bits": 8, "strategy": "channel"}, "format": "int-quantized"}
    mixed["config_groups"]["group_2"] = {"weights": None}
    assert told(tmp_path, mixed).layers == Coding("int8")


def test_plain_numbers(tmp_path: Path) -> None:
    """Have nothing to tell."""
    assert told(tmp_path, None) is None
    (tmp_path / "config.json").write_text("{}")
    assert coded_formats(tmp_path) is None


@pytest.mark.parametrize(
    ("quantization", "reason"),
    [
        (
            {"quant_method": "bitsandbytes"},
            "quant_method is 'bitsandbytes'; compressed-tensors, awq, gptq, fp8 are read",
        ),
        ({"bits": 4}, "missing required field `quant_method`"),
        ("int4", "Expected `object`"),
        ({"quant_method": "awq", "bits": "four"}, r"Expected `int`, got `str` - at `\$\.bits`"),
        ({"quant_method": "awq", "version": "gemv"}, "AWQ of version 'gemv'"),
        ({"quant_method": "awq", "bits": 8}, "AWQ of 8 bits"),
        ({"quant_method": "gptq", "bits": 3}, "GPTQ of 3 bits"),
        ({"quant_method": "gptq", "checkpoint_format": "bitblas"}, "GPTQ of the format 'bitblas'"),
        ({"quant_method": "gptq", "is_marlin_format": True}, "GPTQ of the format 'marlin'"),
        ({"quant_method": "gptq", "pack_dtype": "int16"}, "GPTQ packed into int16"),
        ({"quant_method": "fp8", "fmt": "e5m2"}, "fp8 of the format 'e5m2'"),
        (compressed("nvfp4-pack-quantized", num_bits=4, type="float"), "the format is 'nvfp4-pack-quantized'"),
        (compressed("marlin-24", num_bits=4), "the format is 'marlin-24'"),
        (compressed(num_bits=3), "weights of 3 bits of type int"),
        (compressed(num_bits=8) | {"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparse weights"),
        (compressed(num_bits=8) | {"transform_config": {"config_groups": {"R3": {}}}}, "it rotates what goes into"),
    ],
)
def test_refusals(tmp_path: Path, quantization: Any, reason: str) -> None:
    """In words that name what is meant."""
    with pytest.raises(CheckpointError, match=reason) as refused:
        told(tmp_path, quantization)
    assert str(tmp_path / "config.json") in str(refused.value)


def test_a_config_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, or no JSON."""
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        coded_formats(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        coded_formats(tmp_path)
