"""What a model may be called, and which folder that is: one of your own, or one that `gemmad pull` made.

`model.path` is absolute for a folder. A relative one is a name of the hub's, such as `google/gemma-3-12b-it` or
`google/gemma-3-12b-it@v1`: where it was written, no folder was called so.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote

from msgspec import Struct

from gemmad.config.paths import Paths

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_NAME = re.compile(rf"(?P<repo>{_PART}/{_PART})(?:@(?P<revision>[^\s@\\]{{1,200}}))?")
_SEPARATOR = "--"
"""Between owner and model in a folder's name; the hub allows it in neither."""


class ModelName(Struct, frozen=True):
    """A repository of the hub, and which state of it: None is whatever its main branch had when it was pulled."""

    repo: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> ModelName:
        """`OWNER/MODEL` or `OWNER/MODEL@REVISION`. Raises ValueError, which says how a name looks."""
        found = _NAME.fullmatch(text)
        if found is None or _SEPARATOR in found["repo"] or ".." in found["repo"]:
            raise ValueError(f"{text!r} is no model's name; one looks like google/gemma-3-4b-it")
        return cls(found["repo"], found["revision"])

    @classmethod
    def of_folder(cls, name: str) -> ModelName | None:
        """Whose folder has this name; None for one that no name leads to."""
        repo, _, revision = name.partition("@")
        try:
            model = cls.parse(repo.replace(_SEPARATOR, "/") + (f"@{unquote(revision)}" if revision else ""))
        except ValueError:
            return None
        return model if model.folder_name == name else None

    @property
    def folder_name(self) -> str:
        """`google--gemma-3-4b-it`; a revision is behind an `@`, its slashes escaped."""
        revision = "" if self.revision is None else f"@{quote(self.revision, safe='')}"
        return self.repo.replace("/", _SEPARATOR) + revision

    @property
    def short(self) -> str:
        """Without its owner and revision."""
        return self.repo.partition("/")[2]

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


def models_dir(paths: Paths) -> Path:
    """Where pulled models lie, each in a folder. They are state and no cache: some machines never see the hub."""
    return paths.state_dir / "models"


def is_name_at(text: str, folder: Path) -> bool:
    """Whether `text`, written in a file of `folder`, is a model's name and not a folder's."""
    try:
        ModelName.parse(text)
    except ValueError:
        return False
    return not (folder / text).is_dir()


def name_in(path: Path) -> ModelName | None:
    """The name that `model.path` is; None for a folder."""
    try:
        return None if path.is_absolute() else ModelName.parse(str(path))
    except ValueError:
        return None


def model_folder(path: Path, paths: Paths) -> Path:
    """The folder that `model.path` means, whether it is there or not."""
    name = name_in(path)
    return path.absolute() if name is None else models_dir(paths) / name.folder_name


def usual_names(path: Path) -> tuple[str, ...]:
    """What clients may call the model if nobody says: a pulled one as on the hub, and short; else its folder's name."""
    name = name_in(path)
    return (path.resolve().name,) if name is None else tuple(dict.fromkeys((str(name), name.repo, name.short)))
