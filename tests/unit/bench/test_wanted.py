from __future__ import annotations

import msgspec
import pytest

from gemmad.bench.run import ON_THE_ENGINE
from gemmad.bench.sizes import sizes_for
from gemmad.bench.stage import Budget
from gemmad.bench.wanted import COMPARISONS, SCENARIOS, Wanted


class Clock:
    """Stands still until it is told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_all_that_needs_no_flag_runs_by_itself() -> None:
    """Everything but the comparison, most important first; a checkpoint's start too, as it costs no disk."""
    assert Wanted(model="m").scenarios == tuple(name for name in SCENARIOS if name not in COMPARISONS)
    assert "start" not in Wanted(random_weights="12b").scenarios
    assert "start" not in Wanted(model="m", quick=True).scenarios


def test_names_and_the_comparison_add_up() -> None:
    """Chosen scenarios run in their usual order; the comparison brings what it is set against."""
    assert Wanted(model="m", only=("start", "decode")).scenarios == ("decode", "start")
    assert Wanted(model="m", only=("image",), compare=True).scenarios == (
        "decode",
        "prefill",
        "image",
        "agreement",
        "transformers",
    )
    assert Wanted(random_weights="12b", only=("agreement",)).scenarios == ("agreement",)


def test_every_scenario_is_known_to_the_program() -> None:
    """Each name either runs on the engine or after it."""
    assert set(SCENARIOS) - set(ON_THE_ENGINE) == {"agreement", "transformers", "start"}


def test_what_was_wanted_travels_as_json() -> None:
    """The two programs understand each other, and a slip is refused."""
    wanted = Wanted(model="m", only=("decode",), seconds=3.0, command=("gemmad", "bench"))
    assert msgspec.json.decode(msgspec.json.encode(wanted), type=Wanted) == wanted
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"modle": "m"}', type=Wanted)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_is_compared_is_measured_too(device: str) -> None:
    """transformers' sizes are among ours, also in a quick run, and a quick run asks for no more than a whole one."""
    for quick in (False, True):
        sizes = sizes_for(device, quick=quick)
        assert set(sizes.compared_batches) <= set(sizes.batches)
        assert sizes.compared_prefill in sizes.prefills
        assert max(sizes.batches) <= sizes.sequences
        assert max(sizes.prefills) < sizes.context


def test_a_budget_runs_out() -> None:
    """Repeats end early when time does, but never before the first."""
    clock = Clock()
    budget = Budget(10.0, clock=clock)
    taken = 0
    for _ in budget.repeats(5):
        taken += 1
        clock.now += 4.0
    assert taken == 3
    assert (budget.over, budget.left, budget.spent) == (True, 0.0, 12.0)
    assert list(budget.repeats(5)) == [0]


def test_without_a_limit_nothing_runs_out() -> None:
    """All repeats are had, whatever they take."""
    clock = Clock()
    budget = Budget(None, clock=clock)
    clock.now += 1e6
    assert not budget.over
    assert list(budget.repeats(2)) == [0, 1]
