"""Copies of coded weights: the second start reads what the first has written, and nothing else that lies there."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from gemmad.demo import CHECKPOINT
from gemmad.generation import WeightFormat
from gemmad.models.config import read_config
from gemmad.models.copies import CodedCopies
from gemmad.models.weights import Weights, coded_tensors, load_weights

CPU = torch.device("cpu")
CODED: tuple[WeightFormat, ...] = ("int4", "int8", "fp8")
PATIENCE_SECONDS = 30.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the bundled checkpoint, to be changed."""
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "checkpoint"))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Where copies go; not there yet."""
    return tmp_path / "cache" / "weights"


Told = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    """Lines of the log so far that tell of an event."""
    caplog.set_level("INFO")

    def lines(event: str) -> list[dict[str, Any]]:
        fields = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
        return [each for each in fields if each["event"] == event]

    return lines


def load(folder: Path, cache: Path, format: WeightFormat = "int8", **how: Any) -> Weights:
    """A worker's start, to the end of what it writes."""
    copies = CodedCopies(cache, **how)
    weights = load_weights(read_config(folder), device=CPU, dtype=torch.float32, format=format, copies=copies)
    assert copies.wait(PATIENCE_SECONDS)
    copies.close()
    return weights


def files(cache: Path) -> list[Path]:
    """All that lies there but locks."""
    return sorted(path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock")


def assert_equal(ours: Weights, theirs: Weights) -> None:
    """To the bit, norms and tower included."""
    a, b = coded_tensors(ours), coded_tensors(theirs)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert torch.equal(ours.final_norm, theirs.final_norm)
    assert torch.equal(ours.layers[1].q_norm, theirs.layers[1].q_norm)
    assert ours.tower is not None
    assert theirs.tower is not None
    for (_, x), (_, y) in zip(ours.tower.named_tensors(), theirs.tower.named_tensors(), strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("format", CODED)
def test_the_second_start(folder: Path, cache: Path, format: WeightFormat, told: Told) -> None:
    """It reads the copy, not the matrices, and has the same weights to the bit."""
    first = load(folder, cache, format)
    second = load(folder, cache, format)
    assert_equal(first, second)
    one, two = told("weights loaded")
    assert (one["from_copy"], two["from_copy"]) == (False, True)
    assert two["bytes"] < one["bytes"]
    (line,) = told("coded weights copied")
    assert line["bytes"] == sum(tensor.nbytes for tensor in coded_tensors(first).values())
    assert files(cache) == [Path(line["path"])]


def test_a_file_of_the_usual_kind(folder: Path, cache: Path) -> None:
    """A copy is safetensors that anybody can open, and says what it is of; only its owner may read it."""
    weights = load(folder, cache, "int4")
    (path,) = files(cache)
    with safe_open(path, "pt") as opened:
        assert opened.metadata() == {"layout": "1", "source": path.parent.name.partition("-")[2], "format": "int4"}
        for name, tensor in coded_tensors(weights).items():
            assert torch.equal(opened.get_tensor(name), tensor)
    assert path.parent.stat().st_mode & 0o077 == 0


def test_one_for_each_format(folder: Path, cache: Path, told: Told) -> None:
    """Formats have copies of their own beside each other; plain numbers have none."""
    for format in (*CODED, "bf16"):
        load(folder, cache, format)
    assert [path.stem for path in files(cache)] == ["fp8", "int4", "int8"]
    for format in CODED:
        load(folder, cache, format)
    assert [line["from_copy"] for line in told("weights loaded")] == [False] * 4 + [True] * 3


def test_a_checkpoint_that_has_changed(folder: Path, cache: Path, told: Told) -> None:
    """Other bytes in config.json, or a file written anew, make the copy stale: it goes, and a new one comes."""
    load(folder, cache)
    (before,) = files(cache)
    status = (folder / "model.safetensors").stat()
    os.utime(folder / "model.safetensors", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    load(folder, cache)
    (between,) = files(cache)
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"transformers_version": "5.0"}))
    load(folder, cache)
    (after,) = files(cache)
    assert len({before, between, after}) == 3
    assert not any(line["from_copy"] for line in told("weights loaded"))
    assert len(told("a stale copy of coded weights is removed")) == 2


def test_another_checkpoint(folder: Path, cache: Path, tmp_path: Path) -> None:
    """Copies of two folders leave each other alone."""
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    for each in (folder, other, folder):
        load(each, cache)
    assert len(files(cache)) == 2


