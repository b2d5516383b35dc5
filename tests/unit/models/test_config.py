"""config.json as gemmad reads it against transformers' own config classes."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import Gemma3Config, Gemma3TextConfig

from gemmad.demo import CHECKPOINT
from gemmad.errors import CheckpointError
from gemmad.models.config import RopeConfig, TextShape, read_config

SIGLIP = {"hidden_size": 1152, "image_size": 896, "intermediate_size": 4304, "model_type": "siglip_vision_model"} | {
    "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14, "vision_use_head": False
}  # fmt: skip
PUBLISHED: dict[str, dict[str, Any]] = {
    "1b": {
        "model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"], "attention_bias": False,
        "attn_logit_softcapping": None, "final_logit_softcapping": None, "head_dim": 256, "hidden_size": 1152,
        "hidden_activation": "gelu_pytorch_tanh", "intermediate_size": 6912, "max_position_embeddings": 32768,
        "num_attention_heads": 4, "num_hidden_layers": 26, "num_key_value_heads": 1, "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000, "rope_scaling": None, "rope_theta": 1000000,
        "sliding_window": 512, "sliding_window_pattern": 6, "torch_dtype": "bfloat16", "vocab_size": 262144,
    },
    "4b": {
        "model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "eos_token_id": [1, 106],
        "image_token_index": 262144, "mm_tokens_per_image": 256, "torch_dtype": "bfloat16",
        "text_config": {
            "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024,
        },
        "vision_config": SIGLIP,
    },
    "12b": {
        "model_type": "gemma3", "mm_tokens_per_image": 256,
        "text_config": {
            "hidden_size": 3840, "intermediate_size": 15360, "model_type": "gemma3_text", "num_attention_heads": 16,
            "num_hidden_layers": 48, "num_key_value_heads": 8, "sliding_window": 1024,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        },
        "vision_config": SIGLIP,
    },
    "27b": {
        "model_type": "gemma3", "mm_tokens_per_image": 256,
        "text_config": {
            "head_dim": 128, "hidden_size": 5376, "intermediate_size": 21504, "model_type": "gemma3_text",
            "num_attention_heads": 32, "num_hidden_layers": 62, "num_key_value_heads": 16,
            "query_pre_attn_scalar": 168, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1024,
        },
        "vision_config": SIGLIP,
    },
    "newer": {
        "model_type": "gemma3_text", "num_hidden_layers": 2, "layer_types": ["full_attention", "sliding_attention"],
        "rope_parameters": {
            "full_attention": {"factor": 4.0, "rope_theta": 5e5, "rope_type": "linear"},
            "sliding_attention": {"rope_theta": 2e4, "rope_type": "default"},
        },
        "final_logit_softcapping": 30.0,
    },
    "silent": {"model_type": "gemma3"},
    "silent text": {"model_type": "gemma3_text"},
}  # fmt: skip
"""What Google's checkpoints say (the older form), a file as transformers writes it now, and files that say nothing."""


def write(folder: Path, config: dict[str, Any]) -> Path:
    """A folder with this config.json."""
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def theirs(raw: dict[str, Any]) -> tuple[TextShape, Any, Any]:
    """Shape, vision and the whole as transformers' classes read it."""
    kind = Gemma3Config if raw["model_type"] == "gemma3" else Gemma3TextConfig
    whole = kind.from_dict(copy.deepcopy(raw))
    text = whole.get_text_config()
    ropes = {}
    for name, rope in text.rope_parameters.items():
        ropes[name] = RopeConfig(rope["rope_theta"], rope["factor"] if rope["rope_type"] == "linear" else 1.0)
    shape = TextShape(
        vocab_size=text.vocab_size,
        hidden_size=text.hidden_size,
        intermediate_size=text.intermediate_size,
        heads=text.num_attention_heads,
        kv_heads=text.num_key_value_heads,
        head_dim=text.head_dim,
        full_layers=tuple(kind == "full_attention" for kind in text.layer_types),
        window=text.sliding_window,
        attention_scale=text.query_pre_attn_scalar**-0.5,
        norm_eps=text.rms_norm_eps,
        max_context=text.max_position_embeddings,
        full_rope=ropes["full_attention"],
        sliding_rope=ropes["sliding_attention"],
        logit_softcap=text.final_logit_softcapping,
    )
    return shape, getattr(whole, "vision_config", None), whole


