"""The media pool with real processes: pictures in, pixels out, and what a picture does to a process stays there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gemmad.config.schema import MediaSection
from gemmad.errors import InvalidRequestError, QueueFullError, UnavailableError
from gemmad.media.decode import decode
from gemmad.media.pixels import Pixels, digest_of
from gemmad.media.pool import MediaPool, MediaStatus
from gemmad.media.seat import Seat, SeatState
from gemmad.media.spec import ImageSpec
from gemmad.media.task import Task
from gemmad.media.wire import Begin
from tests.fakes import media_pictures as pictures
from tests.fakes.media_server import drip, redirect, respond, serving, silence

SPEC = ImageSpec(height=16, width=24)
EVERY_KIND = pictures.every_kind()
CAT = EVERY_KIND["png rgb"]
PARAM = "messages.0.content.1.image_url.url"
MIB = 1 << 20
CRASHED = "The image could not be decoded (the decoder ran out of memory or crashed)."


class Settings:
    """A section that can be changed while the pool runs."""

    def __init__(self, **values: Any) -> None:
        self.section = MediaSection(**values)

    def __call__(self) -> MediaSection:
        return self.section

    def change(self, **values: Any) -> None:
        self.section = self.section.model_copy(update=values)


def _drive(
    scene: Callable[[MediaPool], Awaitable[None]],
    *,
    settings: Settings | None = None,
    spec: ImageSpec = SPEC,
    processes: int = 1,
    memory_bytes: int = 256 * MIB,
    fake: str | None = None,
    **options: Any,
) -> None:
    """Play a scene with a running pool, and close it."""
    if fake is not None:
        options["command"] = _fake(fake)

    async def main() -> None:
        section = settings or Settings()
        pool = MediaPool(spec, section=section, processes=processes, memory_bytes=memory_bytes, **options)
        running = asyncio.create_task(pool.run())
        try:
            async with asyncio.timeout(60):
                await scene(pool)
        finally:
            pool.close()
            await running
        assert pool.status() == MediaStatus(ready=0, busy=0, waiting=0, deaths=pool.status().deaths)

    asyncio.run(main())


def _fake(behaviour: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "tests.fakes.media_child", behaviour)


def _seat(behaviour: str, **options: float) -> Seat:
    return Seat(_fake(behaviour), Begin(SPEC, 64 * MIB), on_free=lambda: None, **options)  # type: ignore[arg-type]


async def _read(pool: MediaPool, url: str) -> bytes:
    """The pixels, given back."""
    with contextlib.closing(await pool.prepare(url, param=PARAM)) as pixels:
        return os.pread(pixels.fd, pixels.nbytes + 1, 0)


async def _refusal(pool: MediaPool, url: str) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        (await pool.prepare(url, param=PARAM)).close()
    assert caught.value.param == PARAM
    assert caught.value.code
    assert len(caught.value.message) < 300
    return caught.value


async def _until(condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.005)


def _pids() -> list[int]:
    return sorted(_children() - _others)


def _children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


_others: set[int] = set()
"""Children that were there before the test: a fixture of the session may keep a pool of its own in this process."""


@pytest.fixture(autouse=True)
def _know_others() -> None:
    _others.clear()
    _others.update(_children())


def _expected(data: bytes, spec: ImageSpec = SPEC) -> bytes:
    return decode(data, spec, max_pixels=1 << 30)


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_a_picture_becomes_sealed_pixels() -> None:
    """A data: URL comes back as a sealed memfd of the decoded bytes, with their digest."""

    async def scene(pool: MediaPool) -> None:
        pixels = await pool.prepare(pictures.data_url(CAT), param=PARAM)
        assert os.pread(pixels.fd, 10_000, 0) == _expected(CAT)
        assert (pixels.height, pixels.width) == (SPEC.height, SPEC.width)
        assert pixels.digest == digest_of(_expected(CAT), height=SPEC.height, width=SPEC.width)
        with pytest.raises(PermissionError):
            os.pwrite(pixels.fd, b"x", 0)
        pixels.close()

    _drive(scene)


def test_every_kind_of_picture_is_read() -> None:
    """Each format in each mode goes through the process unchanged, also when many are asked for at once."""

    async def scene(pool: MediaPool) -> None:
        urls = [pictures.data_url(data, "application/octet-stream") for data in EVERY_KIND.values()]
        found = await asyncio.gather(*(_read(pool, url) for url in urls))
        assert found == [_expected(data) for data in EVERY_KIND.values()]

    _drive(scene, processes=2)


def test_equal_pixels_have_equal_digests() -> None:
    """The digest is of the pixels, not of the file or its URL."""

    async def scene(pool: MediaPool) -> None:
        digests = []
        for name in ("png rgb", "bmp", "png interlaced", "jpeg rgb"):
            with contextlib.closing(await pool.prepare(pictures.data_url(EVERY_KIND[name]), param=PARAM)) as pixels:
                digests.append(pixels.digest)
        assert digests[0] == digests[1] == digests[2] != digests[3]

    _drive(scene)


def test_a_large_data_url_passes() -> None:
    """Megabytes of picture cross the socket in many pieces."""
    data = pictures.saved(pictures.noise(1700, 1700).convert("RGB"), "BMP")
    assert len(data) > 8 * MIB

    async def scene(pool: MediaPool) -> None:
        assert await _read(pool, pictures.data_url(data)) == _expected(data)

    _drive(scene)


def test_pictures_are_fetched() -> None:
    """An http URL is fetched by the process, through redirects."""

    async def scene(pool: MediaPool) -> None:
        with serving(respond(CAT)) as server, serving(redirect(server.url())) as front:
            assert await _read(pool, front.url()) == _expected(CAT)

    _drive(scene, settings=Settings(allow_private=True))


def test_private_addresses_are_refused_before_connecting() -> None:
    """Unless the settings allow them; they are asked for each picture."""
    section = Settings()

    async def scene(pool: MediaPool) -> None:
        with serving(respond(CAT)) as server:
            assert "leads to a loopback address" in (await _refusal(pool, server.url())).message
            assert "leads to a loopback address" in (await _refusal(pool, server.url(host="localhost"))).message
            assert server.connections == 0
            section.change(allow_private=True)
            assert await _read(pool, server.url()) == _expected(CAT)

    _drive(scene, settings=section)


def test_fetching_can_be_off() -> None:
    """media.fetch = false refuses URLs and leaves data: URLs alone."""

    async def scene(pool: MediaPool) -> None:
        assert "are not fetched here" in (await _refusal(pool, "https://pictures.example/cat.png")).message
        assert await _read(pool, pictures.data_url(CAT)) == _expected(CAT)

    _drive(scene, settings=Settings(fetch=False))


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "/etc/passwd", "ftp://h/x", "", "http://h/\ud800", "data:,\ud800"]
)
def test_other_urls_never_reach_a_process(url: str) -> None:
    """What is neither data: nor http: is refused before anything is queued."""

    async def scene() -> None:
        pool = MediaPool(SPEC, section=Settings(), processes=1, memory_bytes=64 * MIB)
        assert (await _refusal(pool, url)).code in {"invalid_image_url", "invalid_base64_image"}

    asyncio.run(scene())


def test_limits_are_those_of_the_moment() -> None:
    """A changed limit holds for the next picture."""
    section = Settings()

    async def scene(pool: MediaPool) -> None:
        assert await _read(pool, pictures.data_url(CAT))
        section.change(max_pixels=100)
        assert (await _refusal(pool, pictures.data_url(CAT))).code == "image_too_large"
        section.change(max_pixels=1000, max_bytes=1024)
        assert (await _refusal(pool, pictures.data_url(CAT))).code == "image_file_too_large"

    _drive(scene, settings=section)


# --- hostile pictures -------------------------------------------------------------------------------------------------


def test_truncated_pictures_are_refused() -> None:
    """A file that ends at any twentieth is refused, and the same process reads the next one."""

    async def scene(pool: MediaPool) -> None:
        await _read(pool, pictures.data_url(CAT))
        before = _pids()
        for name in ("png rgb", "jpeg rgb", "jpeg progressive", "webp", "gif", "bmp"):
            data = EVERY_KIND[name]
            urls = [pictures.data_url(data[: len(data) * part // 20]) for part in range(20)]
            await asyncio.gather(*(_refusal(pool, url) for url in urls))
        assert await _read(pool, pictures.data_url(CAT)) == _expected(CAT)
        assert _pids() == before

    _drive(scene)


@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from([b"", *(data[:60] for data in EVERY_KIND.values())]), st.binary()), max_size=30)
)
def test_no_bytes_end_a_process(parts: list[tuple[bytes, bytes]]) -> None:
    """Random bytes, bare or behind a real file's beginning, are pixels or an error that blames the field."""

    async def scene(pool: MediaPool) -> None:
        await _read(pool, pictures.data_url(CAT))
        before = _pids()
        urls = [pictures.data_url(head + tail) for head, tail in parts]
        for outcome in await asyncio.gather(*(_read(pool, url) for url in urls), return_exceptions=True):
            assert isinstance(outcome, bytes) or (isinstance(outcome, InvalidRequestError) and outcome.param == PARAM)
        assert _pids() == before

    _drive(scene)


