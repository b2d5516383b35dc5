"""Real files in real folders, written in the ways that editors and deployments write them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gemmad.config.files import config_digest, file_digest
from gemmad.daemon.watch import ConfigWatcher

SETTLE = 0.05
NAME = "gemmad.toml"


def plain(folder: Path) -> None:
    (folder / NAME).write_text("a = 1")


def linked(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "real" / NAME).write_text("a = 1")
    (folder / NAME).symlink_to(f"real/{NAME}")


def config_map(folder: Path) -> None:
    (folder / "..v1").mkdir()
    (folder / "..v1" / NAME).write_text("a = 1")
    (folder / "..data").symlink_to("..v1")
    (folder / NAME).symlink_to(f"..data/{NAME}")


def write_in_place(folder: Path) -> None:
    (folder / NAME).write_text("a = 2")


def write_and_rename(folder: Path) -> None:
    (folder / ".new").write_text("a = 2")
    (folder / ".new").replace(folder / NAME)


def rename_from_elsewhere(folder: Path) -> None:
    (folder.parent / "new").write_text("a = 2")
    (folder.parent / "new").replace(folder / NAME)


def as_vim(folder: Path) -> None:
    (folder / NAME).rename(folder / f"{NAME}~")
    (folder / NAME).write_text("a = 2")
    (folder / f"{NAME}~").unlink()


def as_sed(folder: Path) -> None:
    subprocess.run(["sed", "-i", "s/1/2/", str(folder / NAME)], check=True)


def remove_and_create(folder: Path) -> None:
    (folder / NAME).unlink()
    (folder / NAME).write_text("a = 2")


def swap_config_map(folder: Path) -> None:
    (folder / "..v2").mkdir()
    (folder / "..v2" / NAME).write_text("a = 2")
    (folder / "..data_tmp").symlink_to("..v2")
    (folder / "..data_tmp").replace(folder / "..data")
    shutil.rmtree(folder / "..v1")


def swap_link(folder: Path) -> None:
    (folder / "other.toml").write_text("a = 2")
    (folder / "link").symlink_to("other.toml")
    (folder / "link").replace(folder / NAME)


def target_in_place(folder: Path) -> None:
    (folder / "real" / NAME).write_text("a = 2")


def target_renamed(folder: Path) -> None:
    (folder / "real" / "new").write_text("a = 2")
    (folder / "real" / "new").replace(folder / "real" / NAME)


def make_folder_anew(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / NAME).write_text("a = 2")


def touch(folder: Path) -> None:
    os.utime(folder / NAME)


def change_mode(folder: Path) -> None:
    (folder / NAME).chmod(0o640)


def write_the_same(folder: Path) -> None:
    (folder / NAME).write_text("a = 1")


def write_neighbours(folder: Path) -> None:
    for number in range(50):
        (folder / f"x{number}").write_text("1")


class Bell:
    def __init__(self) -> None:
        self.rings = 0
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self.rings += 1
        self._rung.set()

    async def rung(self) -> None:
        async with asyncio.timeout(10):
            await self._rung.wait()
        self._rung.clear()


async def watching(
    path: Path, scenario: Callable[[Bell], Awaitable[None]], *, poll_seconds: float, settle_seconds: float = SETTLE
) -> None:
    """Run `scenario` while `path` is watched."""
    bell = Bell()
    watcher = ConfigWatcher(
        path,
        seen=file_digest(path.read_bytes()),
        ring=bell.ring,
        settle_seconds=settle_seconds,
        poll_seconds=poll_seconds,
    )
    task = asyncio.create_task(watcher.run())
    try:
        await asyncio.sleep(0.05)  # the watch stands; an edit before it would be seen by its first look
        await scenario(bell)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "etc"
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("lay_out", "edit"),
    [
        (plain, write_in_place),
        (plain, write_and_rename),
        (plain, rename_from_elsewhere),
        (plain, as_vim),
        (plain, as_sed),
        (plain, remove_and_create),
        (plain, swap_link),
        (linked, target_in_place),
        (linked, target_renamed),
        (config_map, swap_config_map),
    ],
)
def test_every_way_of_writing_rings_once(
    folder: Path, lay_out: Callable[[Path], None], edit: Callable[[Path], None]
) -> None:
    """A change rings once by a file event, and so does the next one: the watch follows what it watches."""
    lay_out(folder)

    async def scenario(bell: Bell) -> None:
        edit(folder)
        await bell.rung()
        await asyncio.sleep(4 * SETTLE)
        assert bell.rings == 1
        (folder / NAME).write_text("a = 3")
        await bell.rung()
        assert bell.rings == 2

    asyncio.run(watching(folder / NAME, scenario, poll_seconds=60))


@pytest.mark.parametrize("edit", [touch, change_mode, write_the_same, write_neighbours])
def test_what_changes_no_content_rings_nothing(folder: Path, edit: Callable[[Path], None]) -> None:
    """Touching the file, its mode, the same content again and other files do not ring."""
    plain(folder)

    async def scenario(bell: Bell) -> None:
        edit(folder)
        await asyncio.sleep(4 * SETTLE)
        assert bell.rings == 0

    asyncio.run(watching(folder / NAME, scenario, poll_seconds=60))


def test_a_slow_writer_rings_once_at_the_end(folder: Path) -> None:
    """A file that is written in pieces is one change, once it is quiet."""
    plain(folder)

    async def scenario(bell: Bell) -> None:
        with (folder / NAME).open("w") as file:
            for _ in range(10):
                file.write("# more\n" * 100)
                file.flush()
                await asyncio.sleep(0.01)
            file.write("a = 2")
        await bell.rung()
        assert bell.rings == 1

    asyncio.run(watching(folder / NAME, scenario, poll_seconds=60, settle_seconds=0.5))


def test_a_writer_that_never_rests_is_not_waited_for(folder: Path) -> None:
    """Constant writing delays the bell by the poll's time at most."""
    plain(folder)

    async def scenario(bell: Bell) -> None:
        async def scribble() -> None:
            number = 0
            while True:
                number += 1
                (folder / NAME).write_text(f"a = {number}")
                await asyncio.sleep(SETTLE / 5)

        scribbling = asyncio.create_task(scribble())
        await bell.rung()
        scribbling.cancel()

    asyncio.run(watching(folder / NAME, scenario, poll_seconds=0.3))


