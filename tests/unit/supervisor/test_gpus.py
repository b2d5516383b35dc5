"""What one look at the GPUs sees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gemmad.supervisor.gpus import Gpu, Gpus, Holder, find_gpus, has_card
from gemmad.supervisor.nvml import Nvml
from tests.fakes.nvml import GIB, Device, FakeNvml, NVMLError, NVMLError_LibraryNotFound, nvml


def look(library: FakeNvml, pci_devices: Path = Path("/nonexistent")) -> Gpus:
    gpus = find_gpus(lambda: library, pci_devices=pci_devices)
    assert library.open == 0
    return gpus


def card(folder: Path, vendor: str = "0x10de", kind: str = "0x030200") -> Path:
    """A PCI bus with one card."""
    device = folder / "0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n")
    (device / "class").write_text(f"{kind}\n")
    return folder


def test_gpus_are_described() -> None:
    """Index, UUID, memory, who holds it and the processors beside it come from NVML, which is closed again."""
    me = os.getpid()
    library = FakeNvml(
        Device(uuid="GPU-a"), Device(uuid="GPU-b", used_bytes=3 * GIB, processes=((me, 2 * GIB), (0, None)))
    )
    gpus = look(library)
    assert gpus.problem is None
    assert [gpu.uuid for gpu in gpus.found] == ["GPU-a", "GPU-b"]
    name = Path("/proc/self/comm").read_text().strip()
    assert gpus.found[1] == Gpu(
        index=1,
        uuid="GPU-b",
        name="NVIDIA H200",
        total_bytes=80 * GIB,
        used_bytes=3 * GIB,
        cpus=(0, 1, 2, 3),
        holders=(Holder(me, name, 2 * GIB), Holder(0, "a process of another container", None)),
    )
    assert gpus.found[1].free_bytes == 77 * GIB
    assert str(gpus.found[1].holders[0]) == f"{name} (pid {me}) 2.0 GiB"


def test_no_library_is_no_gpu_and_none_will_come() -> None:
    """Without nvidia-ml-py or without an installed driver there are no GPUs, and words that say why."""

    def missing() -> Nvml:
        raise ImportError("No module named 'pynvml'")

    assert find_gpus(missing) == Gpus((), "the package nvidia-ml-py cannot be imported: No module named 'pynvml'")
    library = nvml()
    library.fault = NVMLError_LibraryNotFound("NVML Shared Library Not Found")
    gpus = look(library)
    assert "no NVIDIA driver is installed" in (gpus.problem or "")
    assert not gpus.may_come


def test_a_card_without_its_driver_may_still_come(tmp_path: Path) -> None:
    """A driver that does not answer yet is hope where a card is on the bus, and none where there is none."""
    library = nvml()
    library.fault = NVMLError("Driver Not Loaded")
    assert look(library).may_come is False
    gpus = look(library, card(tmp_path))
    assert gpus.may_come
    assert "Driver Not Loaded" in (gpus.problem or "")
    library.fault, library.miscounts = None, True
    assert "does not count" in (look(library).problem or "")


@pytest.mark.parametrize(("vendor", "kind", "counts"), [("0x10de", "0x040300", False), ("0x8086", "0x030000", False)])
def test_only_an_nvidia_card_counts(tmp_path: Path, vendor: str, kind: str, counts: bool) -> None:
    """Its sound function, and other makers' cards, are none."""
    assert has_card(card(tmp_path, vendor, kind)) is counts


def test_the_real_library_answers() -> None:
    """Whatever this machine has, nothing is raised: GPUs, or a reason for none."""
    gpus = find_gpus()
    assert gpus.found or gpus.problem


def test_a_lost_gpu_does_not_hide_the_others() -> None:
    """One that does not answer is named; the others are there."""
    gpus = look(FakeNvml(Device(uuid="GPU-a"), Device(uuid="GPU-b", lost=True), Device(uuid="GPU-c")))
    assert [gpu.index for gpu in gpus.found] == [0, 2]
    assert gpus.problem == "GPU 1 does not answer: GPU is lost"
    assert gpus.may_come


def test_what_a_gpu_cannot_tell_is_unknown() -> None:
    """One that shares the host's memory has no numbers, and one whose node is unknown has no processors."""
    gpu = look(FakeNvml(Device(uuid="GPU-a", counts=False, cpu_words=()))).found[0]
    assert (gpu.total_bytes, gpu.free_bytes, gpu.holders, gpu.cpus) == (None, None, (), ())


def test_slices_stand_for_their_gpu() -> None:
    """A GPU in MIG mode cannot be used as a whole: its slices are there instead, each with its own memory."""
    slices = (Device(uuid="MIG-a", used_bytes=0), None, Device(uuid="MIG-b"))
    library = FakeNvml(Device(uuid="GPU-a", mig=True, slices=slices), Device(uuid="GPU-b", mig=False))
    gpus = look(library)
    assert [(gpu.label, gpu.uuid, gpu.parent_uuid) for gpu in gpus.found] == [
        ("0:0", "MIG-a", "GPU-a"),
        ("0:2", "MIG-b", "GPU-a"),
        ("1", "GPU-b", None),
    ]
    assert gpus.found[0].cpus == (0, 1, 2, 3)
    assert str(gpus) == "0:0 (MIG-a), 0:2 (MIG-b), 1 (GPU-b)"


def test_a_gpu_in_mig_mode_without_slices() -> None:
    """It is not there, and says what it lacks."""
    gpus = look(FakeNvml(Device(uuid="GPU-a", mig=True, slices=(None, None))))
    assert gpus == Gpus((), "GPU 0 is in MIG mode and has no slices", may_come=True)