@pytest.mark.parametrize("how", ["cut", "empty", "garbage", "renamed", "format"])
def test_a_broken_copy(folder: Path, cache: Path, how: str, told: Told) -> None:
    """A copy that is not whole, or not of this network, is told, left aside and written anew."""
    first = load(folder, cache, "int8")
    (path,) = files(cache)
    whole = path.read_bytes()
    broken = {
        "cut": whole[:-100],
        "empty": b"",
        "garbage": b"\xff" * 1000,
        "renamed": whole.replace(b'"embedding.codes"', b'"embedding.codex"'),
        "format": whole.replace(b'"format":"int8"', b'"format":"int4"'),
    }[how]
    path.write_bytes(broken)
    assert_equal(first, load(folder, cache, "int8"))
    (line,) = told("a copy of coded weights is of no use")
    assert line["path"] == str(path)
    assert path.read_bytes() == whole
    load(folder, cache, "int8")
    assert [line["from_copy"] for line in told("weights loaded")] == [False, False, True]


def test_a_copy_that_cannot_be_read(folder: Path, cache: Path, told: Told) -> None:
    """One that ends early after its header was looked at is given up for the checkpoint, and replaced."""
    first = load(folder, cache)

    class Shrinking(CodedCopies):
        def jobs(self, name: Any, tensors: Any) -> Any:
            found = super().jobs(name, tensors)
            os.truncate(cache / name.path, 5000)
            return found

    copies = Shrinking(cache)
    again = load_weights(read_config(folder), device=CPU, dtype=torch.float32, format="int8", copies=copies)
    assert copies.wait(PATIENCE_SECONDS)
    assert_equal(first, again)
    assert told("a copy of coded weights could not be read")
    load(folder, cache)
    assert [line["from_copy"] for line in told("weights loaded")] == [False, False, True]


def test_no_room(folder: Path, cache: Path, told: Told) -> None:
    """Without a tenth more room than it takes, none is begun; the weights are loaded all the same."""
    weights = load(folder, cache)
    size = sum(tensor.nbytes for tensor in coded_tensors(weights).values())
    shutil.rmtree(cache)
    load(folder, cache, free_bytes=lambda path: int(1.1 * size) - 1)
    assert files(cache) == []
    (line,) = told("no room for a copy of coded weights")
    assert (line["bytes"], line["free_bytes"]) == (size, int(1.1 * size) - 1)
    load(folder, cache, free_bytes=lambda path: int(1.1 * size) + 1)
    assert len(files(cache)) == 1


def test_a_disk_that_fills_up(folder: Path, cache: Path, told: Told) -> None:
    """What cannot be written to the end is told and leaves nothing behind."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        load(folder, cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(cache) == []
    (line,) = told("no copy of coded weights")
    assert "File too large" in line["reason"]


def test_a_folder_that_cannot_be_made(folder: Path, tmp_path: Path, told: Told) -> None:
    """A cache folder that cannot be is told and ignored."""
    (tmp_path / "file").touch()
    load(folder, tmp_path / "file" / "weights")
    (line,) = told("no copy of coded weights")
    assert "Not a directory" in line["reason"]


def test_several_at_once(folder: Path, cache: Path, told: Told) -> None:
    """While one writes, another goes on without waiting and without writing."""
    load(folder, cache)
    (path,) = files(cache)
    (lock,) = cache.glob("*.lock")
    path.unlink()
    with lock.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        load(folder, cache)
        assert files(cache) == []
    load(folder, cache)
    assert files(cache) == [path]
    assert len(told("coded weights copied")) == 2


def test_ended_while_it_writes(folder: Path, cache: Path) -> None:
    """A worker that ends meanwhile leaves no half of a copy and no thread."""
    writing, ending = threading.Event(), threading.Event()

    def free_bytes(path: Path) -> int:
        writing.set()
        assert ending.wait(PATIENCE_SECONDS)
        return 1 << 40

    copies = CodedCopies(cache, free_bytes=free_bytes)
    load_weights(read_config(folder), device=CPU, dtype=torch.float32, format="int8", copies=copies)
    assert writing.wait(PATIENCE_SECONDS)
    copies.end()
    ending.set()
    copies.close()
    assert copies.wait(0.0)
    assert files(cache) == []


def test_what_an_ended_one_left(folder: Path, cache: Path) -> None:
    """A draft of a worker that was killed does not stay beside the next copy."""
    load(folder, cache)
    (path,) = files(cache)
    path.rename(path.with_suffix(".part"))
    load(folder, cache)
    assert files(cache) == [path]
