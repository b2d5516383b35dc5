"""The model's folder: is everything there and as long as it should be. Runs in a child process: disks may hang.

Weights are as long as their own headers say, or they are cut. Their bytes are not read, which takes minutes; small
files are compared with what the hub had, where `gemmad pull` has noted that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gemmad.doctor.facts import ModelFacts
from gemmad.errors import CheckpointError
from gemmad.hub.files import INDEX, REQUIRED, holds
from gemmad.hub.store import PULLING, Manifest, read_manifest
from gemmad.planning.gguf import SUFFIX, find_gguf, missing_beside, read_gguf
from gemmad.planning.shape import ModelShape, read_shape

HASHED_BYTES = 64 << 20
"""Larger files are compared by their size only."""
_HEADER_LIMIT_BYTES = 100 << 20
_MOST_FAULTS = 12


def read_model(folder: Path, *, chat_template: Path | None = None) -> ModelFacts:
    """One look."""
    unfinished = (folder.parent / PULLING / folder.name).is_dir()
    try:
        if not folder.is_dir():
            return ModelFacts(folder=str(folder), exists=False, unfinished=unfinished)
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    except PermissionError:
        return ModelFacts(folder=str(folder), exists=True, closed=True)
    manifest = read_manifest(folder)
    faults = [*_missing(folder, names), *_weights(folder, names)]
    hashed, differing = _compare(folder, manifest)
    faults += differing
    shape, problem = _shape(folder)
    return ModelFacts(
        folder=str(folder),
        exists=True,
        faults=tuple(dict.fromkeys(faults + ([problem] if problem else [])))[:_MOST_FAULTS],
        bytes=sum((folder / name).stat().st_size for name in names),
        files=len(names),
        pulled=None if manifest is None else f"{manifest.repo} at {manifest.commit[:12]}",
        hashed=hashed,
        unfinished=unfinished,
        text_problem=_text(folder, chat_template),
        shape=shape,
    )


def _missing(folder: Path, names: list[str]) -> Iterator[str]:
    try:
        files = find_gguf(folder)
    except CheckpointError as error:
        yield str(error)
        return
    if files is not None:
        if (problem := missing_beside(folder, files, REQUIRED)) is not None:
            yield problem
        if files.vision is None and (shape := _shape(folder)[0]) is not None and shape.vision is not None:
            yield f"{folder}: config.json has a vision tower, and no mmproj*.gguf lies beside {files.model[0].name}"
        return
    for name in REQUIRED:
        if name not in names:
            yield f"{folder / name}: missing"
    if not any(name.endswith(".safetensors") for name in names):
        yield f"{folder}: no weights: there is no *.safetensors file, and no *.gguf"


def _weights(folder: Path, names: list[str]) -> Iterator[str]:
    if not any(name.endswith(".safetensors") for name in names):
        yield from _gguf_files(folder, names)
    placed: dict[str, set[str]] = {}
    if INDEX in names:
        try:
            weight_map = json.loads((folder / INDEX).read_text("utf-8"))["weight_map"]
            for tensor, name in weight_map.items():
                placed.setdefault(str(name), set()).add(str(tensor))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            yield f"{folder / INDEX}: cannot be read: {error!r}"
    for name in sorted(set(placed) - set(names)):
        yield f"{folder / name}: missing, and {INDEX} names it"
    for name in names:
        if name.endswith(".safetensors"):
            yield from _weight_file(folder / name, placed.get(name, set()))


def _gguf_files(folder: Path, names: list[str]) -> Iterator[str]:
    for name in names:
        if name.endswith(SUFFIX):
            try:
                read_gguf(folder / name)
            except CheckpointError as error:
                yield str(error)


def _weight_file(path: Path, wanted: set[str]) -> Iterator[str]:
    """Its header tells how long it is and what is in it. (https://github.com/huggingface/safetensors)"""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size, _HEADER_LIMIT_BYTES):
                yield f"{path}: is no safetensors file, or cut within its header"
                return
            header: dict[str, Any] = json.loads(file.read(length))
        tensors = {name: told for name, told in header.items() if name != "__metadata__"}
        end = 8 + length + max((int(told["data_offsets"][1]) for told in tensors.values()), default=0)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        yield f"{path}: cannot be read: {error}"
        return
    if size != end:
        yield f"{path}: has {size} bytes and should have {end}"
    if lacking := sorted(wanted - set(tensors)):
        yield f"{path}: lacks {len(lacking)} tensors that {INDEX} places in it, such as {lacking[0]}"


def _compare(folder: Path, manifest: Manifest | None) -> tuple[int, list[str]]:
    """How many files were compared byte by byte, and those that are not what was pulled."""
    hashed, faults = 0, []
    for file in manifest.files if manifest is not None else ():
        path = folder / file.name
        if not path.is_file():
            faults.append(f"{path}: missing, and it was pulled")
        elif (size := path.stat().st_size) != file.size:
            faults.append(f"{path}: has {size} bytes, and {file.size} were pulled")
        elif file.size <= HASHED_BYTES:
            hashed += 1
            if not holds(path, file):
                faults.append(f"{path}: is not what was pulled")
    return hashed, faults


def _shape(folder: Path) -> tuple[ModelShape | None, str | None]:
    try:
        return read_shape(folder), None
    except CheckpointError as error:
        return None, str(error)


def _text(folder: Path, chat_template: Path | None) -> str | None:
    from gemmad.media.spec import ImageSpec
    from gemmad.text.checkpoint import TextModel

    try:
        TextModel.load(folder, chat_template=chat_template)
        ImageSpec.load(folder)
    except CheckpointError as error:
        return str(error)
    return None
