"""From looks at the GPUs to the seats of workers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.config.schema import WorkersSection
from gemmad.errors import ConfigError
from gemmad.supervisor.gpus import Gpu, Gpus
from gemmad.supervisor.seat import Seat
from gemmad.supervisor.seating import Seating, selected, usable_cores

ABSENT = Gpus((), "no NVIDIA driver is installed")
COMING = Gpus((), "no NVIDIA driver answers", may_come=True)


def gpu(index: int, uuid: str | None = None, **fields: Any) -> Gpu:
    return Gpu(index=index, uuid=uuid or f"GPU-{index:04x}-aaaa", name="NVIDIA H200", **fields)


def part(index: int, mig: int, uuid: str) -> Gpu:
    return gpu(index, uuid, mig=mig, parent_uuid=f"GPU-{index:04x}-aaaa")


def found(*gpus: Gpu) -> Gpus:
    return Gpus(gpus)


TWO = found(gpu(0), gpu(1))


def seating(device: Any = "auto", *, environ: dict[str, str] | None = None, **section: Any) -> Seating:
    return Seating(
        device, WorkersSection(**section), environ=environ or {}, cores=16, cpus=frozenset(range(16)), env={"X": "1"}
    )


def places(seats: Sequence[Seat]) -> list[tuple[str, str | None]]:
    return [(seat.name, seat.gpu) for seat in seats]


def test_each_worker_sees_its_gpu_alone() -> None:
    """On a GPU a worker has it as cuda:0, the variables of all workers, and a bounded number of threads."""
    seats = seating(per_gpu=2).settle(TWO)
    assert [seat.name for seat in seats] == ["gpu0.0", "gpu0.1", "gpu1.0", "gpu1.1"]
    env = {"X": "1", "CUDA_VISIBLE_DEVICES": "GPU-0000-aaaa", "OMP_NUM_THREADS": "4"}
    assert seats[0] == Seat("gpu0.0", "cuda:0", env, gpu="GPU-0000-aaaa")


def test_processors_follow_the_gpu() -> None:
    """A worker runs beside its GPU, on processors that the daemon may use; what a person set for threads stays."""
    near = found(gpu(0, cpus=(0, 1, 2, 3)), gpu(1, cpus=(14, 15, 16, 17)), gpu(2, cpus=(40,)))
    seats = seating(environ={"OMP_NUM_THREADS": "3"}).settle(near)
    assert [seat.cpus for seat in seats] == [(0, 1, 2, 3), (14, 15), ()]
    assert "OMP_NUM_THREADS" not in seats[0].env
    assert [seat.env["OMP_NUM_THREADS"] for seat in seating().settle(near)] == ["4", "2", "8"]


def test_seats_on_the_cpu_share_the_cores() -> None:
    """CPU workers split the cores, or take the threads that the settings name, and see no GPU."""
    env = {"X": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "5"}
    cpu = seating("cpu", count=3)
    assert not cpu.on_gpus
    assert cpu.settle(TWO)[2] == Seat("cpu2", "cpu", env, threads=5)
    assert seating("cpu", count=64).settle(TWO)[0].threads == 1
    assert seating("cpu", cpu_threads=7).settle(TWO)[0].threads == 7


def test_auto_takes_the_cpu_only_where_no_gpu_will_come() -> None:
    """Without a driver it computes on the CPU, for good; a card whose driver is late is waited for."""
    alone = seating()
    assert places(alone.settle(ABSENT)) == [("cpu0", None)]
    assert places(alone.settle(TWO)) == [("cpu0", None)]
    patient = seating()
    assert places(patient.settle(COMING)) == [("gpu0", "0")]
    assert places(patient.settle(ABSENT)) == [("gpu0", "0")]
    assert places(patient.settle(TWO)) == [("gpu0", "GPU-0000-aaaa"), ("gpu1", "GPU-0001-aaaa")]


def test_cuda_waits_for_whatever_comes() -> None:
    """Asked for by name, or with `cuda`, a GPU that is not there has a seat whose worker waits for it."""
    assert places(seating("cuda").settle(ABSENT)) == [("gpu0", "0")]
    named = seating(gpus=("1", "GPU-0002"))
    assert places(named.settle(ABSENT)) == [("GPU-0002", "GPU-0002"), ("gpu1", "1")]
    assert places(named.settle(TWO)) == [("GPU-0002", "GPU-0002"), ("gpu1", "GPU-0001-aaaa")]
    assert places(named.settle(found(gpu(0), gpu(1), gpu(2)))) == [
        ("gpu1", "GPU-0001-aaaa"),
        ("gpu2", "GPU-0002-aaaa"),
    ]


@pytest.mark.parametrize("names", [("H200",), ("-2",), ("0:x",)])
def test_what_cannot_name_a_gpu_is_refused(names: tuple[str, ...]) -> None:
    """It is said at once instead of waiting for it."""
    with pytest.raises(ConfigError, match="neither an index nor a UUID"):
        seating(gpus=names).settle(TWO)


def test_a_beginning_that_fits_several_is_refused() -> None:
    """With what there is."""
    with pytest.raises(ConfigError, match="GPU-0001-aaaa"):
        seating(gpus=("GPU-00",)).settle(TWO)


@pytest.mark.parametrize(
    ("visible", "names"), [("1", ["gpu1"]), ("", ["cpu0"]), ("-1", ["cpu0"]), ("GPU-0000", ["gpu0"])]
)
def test_the_daemons_own_narrowing_holds(visible: str, names: list[str]) -> None:
    """`all` means all that CUDA_VISIBLE_DEVICES left to the daemon."""
    seats = seating(environ={"CUDA_VISIBLE_DEVICES": visible}).settle(TWO)
    assert [seat.name for seat in seats] == names


def test_cuda_with_every_gpu_hidden_cannot_work() -> None:
    """That is a mistake, not something to wait for."""
    with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES"):
        seating("cuda", environ={"CUDA_VISIBLE_DEVICES": ""}).settle(TWO)


def test_a_lost_gpu_keeps_its_seat() -> None:
    """It is waited for, and taken again when it is back; the others are not touched."""
    alive = seating()
    before = alive.settle(TWO)
    assert alive.settle(found(gpu(0))) == before
    assert alive.settle(ABSENT) == before
    assert alive.settle(TWO) == before


def test_an_index_goes_on_meaning_the_gpu_that_it_meant() -> None:
    """When one falls out and the driver counts anew, neither names nor choices slip to another GPU."""
    chosen = seating(gpus=("1",))
    before = chosen.settle(found(gpu(0, "GPU-a"), gpu(1, "GPU-b"), gpu(2, "GPU-c")))
    assert places(before) == [("gpu1", "GPU-b")]
    assert chosen.settle(found(gpu(0, "GPU-a"), gpu(1, "GPU-c"))) == before
    everyone = seating()
    before = everyone.settle(found(gpu(0, "GPU-a"), gpu(1, "GPU-b"), gpu(2, "GPU-c")))
    assert everyone.settle(found(gpu(0, "GPU-b"), gpu(1, "GPU-c"))) == before


def test_a_new_gpu_in_the_place_of_a_lost_one() -> None:
    """It takes the name and the seat; one that is counted like another that is there gets the next free name."""
    swapped = seating()
    swapped.settle(found(gpu(0, "GPU-a"), gpu(1, "GPU-b")))
    assert places(swapped.settle(found(gpu(0, "GPU-a"), gpu(1, "GPU-n")))) == [("gpu0", "GPU-a"), ("gpu1", "GPU-n")]
    assert places(swapped.settle(found(gpu(0, "GPU-m"), gpu(1, "GPU-a"), gpu(2, "GPU-n")))) == [
        ("gpu0", "GPU-a"),
        ("gpu1", "GPU-n"),
        ("gpu2", "GPU-m"),
    ]


def test_seats_on_slices() -> None:
    """Each slice is a place of its own; a GPU's name means all its slices, 0:1 and MIG-… mean one."""
    cut = found(part(0, 0, "MIG-a"), part(0, 1, "MIG-b"), gpu(1))
    assert places(seating().settle(cut)) == [("gpu0:0", "MIG-a"), ("gpu0:1", "MIG-b"), ("gpu1", "GPU-0001-aaaa")]
    assert seating().settle(cut)[0].env["CUDA_VISIBLE_DEVICES"] == "MIG-a"
    for name in ("0", "GPU-0000-aaaa", "GPU-0000"):
        assert places(seating(gpus=(name,)).settle(cut)) == [("gpu0:0", "MIG-a"), ("gpu0:1", "MIG-b")]
    for name in ("0:1", "MIG-b"):
        assert places(seating(gpus=(name,)).settle(cut)) == [("gpu0:1", "MIG-b")]


