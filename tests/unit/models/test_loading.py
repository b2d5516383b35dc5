"""Tensors carried from files into place, by several threads and in pieces."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from gemmad.errors import CheckpointError
from gemmad.models.loading import Filled, Job, RowJob, fill
from gemmad.models.tensorfile import StoredTensor, read_header

CPU = torch.device("cpu")
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def jobs(path: Path, targets: dict[str, torch.Tensor]) -> list[Job]:
    """Everything of a file that has a target."""
    return [Job(t, t.dtype, targets[t.name]) for t in read_header(path) if t.name in targets]


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file with a wanted and an unwanted tensor, 1 MiB and 32 MiB."""
    path = tmp_path / "large.safetensors"
    save_file({"unwanted": torch.zeros(8 << 20), "wanted": torch.arange(1 << 18, dtype=torch.float32)}, path)
    return path


@given(data=st.data())
def test_any_dtypes_and_any_cut(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever dtypes, sizes, pieces and threads there are, each tensor is the file's, rounded as torch rounds."""
    shapes = data.draw(st.lists(st.lists(st.integers(0, 9), max_size=3), min_size=1, max_size=6))
    sources = {f"t{i}": torch.randn(shape).to(data.draw(st.sampled_from(FLOATS))) for i, shape in enumerate(shapes)}
    path = tmp_path_factory.mktemp("any") / "model.safetensors"
    save_file(sources, path)
    targets = {name: torch.empty(t.shape, dtype=data.draw(st.sampled_from(FLOATS))) for name, t in sources.items()}
    filled = fill(
        jobs(path, targets),
        device=CPU,
        threads=data.draw(st.integers(1, 4)),
        piece_bytes=data.draw(st.sampled_from([8, 24, 64, 1 << 20])),
    )
    assert filled.nbytes == sum(tensor.nbytes for tensor in sources.values())
    for name, target in targets.items():
        assert torch.equal(target, sources[name].to(target.dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_taken_in_inference_mode(large: Path, dtype: torch.dtype) -> None:
    """It makes no difference whether the caller computes gradients."""
    with torch.inference_mode():
        target = torch.empty(1 << 18, dtype=dtype)
        fill(jobs(large, {"wanted": target}), device=CPU, threads=2, piece_bytes=1 << 12)
        assert torch.equal(target, torch.arange(1 << 18, dtype=torch.float32).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parts_of_a_merged_tensor(tmp_path: Path, dtype: torch.dtype) -> None:
    """Rows of one tensor are filled from several files; rows that nobody fills stay as they are."""
    whole = torch.full((10, 3), 7.0, dtype=dtype)
    parts = {"q": whole[:4], "k": whole[4:6], "v": whole[6:8]}
    sources = {name: torch.randn(part.shape) for name, part in parts.items()}
    for name, source in sources.items():
        save_file({name: source}, tmp_path / f"{name}.safetensors")
    fill(
        [job for name in parts for job in jobs(tmp_path / f"{name}.safetensors", parts)],
        device=CPU,
        threads=2,
        piece_bytes=16,
    )
    assert torch.equal(whole, torch.cat([*sources.values(), torch.full((2, 3), 7.0)]).to(dtype))


def test_what_is_not_wanted_is_not_read(large: Path) -> None:
    """Reading one tensor of a file reads that tensor's bytes."""
    target = torch.empty(1 << 18)
    wanted = jobs(large, {"wanted": target})
    before = _bytes_read()
    fill(wanted, device=CPU)
    assert 1 << 20 <= _bytes_read() - before < 2 << 20
    assert torch.equal(target, torch.arange(1 << 18, dtype=torch.float32))


def test_progress(large: Path) -> None:
    """The share rises to one, and is told by the thread that called."""
    told: list[tuple[float, threading.Thread]] = []
    targets = {"unwanted": torch.empty(8 << 20, dtype=torch.bfloat16), "wanted": torch.empty(1 << 18)}
    fill(
        jobs(large, targets),
        device=CPU,
        progress=lambda share: told.append((share, threading.current_thread())),
        piece_bytes=1 << 12,
    )
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert {thread for _, thread in told} == {threading.current_thread()}


def test_who_is_told_can_end_it(large: Path) -> None:
    """An error of the caller's own ends the threads and comes out as it is."""

    def hang_up(share: float) -> None:
        raise BrokenPipeError(share)

    with pytest.raises(BrokenPipeError):
        fill(jobs(large, {"wanted": torch.empty(1 << 18)}), device=CPU, progress=hang_up, threads=4, piece_bytes=64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_file_that_shrinks_meanwhile(large: Path, dtype: torch.dtype) -> None:
    """Bytes that are gone since the header was read end it with the file's and the tensor's name; no thread stays."""
    wanted = jobs(large, {"wanted": torch.empty(1 << 18, dtype=dtype)})
    os.truncate(large, large.stat().st_size - 100)
    with pytest.raises(CheckpointError, match=r"large\.safetensors is broken: it ends within wanted"):
        fill(wanted, device=CPU, threads=4, piece_bytes=1 << 12)


def test_a_file_that_goes_away(large: Path) -> None:
    """A file that is gone since its header was read is told in the system's words."""
    wanted = jobs(large, {"wanted": torch.empty(1 << 18)})
    large.unlink()
    with pytest.raises(CheckpointError, match=r"large\.safetensors cannot be read: No such file"):
        fill(wanted, device=CPU, threads=4, piece_bytes=1 << 12)


@given(data=st.data())
def test_rows_are_handed_over(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whoever takes rows gets each of them once, whole and as the file has them, whatever a piece has room for."""
    shapes = data.draw(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=4))
    sources = {f"t{i}": torch.randn(shape).to(data.draw(st.sampled_from(FLOATS))) for i, shape in enumerate(shapes)}
    path = tmp_path_factory.mktemp("rows") / "model.safetensors"
    save_file(sources, path)
    found: dict[str, dict[int, torch.Tensor]] = {name: {} for name in sources}

    def job(stored: StoredTensor) -> RowJob:
        def take(first: int, rows: torch.Tensor) -> None:
            found[stored.name] |= {first + index: row.clone() for index, row in enumerate(rows)}

        return RowJob(stored, stored.dtype, take)

    taken = [job(stored) for stored in read_header(path)]
    fill(
        taken,
        device=CPU,
        threads=data.draw(st.integers(1, 4)),
        piece_bytes=data.draw(st.sampled_from([8, 64, 1 << 20])),
    )
    for name, source in sources.items():
        rows = [found[name][index] for index in sorted(found[name])]
        assert len(rows) == len(source)
        assert all(torch.equal(row, expected) for row, expected in zip(rows, source, strict=True))


def test_one_piece_of_rows_at_a_time(large: Path) -> None:
    """Threads read beside each other, and hand over one after the other."""
    (stored,) = [tensor for tensor in read_header(large) if tensor.name == "wanted"]
    stored = dataclasses.replace(stored, shape=(1 << 10, 1 << 8))
    inside: list[threading.Thread] = []
    threads: set[threading.Thread] = set()

    def take(first: int, rows: torch.Tensor) -> None:
        inside.append(threading.current_thread())
        assert inside == [threading.current_thread()]
        threads.add(inside.pop())
        assert float(rows[0, 0]) == first * (1 << 8)

    fill([RowJob(stored, stored.dtype, take)], device=CPU, threads=4, piece_bytes=1 << 12)
    assert threads


def test_who_takes_rows_can_end_it(large: Path) -> None:
    """An error of who takes rows comes out as it is, and no thread stays."""
    (stored,) = [tensor for tensor in read_header(large) if tensor.name == "wanted"]

    def refuse(first: int, rows: torch.Tensor) -> None:
        raise CheckpointError(f"no rows from {first} on")

    with pytest.raises(CheckpointError, match="no rows from"):
        fill(
            [RowJob(dataclasses.replace(stored, shape=(1 << 8, 1 << 10)), stored.dtype, refuse)], device=CPU, threads=4
        )


def test_nothing_to_do(tmp_path: Path) -> None:
    """No tensors, and tensors without elements, are done at once."""
    save_file({"empty": torch.zeros(0, 4)}, tmp_path / "model.safetensors")
    told: list[float] = []
    assert fill([], device=CPU, progress=told.append).nbytes == 0
    wanted = jobs(tmp_path / "model.safetensors", {"empty": torch.zeros(0, 4)})
    assert fill(wanted, device=CPU, progress=told.append).nbytes == 0
    assert told == [1.0, 1.0]


def test_the_figure_for_the_log() -> None:
    """Bytes over seconds, in units of 10⁹; an instant is no division by zero."""
    assert Filled(nbytes=6_000_000_000, seconds=2.0, threads=8).gigabytes_per_second == 3.0
    assert Filled(nbytes=0, seconds=0.0, threads=1).gigabytes_per_second == 0.0


BOUNDED = """
import resource, sys, torch
from pathlib import Path
from gemmad.models.loading import Job, fill
from gemmad.models.tensorfile import read_header
(stored,) = read_header(Path(sys.argv[1]))
target = torch.zeros(stored.shape, dtype=getattr(torch, sys.argv[2]))
target.fill_(1.0)
fill([], device=torch.device("cpu"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fill([Job(stored, stored.dtype, target)], device=torch.device("cpu"), threads=4, piece_bytes=1 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
assert target.count_nonzero() == 0
"""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_host_memory_is_bounded(tmp_path: Path, dtype: str) -> None:
    """A tensor of 256 MiB is read with no more memory than the threads' buffers, whether it is converted or not."""
    path = tmp_path / "model.safetensors"
    header = b'{"a":{"dtype":"F32","shape":[67108864],"data_offsets":[0,268435456]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, 8 + len(header) + (256 << 20))  # a hole: it takes no room on the disk
    command = [sys.executable, "-c", BOUNDED, str(path), dtype]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    threads, buffers, piece_kib, slack_kib = 4, 2, 1024, 8 << 10
    assert int(result.stdout) < threads * buffers * piece_kib + slack_kib


def _bytes_read() -> int:
    """By system calls of this process."""
    return int(Path("/proc/self/io").read_text().split()[1])
