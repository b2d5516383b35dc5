"""Which of a repository's files are a model, and whether what came is what the hub has."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from msgspec import Struct

from gemmad.hub.problems import UnsuitableError
from gemmad.planning.gguf import SPLIT, SUFFIX, TOWER_MARK

REQUIRED = ("config.json", "tokenizer.json", "tokenizer_config.json")
OPTIONAL = (
    "generation_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
)
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
PREFERRED = "q4_0"
"""Of several quantisations in GGUF: what Google trained Gemma 3 for, and what gemmad keeps to the bit."""
_TOWERS = ("bf16", "f32", "f16")
"""Of several files with the vision tower, which is small: what holds it as it was trained comes first."""
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_BLOCK_BYTES = 1 << 20


class HubFile(Struct, frozen=True):
    """A file of a repository as the hub lists it."""

    name: str
    size: int
    blob_id: str
    """Git's SHA-1 of it; of its pointer, if it is large."""
    sha256: str | None = None
    """Of a large file's content."""

    @property
    def is_weights(self) -> bool:
        """Whether it is large and fetched last."""
        return self.name.endswith((".safetensors", SUFFIX))


class Checksum:
    """Of a file's bytes as they come."""

    def __init__(self, file: HubFile) -> None:
        self._file = file
        self._hash = hashlib.sha256() if file.sha256 else hashlib.sha1(usedforsecurity=False)
        if file.sha256 is None:
            self._hash.update(f"blob {file.size}\0".encode())

    def update(self, data: bytes) -> None:
        """The next bytes."""
        self._hash.update(data)

    def is_right(self) -> bool:
        """Whether these were the file's bytes, all of them."""
        return self._hash.hexdigest() == (self._file.sha256 or self._file.blob_id)


def needed_files(listed: Iterable[HubFile]) -> tuple[HubFile, ...]:
    """Those that gemmad reads, small ones first: never a pickle, and nothing from a folder.

    Raises UnsuitableError for a repository that lacks what a checkpoint needs.
    """
    by_name = {file.name: file for file in listed}
    gguf = any(name.endswith(SUFFIX) and "/" not in name for name in by_name)
    missing = [name for name in REQUIRED if name not in by_name]
    if missing and gguf:
        raise UnsuitableError(
            f"it holds GGUF and no {' and no '.join(missing)}: fetch its *.gguf by hand into a folder with those files"
            " from the model's own repository, such as google/gemma-3-12b-it, and name that folder in model.path"
        )
    if missing:
        raise UnsuitableError(f"it has no {' and no '.join(missing)}, so it is no checkpoint that gemmad can serve")
    if INDEX in by_name:
        weights = [name for name in by_name if _SHARD.fullmatch(name)]
    else:
        weights = [name for name in (SINGLE,) if name in by_name] or _gguf(by_name)
    if not weights:
        pickles = any(name.endswith(_PICKLES) for name in by_name)
        raise UnsuitableError(
            "it has no safetensors and no GGUF"
            + (", only pickles, which may run any code and are never read" if pickles else "")
        )
    small = [name for name in (*REQUIRED, *OPTIONAL, *((INDEX,) if INDEX in by_name else ())) if name in by_name]
    return tuple(by_name[name] for name in (*small, *sorted(weights)))


def _gguf(names: Iterable[str]) -> list[str]:
    """One model of those that lie side by side, in all its parts, and its vision tower.

    Raises UnsuitableError where several lie there, and which is wanted cannot be told.
    """
    held = sorted(name for name in names if name.endswith(SUFFIX) and "/" not in name)
    towers = [name for name in held if TOWER_MARK in name.lower()]
    models: dict[str, list[str]] = {}
    for name in held:
        if name not in towers:
            part = SPLIT.fullmatch(name)
            models.setdefault(part["stem"] if part else name.removesuffix(SUFFIX), []).append(name)
    chosen = [stem for stem in models if len(models) == 1 or stem.lower().endswith(PREFERRED)]
    if models and len(chosen) != 1:
        raise UnsuitableError(
            f"it holds {len(models)} models in GGUF, and not one of them is {PREFERRED}: {', '.join(models)}; fetch the"
            " *.gguf that you want by hand into a folder with config.json, tokenizer.json and tokenizer_config.json,"
            " and name that folder in model.path"
        )
    towers.sort(key=lambda name: next((at for at, kind in enumerate(_TOWERS) if kind in name.lower()), len(_TOWERS)))
    return [*models[chosen[0]], *towers[:1]] if models else []


def check_index(folder: Path, files: Iterable[HubFile]) -> None:
    """Raises UnsuitableError if the index in `folder` names weights that are not among `files`."""
    path = folder / INDEX
    if not path.exists():
        return
    try:
        named = {str(name) for name in json.loads(path.read_text("utf-8"))["weight_map"].values()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UnsuitableError(f"its {INDEX} cannot be read: {error!r}") from error
    lacking = sorted(named - {file.name for file in files})
    if lacking:
        raise UnsuitableError(f"its {INDEX} names {lacking[0]!r}, which is not among its weights")


def holds(path: Path, file: HubFile, *, look: Callable[[int], None] = lambda _: None) -> bool:
    """Whether `path` has exactly the file's bytes; all are read, and `look` is told how many at a time."""
    try:
        if path.stat().st_size != file.size:
            return False
        checksum = Checksum(file)
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                checksum.update(block)
                look(len(block))
    except OSError:
        return False
    return checksum.is_right()
