from __future__ import annotations

from pathlib import Path

import pytest

from gemmad.config.load import load_config
from gemmad.config.models import ModelName, model_folder, models_dir, name_in, usual_names
from gemmad.config.paths import find_paths

PATHS = find_paths({"GEMMAD_STATE_DIR": "/state"})


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("google/gemma-3-4b-it", "google--gemma-3-4b-it"),
        ("google/gemma-3-4b-it@v1.0", "google--gemma-3-4b-it@v1.0"),
        ("me/a.b_c-d@refs/pr/1", "me--a.b_c-d@refs%2Fpr%2F1"),
    ],
)
def test_names_and_folders(text: str, folder: str) -> None:
    """A name leads to one folder, and the folder back to the name."""
    name = ModelName.parse(text)
    assert str(name) == text
    assert name.folder_name == folder
    assert ModelName.of_folder(folder) == name
    assert model_folder(Path(text), PATHS) == Path("/state/models") / folder == models_dir(PATHS) / folder


@pytest.mark.parametrize(
    "text",
    [
        "gemma",
        "a/b/c",
        "/a/b",
        "./a/b",
        "../b",
        "a/..",
        "a/.b",
        "a--b/c",
        "a/b@",
        "a/b@x y",
        "a/b\n",
        "-a/b",
        "a/b..c",
        "",
    ],
)
def test_what_is_no_name(text: str) -> None:
    """What the hub would not accept, or what looks like a path, is no name."""
    with pytest.raises(ValueError, match="no model's name"):
        ModelName.parse(text)


@pytest.mark.parametrize("folder", ["my-gemma", ".pulling", "a--b--c", "google--x@%zz\n", "a--b@refs/pr"])
def test_folders_without_a_name(folder: str) -> None:
    """A folder that no name leads to has none."""
    assert ModelName.of_folder(folder) is None


def test_what_clients_may_call_it() -> None:
    """A pulled model is called as on the hub, and short; a folder by its name."""
    assert usual_names(Path("google/gemma-3-4b-it")) == ("google/gemma-3-4b-it", "gemma-3-4b-it")
    assert usual_names(Path("a/b@c")) == ("a/b@c", "a/b", "b")
    assert usual_names(Path("/models/mine")) == ("mine",)


def test_a_name_or_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks like a name is one, unless a folder is called so where it is written; ./ always means a folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/gemma").mkdir(parents=True)

    def path_of(text: str) -> Path | None:
        env = {"GEMMAD_CONFIG_DIR": str(tmp_path / "none")}
        return load_config(None, env=env, overrides={"model.path": text}).config.model.path

    assert path_of("google/gemma-3-4b-it") == Path("google/gemma-3-4b-it")
    assert path_of("./google/gemma-3-4b-it") == tmp_path / "google/gemma-3-4b-it"
    assert path_of("models/gemma") == tmp_path / "models/gemma"
    assert name_in(tmp_path / "google/gemma-3-4b-it") is None
    assert model_folder(tmp_path / "x", PATHS) == tmp_path / "x"
