"""A safetensors file's header, and files that are not what they claim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gemmad.demo import CHECKPOINT
from gemmad.errors import CheckpointError
from gemmad.models.tensorfile import MOST_HEADER_BYTES, encode_header, kind_of, read_header, read_metadata


def entry(kind: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    """One tensor as a header describes it."""
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


def write(path: Path, header: Any, *, data: int = 0, length: int | None = None) -> Path:
    """A file with this header (text, or an object) and so many bytes after it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + bytes(data))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a file goes."""
    return tmp_path / "model.safetensors"


def test_the_header_of_a_real_file() -> None:
    """Names, shapes, dtypes and bytes are those that the safetensors library reads."""
    path = CHECKPOINT / "model.safetensors"
    data = path.read_bytes()
    stored = {tensor.name: tensor for tensor in read_header(path)}
    with safe_open(path, framework="pt") as file:
        assert set(stored) == set(file.keys())
        for name, tensor in stored.items():
            theirs = file.get_tensor(name)
            ours = torch.frombuffer(bytearray(data[tensor.start : tensor.end]), dtype=tensor.dtype)
            assert torch.equal(ours.view(tensor.shape), theirs)


def test_tensors_come_in_the_order_of_their_bytes(path: Path) -> None:
    """However the header lists them."""
    header = {"b": entry("F32", [2], 4, 12), "__metadata__": {"format": "pt"}, "a": entry("F16", [2, 1], 0, 4)}
    first, second = read_header(write(path, header, data=12))
    assert (first.name, first.shape, first.dtype, first.nbytes) == ("a", (2, 1), torch.float16, 4)
    assert (second.name, second.shape, second.dtype, second.nbytes) == ("b", (2,), torch.float32, 8)
    assert second.start == first.end
    assert second.end == path.stat().st_size


def test_tensors_without_elements(path: Path) -> None:
    """A tensor of no bytes stands wherever it likes between others."""
    tensors = {"empty": torch.zeros(0, 3), "scalar": torch.tensor(2.0), "also": torch.zeros(4, 0)}
    save_file(tensors, path)
    assert {tensor.name: tensor.shape for tensor in read_header(path)} == {
        "empty": (0, 3),
        "scalar": (),
        "also": (4, 0),
    }


def test_an_unknown_kind_of_number_hurts_only_who_reads_it(path: Path) -> None:
    """A file may hold what no weight is read from; asking for its dtype names file, tensor and what is read."""
    (tensor,) = read_header(write(path, {"odd": entry("F4", [3], 0, 2)}, data=2))
    with pytest.raises(CheckpointError, match=r"model\.safetensors: odd is F4; weights are read from F64, F32"):
        _ = tensor.dtype


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        ({"a": entry("F32", [2], 0, 8)}, 7, "tensors end at byte .* it may have been cut off"),
        ({"a": entry("F32", [2], 0, 8)}, 9, "tensors end at byte"),
        ({"a": entry("F32", [3], 0, 8)}, 8, r"a, F32 of \[3\], does not take 8 bytes"),
        ({"a": entry("F32", [2], 8, 0)}, 8, "a, F32"),
        ({"a": entry("F16", [2], 0, 4), "b": entry("F16", [2], 2, 6)}, 6, "b overlaps the tensor before it"),
        ({"a": entry("F16", [2], 0, 4), "b": entry("F16", [2], 0, 4)}, 4, "overlaps"),
        ({"a": entry("F16", [2], 2, 6)}, 6, "a leaves a hole before it"),
        ({"a": entry("F16", [2], 0, 4), "b": entry("F16", [1], 6, 8)}, 8, "b leaves a hole"),
        ({"a": entry("F16", [-1, -2], 0, 4)}, 4, "a is described by"),
        ({"a": entry("F16", [True, 2], 0, 4)}, 4, "a is described by"),
        ({"a": {"dtype": "F16", "shape": [2]}}, 4, "a is described by"),
        ({"a": {"dtype": "F16", "shape": "2", "data_offsets": [0, 4]}}, 4, "a is described by"),
        ({"a": {"dtype": 16, "shape": [2], "data_offsets": [0, 4]}}, 4, "a is described by"),
        ({"a": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4, 8]}}, 4, "a is described by"),
        ({"a": entry("F16", [2], 0, 4) | {"data_offsets": [0.0, 4.0]}}, 4, "a is described by"),
        ({"a": None}, 0, "a is described by None"),
        ([], 0, "no JSON object"),
        (b"{", 0, "no JSON"),
        (b"[" * 100_000, 0, "no JSON"),
        (b"\xff\xfe", 0, "no JSON"),
        (b'{"a": {"dtype":"F16","shape":[2],"data_offsets":[0,4]},"a": 1}', 4, "a is in its header twice"),
    ],
)
def test_a_file_that_is_not_whole(path: Path, header: Any, data: int, words: str) -> None:
    """What the header claims and the file does not hold is refused with the file's name and the reason."""
    with pytest.raises(CheckpointError, match=rf"model\.safetensors is broken: .*{words}"):
        read_header(write(path, header, data=data))


@pytest.mark.parametrize("length", [3, 1 << 62, MOST_HEADER_BYTES + 1])
def test_a_header_longer_than_the_file(path: Path, length: int) -> None:
    """A length that cannot be is refused before anything is read by it."""
    with pytest.raises(CheckpointError, match=rf"claims {length} bytes of a file of 10"):
        read_header(write(path, b"{}", length=length))


@pytest.mark.parametrize("content", [b"", b"\x02\x00\x00", b"version https://git-lfs.github.com/spec/v1\n"])
def test_something_else_altogether(path: Path, content: bytes) -> None:
    """An empty file, a stump and a pointer that was never resolved are broken files."""
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is broken: its header claims"):
        read_header(path)


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    """What the system refuses to read is said in its words."""
    with pytest.raises(CheckpointError, match=r"cannot be read: Is a directory"):
        read_header(tmp_path)


@given(data=st.data())
def test_a_header_of_our_own(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is written behind a header that we made is read again by us and by the format's own library."""
    shapes = data.draw(st.lists(st.lists(st.integers(0, 5), max_size=3), max_size=5))
    dtypes = st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int16])
    tensors = {f"{'ü' * i}t": torch.ones(shape, dtype=data.draw(dtypes)) for i, shape in enumerate(shapes)}
    metadata = data.draw(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3))
    path = tmp_path_factory.mktemp("ours") / "model.safetensors"
    bodies = [tensor.flatten().view(torch.uint8).numpy().tobytes() for tensor in tensors.values()]
    path.write_bytes(encode_header(tensors, metadata=metadata) + b"".join(bodies))
    assert read_metadata(path) == metadata
    assert {stored.name: (stored.kind, stored.shape) for stored in read_header(path)} == {
        name: (kind_of(tensor.dtype), tuple(tensor.shape)) for name, tensor in tensors.items()
    }
    found = load_file(path)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_a_file_that_says_nothing_of_itself(tmp_path: Path) -> None:
    """Without metadata, or with something else in its place, there is none."""
    path = tmp_path / "model.safetensors"
    for header in (b"{}", b'{"__metadata__":[]}'):
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        assert read_metadata(path) == {}
