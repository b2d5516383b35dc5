"""Requests that are meant for another host."""

from __future__ import annotations

import socket

import httpx
import pytest

from tests.api.stage import MODEL, Stage
from tests.api.test_bad_input import HI, URL, refused


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:4363", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "[::2]", "0"],
)
@pytest.mark.parametrize("path", ["/health/live", "/v1/models", "/nope"])
def test_a_name_that_is_not_ours(http: httpx.Client, host: str, path: str) -> None:
    """A page that gave its own name our address is told nothing, on any path."""
    answer = http.get(path, headers={"Host": host})
    error = refused(answer, 421)
    assert error["code"] == "host_not_allowed"
    assert "server.allowed_hosts" in error["message"]


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:99", "a.localhost", "127.0.0.1", "127.9.9.9:1", "[::1]:80", "localhost."]
)
def test_names_of_this_machine(stage: Stage, http: httpx.Client, host: str) -> None:
    """Whatever a machine calls itself is served."""
    assert http.get("/v1/models", headers={"Host": host}).status_code == 200
    assert http.post(URL, json={"model": MODEL, "messages": HI}, headers={"Host": host}).status_code == 200


def test_listed_names(stage: Stage, http: httpx.Client) -> None:
    """Names in server.allowed_hosts are served too, live, with any port."""
    with stage.settings(server={"allowed_hosts": ("gpu.example", "*.inner.example")}):
        for host in ("gpu.example", "GPU.example:1", "a.b.inner.example", "localhost"):
            assert http.get("/health/live", headers={"Host": host}).status_code == 200
        for host in ("other.example", "inner.example", "a.gpu.example", "xinner.example"):
            refused(http.get("/health/live", headers={"Host": host}), 421)
    with stage.settings(server={"allowed_hosts": ("*",)}):
        assert http.get("/health/live", headers={"Host": "anything"}).status_code == 200


def test_without_a_name(stage: Stage) -> None:
    """HTTP/1.0 without a Host is no browser, and is served."""
    with socket.create_connection(("127.0.0.1", stage.port), timeout=10) as sock:
        sock.sendall(b"GET /health/live HTTP/1.0\r\n\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")