def test_memory_has_a_bound() -> None:
    """A picture that needs more than its share is refused; the process lives and reads the next one."""
    section = Settings(max_pixels=100_000_000)

    async def scene(pool: MediaPool) -> None:
        await _read(pool, pictures.data_url(CAT))
        before = _pids()
        error = await _refusal(pool, pictures.data_url(pictures.bomb(9000, 9000)))
        assert error.message == "The image takes more memory to decode than is allowed."
        assert await _read(pool, pictures.data_url(CAT)) == _expected(CAT)
        assert _pids() == before

    _drive(scene, settings=section, memory_bytes=128 * MIB)


def test_a_slow_server_is_left_in_time() -> None:
    """A server that trickles its body is refused by the process itself, which lives on."""

    async def scene(pool: MediaPool) -> None:
        await _read(pool, pictures.data_url(CAT))
        before = _pids()
        with serving(drip(0.02)) as server:
            assert "did not arrive in time" in (await _refusal(pool, server.url())).message
        assert _pids() == before

    _drive(scene, settings=Settings(allow_private=True, timeout=4.0))


def test_a_picture_that_overruns_is_refused_and_its_process_replaced() -> None:
    """A server that trickles its headers outlasts every wait of the process; the daemon ends it at the deadline."""
    section = Settings(allow_private=True)

    async def scene(pool: MediaPool) -> None:
        await _read(pool, pictures.data_url(CAT))
        before = _pids()
        section.change(timeout=1.0)
        with serving(drip(0.02, in_head=True)) as server:
            error = await _refusal(pool, server.url())
            assert error.message == "The image took longer than 1 seconds to fetch and decode."
        section.change(timeout=20.0)
        assert await _read(pool, pictures.data_url(CAT)) == _expected(CAT)
        assert set(_pids()).isdisjoint(before)
        assert pool.status().deaths == 0

    _drive(scene, settings=section)


