"""The pages' scripts, as far as they can be judged without a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gemmad.api.dashboard.pages import FOLDER

SCRIPTS = Path(__file__).parent / "scripts"
OWN = sorted(path for path in FOLDER.rglob("*.js") if path.parent.name != "vendor")
PAGES = sorted(FOLDER.glob("*.html"))
MARKUP = re.compile(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|new Function|srcdoc)\b")
NODE = shutil.which("node")


def named(path: Path) -> str:
    """For test ids."""
    return str(path.relative_to(FOLDER))


@pytest.mark.skipif(NODE is None, reason="node is not installed")
@pytest.mark.parametrize("test", sorted(SCRIPTS.glob("*.test.js")), ids=lambda path: path.name)
def test_modules_do_what_they_say(test: Path, tmp_path: Path) -> None:
    """Each module that needs no browser passes its own tests, run by node."""
    assert NODE is not None
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copytree(FOLDER, tmp_path / "assets")
    (tmp_path / "tests").mkdir()
    shutil.copy(test, tmp_path / "tests")
    done = subprocess.run(
        [NODE, "--test", f"tests/{test.name}"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_scripts_parse() -> None:
    """Every script of ours is one that a JavaScript engine takes."""
    assert NODE is not None
    for script in OWN:
        done = subprocess.run(
            [NODE, "--check", "--input-type=module"], input=script.read_bytes(), capture_output=True, check=False
        )
        assert done.returncode == 0, f"{named(script)}: {done.stderr.decode()}"


@pytest.mark.parametrize("script", [path for path in OWN if path.parent.name in {"dashboard", "common"}], ids=named)
def test_text_never_becomes_markup(script: Path) -> None:
    """What the dashboard shows goes in as text: nothing in its scripts parses markup or runs text as code."""
    assert MARKUP.findall(script.read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_pages_keep_to_their_own_policy(page: Path) -> None:
    """A page has no inline script, style or handler, and loads nothing from anywhere else."""
    text = page.read_text()
    assert not re.search(r"<style\b|\sstyle=|\son[a-z]+=|javascript:|(?:src|href)=\"(?:https?:)?//", text)
    assert all(not body.strip() for body in re.findall(r"<script\b[^>]*>(.*?)</script>", text, re.DOTALL))


def test_modules_import_what_is_there() -> None:
    """Every module that a script imports, and every asset that a page names, is in the package."""
    missing = [
        f"{named(script)}: {target}"
        for script in OWN
        for target in re.findall(r"""\bfrom ["']([^"']+)["']|\bimport\(["']([^"']+)["']\)""", script.read_text())
        for target in filter(None, target)
        if not (script.parent / target).is_file()
    ]
    missing += [
        f"{named(page)}: {target}"
        for page in PAGES
        for target in re.findall(r'(?:src|href)="(assets/[^"]+)"', page.read_text())
        if not (FOLDER.parent / target).is_file()
    ]
    assert missing == []
