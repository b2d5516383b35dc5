"""A chat in the browser: pictures in, streams out, whatever becomes of the worker meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from tokenizers import Tokenizer

import gemmad.demo
from gemmad.config.keyring import new_key
from tests.browser.board import Board
from tests.browser.chat import CLIPBOARD, Chat, red_circle
from tests.browser.conftest import OpenTab
from tests.browser.warden import requests, see, wait_all_ready, worker
from tests.fakes.worker import Behaviour
from tests.process.daemon import DaemonProcess, start_fake

SLOW = Behaviour(step_seconds=0.02, load_seconds=0.5)


def test_a_picture_is_pasted(demo: DaemonProcess, open_tab: OpenTab) -> None:
    """A picture out of the clipboard is shown, sent and seen by the model; below the answer are its tokens."""
    chat = Chat(open_tab(f"{demo.url}/chat", permissions=CLIPBOARD))
    chat.set_parameter("Temperature", "0")
    chat.paste(red_circle())
    expect(chat.previews).to_have_count(1)
    chat.ask("What is in the picture?")
    expect(chat.words).to_have_text("A red circle.")
    chat.expect_end()
    prompt, reply = chat.expect_figures()
    assert (prompt > 16, reply) == (True, reply)
    expect(chat.turns.first.get_by_role("img")).to_be_visible()
    expect(chat.previews).to_have_count(0)


def test_pictures_are_dropped_and_chosen(demo: DaemonProcess, open_tab: OpenTab) -> None:
    """Pictures also come by drag and drop and by the button, can be taken out again, and go along with the words."""
    chat = Chat(open_tab(f"{demo.url}/chat"))
    chat.drop(red_circle(), "dropped.png")
    expect(chat.previews).to_have_count(1)
    chat.choose(red_circle(), "chosen.png")
    expect(chat.previews).to_have_count(2)
    chat.page.get_by_role("button", name="Remove dropped.png").click()
    expect(chat.previews).to_have_count(1)
    with chat.page.expect_request("**/v1/chat/completions") as asked:
        chat.ask("What is in the picture?")
    body: dict[str, Any] = json.loads(asked.value.post_data or "")
    assert [part["type"] for part in body["messages"][-1]["content"]] == ["image_url", "text"]
    chat.expect_end()


def test_a_reply_is_stopped(tmp_path: Path, open_tab: OpenTab) -> None:
    """Stop ends the reply on the page and the work for it in the daemon; what was said stays, and may go on."""
    with start_fake(tmp_path, SLOW) as daemon:
        daemon.wait_ready()
        chat = Chat(open_tab(f"{daemon.url}/chat"))
        chat.set_parameter("Longest reply", "3000")
        chat.ask("Talk.")
        expect(chat.words).to_have_text(re.compile(r".{20,}", re.DOTALL))
        chat.stop_button.click()
        chat.expect_end()
        expect(chat.reply).to_contain_text("Stopped before its end.")
        expect(chat.send_button).to_be_visible()
        daemon.wait_until(lambda: see(daemon).requests.running == 0)


def test_a_worker_is_killed_under_a_stream(tmp_path: Path, open_tab: OpenTab) -> None:
    """A worker that is killed in the middle of a reply turns its card on the dashboard, and the reply goes on."""
    behaviour = Behaviour(step_seconds=0.02, load_seconds=2.5)
    with start_fake(tmp_path, behaviour, workers__count=2) as daemon:
        wait_all_ready(daemon)
        board = Board(open_tab(f"{daemon.url}/"))
        chat = Chat(open_tab(f"{daemon.url}/chat"))
        chat.set_parameter("Longest reply", "200")
        chat.ask("Talk.")
        expect(chat.words).to_have_text(re.compile(r".{20,}", re.DOTALL))
        name = kill_the_busy_one(daemon, board)
        expect(board.worker(name)).to_contain_text(re.compile("crashed|loading"))
        chat.expect_end()
        assert chat.expect_figures()[1] == 200
        expect(board.worker(name)).to_contain_text(re.compile("takes requests.*life 2"))
        counts = see(daemon).requests
        assert (counts.failed, counts.failovers) == (0, 1)


def test_a_real_worker_is_killed_under_a_picture(demo: DaemonProcess, open_tab: OpenTab) -> None:
    """The same with real workers: one dies while it has the picture, another one looks at it and answers."""
    overview = wait_all_ready(demo)
    board = Board(open_tab(f"{demo.url}/"))
    chat = Chat(open_tab(f"{demo.url}/chat"))
    chat.set_parameter("Temperature", "0")
    chat.drop(red_circle(), "circle.png")
    expect(chat.previews).to_have_count(1)
    pids = {each.name: each.pid for each in overview.workers if each.pid is not None}
    with stopped(*pids.values()):
        chat.ask("What is in the picture?")
        name = kill_the_busy_one(demo, board)
    expect(chat.words).to_have_text("A red circle.")
    before = next(each.life for each in overview.workers if each.name == name)
    expect(board.worker(name)).to_contain_text(re.compile(f"takes requests.*life {before + 1}"))
    wait_all_ready(demo)


def kill_the_busy_one(daemon: DaemonProcess, board: Board) -> str:
    """The name of the worker that had the only request."""
    expect(board.section("Workers").get_by_text("takes requests")).to_have_count(2)
    daemon.wait_until(lambda: any(each.worker for each in requests(daemon)))
    name = next(each.worker for each in requests(daemon) if each.worker)
    pid = worker(daemon, name).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return name


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """These processes do nothing for a moment, so that what they are asked is not answered at once."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize(("language", "program"), [("curl", ("bash", "-c")), ("Python", (sys.executable, "-c"))])
def test_a_request_as_code(demo: DaemonProcess, open_tab: OpenTab, language: str, program: tuple[str, str]) -> None:
    """What is copied as curl and as Python runs, picture included, and gets an answer of the daemon."""
    chat = Chat(open_tab(f"{demo.url}/chat", permissions=CLIPBOARD))
    chat.set_parameter("Temperature", "0")
    chat.drop(red_circle(), "circle.png")
    expect(chat.previews).to_have_count(1)
    chat.ask("What is in the picture?")
    chat.expect_figures()
    chat.page.get_by_role("button", name="Copy as code").click()
    dialog = chat.page.get_by_role("dialog")
    dialog.get_by_role("button", name=language, exact=True).click()
    dialog.get_by_role("button", name="Copy", exact=True).click()
    expect(dialog.get_by_role("button", name="Copied")).to_be_visible()
    code = chat.page.evaluate("navigator.clipboard.readText()")
    done = subprocess.run([*program, code], capture_output=True, text=True, check=True, timeout=60)
    assert "circle" in done.stdout, done