# --- the process ------------------------------------------------------------------------------------------------------


def test_a_process_is_confined(monkeypatch: pytest.MonkeyPatch) -> None:
    """It inherits no secret and few descriptors, and its limits are set before it sees a picture."""
    monkeypatch.setenv("GEMMAD_API_KEY", "secret")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")

    async def scene(pool: MediaPool) -> None:
        await _read(pool, pictures.data_url(CAT))
        process = psutil.Process(_pids()[0])
        assert not {"GEMMAD_API_KEY", "HTTP_PROXY", "NOTIFY_SOCKET", "HOME"} & process.environ().keys()
        await _until(lambda: process.num_fds() == 4)  # 0, 1, 2 and the socket, once the answer's own is closed
        assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
        assert process.rlimit(psutil.RLIMIT_NOFILE) == (32, 32)
        assert process.rlimit(psutil.RLIMIT_NPROC) == (0, 0)
        assert process.rlimit(psutil.RLIMIT_FSIZE) == (SPEC.nbytes, SPEC.nbytes)
        assert 0 < process.rlimit(psutil.RLIMIT_AS)[1] < 2**33
        assert process.nice() > psutil.Process().nice()
        assert "NoNewPrivs:\t1" in Path(f"/proc/{process.pid}/status").read_text()
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        assert "PIL" in maps
        assert not any(name in maps for name in ("torch", "numpy", "tokenizers"))

    _drive(scene)


