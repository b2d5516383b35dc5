"""Waking a GPU early, seen by a driver that is played."""

from __future__ import annotations

from typing import Any

import pytest

from gemmad.generation import EngineSettings
from gemmad.worker.context import wake_device


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is set for the driver is put back."""
    monkeypatch.setenv("CUDA_MODULE_LOADING", "LAZY")


class Driver:
    """Writes down what it is asked for; `fails` answers with an error."""

    def __init__(self, *, fails: str = "") -> None:
        self.calls: list[tuple[str, int]] = []
        self._fails = fails

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self._answer("cuInit", flags)

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = 40 + index
        return self._answer("cuDeviceGet", index)

    def cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:  # noqa: N802
        context._obj.value = 1
        return self._answer("cuDevicePrimaryCtxRetain", device.value)

    def _answer(self, name: str, value: int) -> int:
        self.calls.append((name, value))
        return 100 if name == self._fails else 0


def wake(device: str, driver: Any) -> bool:
    """Whether a thread went to wake it; it has ended."""
    thread = wake_device(EngineSettings(checkpoint="x", device=device), library=driver)
    if thread is not None:
        thread.join(10)
    return thread is not None


def test_the_primary_context_is_retained() -> None:
    """The driver is initialised and the context of the worker's GPU is made, in this order."""
    driver = Driver()
    assert wake("cuda:2", lambda: driver)
    assert driver.calls == [("cuInit", 0), ("cuDeviceGet", 2), ("cuDevicePrimaryCtxRetain", 42)]


@pytest.mark.parametrize(("fails", "calls"), [("cuInit", 1), ("cuDeviceGet", 2), ("cuDevicePrimaryCtxRetain", 3)])
def test_errors_are_left_to_torch(fails: str, calls: int) -> None:
    """After an error nothing more is asked, and nothing is raised."""
    driver = Driver(fails=fails)
    assert wake("cuda:0", lambda: driver)
    assert len(driver.calls) == calls


def test_a_machine_without_a_driver() -> None:
    """A library that is not there is no error here."""

    def missing() -> Any:
        raise OSError("libcuda.so.1: cannot open shared object file")

    assert wake("cuda", missing)


def test_a_cpu_needs_no_waking() -> None:
    """On a CPU no thread is started and no library is looked for."""
    assert not wake("cpu", lambda: pytest.fail("looked for a driver"))
