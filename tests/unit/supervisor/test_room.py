"""Whether a life fits on its seat."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.supervisor.gpus import Gpu, Gpus, Holder
from gemmad.supervisor.room import fits_beside, lack_on, needed_bytes

GIB = 1 << 30


def gpu(**fields: Any) -> Gpu:
    return Gpu(**{"index": 0, "uuid": "GPU-a", "name": "", "total_bytes": 80 * GIB, "used_bytes": GIB, **fields})


def test_enough() -> None:
    """With its share free there is no lack, nor where nobody counts."""
    assert lack_on(Gpus((gpu(),)), "GPU-a", fraction=0.9, planned_bytes=None) is None
    uncounted = gpu(total_bytes=None, used_bytes=None)
    assert lack_on(Gpus((uncounted,)), "GPU-a", fraction=0.9, planned_bytes=GIB) is None


def test_memory_that_is_not_back() -> None:
    """What is free, what is needed and who holds it are told."""
    held = gpu(used_bytes=20 * GIB, holders=(Holder(7, "python", 19 * GIB), Holder(8, "Xorg", None)))
    lack = lack_on(Gpus((held,)), "GPU-a", fraction=0.9, planned_bytes=None)
    assert lack is not None
    assert lack.stage == "memory"
    assert lack.words == (
        "GPU 0 has 60.0 GiB free of 72.0 GiB needed; it is held by python (pid 7) 19.0 GiB, Xorg (pid 8)"
    )
    nobody = lack_on(Gpus((gpu(used_bytes=20 * GIB),)), "GPU-a", fraction=0.9, planned_bytes=None)
    assert nobody is not None
    assert "nobody that shows" in nobody.words


def test_what_the_last_life_took_is_what_the_next_one_needs() -> None:
    """A plan that is known counts instead of all that the settings allow."""
    assert lack_on(Gpus((gpu(used_bytes=20 * GIB),)), "GPU-a", fraction=0.9, planned_bytes=50 * GIB) is None


def test_a_gpu_that_is_not_there() -> None:
    """It is named, with why and with what there is."""
    gpus = Gpus((gpu(uuid="GPU-b"),), "GPU 0 does not answer: GPU is lost")
    lack = lack_on(gpus, "GPU-a", fraction=0.9, planned_bytes=1)
    assert lack is not None
    assert lack.stage == "gpu"
    assert lack.words == "GPU GPU-a is not there (GPU 0 does not answer: GPU is lost); found: 0 (GPU-b)"


@given(st.integers(1, 1 << 40), st.floats(0.01, 0.98), st.none() | st.integers(0, 1 << 41))
def test_no_life_needs_more_than_it_may_take(total: int, fraction: float, planned: int | None) -> None:
    """Whatever was planned, the settings' share is the most."""
    needed = needed_bytes(gpu(total_bytes=total), fraction=fraction, planned_bytes=planned)
    assert needed is not None
    assert 0 <= needed <= total * fraction


@pytest.mark.parametrize(
    ("rss", "available", "fits"), [(10, 11, True), (10, 10, False), (0, 0, True), (10, None, True)]
)
def test_the_host_must_hold_two(rss: int, available: int | None, fits: bool) -> None:
    """A second process needs what the first has and a little more; where nobody counts it is let."""
    assert fits_beside(rss_bytes=rss, available_bytes=available) is fits
