"""Who may look at the dashboard's data, and who may act."""

from __future__ import annotations

import httpx
import msgspec
import pytest

from gemmad.api.dashboard.snapshot import Snapshot
from tests.api.dashboard.conftest import ADMIN, KEY, bearer
from tests.api.stage import MODEL, Stage
from tests.api.test_bad_input import HI, URL, refused

LOOKS = ["/dashboard/snapshot", "/dashboard/history", "/dashboard/config"]
ACTS = [
    "/dashboard/workers/all/drain",
    "/dashboard/workers/cpu0/resume",
    "/dashboard/workers/all/recycle",
    "/dashboard/reload",
    "/dashboard/reload?dry_run=1",
    "/dashboard/requests/req_1/cancel",
]


def is_admitted(answer: httpx.Response) -> bool:
    """Whether an act was let through: the stage has no workers, no configuration and no such request."""
    return answer.json()["error"]["code"] in ("no_workers_yet", "no_config", "request_not_found")


def may_act(http: httpx.Client, **headers: str) -> bool:
    answer = http.get("/dashboard/snapshot", headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return msgspec.json.decode(answer.content, type=Snapshot).may_act


@pytest.mark.parametrize("path", LOOKS)
def test_looking_without_keys(http: httpx.Client, path: str) -> None:
    """Where no key is set everyone who can connect may look, whatever they send as a key."""
    assert http.get(path).status_code == 200
    assert http.get(path, headers=bearer("anything")).status_code == 200


@pytest.mark.parametrize("path", ACTS)
def test_acting_without_keys(http: httpx.Client, token: str, path: str) -> None:
    """Nobody may act but who has a session; the refusal says how to get one."""
    error = refused(http.post(path), 403)
    assert (error["code"], "`gemmad dashboard`" in error["message"]) == ("forbidden", True)
    assert refused(http.post(path, headers=bearer(token + "x")), 401)["code"] == "invalid_session"
    assert is_admitted(http.post(path, headers=bearer(token)))


@pytest.mark.parametrize("path", LOOKS)
def test_looking_with_keys(guarded: Stage, http: httpx.Client, token: str, path: str) -> None:
    """Where keys are set it takes an operator's or a session; an ordinary key is told so."""
    refused(http.get(path), 401)
    refused(http.get(path, headers=bearer("sk-a-wrong-key")), 401)
    error = refused(http.get(path, headers=bearer(KEY)), 403)
    assert (error["code"], "auth.admin_keys_file" in error["message"]) == ("forbidden", True)
    assert http.get(path, headers=bearer(ADMIN)).status_code == 200
    assert http.get(path, headers={"x-api-key": ADMIN}).status_code == 200
    assert http.get(path, headers=bearer(token)).status_code == 200


@pytest.mark.parametrize("path", ACTS)
def test_acting_with_keys(guarded: Stage, http: httpx.Client, token: str, path: str) -> None:
    """The same for acting."""
    refused(http.post(path), 401)
    refused(http.post(path, headers=bearer(token[:-1])), 401)
    assert refused(http.post(path, headers=bearer(KEY)), 403)["code"] == "forbidden"
    assert is_admitted(http.post(path, headers=bearer(ADMIN)))
    assert is_admitted(http.post(path, headers=bearer(token)))


def test_the_snapshot_says_who_may_act(stage: Stage, http: httpx.Client, token: str) -> None:
    """A page can show buttons to those only who may press them."""
    assert not may_act(http)
    assert not may_act(http, Authorization="Bearer wrong")
    assert may_act(http, Authorization=f"Bearer {token}")


def test_a_session_is_not_for_the_model(guarded: Stage, http: httpx.Client, token: str) -> None:
    """Its token opens the dashboard and nothing else."""
    for path in ("/v1/models", "/metrics", "/dashboard", "/dashboards/snapshot", "/dashboard.json"):
        refused(http.get(path, headers=bearer(token)), 401)
    refused(http.post(URL, json={"model": MODEL, "messages": HI}, headers=bearer(token)), 401)


def test_the_latest_sessions_count(stage: Stage, http: httpx.Client, token: str) -> None:
    """The token of a session that others have pushed out is worth nothing."""
    for _ in range(16):
        stage.call(stage.services.sessions.begin)
    assert not may_act(http, Authorization=f"Bearer {token}")
    assert refused(http.post(ACTS[0], headers=bearer(token)), 401)["code"] == "invalid_session"


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("path", [*LOOKS, "/dashboard/events"])
def test_a_page_of_another_origin(stage: Stage, http: httpx.Client, path: str, site: str) -> None:
    """Where no key is needed its requests are not even looked at, so it can neither read nor take a place."""
    error = refused(http.get(path, headers={"Sec-Fetch-Site": site}), 403)
    assert error["code"] == "origin_not_allowed"
    assert refused(http.get(path, headers={"Origin": "https://evil.example"}), 403)["code"] == "origin_not_allowed"


def test_a_page_of_another_origin_with_a_token(stage: Stage, http: httpx.Client, token: str) -> None:
    """A token does not help it, unless its origin is listed."""
    headers = {**bearer(token), "Origin": "https://ops.example", "Sec-Fetch-Site": "cross-site"}
    assert refused(http.post(ACTS[0], headers=headers), 403)["code"] == "origin_not_allowed"
    with stage.settings(server={"cors_origins": ("https://ops.example",)}):
        assert is_admitted(http.post(ACTS[0], headers=headers))
        assert http.get(LOOKS[0], headers=headers).headers["access-control-allow-origin"] == "https://ops.example"


def test_our_own_page(stage: Stage, http: httpx.Client, token: str) -> None:
    """What a browser sends for a page of ours is let through."""
    headers = {**bearer(token), "Origin": stage.url, "Sec-Fetch-Site": "same-origin"}
    assert http.get(LOOKS[0], headers=headers).status_code == 200
    assert is_admitted(http.post(ACTS[0], headers=headers))


@pytest.mark.parametrize("path", ACTS)
def test_acts_are_posts(http: httpx.Client, token: str, path: str) -> None:
    """A link or a picture changes nothing: what acts is a POST."""
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        answer = http.request(method, path, headers=bearer(token))
        assert answer.status_code == 405
    for look in LOOKS:
        refused(http.post(look, headers=bearer(token)), 405)


def test_a_key_that_is_no_text(guarded: Stage, http: httpx.Client) -> None:
    """Bytes that are no key are a wrong key."""
    for value in (b"Bearer \xff\xfe", b"Bearer " + b"a" * 20_000, b"bearer gemmad-session-\xc3\xa9"):
        refused(http.get(LOOKS[0], headers={b"Authorization": value}), 401)


def test_a_question_that_cannot_be_meant(http: httpx.Client) -> None:
    """A span of time that is none is refused by its name."""
    assert refused(http.get("/dashboard/history?since=yesterday"))["param"] == "since"
