"""The pages and their files, as any browser and anybody else gets them."""

from __future__ import annotations

import http.client

import httpx
import pytest

from gemmad.api.dashboard.pages import CONTENT_SECURITY_POLICY, FOLDER
from tests.api.stage import Stage
from tests.api.test_bad_input import refused

FILES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file() and path.suffix != ".html")


def is_safe(answer: httpx.Response) -> bool:
    headers = answer.headers
    return (
        headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        and headers["x-content-type-options"] == "nosniff"
        and headers["referrer-policy"] == "no-referrer"
        and headers["cross-origin-resource-policy"] == "same-origin"
    )


def test_who_asks_for_the_root(http: httpx.Client, browser: httpx.Client) -> None:
    """A browser gets the dashboard, curl and scripts the overview in plain text."""
    page = browser.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.content == (FOLDER / "index.html").read_bytes()
    assert is_safe(page)
    overview = http.get("/")
    assert overview.headers["content-type"] == "text/plain; charset=utf-8"
    assert "OpenAI-compatible" in overview.text
    assert page.headers["vary"] == overview.headers["vary"] == "Accept"


def test_the_chat_page(http: httpx.Client) -> None:
    """It is there for everyone who asks."""
    page = http.get("/chat")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.content == (FOLDER / "chat.html").read_bytes()
    assert is_safe(page)


@pytest.mark.parametrize("path", FILES)
def test_every_file_is_served(http: httpx.Client, path: str) -> None:
    """Each file of the package is served with its type, and a copy that a browser has is not sent again."""
    if path.endswith((".map", ".py")):
        pytest.skip("is not for browsers")
    answer = http.get(f"/assets/{path}")
    assert answer.status_code == 200
    assert answer.content == (FOLDER / path).read_bytes()
    assert is_safe(answer)
    etag = answer.headers["etag"]
    for sent in (etag, f"W/{etag}", f'"other", {etag}'):
        again = http.get(f"/assets/{path}", headers={"If-None-Match": sent})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert http.get(f"/assets/{path}", headers={"If-None-Match": '"other"'}).status_code == 200
    assert answer.headers["cache-control"] in ("no-cache", "public, max-age=31536000, immutable")


def test_head(http: httpx.Client, browser: httpx.Client) -> None:
    """HEAD is told all but the content."""
    for client, path in ((browser, "/"), (http, "/chat"), (http, "/assets/style.css")):
        got, asked = client.get(path), client.head(path)
        assert asked.status_code == 200
        assert asked.content == b""
        for name in ("content-length", "etag", "content-type", "content-security-policy"):
            assert asked.headers[name] == got.headers[name]


@pytest.mark.parametrize("path", ["/", "/chat", "/assets/style.css"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_other_methods(http: httpx.Client, method: str, path: str) -> None:
    """Pages can only be read."""
    refused(http.request(method, path), 405)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "nothing.js",
        "index.html",
        "chat.html",
        "common",
        "common/",
        "../routes.py",
        "%2e%2e/routes.py",
        "..%2froutes.py",
        "common/../style.css",
        "common/%2e%2e/%2e%2e/routes.py",
        "./style.css",
        "/style.css",
        "//etc/passwd.txt",
        "%2fetc%2fpasswd.txt",
        "..%5c..%5croutes.py",
        "style.css%00.png",
        "style.css%0a",
        ".hidden.js",
        "common/.hidden.js",
        "%ff%fe.js",
        "a" * 300 + ".js",
        "a/" * 200 + "b.js",
        "style.css/",
        "style.css/x.js",
    ],
)
def test_paths_that_lead_elsewhere(stage: Stage, path: str) -> None:
    """Whatever is written for a path, only files of the pages are served, to the byte as they are named."""
    connection = http.client.HTTPConnection("127.0.0.1", stage.port, timeout=20)
    try:
        connection.request("GET", f"/assets/{path}")  # as it is: httpx would tidy it
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    assert answer.status == 404, body[:100]
    assert b'"error"' in body


def test_pages_need_no_key(guarded: Stage, http: httpx.Client, browser: httpx.Client) -> None:
    """They hold no data, so they are open where keys are set; the overview in plain text names models, and is not."""
    assert browser.get("/").status_code == 200
    assert http.get("/chat").status_code == 200
    assert http.get("/assets/style.css").status_code == 200
    refused(http.get("/"), 401)
    refused(browser.get("/v1/models"), 401)


def test_another_host(stage: Stage, browser: httpx.Client) -> None:
    """A name that was made to lead here gets no page."""
    for path in ("/", "/chat", "/assets/style.css", "/dashboard/snapshot", "/dashboard/events"):
        refused(browser.get(path, headers={"Host": "evil.example"}), 421)