def test_slices_that_were_cut_anew() -> None:
    """What is not there beside other slices of its GPU was taken away; what is new is taken, by a GPU's name too."""
    for changing in (seating(), seating(gpus=("0",))):
        changing.settle(found(part(0, 0, "MIG-a"), part(0, 1, "MIG-b")))
        assert places(changing.settle(found(part(0, 0, "MIG-n")))) == [("gpu0:0", "MIG-n")]
        assert places(changing.settle(COMING)) == [("gpu0:0", "MIG-n")]


UUIDS = [f"GPU-{letter}" for letter in "abcdef"]


@given(st.lists(st.lists(st.sampled_from(UUIDS), unique=True), max_size=8), st.booleans())
def test_seats_are_steady(looks: list[list[str]], named: bool) -> None:
    """Whatever comes and goes, names are unique, what is there has a seat, and what has a seat keeps it while there."""
    steady = seating("cuda", gpus=tuple(UUIDS[:2]) if named else "all")
    before: dict[str | None, str] = {}
    for look in looks:
        seats = steady.settle(Gpus(tuple(gpu(index, uuid) for index, uuid in enumerate(look)), may_come=True))
        names = {seat.gpu: seat.name for seat in seats}
        assert len({seat.name for seat in seats}) == len(names) == len(seats) > 0
        wanted = set(UUIDS[:2]) if named else set(UUIDS)
        assert set(look) & wanted <= set(names)
        assert set(names) <= wanted | {"0"}
        assert all(names[uuid] == name for uuid, name in before.items() if uuid in look)
        before = {uuid: name for uuid, name in names.items() if uuid in look or uuid in before}


