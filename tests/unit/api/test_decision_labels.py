"""Trees of labels and what probabilities they give."""

from __future__ import annotations

import math
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.api.openai.decisions.labels import LabelTree, level_labels, option_labels

LOG = math.log


def test_one_branching() -> None:
    """Labels of one token share what the network holds of them; the rest does not count."""
    tree = LabelTree.of([[5], [3], [9]])
    assert [branching.ids for branching in tree.branchings] == [(5, 3, 9)]
    told = {5: LOG(0.1), 3: LOG(0.2), 9: LOG(0.1), 77: LOG(0.5)}
    assert tree.probabilities({(): told}) == pytest.approx((0.25, 0.5, 0.25))


def test_tokens_that_need_no_question() -> None:
    """Where only one token can come next, nothing is asked."""
    tree = LabelTree.of([[325, 405], [314, 347]])
    assert [branching.path for branching in tree.branchings] == [()]
    assert tree.probabilities({(): {325: -1.0, 314: -1.0}}) == pytest.approx((0.5, 0.5))


def test_probabilities_far_below_what_a_float_can_hold() -> None:
    """Only differences count."""
    assert LabelTree.of([[1], [2]]).probabilities({(): {1: -5000.0, 2: -5000.0}}) == (0.5, 0.5)


@given(st.integers(2, 255), st.randoms(use_true_random=False))
def test_any_number_of_options(count: int, random: object) -> None:
    """Labels are unique, equally long, and their probabilities are those of drawing under a mask: together 1."""
    labels = option_labels(count)
    assert len(set(labels)) == count
    assert len({len(label) for label in labels}) == 1
    tree = LabelTree.of([[ord(char) for char in label] for label in labels])
    told = {
        branching.path: {token: -float(hash((str(random), branching.path, token)) % 7) for token in branching.ids}
        for branching in tree.branchings
    }
    probabilities = tree.probabilities(told)
    assert math.fsum(probabilities) == pytest.approx(1)
    assert all(0 < probability < 1 for probability in probabilities)


def test_levels() -> None:
    """Levels are called by their value."""
    assert level_labels(3) == ("0", "1", "2")
    assert len(level_labels(10)) == 10


@pytest.mark.parametrize("labels", [[[1], [1]], [[1], [1, 2]]])
def test_labels_that_cannot_be_told_apart(labels: list[list[int]]) -> None:
    """A label twice, or one that begins another, is our own mistake."""
    with pytest.raises(AssertionError):
        LabelTree.of(labels)


def test_letters_and_numbers() -> None:
    """Letters as long as they last, then numbers."""
    assert option_labels(26)[-1] == "Z"
    assert [option_labels(count)[0] for count in accumulate([27, 63, 1])] == ["10", "10", "100"]