def test_a_process_dies_with_its_daemon() -> None:
    """A daemon that is killed leaves no process behind."""
    script = """
import asyncio, base64, psutil, sys
from gemmad.config.schema import MediaSection
from gemmad.media.pool import MediaPool
from gemmad.media.spec import ImageSpec
from tests.fakes import media_pictures as pictures

async def main():
    pool = MediaPool(ImageSpec(height=4, width=4), section=MediaSection, processes=2, memory_bytes=1 << 28)
    running = asyncio.create_task(pool.run())
    (await pool.prepare(pictures.data_url(pictures.saved(pictures.noise(), "PNG")), param="x")).close()
    print(*(child.pid for child in psutil.Process().children()), flush=True)
    await running

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        pids = [int(word) for word in daemon.stdout.readline().split()]
        assert len(pids) == 2
        daemon.kill()
    gone, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=20)
    assert not alive, gone


@pytest.mark.parametrize("behaviour", ["crash", "garbage", "without pixels", "unsealed", "short", "other job", "flood"])
def test_a_process_that_breaks_fails_its_picture_only(behaviour: str) -> None:
    """Whatever it dies of or says wrong, one picture is refused, the next gets another process, nothing leaks."""

    async def scene(pool: MediaPool) -> None:
        await _until(lambda: pool.status().ready == 1)
        before = _pids()
        first, second = asyncio.create_task(_refusal(pool, "data:,1")), asyncio.create_task(_refusal(pool, "data:,2"))
        assert (await first).message == CRASHED
        assert (await second).message == CRASHED
        await _until(lambda: pool.status().ready == 1)
        assert set(_pids()).isdisjoint(before)

    _drive(scene, fake=behaviour)


def test_a_hanging_process_fails_its_picture_only() -> None:
    """With two processes the one that hangs does not hold up the other's pictures."""
    section = Settings(allow_private=True, timeout=4.0)

    async def scene(pool: MediaPool) -> None:
        with serving(silence) as server:
            slow = asyncio.create_task(_refusal(pool, server.url()))
            for _ in range(5):
                assert await _read(pool, pictures.data_url(CAT)) == _expected(CAT)
            assert not slow.done()
            assert (await slow).code == "failed_to_download_image"

    _drive(scene, settings=section, processes=2)


@pytest.mark.parametrize("behaviour", ["idle twice", "speaks first"])
def test_a_process_that_speaks_out_of_turn_is_replaced(behaviour: str) -> None:
    """What nobody asked for is no answer."""

    async def scene(pool: MediaPool) -> None:
        before = _pids()
        await _until(lambda: bool(_pids()) and set(_pids()).isdisjoint(before))

    _drive(scene, fake=behaviour)


def test_an_idle_process_that_is_killed_is_replaced() -> None:
    """Nobody's picture fails when the kernel ends a process that had none."""

    async def scene(pool: MediaPool) -> None:
        await _read(pool, pictures.data_url(CAT))
        (pid,) = _pids()
        os.kill(pid, signal.SIGKILL)
        await _until(lambda: pool.status().deaths == 1)
        assert await _read(pool, pictures.data_url(CAT)) == _expected(CAT)

    _drive(scene)


def test_a_process_may_leave_after_a_picture() -> None:
    """One that has grown answers and ends; the next picture gets a new one."""

    async def scene(pool: MediaPool) -> None:
        for _ in range(3):
            assert await _read(pool, "data:,") == bytes(SPEC.nbytes)
        assert pool.status().deaths == 0

    _drive(scene, fake="leave")


def test_a_process_that_says_it_leaves_and_stays_is_ended() -> None:
    """Its seat is not blocked for good."""

    async def main() -> None:
        seat = _seat("linger", leave_seconds=0.1)
        seat.start()
        await _until(lambda: seat.state is SeatState.READY)
        before, task = _pids(), Task(1, "data:,", param=PARAM, fetches=False)
        seat.give(task, MediaSection())
        (await task.answer()).close()
        await _until(lambda: seat.state is SeatState.READY)
        assert set(_pids()).isdisjoint(before)
        seat.close()

    asyncio.run(main())


def test_a_process_that_never_gets_ready_is_ended() -> None:
    """Another is started in its place, after a pause."""

    async def main() -> None:
        seat = _seat("never ready", start_seconds=0.1)
        seat.start()
        before = _pids()
        await _until(lambda: seat.state is SeatState.EMPTY)
        await _until(lambda: seat.state is SeatState.STARTING)
        assert set(_pids()).isdisjoint(before)
        seat.close()

    asyncio.run(main())


def test_processes_that_cannot_start_are_tried_again_with_pauses() -> None:
    """A broken installation costs little: the pause doubles, and pictures are told to come back."""

    async def scene(pool: MediaPool) -> None:
        with pytest.raises(QueueFullError, match="No process was free") as caught:
            await pool.prepare("data:,", param=PARAM)
        assert caught.value.retry_after_seconds >= 1
        assert pool.status().ready == 0

    _drive(scene, command=("/nonexistent/python",), longest_wait_seconds=0.3)
    _drive(scene, fake="dies at start", longest_wait_seconds=0.5)


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_the_queue_has_a_bound() -> None:
    """With one picture under way and the queue full, one more is a QueueFullError at once."""

    async def scene(pool: MediaPool) -> None:
        await _until(lambda: pool.status().ready == 1)
        waiting = [asyncio.create_task(pool.prepare("data:,", param=PARAM)) for _ in range(3)]
        await _until(lambda: pool.status().waiting == 2)
        with pytest.raises(QueueFullError) as caught:
            await pool.prepare("data:,", param=PARAM)
        assert 1 <= caught.value.retry_after_seconds <= 120
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert pool.status().waiting == 0

    _drive(scene, fake="hang", waiting_limit=2)


