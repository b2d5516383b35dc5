"""The vision tower against transformers' own SigLIP and projector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma3Config, SiglipVisionConfig, SiglipVisionModel
from transformers.models.gemma3.modeling_gemma3 import Gemma3MultiModalProjector

from gemmad.demo import CHECKPOINT
from gemmad.models.config import ModelConfig, VisionShape, read_config
from gemmad.models.vision import VisionTower, build_tower
from gemmad.models.weights import load_weights

CPU = torch.device("cpu")
SHAPES = [
    {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "image_size": 32, "patch_size": 8},
    {"hidden_size": 72, "intermediate_size": 100, "num_attention_heads": 1, "image_size": 56, "patch_size": 14},
    {"hidden_size": 48, "intermediate_size": 20, "num_attention_heads": 6, "image_size": 12, "patch_size": 3},
]


def theirs(shape: dict[str, Any], *, tokens: int, hidden_size: int, dtype: torch.dtype) -> dict[str, Any]:
    """transformers' two modules with random weights, under the checkpoint's names."""
    vision = SiglipVisionConfig(**shape, num_hidden_layers=2, vision_use_head=False)
    vision._attn_implementation = "sdpa"
    whole = Gemma3Config(vision_config=vision, text_config={"hidden_size": hidden_size}, mm_tokens_per_image=tokens)
    modules = {"vision_tower": SiglipVisionModel(vision), "multi_modal_projector": Gemma3MultiModalProjector(whole)}
    for module in modules.values():
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
        module.to(dtype).eval()
    return modules


def ours(shape: dict[str, Any], modules: dict[str, Any], *, tokens: int, hidden_size: int) -> VisionTower:
    """Our tower with the same weights."""
    text: Any = type("Text", (), {"hidden_size": hidden_size})
    config = ModelConfig(Path(), text, VisionShape(**shape, num_hidden_layers=2), tokens)
    tower = build_tower(config, device=CPU, dtype=next(modules["vision_tower"].parameters()).dtype)
    named = dict(tower.named_tensors())
    weights = {f"{part}.{name}": p.data for part, module in modules.items() for name, p in module.named_parameters()}
    assert {name.replace("vision_model.", "") for name in weights} == set(named)
    for name, weight in weights.items():
        named[name.replace("vision_model.", "")].copy_(weight)
    return tower


@torch.inference_mode()
def encoded(modules: dict[str, Any], pixels: torch.Tensor) -> torch.Tensor:
    """What transformers makes of pictures."""
    rows: torch.Tensor = modules["multi_modal_projector"](modules["vision_tower"](pixels).last_hidden_state)
    return rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [1, 4, 16])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape['image_size']}-{shape['patch_size']}")
def test_equals_transformers(shape: dict[str, Any], tokens: int, dtype: torch.dtype) -> None:
    """Random towers of several shapes give transformers' rows, in float32 and within bfloat16's rounding."""
    torch.manual_seed(tokens)
    modules = theirs(shape, tokens=tokens, hidden_size=40, dtype=dtype)
    tower = ours(shape, modules, tokens=tokens, hidden_size=40)
    pixels = torch.randn(2, 3, shape["image_size"], shape["image_size"]).to(dtype)
    found, expected = tower.encode(pixels), encoded(modules, pixels)
    assert (found.shape, found.dtype) == ((2, tokens, 40), dtype)
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 0.05}[dtype]
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_equals_transformers_on_the_bundled_model() -> None:
    """The bundled checkpoint's tower, as it is loaded, gives transformers' rows."""
    from transformers import AutoModelForImageTextToText

    config = read_config(CHECKPOINT)
    tower = load_weights(config, device=CPU, dtype=torch.float32).tower
    assert tower is not None
    assert config.vision is not None
    network = AutoModelForImageTextToText.from_pretrained(CHECKPOINT, dtype=torch.float32, attn_implementation="sdpa")
    torch.manual_seed(0)
    pixels = torch.rand(3, 3, config.vision.image_size, config.vision.image_size) * 2 - 1
    with torch.inference_mode():
        expected = network.model.get_image_features(pixels).pooler_output
    torch.testing.assert_close(tower.encode(pixels), expected, rtol=1e-5, atol=1e-5)


def test_size() -> None:
    """Its bytes are those of transformers' modules; every weight has a name of its own."""
    modules = theirs(SHAPES[0], tokens=4, hidden_size=40, dtype=torch.bfloat16)
    tower = ours(SHAPES[0], modules, tokens=4, hidden_size=40)
    assert tower.nbytes == sum(p.nbytes for module in modules.values() for p in module.parameters())
