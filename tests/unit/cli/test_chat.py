from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gemmad.cli.chat_history import History, ImageFileError, data_url
from gemmad.cli.chat_talk import HELP, Screen, Talk
from gemmad.cli.chat_wire import Api
from gemmad.cli.health import find_daemon
from gemmad.cli.main import app
from tests.unit.cli.conftest import Command, Said
from tests.unit.cli.talked import PlayedApi, talking

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def api(config_dir: Path) -> Iterator[PlayedApi]:
    """A daemon that says hello, and whose address is noted where the command finds it."""
    del config_dir
    with talking() as played:
        yield played


def ask(api: PlayedApi, *arguments: str, piped: str = "") -> Said:
    """`gemmad chat ARGUMENTS…`, with something piped in."""
    result = CliRunner().invoke(app, ["chat", "--url", api.url, *arguments], input=piped, catch_exceptions=False)
    return Said(result.exit_code, result.stdout, result.stderr)


# --- one question -----------------------------------------------------------------------------------------------------


def test_one_question(api: PlayedApi) -> None:
    """The answer is printed, and the first model that is served was asked for it as a stream."""
    assert ask(api, "Hi?") == Said(0, "Hello\n", "")
    assert api.bodies == [{"model": "gemma", "messages": [{"role": "user", "content": "Hi?"}], "stream": True}]


def test_what_is_wished(api: PlayedApi) -> None:
    """Model, system prompt and sampling go along as they are given."""
    options = ("--model", "alias", "--system", "Be brief.", "--temperature", "0", "--max-tokens", "5", "--seed", "7")
    assert ask(api, *options, "Hi?").exit_code == 0
    (body,) = api.bodies
    assert (body["model"], body["temperature"], body["max_tokens"], body["seed"]) == ("alias", 0.0, 5, 7)
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("arguments", "piped", "asked"),
    [
        ((), "Hi?\n", "Hi?\n"),
        (("Sum up:",), "a\nb\n", "Sum up:\n\na\nb\n"),
        (("Hi?",), "", "Hi?"),
        (("Hi?",), " \n", "Hi?"),
    ],
)
def test_what_is_piped_in(api: PlayedApi, arguments: tuple[str, ...], piped: str, asked: str) -> None:
    """Standard input is the question, or comes below it."""
    assert ask(api, *arguments, piped=piped).exit_code == 0
    assert api.messages == [{"role": "user", "content": asked}]


def test_no_question(api: PlayedApi) -> None:
    """Neither an argument nor anything piped in is a mistake of the caller."""
    assert ask(api).exit_code == 2


