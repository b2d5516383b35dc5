from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("packaging/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of every page leads to a file."""
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_every_make_target_is_documented() -> None:
    """`make help` lists every public target, and the development page knows the same ones."""
    listed = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = set(re.findall(r"^make ([\w-]+)", listed, re.MULTILINE))
    declared = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert declared is not None
    assert targets | {"help"} == set(declared[1].split())
    page = (ROOT / "docs/development.md").read_text()
    assert targets - set(re.findall(r"`make ([\w-]+)", page)) <= {"help"}


def test_the_readme_fits_a_screen() -> None:
    """The README is what one needs to begin; the rest is linked."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 80
