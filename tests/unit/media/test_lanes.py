"""Which picture is made ready next."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from gemmad.media.lanes import Lanes


@dataclass(frozen=True)
class Picture:
    number: int
    fetches: bool


def _filled(processes: int, fetches: list[bool]) -> Lanes[Picture]:
    lanes: Lanes[Picture] = Lanes(processes)
    for number, fetch in enumerate(fetches):
        lanes.push(Picture(number, fetch))
    return lanes


@given(st.lists(st.booleans()))
def test_first_come_first_served(fetches: list[bool]) -> None:
    """While fetching may start, both lanes are served in order of arrival."""
    lanes = _filled(2, fetches)
    taken = [lanes.take(fetching=0) for _ in fetches]
    assert [picture.number for picture in taken if picture] == list(range(len(fetches)))
    assert lanes.take(fetching=0) is None
    assert len(lanes) == 0


def test_fetching_leaves_a_process_for_the_rest() -> None:
    """With three processes two may fetch; the third serves pictures in hand, and idles rather than fetch."""
    lanes = _filled(3, [True, True, True, False])
    assert lanes.take(fetching=2) == Picture(3, fetches=False)
    assert lanes.take(fetching=2) is None
    assert lanes.take(fetching=1) == Picture(0, fetches=True)


def test_a_single_process_serves_both() -> None:
    """One process alone does fetch."""
    assert _filled(1, [True]).take(fetching=0) == Picture(0, fetches=True)


def test_who_leaves_is_not_served() -> None:
    """A discarded picture is gone from its lane; discarding it again is nothing."""
    lanes = _filled(2, [False, True, False])
    for picture in (Picture(0, fetches=False), Picture(1, fetches=True), Picture(1, fetches=True)):
        lanes.discard(picture)
    assert len(lanes) == 1
    assert lanes.clear() == [Picture(2, fetches=False)]
    assert lanes.take(fetching=0) is None


@given(st.lists(st.booleans()), st.lists(st.integers(0, 3)), st.integers(1, 4))
def test_no_picture_is_lost_or_served_twice(fetches: list[bool], others: list[int], processes: int) -> None:
    """Whatever is fetched beside, each picture is taken once or still waits."""
    lanes = _filled(processes, fetches)
    taken = [(fetching, picture) for fetching in others if (picture := lanes.take(fetching=fetching))]
    assert all(fetching < max(1, processes - 1) for fetching, picture in taken if picture.fetches)
    pictures = [picture for _, picture in taken] + lanes.clear()
    assert sorted(picture.number for picture in pictures) == list(range(len(fetches)))