@pytest.mark.parametrize(
    ("wanted", "indices"),
    [("all", [0, 1, 2]), (("1",), [1]), (("GPU-0002-aaaa", "0"), [2, 0]), (("GPU-0001",), [1]), (("1", "1"), [1])],
)
def test_gpus_are_selected_by_index_or_uuid(wanted: Any, indices: list[int]) -> None:
    """All, an index, a UUID or its beginning, in the order they were named, each once."""
    gpus = found(gpu(0), gpu(1), gpu(2))
    assert [gpu.index for gpu in selected(gpus, WorkersSection(gpus=wanted), environ={})] == indices


def test_a_selected_gpu_that_is_not_there_is_an_error() -> None:
    """It is named, with what there is."""
    with pytest.raises(ConfigError, match=r"no GPU '3'; found: 0 \(GPU-0000-aaaa\)"):
        selected(found(gpu(0)), WorkersSection(gpus=("3",)), environ={})


def test_a_containers_quota_bounds_the_cores(tmp_path: Path) -> None:
    """A quota of one and a half cores is two threads at most, and no quota is the affinity."""
    path = tmp_path / "cpu.max"
    path.write_text("max 100000\n")
    free = usable_cores(path)
    assert free == usable_cores(tmp_path / "missing")
    path.write_text("150000 100000\n")
    assert usable_cores(path) == min(free, 2)
    path.write_text("1000 100000\n")
    assert usable_cores(path) == 1