def test_a_key_is_asked_for(tmp_path: Path, open_tab: OpenTab) -> None:
    """Where a key is needed the page asks for it, and then does what was wanted."""
    key = new_key()
    file = tmp_path / "keys"
    file.write_text(f"alice:{key}\n")
    file.chmod(0o600)
    with start_fake(tmp_path, auth__api_keys_file=file) as daemon:
        daemon.wait_ready()
        tab = open_tab(f"{daemon.url}/chat")
        tab.expect(r"\b401\b")
        chat = Chat(tab)
        dialog = chat.page.get_by_role("dialog", name="An API key")
        dialog.get_by_label("Key", exact=True).fill(key)
        dialog.get_by_role("button", name="Use it").click()
        chat.set_parameter("Longest reply", "5")
        chat.ask("Talk.")
        assert chat.expect_figures()[1] == 5


HOSTILE = """<img src=x onerror=alert(1)><script>alert(2)</script><svg onload=alert(3)></svg>
[link](javascript:alert(4)) ![picture](http://192.0.2.1/seen.png) <iframe src="http://192.0.2.1/"></iframe>
<a href="data:text/html,<script>alert(5)</script>" onclick="alert(6)">more</a> <style>body { display: none }</style>
the end"""


def test_hostile_words_of_a_model(tmp_path: Path, open_tab: OpenTab) -> None:
    """Nothing that a model says runs as a script, dresses the page or fetches from elsewhere."""
    tokenizer = Tokenizer.from_file(str(Path(gemmad.demo.__file__).parent / "checkpoint" / "tokenizer.json"))
    reply = tuple(tokenizer.encode(HOSTILE, add_special_tokens=False).ids)
    with start_fake(tmp_path, Behaviour(reply=reply)) as daemon:
        daemon.wait_ready()
        chat = Chat(open_tab(f"{daemon.url}/chat"))
        chat.ask("Be <b>evil</b><img src=x onerror=alert(0)>")
        chat.expect_end()
        expect(chat.words).to_contain_text("the end")
        for address in chat.words.locator("a").evaluate_all("links => links.map((link) => link.protocol)"):
            assert address in (":", "http:", "https:", "mailto:"), address  # ":" leads nowhere
        assert chat.words.locator("script, iframe, style, svg, [onerror], [onload], [onclick]").count() == 0
        assert chat.turns.first.locator("img, b").count() == 0
