"""Samples in a file: kept within bounds, read thinned, for their owner only."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.monitor.samplefile import FileTakenError, OtherVersionError, SampleFile, move_aside
from tests.fakes.somebody import needs_root, somebody_else
from tests.unit.monitor.samples import T0, sample

ALL = {"since": 0.0, "until": 1e12}


def test_what_was_added_is_read(tmp_path: Path) -> None:
    """Samples come back whole, by time and then by worker, also from the next owner."""
    path = tmp_path / "history.sqlite3"
    samples = [sample(T0, "gpu1", planned_bytes=None), sample(T0, "gpu0"), sample(T0 + 10, "gpu0", state="draining")]
    file = SampleFile.open(path)
    file.add(samples)
    file.close()
    file = SampleFile.open(path)
    try:
        assert file.read(**ALL, limit=10) == [samples[1], samples[0], samples[2]]
        assert file.read(since=T0 + 1, until=T0 + 20, limit=10) == samples[2:]
        assert file.read(since=T0 + 11, until=T0 + 20, limit=10) == []
    finally:
        file.close()


def test_it_is_its_owners_only(tmp_path: Path) -> None:
    """Nobody else may read what it keeps, and one daemon at a time writes."""
    path = tmp_path / "history.sqlite3"
    file = SampleFile.open(path)
    try:
        file.add([sample()])
        assert {stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()} == {0o600}
        with pytest.raises(FileTakenError, match="another daemon"):
            SampleFile.open(path)
    finally:
        file.close()
    assert sorted(os.listdir(tmp_path)) == ["history.sqlite3", "history.sqlite3-owner"]
    SampleFile.open(path).close()


@given(used=st.lists(st.integers(0, 1000), min_size=30, max_size=200), limit=st.integers(2, 20))
def test_thinning_keeps_peaks(used: list[int], limit: int) -> None:
    """However few samples are asked for, the highest value of each number is among them, and time still rises."""
    with tempfile.TemporaryDirectory() as folder:
        file = SampleFile.open(Path(folder) / "history.sqlite3")
        try:
            file.add(sample(T0 + 10 * i, full_pages_used=n, host_rss_bytes=1000 - n) for i, n in enumerate(used))
            thinned = file.read(**ALL, limit=limit)
        finally:
            file.close()
    assert len(thinned) <= limit + 1
    assert max(each.full_pages_used for each in thinned) == max(used)
    assert max(each.host_rss_bytes for each in thinned) == 1000 - min(used)
    assert [each.at for each in thinned] == sorted({each.at for each in thinned})
    assert thinned[-1].at == T0 + 10 * (len(used) - 1)


def test_lives_are_not_mixed(tmp_path: Path) -> None:
    """Thinned samples are of one life each, so that sizes belong to what used them."""
    file = SampleFile.open(tmp_path / "history.sqlite3")
    try:
        file.add(sample(T0 + i, life=1 + i // 50, full_pages=100 * (1 + i // 50)) for i in range(100))
        assert {(each.life, each.full_pages) for each in file.read(**ALL, limit=1)} == {(1, 100), (2, 200)}
    finally:
        file.close()


def test_the_old_goes(tmp_path: Path) -> None:
    """Samples from before the oldest that are wanted are deleted."""
    file = SampleFile.open(tmp_path / "history.sqlite3")
    try:
        file.add(sample(T0 + i) for i in range(5000))
        assert file.trim(oldest=T0 + 4990, limit_bytes=1 << 30) == 4990
        assert [each.at for each in file.read(**ALL, limit=5000)] == [T0 + i for i in range(4990, 5000)]
    finally:
        file.close()


def test_it_stays_small(tmp_path: Path) -> None:
    """However much is added, all of its files together stay below the limit, and the newest samples are kept."""
    file, limit = SampleFile.open(tmp_path / "history.sqlite3"), 1 << 20
    try:
        for turn in range(60):
            file.add(sample(T0 + 500 * turn + i) for i in range(500))
            file.trim(oldest=0.0, limit_bytes=limit)
            assert sum(path.stat().st_size for path in tmp_path.iterdir() if path.suffix != ".sqlite3-shm") <= limit
        kept = file.read(**ALL, limit=100_000)
        assert kept[-1].at == T0 + 29_999
        assert len(kept) > 2000
    finally:
        file.close()


def test_another_layout_is_not_touched(tmp_path: Path) -> None:
    """A file that another version has laid out, or that is no file of ours, is refused; moved aside it is whole."""
    path = tmp_path / "history.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE samples (something)")
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    for open_it in (SampleFile.open, SampleFile.open_to_read):
        with pytest.raises(OtherVersionError, match="layout 7"):
            open_it(path)
    before = path.read_bytes()
    assert move_aside(path, suffix="layout-7").read_bytes() == before
    SampleFile.open(path).close()


def test_looking_only(tmp_path: Path) -> None:
    """Who only looks sees what the owner has written so far, and can write nothing."""
    path = tmp_path / "history.sqlite3"
    with pytest.raises(FileNotFoundError):
        SampleFile.open_to_read(path)
    owner = SampleFile.open(path)
    looker = SampleFile.open_to_read(path)
    try:
        owner.add([sample()])
        assert looker.read(**ALL, limit=10) == [sample()]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            looker.add([sample(T0 + 1)])
    finally:
        looker.close()
        owner.close()


@needs_root
def test_looking_into_a_folder_of_somebody_else(tmp_path: Path) -> None:
    """What a daemon has left can be read by who may read the file, even where nothing can be written beside it."""
    folder = tmp_path / "state"
    folder.mkdir()
    file = SampleFile.open(folder / "history.sqlite3")
    file.add([sample()])
    file.close()
    with somebody_else(), pytest.raises(PermissionError):
        SampleFile.open_to_read(folder / "history.sqlite3")
    for path in (folder / "history.sqlite3", *tmp_path.parents, tmp_path, folder):
        if path.is_relative_to("/tmp/pytest-of-root") or path.name.startswith("history"):
            path.chmod(0o755)
    with somebody_else():
        looker = SampleFile.open_to_read(folder / "history.sqlite3")
        assert looker.read(**ALL, limit=10) == [sample()]
        looker.close()
