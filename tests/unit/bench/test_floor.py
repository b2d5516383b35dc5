from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.bench.floor import Cost, Roof, Work, _seen_by_all
from gemmad.bench.shapes import write_shape
from gemmad.models.config import ModelConfig, read_config

H200 = Roof(bytes_per_second=4.3e12, flop_per_second=790e12)


@pytest.fixture
def config(tmp_path: Path) -> ModelConfig:
    """Gemma 3 12B."""
    write_shape("12b", tmp_path)
    return read_config(tmp_path)


def test_the_12b_network_has_as_many_weights_as_it_is_named_for(config: ModelConfig) -> None:
    """10.76 billion in the layers, 1.01 in the embedding."""
    cost = Cost(config.text, itemsize=2)
    assert cost.layer_weights / 1e9 == pytest.approx(10.76, abs=0.01)
    assert cost.head_weights / 1e9 == pytest.approx(1.007, abs=0.001)


@pytest.mark.parametrize(("batch", "rate"), [(1, 183), (8, 1370), (32, 4360), (64, 6950), (128, 10000)])
def test_the_floor_of_decode_is_reading_weights_and_keys_once(config: ModelConfig, batch: int, rate: float) -> None:
    """12B in bf16 at 4.3 TB/s, a little after 512 tokens of prompt, comes to the rates that are known for one H200."""
    work = Cost(config.text, itemsize=2).decode(batch, context=600)
    assert H200.bound_by_memory(work)
    assert batch / H200.seconds(work) == pytest.approx(rate, rel=0.05)


def test_the_floor_of_prefill_is_multiplying(config: ModelConfig) -> None:
    """8192 tokens at 790 TFLOP/s come to about 36 000 a second."""
    work = Cost(config.text, itemsize=2).prefill(8192)
    assert not H200.bound_by_memory(work)
    assert 8192 / H200.seconds(work) == pytest.approx(35000, rel=0.05)


def test_sliding_layers_read_no_more_than_their_window(config: ModelConfig) -> None:
    """A thousand tokens more cost the full layers alone: 64 KiB each, an eighth of what all layers would read."""
    cost = Cost(config.text, itemsize=2)
    more = cost.decode(1, context=9000).nbytes - cost.decode(1, context=8000).nbytes
    assert more == 1000 * 64 * 1024


def test_an_image_is_a_few_milliseconds(config: ModelConfig) -> None:
    """4096 patches through 27 layers of SigLIP: 5.5 TFLOP and 0.8 GB of weights."""
    assert config.vision is not None
    work = Cost(config.text, itemsize=2).picture(config.vision)
    assert work.flop / 1e12 == pytest.approx(5.5, abs=0.2)
    assert work.nbytes / 1e9 == pytest.approx(0.82, abs=0.02)


@given(st.integers(1, 60), st.integers(1, 60))
def test_positions_that_a_prompt_sees(tokens: int, window: int) -> None:
    """The closed form is the sum over all tokens."""
    assert _seen_by_all(tokens, window) == sum(min(i, window) for i in range(1, tokens + 1))


def test_the_larger_time_is_the_floor() -> None:
    """Reading and multiplying go on together, so the slower one decides; work adds up."""
    roof = Roof(bytes_per_second=10, flop_per_second=100)
    assert roof.seconds(Work(nbytes=20, flop=100)) == 2
    assert roof.seconds(Work(nbytes=20, flop=100) + Work(nbytes=0, flop=300) * 2) == 7


def test_codes_lower_the_floor(config: ModelConfig) -> None:
    """Coded weights are read at their own size, coded keys and values with the scale of each head."""
    plain = Cost(config.text, itemsize=2)
    coded = Cost(config.text, itemsize=2, coded_bytes=plain.weight_bytes // 4, kv_coded=True)
    assert coded.weight_bytes * 4 == plain.weight_bytes
    seen = [cost.decode(1, 512).nbytes - cost.weight_bytes for cost in (coded, plain)]
    assert seen[0] / seen[1] == (256 + 4) / 512
