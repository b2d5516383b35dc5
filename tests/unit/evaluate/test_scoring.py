"""On the bundled model, in float32: whatever the steps are, the rows are the same."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest
import torch

from gemmad.bench.paged import PagedNetwork
from gemmad.demo import CHECKPOINT
from gemmad.evaluate.scoring import Steps, scored_rows
from gemmad.evaluate.texts import made_up
from gemmad.evaluate.windows import Window, cut
from gemmad.models.config import ModelConfig, read_config
from gemmad.models.weights import Weights, load_weights

CONTEXT, STRIDE = 150, 120


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    """The language model alone."""
    return dataclasses.replace(read_config(CHECKPOINT), vision=None)


@pytest.fixture(scope="module")
def weights(config: ModelConfig) -> Weights:
    """As they are in the file."""
    return load_weights(config, device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture(scope="module")
def windows(config: ModelConfig) -> tuple[Window, ...]:
    """Three, each longer than the network's sliding window."""
    text = made_up(config.text.vocab_size, tokens=CONTEXT + 2 * STRIDE)
    return cut(text, context=CONTEXT, stride=STRIDE, bos_id=1)


def rows(
    config: ModelConfig, weights: Weights, windows: tuple[Window, ...], steps: Steps
) -> tuple[torch.Tensor, torch.Tensor]:
    """All logits and targets, in the order in which they come."""
    network = PagedNetwork(config.text, weights, sequences=steps.sequences, longest=CONTEXT)
    found = list(scored_rows(network, windows, steps))
    return torch.cat([each.logits for each in found]), torch.cat([each.targets for each in found])


def test_prefill_scores_what_a_whole_window_gives(
    config: ModelConfig, weights: Weights, windows: tuple[Window, ...]
) -> None:
    """In pieces or whole, each scored token is predicted by the row before it."""
    logits, targets = rows(config, weights, windows, Steps("prefill", 32, 1))
    assert targets.tolist() == [token for window in windows for token in window.scored]
    network = PagedNetwork(config.text, weights, sequences=1, longest=CONTEXT)
    whole = [network.logits([window.tokens], [0], range(window.first - 1, CONTEXT - 1)) for window in windows]
    torch.testing.assert_close(logits, torch.cat(whole), rtol=1e-4, atol=1e-4)


def test_decoding_side_by_side_gives_the_same_rows(
    config: ModelConfig, weights: Weights, windows: tuple[Window, ...]
) -> None:
    """Token by token, two windows at a time and then the one that is left."""
    first, _ = rows(config, weights, windows, Steps("prefill", 64, 1))
    logits, targets = rows(config, weights, windows, Steps("decode", 64, 2))
    scored = len(windows[0].scored)
    pair = [place for at in range(scored) for place in (at, scored + at)]
    order = torch.tensor([*pair, *range(2 * scored, 3 * scored)])
    assert targets.tolist() == [windows[place // scored].scored[place % scored] for place in order.tolist()]
    torch.testing.assert_close(logits, first[order], rtol=1e-4, atol=1e-4)


def test_only_what_counts_goes_through_the_head(
    config: ModelConfig, weights: Weights, windows: tuple[Window, ...]
) -> None:
    """Rows that are not scored are computed and left out, by prefill and by decoding."""
    some = tuple(
        msgspec.structs.replace(window, counted=tuple((at + number) % 3 == 0 for at in range(len(window.counted))))
        for number, window in enumerate(windows)
    )
    whole, targets = rows(config, weights, windows, Steps("prefill", 64, 1))
    kept = torch.tensor([counts for window in some for counts in window.counted])
    logits, found = rows(config, weights, some, Steps("prefill", 64, 1))
    assert found.tolist() == targets[kept].tolist()
    torch.testing.assert_close(logits, whole[kept], rtol=1e-4, atol=1e-4)
    _, decoded = rows(config, weights, some, Steps("decode", 64, 3))
    assert sorted(decoded.tolist()) == sorted(found.tolist())
