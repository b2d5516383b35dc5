"""GGUF headers, those of files that lie included, and which files of a folder belong together."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.errors import CheckpointError
from gemmad.planning.gguf import find_gguf, read_gguf


def string(text: str) -> bytes:
    """As GGUF has it."""
    return struct.pack("<Q", len(text.encode())) + text.encode()


def info(name: str = "t", shape: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0) -> bytes:
    """A tensor of the header, its innermost dimension first."""
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return string(name) + dimensions + struct.pack("<IQ", kind, offset)


def encode(
    *,
    keys: tuple[bytes, ...] = (),
    tensors: tuple[bytes, ...] = (),
    data: int = 0,
    version: int = 3,
    counts: tuple[int, int] | None = None,
) -> bytes:
    """A file, whose counts may lie."""
    told = counts or (len(tensors), len(keys))
    header = b"GGUF" + struct.pack("<IQQ", version, *told) + b"".join(keys) + b"".join(tensors)
    return header + bytes(-len(header) % 32) + bytes(data)


KEYS = (
    string("general.architecture") + struct.pack("<I", 8) + string("gemma3"),
    string("gemma3.block_count") + struct.pack("<II", 4, 34),
    string("tokens") + struct.pack("<IIQ", 9, 8, 3) + string("<pad>") + string("x" * 5000) + string(""),
    string("scores") + struct.pack("<IIQ3f", 9, 6, 3, 0.0, 1.0, 2.0),
    string("flag") + struct.pack("<I?", 7, True),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a file goes."""
    return tmp_path / "model.gguf"


@pytest.mark.parametrize("version", [2, 3])
def test_a_header(path: Path, version: int) -> None:
    """Keys without arrays, and tensors with their shapes, types and bytes, the outermost dimension first."""
    tensors = (info("a", (64, 2), 2, 0), info("b", (3,), 1, 96), info("c", (5,), 23, 128))
    path.write_bytes(encode(keys=KEYS, tensors=tensors, data=160, version=version))
    file = read_gguf(path)
    assert file.keys == {"general.architecture": "gemma3", "gemma3.block_count": 34, "flag": True}
    base = path.stat().st_size - 160
    found = [
        (tensor.name, tensor.kind, tensor.shape, tensor.start - base, tensor.end - base) for tensor in file.tensors
    ]
    assert found == [("a", "Q4_0", (2, 64), 0, 72), ("b", "F16", (3,), 96, 102), ("c", "type 23", (5,), 128, 128)]


def test_alignment(path: Path) -> None:
    """Where the file says another one, tensors begin at a multiple of it."""
    key = string("general.alignment") + struct.pack("<II", 4, 64)
    text = encode(keys=(key,), tensors=(info(offset=64),), data=512)
    path.write_bytes(text)
    assert read_gguf(path).tensors[0].start % 64 == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "is no GGUF file"),
        (b"PK\3\4" + bytes(64), "is no GGUF file"),
        (encode(version=1), "is GGUF of version 1"),
        (encode(version=3 << 24), "is GGUF of version 50331648"),
        (encode(counts=(1 << 60, 0)), "claims 1152921504606846976 tensors"),
        (encode(counts=(0, 1 << 40)), "tensors and 1099511627776 keys"),
        (encode(counts=(3, 0)), "goes on beyond byte"),
        (encode(keys=(struct.pack("<Q", 1 << 62),)), "goes on beyond byte"),
        (encode(keys=(string("k") + struct.pack("<IIQ", 9, 8, 1 << 61),)), "goes on beyond byte"),
        (encode(keys=(string("k") + struct.pack("<IIQ", 9, 12, 1 << 61),)), "goes on beyond byte"),
        (encode(keys=(string("k") + struct.pack("<IIQ", 9, 9, 1),)), "an array of values of type 9"),
        (encode(keys=(string("k") + struct.pack("<I", 77),)), "a value of type 77"),
        (encode(keys=(struct.pack("<Q", 2) + b"\xff\xfe",)), "is not UTF-8"),
        (encode(keys=(string("general.alignment") + struct.pack("<II", 4, 0),)), "its alignment is 0"),
        (encode(keys=(string("general.alignment") + struct.pack("<I", 8) + string("32"),)), "its alignment is '32'"),
        (encode(tensors=(info(shape=()),), data=128), "t has 0 dimensions"),
        (encode(tensors=(string("t") + struct.pack("<I", 1 << 31),), data=128), "t has 2147483648 dimensions"),
        (encode(tensors=(info(shape=(0,)),), data=128), r"t is \[0\]"),
        (encode(tensors=(info(shape=(1 << 63,)),), data=128), r"t is \[9223372036854775808\]"),
        (encode(tensors=(info(shape=(1 << 39, 1 << 39)),), data=128), "t ends at byte .* it may have been cut off"),
        (encode(tensors=(info(shape=(33,), kind=2),), data=128), "does not lie in whole blocks"),
        (encode(tensors=(info(offset=8),), data=256), "does not lie in whole blocks"),
        (encode(tensors=(info(),), data=127), "t ends at byte"),
        (encode(tensors=(info(), info(offset=128)), data=256), "t is in its header twice"),
    ],
)
def test_files_that_lie(path: Path, text: bytes, reason: str) -> None:
    """Nothing is taken of what a header claims before it is known to be there."""
    path.write_bytes(text)
    with pytest.raises(CheckpointError, match=reason):
        read_gguf(path)


