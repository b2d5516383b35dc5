"""Finding GPUs and laying out seats."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest

from gemmad.config.schema import WorkersSection
from gemmad.errors import ConfigError
from gemmad.supervisor.gpus import Gpu, Gpus, find_gpus, seats, select_gpus, usable_cores
from gemmad.supervisor.seat import Seat


class NvmlError(Exception):
    pass


class NotSupportedError(NvmlError):
    pass


class FakeNvml:
    """As much of pynvml as is used; GPU `lost` does not answer."""

    NVMLError = NvmlError
    NVMLError_NotSupported = NotSupportedError

    def __init__(self, *, count: int = 2, lost: int | None = None, driver: bool = True, counts: bool = True) -> None:
        self.count, self.lost, self.driver, self.counts = count, lost, driver, counts
        self.open = 0

    def nvmlInit(self) -> None:  # noqa: N802 - the library's name
        if not self.driver:
            raise NvmlError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        if self.count < 0:
            raise NvmlError("Unknown Error")
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if index == self.lost:
            raise NvmlError("GPU is lost")
        return index

    def nvmlDeviceGetPciInfo(self, device: int) -> Any:  # noqa: N802
        return types.SimpleNamespace(busId=f"00000000:{device:02X}:00.0".encode())

    def nvmlDeviceGetMemoryInfo(self, device: int) -> Any:  # noqa: N802
        if not self.counts:
            raise NotSupportedError("Not Supported")
        return types.SimpleNamespace(total=80 << 30, used=device << 30)

    def nvmlDeviceGetUUID(self, device: int) -> str:  # noqa: N802
        return f"GPU-{device:04x}-aaaa"

    def nvmlDeviceGetName(self, device: int) -> str:  # noqa: N802
        return "NVIDIA H200"


def found(count: int) -> Gpus:
    return find_gpus(lambda: FakeNvml(count=count))


def test_gpus_are_described() -> None:
    """Index, UUID, name and memory come from NVML, which is closed again."""
    nvml = FakeNvml()
    gpus = find_gpus(lambda: nvml)
    assert [gpu.uuid for gpu in gpus.found] == ["GPU-0000-aaaa", "GPU-0001-aaaa"]
    assert gpus.found[1] == Gpu(
        index=1,
        uuid="GPU-0001-aaaa",
        name="NVIDIA H200",
        pci_bus_id="00000000:01:00.0",
        numa_node=gpus.found[1].numa_node,
        total_bytes=80 << 30,
        used_bytes=1 << 30,
    )
    assert gpus.problem is None
    assert nvml.open == 0


def test_no_library_is_no_gpu() -> None:
    """Without nvidia-ml-py or without a driver there are no GPUs, and words that say why."""

    def missing() -> Any:
        raise ImportError("No module named 'pynvml'")

    assert find_gpus(missing).found == ()
    assert "nvidia-ml-py" in (find_gpus(missing).problem or "")
    assert "does not count" in (find_gpus(lambda: FakeNvml(count=-1)).problem or "")
    assert "Driver Not Loaded" in (find_gpus(lambda: FakeNvml(driver=False)).problem or "")


def test_the_real_library_answers() -> None:
    """Whatever this machine has, nothing is raised: GPUs, or a reason for none."""
    gpus = find_gpus()
    assert gpus.found or gpus.problem


def test_a_lost_gpu_does_not_hide_the_others() -> None:
    """One that does not answer is named; the others are there."""
    gpus = find_gpus(lambda: FakeNvml(count=3, lost=1))
    assert [gpu.index for gpu in gpus.found] == [0, 2]
    assert "GPU 1 does not answer" in (gpus.problem or "")


def test_memory_that_is_not_counted_is_unknown() -> None:
    """A GPU that shares the host's memory has no numbers, and is there."""
    assert find_gpus(lambda: FakeNvml(counts=False)).found[0].total_bytes is None


@pytest.mark.parametrize(
    ("wanted", "indices"),
    [("all", [0, 1, 2]), (("1",), [1]), (("GPU-0002-aaaa", "0"), [2, 0]), (("GPU-0001",), [1]), (("1", "1"), [1])],
)
def test_gpus_are_chosen_by_index_or_uuid(wanted: Any, indices: list[int]) -> None:
    """All, an index, a UUID or its beginning, in the order they were named, each once."""
    assert [gpu.index for gpu in select_gpus(found(3).found, wanted)] == indices


@pytest.mark.parametrize("wanted", [("3",), ("GPU-",), ("H200",)])
def test_a_gpu_that_is_not_there_is_an_error(wanted: tuple[str, ...]) -> None:
    """A name that means none, or more than one, is refused with what there is."""
    with pytest.raises(ConfigError, match="GPU-0002-aaaa"):
        select_gpus(found(3).found, wanted)


def test_seats_on_gpus() -> None:
    """Each worker sees its GPU alone, as cuda:0."""
    section = WorkersSection(per_gpu=2)
    assert [
        (seat.name, seat.device, seat.env) for seat in seats("auto", section, find=lambda: found(2), environ={})
    ] == [
        ("gpu0.0", "cuda:0", {"CUDA_VISIBLE_DEVICES": "GPU-0000-aaaa"}),
        ("gpu0.1", "cuda:0", {"CUDA_VISIBLE_DEVICES": "GPU-0000-aaaa"}),
        ("gpu1.0", "cuda:0", {"CUDA_VISIBLE_DEVICES": "GPU-0001-aaaa"}),
        ("gpu1.1", "cuda:0", {"CUDA_VISIBLE_DEVICES": "GPU-0001-aaaa"}),
    ]
    assert [seat.name for seat in seats("cuda", WorkersSection(), find=lambda: found(2), environ={})] == [
        "gpu0",
        "gpu1",
    ]


def test_seats_on_the_cpu_share_the_cores() -> None:
    """CPU workers split the cores, or take the threads that the settings name, and see no GPU."""
    assert seats("cpu", WorkersSection(count=3), cores=8)[2] == Seat(
        "cpu2", "cpu", {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "2"}, threads=2
    )
    assert seats("cpu", WorkersSection(count=3), cores=2)[0].threads == 1
    assert seats("cpu", WorkersSection(count=1, cpu_threads=5), cores=2)[0].threads == 5


def test_auto_takes_the_cpu_where_no_gpu_is() -> None:
    """Without a GPU `auto` computes on the CPU, and `cuda` is an error that says why."""
    none = Gpus(found=(), problem="no NVIDIA driver answers")
    assert seats("auto", WorkersSection(), find=lambda: none, cores=4, environ={})[0].device == "cpu"
    with pytest.raises(ConfigError, match="no NVIDIA driver answers"):
        seats("cuda", WorkersSection(), find=lambda: none, environ={})
    with pytest.raises(ConfigError, match="no GPU '0'"):
        seats("auto", WorkersSection(gpus=("0",)), find=lambda: none, environ={})


@pytest.mark.parametrize(
    ("visible", "names"), [("1", ["gpu1"]), ("", ["cpu0"]), ("-1", ["cpu0"]), ("GPU-0000", ["gpu0"])]
)
def test_the_daemons_own_narrowing_holds(visible: str, names: list[str]) -> None:
    """`all` means all that CUDA_VISIBLE_DEVICES left to the daemon."""
    taken = seats("auto", WorkersSection(), find=lambda: found(2), cores=1, environ={"CUDA_VISIBLE_DEVICES": visible})
    assert [seat.name for seat in taken] == names


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
