from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import gemmad.demo
from gemmad.config.models import model_folder
from gemmad.config.paths import find_paths
from gemmad.config.schema import ModelSection
from gemmad.daemon.modelfolder import ModelFolder, fingerprint, require_checkpoint, trouble
from gemmad.errors import CheckpointError, ConfigError

CHECKPOINT = Path(gemmad.demo.__file__).parent / "checkpoint"


class Sleeper:
    """Instead of time: each pause lets the next thing happen."""

    def __init__(self, *events: Callable[[], object]) -> None:
        self.pauses: list[float] = []
        self._events: Iterator[Callable[[], object]] = iter(events)

    async def __call__(self, seconds: float) -> None:
        assert len(self.pauses) < 100, "it waits for ever"
        self.pauses.append(seconds)
        next(self._events, lambda: None)()
        await asyncio.sleep(0)


def watched(path: Path, sleep: Sleeper, *, state: Path = Path("/state"), template: Path | None = None) -> ModelFolder:
    paths = find_paths({"GEMMAD_STATE_DIR": str(state)})
    section = ModelSection(path=path, chat_template=template)
    return ModelFolder(lambda: section, folder_of=lambda path: model_folder(path, paths), sleep=sleep)


def nothing() -> None:
    pass


def test_a_model_that_is_there(tmp_path: Path) -> None:
    """A checkpoint that can be read is read at once, and nothing is said against it."""
    sleep = Sleeper()
    folder = watched(CHECKPOINT, sleep)
    reading, is_other = asyncio.run(folder.read())
    assert (reading.folder, is_other, folder.trouble, sleep.pauses) == (CHECKPOINT, False, None, [])
    assert reading.images is not None
    assert folder.plausible.is_set()


def test_a_model_that_appears(tmp_path: Path) -> None:
    """A pulled model that is missing is looked for with growing pauses, the command that brings it is told meanwhile,
    and once it is there and stays the same it is read."""
    there = tmp_path / "models" / "google--gemma-3-demo"
    told: list[str] = []

    def appear() -> None:
        assert folder.trouble is not None
        assert not folder.plausible.is_set()
        told.append(folder.trouble.remedy)
        shutil.copytree(CHECKPOINT, there)

    sleep = Sleeper(*[nothing] * 9, appear)
    folder = watched(Path("google/gemma-3-demo"), sleep, state=tmp_path)
    reading, is_other = asyncio.run(folder.read())
    assert told == ["`gemmad pull google/gemma-3-demo`"]
    assert (reading.folder, folder.trouble, is_other) == (there, None, False)
    looks = sleep.pauses[:10]
    assert looks == sorted(looks)
    assert (looks[0], looks[-1]) == (0.5, 5.0)


def test_a_folder_that_is_being_filled(tmp_path: Path) -> None:
    """While files come it is left alone: it is read once nothing has changed for a while."""
    there = tmp_path / "mine"
    there.mkdir()
    names = sorted(path.name for path in CHECKPOINT.iterdir())
    looked: list[str] = []

    def copy(name: str) -> None:
        shutil.copy(CHECKPOINT / name, there)
        assert folder.trouble is not None
        looked.append(folder.trouble.reason)

    sleep = Sleeper(*[lambda name=name: copy(name) for name in names])
    folder = watched(there, sleep)
    reading, _ = asyncio.run(folder.read())
    assert reading.folder == there
    assert len(set(looked)) == 1


def test_a_broken_file_that_is_mended(tmp_path: Path) -> None:
    """What is wrong is told with the file's name; when the file changes, it is read again, and workers that began with
    the old files are to begin anew."""
    there = tmp_path / "mine"
    shutil.copytree(CHECKPOINT, there)
    (there / "tokenizer.json").write_text("{}")
    told: list[str] = []

    def mend() -> None:
        assert folder.trouble is not None
        told.append(folder.trouble.reason)
        assert folder.plausible.is_set()
        shutil.copy(CHECKPOINT / "tokenizer.json", there)

    folder = watched(there, Sleeper(mend))
    _, is_other = asyncio.run(folder.read())
    assert is_other
    assert str(there / "tokenizer.json") in told[0]
    assert asyncio.run(folder.read())[1] is False


def test_a_template_of_ones_own(tmp_path: Path) -> None:
    """A chat template that is named in the settings is waited for, too."""
    template = tmp_path / "t.jinja"
    folder = watched(
        CHECKPOINT, Sleeper(lambda: shutil.copy(CHECKPOINT / "chat_template.jinja", template)), template=template
    )
    reading, _ = asyncio.run(folder.read())
    assert reading.text.template


def test_a_change_matters_while_it_is_broken(tmp_path: Path) -> None:
    """A model in use may change on disk; it is read again only once nobody can use what was read."""
    there = tmp_path / "mine"
    shutil.copytree(CHECKPOINT, there)
    broken: list[bool] = []
    sleep = Sleeper((there / "config.json").touch, nothing, lambda: broken.append(True))
    folder = watched(there, sleep)

    async def scenario() -> None:
        await folder.read()
        await folder.until_changed(is_broken=lambda: bool(broken))

    asyncio.run(scenario())
    assert sleep.pauses[:3] == [5.0, 5.0, 5.0]


def test_no_model_is_a_wrong_setting() -> None:
    """Where no model is set, there is nothing to wait for."""
    folder = ModelFolder(ModelSection, folder_of=Path.absolute)
    with pytest.raises(ConfigError, match="no model is set"):
        asyncio.run(folder.read())


def test_what_mends_what(tmp_path: Path) -> None:
    """A pulled model is mended by a pull, which reads it if it is there; a folder of one's own by its owner."""
    name = Path("google/gemma-3-1b-it")
    assert trouble(name, tmp_path / "none", "x").remedy == "`gemmad pull google/gemma-3-1b-it`"
    assert trouble(name, tmp_path, "x").remedy == "`gemmad pull --verify google/gemma-3-1b-it`"
    assert "gemmad pull" in trouble(tmp_path / "none", tmp_path / "none", "x").remedy
    assert str(tmp_path) not in trouble(tmp_path, tmp_path, "x").remedy


def test_what_is_looked_at(tmp_path: Path) -> None:
    """Files that no checkpoint is made of change nothing, those that it is made of do."""
    assert fingerprint(tmp_path / "none") == ()
    empty = fingerprint(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    assert fingerprint(tmp_path) == empty
    (tmp_path / "config.json").write_text("{}")
    assert fingerprint(tmp_path) != empty
    with_config = fingerprint(tmp_path)
    (tmp_path / "a.gguf").write_bytes(b"x")
    assert fingerprint(tmp_path) != with_config


def test_a_folder_with_gguf(tmp_path: Path) -> None:
    """Needs the small files beside it, all of its parts, and nothing else."""
    there = tmp_path / "mine"
    shutil.copytree(CHECKPOINT, there, ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(CheckpointError, match=r"there is no \*\.safetensors file, and no \*\.gguf"):
        require_checkpoint(there)
    (there / "a-00001-of-00002.gguf").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"a-00002-of-00002\.gguf is missing"):
        require_checkpoint(there)
    (there / "a-00002-of-00002.gguf").write_bytes(b"x")
    require_checkpoint(there)
    for name in ("config.json", "tokenizer_config.json"):
        (there / name).unlink()
    with pytest.raises(CheckpointError, match=r"has no config\.json and no tokenizer_config\.json beside it.*own repo"):
        require_checkpoint(there)
