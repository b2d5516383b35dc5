"""Web pages that call the API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gemmad.config.keyring import parse_keyring
from tests.api.stage import MODEL, Stage
from tests.api.test_bad_input import HI, URL, refused

BODY = {"model": MODEL, "messages": HI}
ORIGIN = "https://chat.example"
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
}


@pytest.fixture
def listed(stage: Stage) -> Iterator[Stage]:
    with stage.settings(server={"cors_origins": (ORIGIN,)}):
        yield stage


def about_cors(answer: httpx.Response) -> set[str]:
    return {name for name in answer.headers if name.startswith("access-control-")}


def test_off_by_default(http: httpx.Client) -> None:
    """Where no origin is listed no answer speaks of CORS, and a preflight is a method that is not there."""
    refused(http.options(URL, headers=PREFLIGHT), 405)
    for answer in (http.get("/v1/models", headers={"Origin": ORIGIN}), http.options(URL, headers=PREFLIGHT)):
        assert about_cors(answer) == set()


def test_a_listed_origin(listed: Stage, http: httpx.Client) -> None:
    """A page of a listed origin may ask first, call, and read the answer and the headers that SDKs look at."""
    asked = http.options(URL, headers=PREFLIGHT)
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert "x-stainless-lang" in asked.headers["access-control-allow-headers"]
    answer = http.post(URL, json=BODY, headers={"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    assert "Origin" in answer.headers["vary"]


def test_a_page_can_read_its_refusals(listed: Stage, http: httpx.Client) -> None:
    """Errors carry the headers too, a 401 included; a preflight has no key and needs none."""
    listed.keyring = parse_keyring(b"sk-a-secret-key", path=Path("keys"))
    assert http.options(URL, headers=PREFLIGHT).status_code == 200
    answer = http.post(URL, json=BODY, headers={"Origin": ORIGIN})
    refused(answer, 401)
    assert answer.headers["access-control-allow-origin"] == ORIGIN


def test_an_origin_that_is_not_listed(listed: Stage, http: httpx.Client) -> None:
    """It is as if there were no CORS."""
    for origin in ("https://evil.example", "http://chat.example", f"{ORIGIN}.evil.example", "null", f"{ORIGIN}:444"):
        assert about_cors(http.get("/v1/models", headers={"Origin": origin})) == set()
        answer = http.options(URL, headers={**PREFLIGHT, "Origin": origin})
        refused(answer, 405)
        assert about_cors(answer) == set()


def test_a_method_that_nothing_has(listed: Stage, http: httpx.Client) -> None:
    """A preflight for it is refused in the shape of all errors."""
    refused(http.options(URL, headers={**PREFLIGHT, "Access-Control-Request-Method": "BREW"}), 405)


def test_the_list_is_live(stage: Stage, http: httpx.Client) -> None:
    """An edit holds from the next request on; `*` is every origin."""
    for origins, expected in ((("*",), "*"), ((ORIGIN,), ORIGIN), ((), None)):
        with stage.settings(server={"cors_origins": origins}):
            answer = http.get("/v1/models", headers={"Origin": ORIGIN})
            assert answer.headers.get("access-control-allow-origin") == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": ORIGIN},
        {"Origin": "null"},
        {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_plain_post_of_a_foreign_page(stage: Stage, http: httpx.Client, headers: dict[str, str]) -> None:
    """What a browser sends for any page without asking first is not computed where no key is needed."""
    answer = http.post(URL, json=BODY, headers={**headers, "Content-Type": "text/plain"})
    assert refused(answer, 403)["code"] == "origin_not_allowed"
    assert stage.worker.submits == []


def test_what_is_no_foreign_page(stage: Stage, http: httpx.Client) -> None:
    """Our own pages, what people open themselves, clients that are no browsers, and all that only look, are served."""
    own = stage.url
    for headers in ({}, {"Origin": own}, {"Origin": own, "Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}):
        assert http.post(URL, json=BODY, headers=headers).status_code == 200
    assert http.get("/v1/models", headers={"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}).status_code == 200
