from __future__ import annotations

import re
from pathlib import Path

from gemmad.cli import pull, rm
from gemmad.config.models import models_dir
from gemmad.config.paths import find_paths
from gemmad.hub.files import OPTIONAL, REQUIRED
from gemmad.hub.store import MANIFEST, PULLING
from gemmad.hub.token import CREDENTIAL

PAGE = (Path(__file__).parents[3] / "docs/models.md").read_text()


def test_the_files_are_named() -> None:
    """The page names each file that is fetched, and no other."""
    named = set(re.findall(r"`(\w+\.(?:json|jinja))`", PAGE))
    assert named == {*REQUIRED, *OPTIONAL}


def test_the_places_are_named() -> None:
    """The page names where models, the token and what is unfinished lie."""
    assert f"`{models_dir(find_paths({}, uid=0))}`" in PAGE
    assert f"`{CREDENTIAL}`" in PAGE
    assert f"`{MANIFEST}`" in PAGE
    assert f"`{PULLING}/`" in PAGE


def test_the_exit_statuses_agree() -> None:
    """The page and each verb's own help name the same exit statuses."""
    table = set(re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE))
    assert table == _statuses(pull.pull.__doc__)
    sentence = re.search(r"`rm` leaves with (.*)", PAGE)
    assert sentence is not None
    assert set(re.findall(r"\d+", sentence[1])) == _statuses(rm.rm.__doc__)


def _statuses(help_text: str | None) -> set[str]:
    assert help_text is not None
    return set(re.findall(r"\b(\d+) [a-z]", help_text.partition("Exit status:")[2]))
