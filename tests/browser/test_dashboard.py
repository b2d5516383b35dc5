"""The dashboard of a real daemon in a real browser: what it shows, and what operators do from it."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import expect

from gemmad.config.keyring import new_key
from tests.browser.board import Board
from tests.browser.conftest import OpenTab
from tests.browser.warden import see, session, wait_all_ready
from tests.fakes.worker import Behaviour
from tests.process.daemon import MODEL, DaemonProcess, start_fake

TALK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Talk."}], "max_tokens": 3000}
SLOW = Behaviour(step_seconds=0.02)
HOSTILE = "<img src=x onerror=alert(1)>\"'`</td><script>alert(2)</script>"


@contextmanager
def talking(daemon: DaemonProcess, *, request_id: str) -> Iterator[list[tuple[int, str]]]:
    """Somebody has a long reply made; what they got is in the list at the end."""
    got: list[tuple[int, str]] = []

    def talk() -> None:
        answer = httpx.post(
            f"{daemon.base_url}/chat/completions", json=TALK, headers={"x-request-id": request_id}, timeout=60
        )
        got.append((answer.status_code, answer.text))

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        daemon.wait_until(lambda: see(daemon).requests.running == 1)
        yield got
    finally:
        thread.join(60)


def test_a_real_daemon(demo: DaemonProcess, open_tab: OpenTab) -> None:
    """Each worker of a real daemon has a card that tells its state, life and process, and its memory plan as a bar."""
    overview = wait_all_ready(demo)
    board = Board(open_tab(f"{demo.url}/"))
    assert [each.name for each in overview.workers] == ["cpu0", "cpu1"]
    for each in overview.workers:
        card = board.worker(each.name)
        expect(card).to_contain_text("ready")
        expect(card).to_contain_text(f"life {each.life}")
        expect(card).to_contain_text(f"pid {each.pid}")
        expect(card).to_contain_text("Next recycle")
        for part in ("weights", "KV"):
            expect(card).to_contain_text(re.compile(part, re.IGNORECASE))
    expect(board.page).to_have_title(re.compile("Ready"))
    expect(board.section("The daemon")).to_contain_text(MODEL)
    expect(board.section("Log")).to_contain_text("worker loaded")
    expect(board.section("Configuration")).to_contain_text("workers.count")


def test_figures_move(demo: DaemonProcess, open_tab: OpenTab) -> None:
    """Each second brings new figures and another point on the charts, without the page being loaded again."""
    wait_all_ready(demo)
    board = Board(open_tab(f"{demo.url}/"))
    finished = board.section("The daemon").locator(".tile", has_text="Finished").locator(".figure")
    expect(finished).to_have_text(re.compile(r"^\d"))
    before = int(finished.inner_text())
    with demo.client() as client:
        for _ in range(3):
            client.chat.completions.create(**TALK | {"max_tokens": 20})
    expect(finished).to_have_text(str(before + 3))
    assert board.section("Traffic").locator("canvas").count() >= 3


def test_who_only_looks(fake: DaemonProcess, open_tab: OpenTab) -> None:
    """Without an operator's key or a session the buttons are there, cannot be pressed, and say why."""
    board = Board(open_tab(f"{fake.url}/"))
    recycle = board.button("Recycle cpu0")
    expect(recycle).to_be_disabled()
    expect(recycle).to_have_attribute("title", re.compile("gemmad dashboard"))
    recycle.focus()
    recycle.press("Enter")
    dialog = board.page.get_by_role("dialog", name="To act, say who you are")
    expect(dialog).to_contain_text("gemmad dashboard")
    dialog.get_by_label("Admin key or session token").press("Escape")
    expect(dialog).to_have_count(0)
    expect(recycle).to_be_focused()
    assert see(fake).workers[0].life == 1


def test_a_worker_is_recycled(fake: DaemonProcess, open_tab: OpenTab) -> None:
    """With the session that `gemmad dashboard` gives, the button renews the worker; the token leaves the address."""
    board = Board(open_tab(session(fake)))
    card = board.worker("cpu0")
    expect(card).to_contain_text("life 1")
    assert "token" not in board.page.url
    board.button("Recycle cpu0").click()
    board.answer("Recycle")
    expect(card).to_contain_text("life 2")
    expect(card).to_contain_text("Last recycle")
    assert [event["uid"] for event in fake.events("operator asks")] != []


def test_a_worker_is_drained_and_resumed(fake: DaemonProcess, open_tab: OpenTab) -> None:
    """A worker is sent away after a question that tells what becomes of requests, and is called back."""
    board = Board(open_tab(session(fake)))
    card = board.worker("cpu0")
    board.button("Drain cpu0").click()
    expect(board.page.get_by_role("dialog")).to_contain_text("503")
    board.answer("Not now")
    assert not see(fake).workers[0].drained
    board.button("Drain cpu0").click()
    board.answer("Drain")
    expect(card).to_contain_text("drained")
    board.button("Resume cpu0").click()
    expect(card).to_contain_text("takes requests")


