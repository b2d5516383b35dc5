"""transformers beside the engine's network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gemmad.bench.agreement import (
    Errors,
    _prompts,
    agreement,
    errors,
    layers_to_compare,
    looked_at,
    our_logits,
    their_logits,
    verdict,
)
from gemmad.bench.compare import decode_seconds, prefill_seconds
from gemmad.bench.export import write_checkpoint
from gemmad.bench.oracle import from_folder, from_weights
from gemmad.bench.shapes import write_shape
from gemmad.bench.subject import Subject
from gemmad.models.config import ModelConfig, read_config
from gemmad.models.weights import Weights, load_weights

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(subject: Subject) -> Weights:
    """The bundled model's, in float32."""
    return load_weights(subject.config, device=CPU, dtype=torch.float32)


def test_both_networks_say_the_same_in_float32(subject: Subject, weights: Weights) -> None:
    """Prompts over and under the window in one step, then token by token: logits agree to float32's rounding."""
    prompts = _prompts(subject.config.text)
    ours = our_logits(subject.config.text, weights, prompts)
    theirs = their_logits(from_folder(subject.config, device=CPU, dtype=torch.float32), prompts)
    found = errors(ours, theirs)
    assert found.largest < 2e-3
    assert found.mean < 1e-4


def test_transformers_over_our_weights_is_transformers(subject: Subject, weights: Weights) -> None:
    """A model that is made of views of the merged weights gives the very logits of one that was loaded."""
    loaded = from_folder(subject.config, device=CPU, dtype=torch.float32)
    borrowed = from_weights(subject.config, weights)
    ids = torch.arange(40)[None]
    with torch.inference_mode():
        assert torch.allclose(loaded(ids).logits, borrowed(ids).logits, atol=1e-5)
    assert borrowed.model.layers[0].self_attn.k_proj.weight.data_ptr() != 0
    assert isinstance(weights.embedding, torch.Tensor)
    assert borrowed.model.embed_tokens.weight.data_ptr() == weights.embedding.data_ptr()


def test_bfloat16_is_within_its_own_noise(subject: Subject) -> None:
    """The check that is run on a GPU passes here too."""
    (case,) = agreement(subject)
    *_, last = case.measure()
    assert last.status == "ok", last


def test_an_error_that_rounding_does_not_explain_fails() -> None:
    """Twice transformers' own error is a mistake of ours, in the mean or in the largest."""
    other = Errors(largest=0.1, mean=0.01)
    assert verdict(Errors(0.14, 0.012), other).status == "ok"
    assert verdict(Errors(0.1, 0.02), other).status == "failed"
    assert verdict(Errors(0.2, 0.01), other).status == "failed"


def test_errors_are_over_all_logits() -> None:
    """The largest of all prompts, and the mean of every number."""
    found = errors([torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0]])], [torch.zeros(1, 2), torch.zeros(1, 2)])
    assert found == Errors(largest=2.0, mean=0.75)


def test_rows_that_are_looked_at(subject: Subject) -> None:
    """Spread over a prompt, its last token and all that are decoded one by one among them."""
    assert looked_at(13) == list(range(13))
    rows = looked_at(1000)
    assert rows[0] == 0
    assert rows[-9:] == list(range(991, 1000))
    assert len(rows) < 40
    assert layers_to_compare(subject.config.text) == 4


def test_both_kinds_of_layers_are_compared(tmp_path: Path) -> None:
    """A published shape's first full layer is its sixth."""
    write_shape("12b", tmp_path)
    assert layers_to_compare(read_config(tmp_path).text) == 6


def test_a_written_checkpoint_loads_again(subject: Subject, weights: Weights, tmp_path: Path) -> None:
    """Names, shapes, the norms' offset and the tower come back as they were, for us and for transformers."""
    (tmp_path / "config.json").write_bytes((subject.folder / "config.json").read_bytes())
    config = ModelConfig(tmp_path, subject.config.text, subject.config.vision, subject.config.image_tokens)
    assert write_checkpoint(config, weights, tmp_path) > 9e6
    again = load_weights(config, device=CPU, dtype=torch.float32)
    for before, after in zip(weights.layers, again.layers, strict=True):
        for name, tensor in vars(before).items():
            assert torch.allclose(tensor, getattr(after, name), atol=1e-6), name
    assert isinstance(weights.embedding, torch.Tensor)
    assert isinstance(again.embedding, torch.Tensor)
    assert torch.equal(weights.embedding, again.embedding)
    assert weights.tower is not None
    assert again.tower is not None
    theirs = dict(again.tower.named_tensors())
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in weights.tower.named_tensors())
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        loaded = from_folder(config, device=CPU, dtype=torch.float32)(ids).logits
        assert torch.allclose(loaded, from_weights(config, weights)(ids).logits, atol=1e-4)


def test_generate_is_timed_step_by_step(subject: Subject, weights: Weights) -> None:
    """As many steps as asked for, also past the model's own stop ids; and the time of a prompt."""
    model = from_weights(subject.config, weights)
    seconds = decode_seconds(model, torch.randint(0, 2000, (2, 8)), steps=6)
    assert len(seconds) == 6
    assert all(one > 0 for one in seconds)
    assert prefill_seconds(model, torch.randint(0, 2000, (1, 30))) > 0