def check(folder: Path, raw: dict[str, Any]) -> None:
    """Ours is theirs, number for number."""
    found = read_config(write(folder, raw))
    shape, vision, whole = theirs(raw)
    assert found.text == shape
    assert (found.vision is None) == (vision is None)
    if found.vision is not None:
        expected = {name: getattr(vision, name) for name in found.vision.__struct_fields__}
        assert {name: getattr(found.vision, name) for name in expected} == expected
        assert found.image_tokens == whole.mm_tokens_per_image
    assert found.whole.to_dict() == whole.to_dict()


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "silent"])
def test_equals_transformers(tmp_path: Path, name: str) -> None:
    """Every published size, in the older and the newer form, and what a file leaves out."""
    check(tmp_path, PUBLISHED[name])


@pytest.mark.parametrize("name", ["1b", "4b", "27b", "newer"])
def test_equals_transformers_after_it_saved(tmp_path: Path, name: str) -> None:
    """A config that transformers has read and written again is the same."""
    theirs(PUBLISHED[name])[2].save_pretrained(tmp_path)
    check(tmp_path, json.loads((tmp_path / "config.json").read_text()))


def test_the_bundled_model(tmp_path: Path) -> None:
    """The bundled checkpoint's own file."""
    check(tmp_path, json.loads((CHECKPOINT / "config.json").read_text()))


@given(data=st.data())
def test_any_numbers(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever numbers a file has or leaves out."""
    sizes = st.integers(1, 1 << 20)
    even = sizes.map(lambda size: 2 * size)
    heads = data.draw(st.sampled_from([1, 2, 4]))
    fields = {
        "vocab_size": st.integers(8, 1 << 20), "intermediate_size": sizes, "head_dim": even,
        "max_position_embeddings": sizes, "sliding_window": sizes, "sliding_window_pattern": st.integers(1, 9),
        "num_hidden_layers": st.integers(1, 20),
        "query_pre_attn_scalar": sizes, "rms_norm_eps": st.floats(1e-9, 1), "rope_theta": st.floats(1, 1e7),
        "rope_local_base_freq": st.floats(1, 1e7), "final_logit_softcapping": st.none() | st.floats(1, 100),
        "rope_scaling": st.none() | st.fixed_dictionaries(
            {"rope_type": st.just("linear"), "factor": st.floats(1, 64)}, optional={"rope_theta": st.floats(1, 1e7)}
        ),
    }  # fmt: skip
    text = data.draw(st.fixed_dictionaries({}, optional=fields))
    text |= {"hidden_size": heads * 8, "num_attention_heads": heads, "num_key_value_heads": 1}
    check(tmp_path_factory.mktemp("any"), text | {"model_type": "gemma3_text"})


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("text_config", {"hidden_size": "wide"}, "hidden_size"),
        ("text_config", {"hidden_size": 0}, "hidden_size"),
        ("text_config", {"num_hidden_layers": 7}, "layer_types has 6 entries for 7 layers"),
        ("text_config", {"layer_types": ["linear_attention"] * 6}, "layer_types"),
        ("text_config", {"sliding_window": None}, "sliding_window is not set"),
        ("text_config", {"head_dim": 33}, "head_dim = 33"),
        ("text_config", {"num_key_value_heads": 3}, "4 heads over 3 KV heads"),
        ("text_config", {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "'yarn'"),
        ("text_config", {"rope_parameters": {"full_attention": {"rope_type": "linear"}}}, "without a factor"),
        ("text_config", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("vision_config", {"hidden_act": "relu"}, "relu"),
        ("vision_config", {"model_type": "clip_vision_model"}, "clip_vision_model"),
        ("vision_config", {"patch_size": 7}, "64 pixels a side in patches of 7 gives no 16 tokens"),
        ("vision_config", {"num_attention_heads": 3}, "128 wide with 3 heads"),
        (None, {"mm_tokens_per_image": 15}, "gives no 15 tokens"),
        (None, {"tie_word_embeddings": False}, "tie_word_embeddings"),
        (None, {"text_config": 5}, "text_config"),
    ],
)
def test_what_cannot_be_served(tmp_path: Path, part: str | None, change: dict[str, Any], words: str) -> None:
    """Numbers that no such network has are refused with the file and the key, before anything is allocated."""
    config = json.loads((CHECKPOINT / "config.json").read_text())
    (config if part is None else config[part]).update(change)
    with pytest.raises(CheckpointError, match=rf"config\.json: .*{words}"):
        read_config(write(tmp_path, config))
