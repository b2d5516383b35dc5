"""Weights on a GPU are the file's, whatever way they took."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gemmad.demo import CHECKPOINT
from gemmad.errors import CheckpointError
from gemmad.generation import WeightFormat
from gemmad.kernels.matrices import CodedMatrix, decode, empty_coded
from gemmad.models.config import read_config
from gemmad.models.copies import CodedCopies
from gemmad.models.loading import Job, RowJob, fill
from gemmad.models.quantising import code_rows
from gemmad.models.tensorfile import read_header
from gemmad.models.weights import coded_tensors, load_weights

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
DEVICE = torch.device("cuda:0")


@pytest.mark.parametrize("target", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("source", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(("threads", "piece_bytes"), [(1, 1 << 16), (8, 1 << 16), (8, 16 << 20)])
def test_every_byte_arrives(
    tmp_path: Path, source: torch.dtype, target: torch.dtype, threads: int, piece_bytes: int
) -> None:
    """Many pieces by many threads, converted over there or not, make the tensors that the file holds."""
    generator = torch.Generator().manual_seed(threads)
    sizes = (1, 3, 1000, 70_001, 1 << 20, 3 << 20)
    sources = {f"t{size}": torch.randn(size, generator=generator).to(source) for size in sizes}
    save_file(sources, tmp_path / "model.safetensors")
    targets = {name: torch.full(t.shape, float("nan"), dtype=target, device=DEVICE) for name, t in sources.items()}
    jobs = [Job(stored, stored.dtype, targets[stored.name]) for stored in read_header(tmp_path / "model.safetensors")]
    fill(jobs, device=DEVICE, threads=threads, piece_bytes=piece_bytes)
    for name, tensor in targets.items():
        assert torch.equal(tensor.cpu(), sources[name].to(target)), name


def test_the_bundled_model_is_the_same_on_both() -> None:
    """Norms with their 1, merged matrices and the tower are equal to those of a CPU, to the bit."""
    config = read_config(CHECKPOINT)
    there, here = (load_weights(config, device=d, dtype=torch.bfloat16) for d in (DEVICE, torch.device("cpu")))
    assert isinstance(there.embedding, torch.Tensor)
    assert isinstance(here.embedding, torch.Tensor)
    assert torch.equal(there.embedding.cpu(), here.embedding)
    assert torch.equal(there.final_norm.cpu(), here.final_norm)
    for a, b in zip(there.layers, here.layers, strict=True):
        assert all(torch.equal(x.cpu(), y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))
    assert there.tower is not None
    assert here.tower is not None
    for (_, x), (_, y) in zip(there.tower.named_tensors(), here.tower.named_tensors(), strict=True):
        assert torch.equal(x.cpu(), y)


def test_buffers_are_given_back(tmp_path: Path) -> None:
    """After loading, the device holds the tensors and no staging memory."""
    save_file({"a": torch.zeros(8 << 20)}, tmp_path / "model.safetensors")
    target = torch.empty(8 << 20, dtype=torch.bfloat16, device=DEVICE)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved(DEVICE)
    (stored,) = read_header(tmp_path / "model.safetensors")
    fill([Job(stored, stored.dtype, target)], device=DEVICE, threads=4, piece_bytes=1 << 20)
    assert torch.cuda.memory_reserved(DEVICE) <= before


def test_a_file_that_shrinks_meanwhile(tmp_path: Path) -> None:
    """An error of one thread ends all of them, and the device is usable afterwards."""
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(1 << 20)}, path)
    (stored,) = read_header(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 100)
    target = torch.empty(1 << 20, device=DEVICE)
    with pytest.raises(CheckpointError, match="it ends within a"):
        fill([Job(stored, stored.dtype, target)], device=DEVICE, threads=8, piece_bytes=1 << 12)
    assert torch.ones(3, device=DEVICE).sum().item() == 3


def test_the_tower_is_the_same_on_both() -> None:
    """Pictures give the rows that they give on a CPU, within float32's rounding."""
    config = read_config(CHECKPOINT)
    devices = (DEVICE, torch.device("cpu"))
    towers = [load_weights(config, device=device, dtype=torch.float32).tower for device in devices]
    assert config.vision is not None
    side = config.vision.image_size
    pixels = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    there, here = (tower.encode(pixels.to(d)) for tower, d in zip(towers, devices, strict=True) if tower)
    torch.testing.assert_close(there.cpu(), here, rtol=2e-3, atol=2e-3)


def test_every_row_is_handed_over(tmp_path: Path) -> None:
    """Rows arrive whole and as the file has them, though all pieces go through one buffer of the device."""
    source = torch.randn(50_000, 384, generator=torch.Generator().manual_seed(0)).bfloat16()
    save_file({"a": source}, tmp_path / "model.safetensors")
    (stored,) = read_header(tmp_path / "model.safetensors")
    found = torch.zeros(source.shape, dtype=torch.float32, device=DEVICE)

    def take(first: int, rows: torch.Tensor) -> None:
        found[first : first + len(rows)] = rows

    fill([RowJob(stored, stored.dtype, take)], device=DEVICE, threads=8, piece_bytes=1 << 20)
    assert torch.equal(found.cpu(), source.float())


@pytest.mark.parametrize("format", ["int4", "int8", "fp8"])
def test_coded_on_both(tmp_path: Path, format: WeightFormat) -> None:
    """Codes that a GPU finds stand for numbers as near as a CPU's; a copy that it has written is read to the bit."""
    config, copies = read_config(CHECKPOINT), CodedCopies(tmp_path)
    there = load_weights(config, device=DEVICE, dtype=torch.bfloat16, format=format, copies=copies)
    assert copies.wait(60.0)
    here, plain = (
        load_weights(config, device=torch.device("cpu"), dtype=torch.bfloat16, format=f) for f in (format, "bf16")
    )
    for ours, theirs, numbers in zip(there.layers, here.layers, plain.layers, strict=True):
        assert isinstance(ours.gate_up, CodedMatrix)
        assert isinstance(theirs.gate_up, CodedMatrix)
        assert isinstance(numbers.gate_up, torch.Tensor)
        mine, its = (float((decode(m).cpu() - numbers.gate_up).norm()) for m in (ours.gate_up, theirs.gate_up))
        assert mine == pytest.approx(its, rel=1e-3)
    again = load_weights(config, device=DEVICE, dtype=torch.bfloat16, format=format, copies=CodedCopies(tmp_path))
    first, second = coded_tensors(there), coded_tensors(again)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("format", ["int4", "int8", "fp8"])
def test_coding_takes_little_room(tmp_path: Path, format: WeightFormat) -> None:
    """Beside the codes there are one piece of rows and one workspace on the device, however large a matrix is."""
    rows = torch.randn(1 << 18, 512, dtype=torch.bfloat16)
    save_file({"a": rows}, tmp_path / "model.safetensors")
    (stored,) = read_header(tmp_path / "model.safetensors")
    into = empty_coded(format, *rows.shape, device=DEVICE)  # type: ignore[arg-type]
    faults = torch.zeros((), dtype=torch.bool, device=DEVICE)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(DEVICE)
    before = torch.cuda.memory_allocated(DEVICE)
    job = RowJob(stored, stored.dtype, lambda first, some: code_rows(some, into.rows(first, first + len(some)), faults))
    fill([job], device=DEVICE)
    assert torch.cuda.max_memory_allocated(DEVICE) - before < 320 << 20
    assert float((decode(into).cpu() - rows).norm() / rows.float().norm()) < 0.11