def test_a_folder_that_is_made_anew(folder: Path) -> None:
    """The watch follows a folder that was removed and made again, at the latest with the slow look."""
    plain(folder)

    async def scenario(bell: Bell) -> None:
        make_folder_anew(folder)
        await bell.rung()
        (folder / NAME).write_text("a = 3")
        await bell.rung()

    asyncio.run(watching(folder / NAME, scenario, poll_seconds=0.3))


def test_a_file_that_vanishes_and_comes_back(folder: Path) -> None:
    """That the file is gone is a change of its own, and so is that it is back."""
    plain(folder)

    async def scenario(bell: Bell) -> None:
        (folder / NAME).unlink()
        await bell.rung()
        plain(folder)
        await bell.rung()

    asyncio.run(watching(folder / NAME, scenario, poll_seconds=60))


def test_an_edit_before_the_watch_is_not_lost(folder: Path) -> None:
    """The first look compares with what was loaded, so an edit in between rings."""
    plain(folder)

    async def scenario() -> None:
        bell = Bell()
        watcher = ConfigWatcher(folder / NAME, seen=file_digest(b"a = 0"), ring=bell.ring)
        task = asyncio.create_task(watcher.run())
        await bell.rung()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def test_where_no_event_comes_the_slow_look_finds_it(folder: Path) -> None:
    """A folder that is not there yet cannot be watched; its file is found all the same once it is there."""

    async def scenario() -> None:
        bell = Bell()
        watcher = ConfigWatcher(folder / "later" / NAME, seen=b"", ring=bell.ring, poll_seconds=0.1)
        task = asyncio.create_task(watcher.run())
        await bell.rung()  # that it is not there differs from what was seen
        (folder / "later").mkdir()
        plain(folder / "later")
        await bell.rung()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def fragment_made(folder: Path) -> None:
    (folder / "conf.d").mkdir()
    (folder / "conf.d" / "10.toml").write_text("a = 2")


def fragment_in_place(folder: Path) -> None:
    (folder / "conf.d" / "10.toml").write_text("a = 2")


def fragment_gone(folder: Path) -> None:
    (folder / "conf.d" / "10.toml").unlink()


def fragment_elsewhere(folder: Path) -> None:
    (folder / "elsewhere" / "10.toml").write_text("a = 2")


def with_fragment(folder: Path) -> None:
    plain(folder)
    (folder / "conf.d").mkdir()
    (folder / "conf.d" / "10.toml").write_text("a = 1")


def with_linked_fragment(folder: Path) -> None:
    plain(folder)
    for name in ("conf.d", "elsewhere"):
        (folder / name).mkdir()
    (folder / "elsewhere" / "10.toml").write_text("a = 1")
    (folder / "conf.d" / "10.toml").symlink_to("../elsewhere/10.toml")


@pytest.mark.parametrize(
    ("lay_out", "edit"),
    [
        (plain, fragment_made),
        (with_fragment, fragment_in_place),
        (with_fragment, fragment_gone),
        (with_linked_fragment, fragment_elsewhere),
    ],
)
def test_files_beside_ring_too(folder: Path, lay_out: Callable[[Path], None], edit: Callable[[Path], None]) -> None:
    """A file in conf.d that is made, changed, removed, or changed where it leads to rings, and so does the next one."""
    lay_out(folder)

    async def scenario() -> None:
        bell = Bell()
        path = folder / NAME
        watcher = ConfigWatcher(
            path,
            seen=config_digest(path),
            ring=bell.ring,
            digest=config_digest,
            beside=folder / "conf.d",
            settle_seconds=SETTLE,
            poll_seconds=60,
        )
        task = asyncio.create_task(watcher.run())
        await asyncio.sleep(0.05)  # the watch stands
        edit(folder)
        await bell.rung()
        (folder / "conf.d" / "20.toml").write_text("a = 3")
        await bell.rung()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def test_a_hundred_edits(folder: Path) -> None:
    """A hundred edits in two seconds ring few times, and the last bell comes after the last edit."""
    plain(folder)

    async def scenario(bell: Bell) -> None:
        for number in range(100):
            (folder / NAME).write_text(f"a = {number}00")
            await asyncio.sleep(0.02)
        await bell.rung()
        await asyncio.sleep(4 * SETTLE)
        assert 1 <= bell.rings <= 10
        before = bell.rings
        (folder / NAME).write_text("a = 9900")  # what was seen last, so the last edit was not missed
        await asyncio.sleep(4 * SETTLE)
        assert bell.rings == before

    asyncio.run(watching(folder / NAME, scenario, poll_seconds=0.5))


def test_a_file_that_becomes_a_folder(folder: Path) -> None:
    """What cannot be read any more rings once, and again when it can be."""
    plain(folder)

    async def scenario(bell: Bell) -> None:
        (folder / NAME).unlink()
        (folder / NAME).mkdir()
        await bell.rung()
        (folder / NAME).rmdir()
        plain(folder)
        await bell.rung()

    asyncio.run(watching(folder / NAME, scenario, poll_seconds=60))
