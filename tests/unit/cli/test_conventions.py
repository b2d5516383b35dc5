"""What holds for every verb, whoever adds one: help, examples, exit statuses, JSON, pages made from the same source."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from gemmad.cli.completion import FILE_NAMES, SHELLS, script
from gemmad.cli.examples import EXAMPLES
from gemmad.cli.main import app
from gemmad.cli.manual import man_pages
from gemmad.cli.reference import Verb, cli_page, read_groups
from tests.unit.cli.conftest import Command

ROOT = Path(__file__).parents[3]
GROUPS = read_groups(app)
VERBS = {verb.name: verb for group in GROUPS for verb in group.verbs}
PAGES = man_pages(GROUPS)

ACTING = frozenset(
    {
        *("serve", "wait", "chat", "cancel", "drain", "resume", "recycle", "reload", "pull", "rm", "completion"),
        *("keys new", "engine install", "engine add", "engine use", "engine rollback", "engine remove"),
        *("service install", "service uninstall", "config schema", "config example"),
    }
)
"""They do something, or print a file; all others read, and have --json."""

every_verb = pytest.mark.parametrize("verb", VERBS.values(), ids=list(VERBS))


def squeezed(text: str) -> str:
    """Without the boxes and line breaks of help."""
    return re.sub(r"[\s│]+", "", text)


@every_verb
def test_help(gemmad: Command, verb: Verb) -> None:
    """The help of every verb has its summary, its options, its exit statuses and its examples word for word."""
    said = gemmad(*verb.name.split(), "--help")
    assert said.exit_code == 0
    shown = squeezed(said.stdout)
    assert squeezed(verb.summary) in shown
    assert verb.exits
    assert all(squeezed(f"{code} {words}") in shown for code, words in verb.exits)
    assert verb.examples, f"gemmad/cli/examples.py has none for {verb.name!r}"
    assert all(squeezed(example) in shown for example in verb.examples)
    assert all(name in shown for option in verb.options for name in option.names)
    assert all(option.help for option in (*verb.options, *verb.arguments))


@every_verb
def test_exit_statuses(verb: Verb) -> None:
    """The first is success, they rise, and each number means the same kind of thing as elsewhere."""
    codes = [code for code, _ in verb.exits]
    assert codes[0] == 0
    assert codes == sorted(set(codes))
    assert set(codes) <= {0, 1, 2, 3, 4, 75, 78, 130}


@every_verb
def test_readers_have_json(verb: Verb) -> None:
    """Every verb that reads can say it as JSON."""
    assert verb.name in ACTING or any("--json" in option.names for option in verb.options)


def parsed_options(words: list[str], verb: Verb) -> list[str]:
    """Options that an example uses and the verb has not."""
    known = {name for option in verb.options for name in option.names}
    return [word for word in words if word.startswith("-") and word not in known]


@every_verb
def test_examples_are_of_the_verb(verb: Verb) -> None:
    """An example calls its own verb, with options that it has, and nothing that help would take for markup."""
    for example in verb.examples:
        assert "[" not in example
        assert len(example) < 90
        words = shlex.split(example)
        end = next((at for at, word in enumerate(words) if word in ("|", ">", "<", "&&")), len(words))
        called, name = words[:end], verb.name.split()
        assert called[: len(name) + 1] == ["gemmad", *name]
        used = [word for word in called[len(name) + 1 :] if not re.fullmatch(r"-\d+", word)]
        assert parsed_options(used, verb) == []


def test_the_page_is_written() -> None:
    """docs/cli.md is what `make docs` writes."""
    assert (ROOT / "docs" / "cli.md").read_text() == cli_page(GROUPS), "run `make docs`"


def test_the_manual_is_written() -> None:
    """packaging/man has the pages that `make docs` writes, and no others."""
    folder = ROOT / "packaging" / "man"
    assert {path.name: path.read_text() for path in folder.iterdir()} == PAGES, "run `make docs`"


def test_the_completions_are_written() -> None:
    """packaging/completions has what `gemmad completion` prints."""
    folder = ROOT / "packaging" / "completions"
    wanted = {FILE_NAMES[shell]: script(shell) for shell in SHELLS}
    assert {path.name: path.read_text() for path in folder.iterdir()} == wanted, "run `make docs`"


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff reads manual pages, and is not here")
def test_troff_takes_the_manual(tmp_path: Path) -> None:
    """No page makes groff warn, and every one has its name, its synopsis and its exit statuses."""
    for name, text in PAGES.items():
        (tmp_path / name).write_text(text)
    result = subprocess.run(
        ["groff", "-man", "-Tascii", "-ww", "-z", *PAGES], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    for name, text in PAGES.items():
        assert ".SH NAME" in text
        assert "SYNOPSIS" in text
        assert "EXIT STATUS" in text or name == "gemmad.1"


def test_no_example_is_of_nothing() -> None:
    """An example belongs to a verb that there is."""
    assert set(EXAMPLES) - set(VERBS) <= PLANNED


PLANNED = frozenset[str]()