@given(st.data())
def test_headers_that_are_cut_off(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Wherever it happens."""
    text = encode(keys=KEYS, tensors=(info("a", (64, 2), 2), info("b", (32,), 0, 96)), data=224)
    path = tmp_path_factory.getbasetemp() / "cut.gguf"
    path.write_bytes(text[: data.draw(st.integers(0, len(text) - 1))])
    with pytest.raises(CheckpointError):
        read_gguf(path)


@given(st.binary(max_size=400))
def test_noise_after_the_magic(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    """Is refused, or read as what it happens to be; nothing else comes of it."""
    path = tmp_path_factory.getbasetemp() / "noise.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<I", 3) + noise)
    with contextlib.suppress(CheckpointError):
        assert read_gguf(path).path == path


def test_a_file_that_is_not_there(path: Path) -> None:
    """Is told by name."""
    with pytest.raises(CheckpointError, match=r"model\.gguf cannot be read: No such file"):
        read_gguf(path)


@pytest.mark.parametrize(
    ("names", "model", "vision"),
    [
        (["a.gguf"], ["a.gguf"], None),
        (["a.gguf", "mmproj-a-f16.gguf"], ["a.gguf"], "mmproj-a-f16.gguf"),
        (["b-00001-of-00002.gguf", "b-00002-of-00002.gguf"], ["b-00001-of-00002.gguf", "b-00002-of-00002.gguf"], None),
        (["b-00001-of-00001.gguf"], ["b-00001-of-00001.gguf"], None),
    ],
)
def test_which_files_belong_together(tmp_path: Path, names: list[str], model: list[str], vision: str | None) -> None:
    """A model, in one file or split, and its tower."""
    for name in names:
        (tmp_path / name).touch()
    files = find_gguf(tmp_path)
    assert files is not None
    assert [path.name for path in files.model] == model
    assert (files.vision and files.vision.name) == vision


@pytest.mark.parametrize("names", [[], ["config.json"], ["a.gguf", "model.safetensors"]])
def test_folders_that_are_not_of_gguf(tmp_path: Path, names: list[str]) -> None:
    """Safetensors go first: they are what the hub's layout is."""
    for name in names:
        (tmp_path / name).touch()
    assert find_gguf(tmp_path) is None


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["a.gguf", "b.gguf"], r"a\.gguf and b\.gguf are different models; keep one"),
        (["b-00001-of-00002.gguf"], r"b-00002-of-00002\.gguf is missing: the model was split into 2"),
        (["b-00001-of-00002.gguf", "c-00002-of-00002.gguf"], "are different models"),
        (["b-00001-of-00002.gguf", "b-00002-of-00003.gguf"], r"b-00002-of-00002\.gguf is missing"),
        (["b-00001-of-99999.gguf"], r"b-00002-of-99999\.gguf is missing"),
        (["mmproj.gguf"], r"mmproj\.gguf is a vision tower; the \*\.gguf of the network is missing"),
        (["a.gguf", "mmproj-1.gguf", "mmproj-2.gguf"], "are both vision towers"),
    ],
)
def test_folders_that_are_not_one_model(tmp_path: Path, names: list[str], reason: str) -> None:
    """Are told what is one too many, or missing."""
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=reason):
        find_gguf(tmp_path)