def test_a_request_is_cancelled(tmp_path: Path, open_tab: OpenTab) -> None:
    """A running request is listed with an id that is text whatever it looks like; cancelling tells its client."""
    with start_fake(tmp_path, SLOW) as daemon:
        daemon.wait_ready()
        board = Board(open_tab(session(daemon)))
        with talking(daemon, request_id=HOSTILE) as got:
            row = board.page.get_by_role("row").filter(has=board.page.get_by_role("rowheader", name=HOSTILE))
            expect(row).to_contain_text("cpu0")
            expect(row).to_contain_text(re.compile(r"\d / 3\D?000"))
            row.get_by_role("button").click()
            board.answer("Cancel the request")
        assert "operator" in got[0][1]
        expect(row).to_have_count(0)
        expect(board.section("Log")).to_contain_text("<img src=x onerror=alert(1)>")
        assert board.page.locator("main script, main img").count() == 0


def test_the_configuration_changes(tmp_path: Path, open_tab: OpenTab) -> None:
    """A saved edit shows what it put into force and what waits for a restart; one with a mistake, where it is."""
    (tmp_path / "config").mkdir()
    file = tmp_path / "config" / "gemmad.toml"
    file.write_text('[logging]\nlevel = "info"\n')
    with start_fake(tmp_path) as daemon:
        daemon.wait_ready()
        board = Board(open_tab(session(daemon)))
        section = board.section("Configuration")
        level = section.get_by_role("row").filter(has=board.page.get_by_role("rowheader", name="logging.level"))
        expect(level).to_contain_text('"info"')
        file.write_text('[logging]\nlevel = "debug"\nformat = "json"\n')
        expect(section).to_contain_text("put into force:logging.level")
        expect(section).to_contain_text('logging.format: "auto" → "json" (with a restart)')
        expect(level).to_contain_text('"debug"')
        file.write_text("[logging]\nlevel = 7\n")
        expect(section).to_contain_text("was refused; the settings before it stay.")
        expect(section).to_contain_text("gemmad.toml:2: logging.level")
        expect(level).to_contain_text('"debug"')


def test_the_configuration_is_reloaded(tmp_path: Path, open_tab: OpenTab) -> None:
    """The button tells what a reload would change before it is done, and mistakes instead of doing it."""
    (tmp_path / "config").mkdir()
    file = tmp_path / "config" / "gemmad.toml"
    file.write_text('[logging]\nlevel = "info"\n')
    with start_fake(tmp_path) as daemon:
        daemon.wait_ready()
        board = Board(open_tab(session(daemon)))
        board.button("Reload the configuration").click()
        expect(board.page.get_by_role("dialog")).to_contain_text("The files say what the daemon has.")
        board.answer("Reload")
        board.expect_notice("The configuration was reloaded.")
        reload = see(daemon).config.reload
        assert reload is not None
        assert reload.ok
        file.write_text("[logging]\nlevel = 7\n")
        board.button("Reload the configuration").click()
        expect(board.page.get_by_role("dialog")).to_contain_text("gemmad.toml:2: logging.level")
        board.answer("Understood")


def test_keys(tmp_path: Path, open_tab: OpenTab) -> None:
    """Where keys are set, the page asks who looks: an ordinary key is told what is needed, an admin's opens it."""
    keys = {kind: new_key() for kind in ("api", "admin")}
    for kind, key in keys.items():
        file = tmp_path / f"{kind}-keys"
        file.write_text(f"{kind}:{key}\n")
        file.chmod(0o600)
    files: dict[str, Any] = {f"auth__{kind}_keys_file": tmp_path / f"{kind}-keys" for kind in keys}
    with start_fake(tmp_path, **files) as daemon:
        daemon.wait_listening()
        tab = open_tab(f"{daemon.url}/")
        tab.expect(r"\b40[13]\b")
        board = Board(tab)
        field = board.page.get_by_label("Admin key or session token")
        field.fill(keys["api"])
        field.press("Enter")
        expect(board.page.get_by_role("alert")).to_contain_text("operator")
        field.fill(keys["admin"])
        field.press("Enter")
        expect(board.worker("cpu0")).to_be_visible()
        expect(board.button("Recycle cpu0")).to_be_enabled()


def test_the_daemon_starts_anew(tmp_path: Path, open_tab: OpenTab) -> None:
    """A page whose daemon goes away says so, keeps what it last saw, and goes on by itself once there is one again."""
    with start_fake(tmp_path) as daemon:
        daemon.wait_ready()
        url, port = daemon.url, daemon.port
        tab = open_tab(f"{url}/")
        tab.expect(
            "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION_RESET"
        )
        board = Board(tab)
        expect(board.worker("cpu0")).to_contain_text("ready")
        daemon.signal(signal.SIGTERM)
        daemon.wait()
        expect(board.page.get_by_text(re.compile("does not answer|connection", re.IGNORECASE)).first).to_be_visible()
        expect(board.worker("cpu0")).to_be_visible()
    with start_fake(tmp_path, server__port=port) as again:
        again.wait_ready()
        expect(board.page.locator("#facts")).to_contain_text(f"pid {again.process.pid}")
