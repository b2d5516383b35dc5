from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gemmad.api.dashboard.pages import Pages


def asked(folder: Path, path: str) -> Response:
    unused: Any = None
    scope = {"type": "http", "method": "GET", "headers": [], "path": f"/assets/{path}"}
    return asyncio.run(Pages(unused, folder=folder).asset(Request(scope)))


@pytest.mark.parametrize(
    ("path", "is_kept"),
    [
        ("vendor/uplot-1.6.32.min.js", True),
        ("vendor/fonts/inter@4.1.woff2", True),
        ("vendor/uplot.js", False),
        ("vendor/part-2.js", False),
        ("dashboard/main-1.2.js", False),
    ],
)
def test_what_browsers_keep(tmp_path: Path, path: str, is_kept: bool) -> None:
    """A vendored file with its version in its name is kept for good; all else is asked for each time."""
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text("x")
    assert ("immutable" in asked(tmp_path, path).headers["cache-control"]) is is_kept


def test_a_file_that_changes(tmp_path: Path) -> None:
    """It is read again, and has another tag."""
    unused: Any = None
    pages = Pages(unused, folder=tmp_path)
    scope = {"type": "http", "method": "GET", "headers": [], "path": "/assets/a.js"}
    (tmp_path / "a.js").write_text("one")
    first = asyncio.run(pages.asset(Request(scope)))
    assert asyncio.run(pages.asset(Request(scope))).headers["etag"] == first.headers["etag"]
    (tmp_path / "a.js").write_text("other")
    second = asyncio.run(pages.asset(Request(scope)))
    assert (second.body, second.headers["etag"] == first.headers["etag"]) == (b"other", False)
    (tmp_path / "a.js").unlink()
    with pytest.raises(HTTPException):
        asyncio.run(pages.asset(Request(scope)))


def test_a_link_leads_nowhere(tmp_path: Path) -> None:
    """A symbolic link in the folder, of which there should be none, is not followed."""
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "a.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(HTTPException):
        asked(tmp_path / "pages", "a.txt")
