"""What every test has: a leak check, and hypothesis without a stopwatch."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

from tests.leaks import LeakWatch, shared_memory

# A loaded machine is slow, not wrong: examples have no time limit of their own, the test has (pytest's timeout).
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", _PATIENT, max_examples=30)
settings.register_profile("thorough", _PATIENT, max_examples=300)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

_shared_memory_before: set[str] = set()


def pytest_configure(config: pytest.Config) -> None:
    """What a shell runs in the background has SIGINT ignored, and so would all that is begun here."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "leaky(reason): leaves something behind that is not ours to close")


@pytest.fixture(autouse=True)
def _no_leaks(request: pytest.FixtureRequest) -> object:
    """Fails a test that leaves a task, thread, child process, descriptor or shared-memory object behind."""
    watch = LeakWatch()
    yield
    if request.node.get_closest_marker("leaky") is None:
        leaks = watch.leaks()
        if leaks:
            pytest.fail("left behind: " + "; ".join(leaks), pytrace=False)


def pytest_sessionstart() -> None:
    _shared_memory_before.update(shared_memory())


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Shared memory has no owner that could be asked, so under xdist only the whole run can be judged."""
    left = shared_memory() - _shared_memory_before
    if left and not hasattr(session.config, "workerinput"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        raise pytest.UsageError(f"the tests left in /dev/shm: {', '.join(sorted(left))}")