def test_nobody_waits_for_ever() -> None:
    """A picture that no process takes in time is a QueueFullError; the one under way goes on."""

    async def scene(pool: MediaPool) -> None:
        await _until(lambda: pool.status().ready == 1)
        first = asyncio.create_task(pool.prepare("data:,", param=PARAM))
        await _until(lambda: pool.status().busy == 1)
        with pytest.raises(QueueFullError, match="No process was free"):
            await pool.prepare("data:,", param=PARAM)
        os.kill(_pids()[0], signal.SIGUSR1)
        (await first).close()

    _drive(scene, fake="late", longest_wait_seconds=0.3)


def test_a_cancelled_picture_frees_its_place() -> None:
    """Who waits and leaves is never given to a process; who leaves under way has the late answer closed."""

    async def scene(pool: MediaPool) -> None:
        running, waiting = (asyncio.create_task(pool.prepare("data:,", param=PARAM)) for _ in range(2))
        await _until(lambda: pool.status() == MediaStatus(ready=1, busy=1, waiting=1, deaths=0))
        for task in (running, waiting):
            task.cancel()
        await asyncio.wait([running, waiting])
        assert running.cancelled()
        assert pool.status().waiting == 0
        os.kill(_pids()[0], signal.SIGUSR1)
        await _until(lambda: pool.status().busy == 0)
        assert pool.status().deaths == 0

    _drive(scene, fake="late")


def test_a_cancellation_in_the_moment_of_the_answer_leaks_nothing() -> None:
    """Whenever in a picture's life its caller leaves, its descriptor is closed; the leak check looks."""

    async def scene(pool: MediaPool) -> None:
        await _read(pool, pictures.data_url(CAT))
        for steps in range(60):
            task = asyncio.create_task(pool.prepare(pictures.data_url(CAT), param=PARAM))
            for _ in range(steps):
                await asyncio.sleep(0)
            while steps >= 50 and pool.status().busy:  # the answer is there, its caller has not run yet
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result().close()

    _drive(scene)


def test_closing_ends_everything() -> None:
    """Pictures under way and waiting end with UnavailableError, as do later ones; closing again is nothing."""

    async def scene(pool: MediaPool) -> None:
        tasks = [asyncio.create_task(pool.prepare("data:,", param=PARAM)) for _ in range(3)]
        await _until(lambda: pool.status().busy == 1)
        pool.close()
        assert _pids() == []
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, UnavailableError)
        with pytest.raises(UnavailableError):
            await pool.prepare("data:,", param=PARAM)
        pool.close()

    _drive(scene, fake="hang")


def test_cancelling_run_closes() -> None:
    """In a TaskGroup that is cancelled the pool leaves nothing behind."""

    async def main() -> None:
        pool = MediaPool(SPEC, section=Settings(), processes=2, memory_bytes=64 * MIB)
        running = asyncio.create_task(pool.run())
        await _until(lambda: pool.status().ready == 2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert _pids() == []

    asyncio.run(main())


def test_pictures_may_come_before_the_processes() -> None:
    """A picture that is asked for before run() waits for it."""

    async def main() -> None:
        pool = MediaPool(SPEC, section=Settings(), processes=1, memory_bytes=256 * MIB)
        early = asyncio.create_task(_read(pool, pictures.data_url(CAT)))
        await asyncio.sleep(0)
        running = asyncio.create_task(pool.run())
        assert await early == _expected(CAT)
        pool.close()
        await running

    asyncio.run(main())


def test_the_daemons_side_decodes_nothing() -> None:
    """Neither Pillow nor httpx nor torch is imported by the pool, nor numpy by the spec."""
    script = "import gemmad.media.pool, sys; print(*({'PIL', 'httpx', 'torch', 'numpy'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\n", "")


def test_pixels_are_the_callers() -> None:
    """What was handed out outlives the pool."""
    kept: list[Pixels] = []

    async def scene(pool: MediaPool) -> None:
        kept.append(await pool.prepare(pictures.data_url(CAT), param=PARAM))

    _drive(scene)
    assert os.pread(kept[0].fd, 10_000, 0) == _expected(CAT)
    kept[0].close()