def test_images(api: PlayedApi, tmp_path: Path) -> None:
    """Pictures are sent whole, before the question."""
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "b.jpg").write_bytes(b"jpeg")
    assert ask(api, "What?", "-i", str(tmp_path / "a.png"), "--image", str(tmp_path / "b.jpg")).exit_code == 0
    first, second, text = api.messages[0]["content"]
    assert first["image_url"]["url"] == f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert second["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert text == {"type": "text", "text": "What?"}


def test_no_such_picture(api: PlayedApi, tmp_path: Path) -> None:
    """A path that leads nowhere, or to no file, is told before anything is asked."""
    for path in (tmp_path / "none.png", tmp_path):
        said = ask(api, "What?", "--image", str(path))
        assert said.exit_code == 2
        assert str(path) in said.stderr
    assert api.bodies == []


@pytest.mark.parametrize(
    ("status", "code"), [(400, 2), (401, 4), (404, 2), (413, 2), (429, 75), (500, 1), (503, 75), (418, 1)]
)
def test_refusals(api: PlayedApi, monkeypatch: pytest.MonkeyPatch, status: int, code: int) -> None:
    """The daemon's own words, and an exit status by whose fault it is."""
    monkeypatch.setenv("GEMMAD_API_KEY", "wrong")
    api.refusal = (status, "Because.")
    said = ask(api, "Hi?")
    assert said == Said(code, "", "gemmad: Because.\n")


def test_an_answer_that_ends_its_line(api: PlayedApi) -> None:
    """It gets no empty line after it."""
    api.pieces = ["Hello", "\n"]
    assert ask(api, "Hi?").stdout == "Hello\n"


def test_a_failure_on_the_way(api: PlayedApi) -> None:
    """What was said is shown, and that it is not all leads to exit status 1."""
    api.failure = "The worker died."
    assert ask(api, "Hi?") == Said(1, "Hello\n", "gemmad: The worker died.\n")
    api.failure, api.breaks_off = None, True
    said = ask(api, "Hi?")
    assert (said.exit_code, said.stdout) == (1, "Hello\n")
    assert "breaks off" in said.stderr


def test_nobody_there(gemmad: Command) -> None:
    """No daemon is exit status 3, with what starts one."""
    said = gemmad("chat", "Hi?", "--url", "http://127.0.0.1:9")
    assert said.exit_code == 3
    assert "gemmad serve" in said.stderr


# --- keys -------------------------------------------------------------------------------------------------------------


def test_the_key(api: PlayedApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes from the environment, or from a file's first line that is no comment; without one none is sent."""
    (tmp_path / "key").write_text("# mine\n\nfrom-file\n")
    ask(api, "Hi?")
    monkeypatch.setenv("GEMMAD_API_KEY", "from-env\n")
    ask(api, "Hi?")
    ask(api, "Hi?", "--key-file", str(tmp_path / "key"))
    assert api.keys == [None, "Bearer from-env", "Bearer from-file"]


def test_a_key_is_needed(api: PlayedApi) -> None:
    """Who has given none is told where it is looked for."""
    api.refusal = (401, "No API key was sent.")
    said = ask(api, "Hi?")
    assert said.exit_code == 4
    assert "GEMMAD_API_KEY" in said.stderr
    assert "--key-file" in said.stderr


@pytest.mark.parametrize("content", [b"", b"# only this\n", b"\xff\xfe", "schlüssel\n".encode()])
def test_a_file_without_a_key(api: PlayedApi, tmp_path: Path, content: bytes) -> None:
    """A file that has none is told, without what is in it."""
    (tmp_path / "key").write_bytes(content)
    said = ask(api, "Hi?", "--key-file", str(tmp_path / "key"))
    assert said.exit_code == 2
    assert str(tmp_path / "key") in said.stderr
    assert "lüssel" not in said.stderr


# --- a conversation ---------------------------------------------------------------------------------------------------


class Typist:
    """Types these lines, one at each prompt; an exception is what the key raises."""

    def __init__(self, *lines: str | type[BaseException]) -> None:
        self.lines = list(lines)
        self.prompts: list[str] = []

    def __call__(self, prompt: str) -> str:
        self.prompts.append(prompt)
        line = self.lines.pop(0) if self.lines else EOFError
        if isinstance(line, str):
            return line
        raise line


def converse(api: PlayedApi, *lines: str | type[BaseException], system: str | None = None) -> str:
    """All that the screen shows."""
    shown = io.StringIO()
    wire = Api(lambda: find_daemon(api.url, None, timeout_seconds=10), key=None)
    Talk(wire, History(system), Screen(shown, {}), body={"model": "gemma"}, read=Typist(*lines)).converse()
    return shown.getvalue()


def roles(messages: list[dict[str, Any]]) -> list[str]:
    return [message["role"] for message in messages]


def test_history(api: PlayedApi) -> None:
    """Each question comes with all that was said before; /reset forgets it, and the system prompt stays."""
    converse(api, "One?", "Two?", "/reset", "Three?", system="Be brief.")
    first, second, third = (body["messages"] for body in api.bodies)
    assert roles(first) == ["system", "user"]
    assert roles(second) == ["system", "user", "assistant", "user"]
    assert second[2]["content"] == "Hello"
    assert roles(third) == ["system", "user"]
    assert third[1]["content"] == "Three?"


def test_commands(api: PlayedApi, tmp_path: Path) -> None:
    """/image shows a picture once, /system is told from then on, and what is no command says so."""
    (tmp_path / "a b.png").write_bytes(PNG)
    shown = converse(
        api,
        "/help",
        "/image",
        f'/image "{tmp_path / "a b.png"}"',
        "/image none.png",
        "What?",
        "/system Rhyme.",
        "/who",
        "And?",
    )
    assert HELP in shown
    assert "none.png: No such file" in shown
    assert "no such command" in shown
    first, second = (body["messages"] for body in api.bodies)
    assert [part["type"] for part in first[0]["content"]] == ["image_url", "text"]
    assert roles(second) == ["system", "user", "assistant", "user"]
    assert second[1] == first[0]
    assert second[-1]["content"] == "And?"


@pytest.mark.parametrize("word", ["/quit", "/exit", EOFError])
def test_leaving(api: PlayedApi, word: str | type[BaseException]) -> None:
    """/quit and Ctrl-D leave; what comes after is not read."""
    converse(api, word, "One?")
    assert api.bodies == []


def test_a_path_is_no_command(api: PlayedApi) -> None:
    """A question may begin with a path."""
    converse(api, "/etc/hosts is what?", "", "   ")
    assert api.messages[0]["content"] == "/etc/hosts is what?"
    assert len(api.bodies) == 1


def test_several_lines(api: PlayedApi) -> None:
    """Three quotes begin and end a question of several lines."""
    converse(api, '"""one', "two", 'three"""', '"""four"""')
    assert api.bodies[0]["messages"][0]["content"] == "one\ntwo\nthree"
    assert api.bodies[1]["messages"][-1]["content"] == "four"


def test_a_failure_is_not_kept(api: PlayedApi) -> None:
    """An answer that fails is told, and the next question is asked as if it had not been."""
    api.failure = "The worker died."
    shown = converse(api, "One?", "Two?")
    assert shown.count("The worker died.") == 2
    assert roles(api.messages) == ["user"]


def test_ctrl_c_at_the_prompt(api: PlayedApi) -> None:
    """It leaves the line, not the conversation."""
    assert "Hello" in converse(api, KeyboardInterrupt, "One?")


def test_a_terminal_is_kept_safe() -> None:
    """On a terminal what the model says cannot move the cursor; elsewhere every byte arrives. NO_COLOR is heard."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for env, note in (({}, "\x1b[2mn\x1b[0m\n"), ({"NO_COLOR": "1"}, "n\n"), ({"TERM": "dumb"}, "n\n")):
        screen = Screen(out := Terminal(), env)
        screen.show("a\x1b[2J\r\tä\n")
        screen.note("n")
        assert out.getvalue() == "a[2J\tä\n" + note
    Screen(plain := io.StringIO(), {}).show("a\x1b[2J")
    assert plain.getvalue() == "a\x1b[2J"


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    """What no daemon would take is not even read."""
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(ImageFileError, match="1024 MiB"):
        data_url(tmp_path / "a.png")
