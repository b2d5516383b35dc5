"""A chat on a terminal: what is typed, what is a command, and answers as they come."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from gemmad.cli.chat_history import History, ImageFileError
from gemmad.cli.chat_wire import Api, ChatError

PROMPT = ">>> "
MORE = "... "
FENCE = '"""'
"""Begins and ends a question of several lines."""

HELP = f"""\
/image FILE    show a picture with the next question; again for more
/system TEXT   tell the model who it is; without TEXT nothing
/reset         begin anew
/quit          leave; Ctrl-D does too
{FENCE}            begin a question of several lines, and end it
Ctrl-C         stop an answer"""


class Screen:
    """Where answers are shown: with colour, and without what moves the cursor, if it is a terminal."""

    def __init__(self, out: TextIO, env: Mapping[str, str]) -> None:
        self._out = out
        self.is_terminal = out.isatty()
        self._colours = self.is_terminal and not env.get("NO_COLOR") and env.get("TERM") != "dumb"
        self._in_line = False

    def show(self, text: str) -> None:
        """Some of an answer, at once. On a terminal the model may not move the cursor."""
        if self.is_terminal:
            text = "".join(character for character in text if character.isprintable() or character in "\n\t")
        self._in_line = not text.endswith("\n") if text else self._in_line
        self._out.write(text)
        self._out.flush()

    def end_line(self) -> None:
        """What comes next begins a line."""
        if self._in_line:
            self.show("\n")

    def note(self, words: str) -> None:
        """What is not the model's, on a line of its own."""
        self.end_line()
        self._out.write(f"\x1b[2m{words}\x1b[0m\n" if self._colours else f"{words}\n")
        self._out.flush()

    def prompt(self, words: str) -> str:
        """As readline wants it: what takes no room is between 1 and 2."""
        return f"\001\x1b[1m\002{words}\001\x1b[0m\002" if self._colours else words


class Talk:
    """Questions to one model, one after another."""

    def __init__(
        self,
        api: Api,
        history: History,
        screen: Screen,
        *,
        body: Mapping[str, Any],
        read: Callable[[str], str] = input,
    ) -> None:
        """`body`: what each request has beside its messages. `read` prompts for a line; it raises EOFError in the end,
        and KeyboardInterrupt for Ctrl-C."""
        self._api = api
        self._history = history
        self._screen = screen
        self._body = body
        self._read = read
        self._commands: dict[str, Callable[[str], None]] = {
            "/image": self._image,
            "/system": self._system,
            "/reset": self._reset,
            "/help": lambda _: screen.note(HELP),
            "/?": lambda _: screen.note(HELP),
        }

    def answer_once(self, question: str) -> None:
        """Raises ChatError and KeyboardInterrupt, after a whole line of what was said so far."""
        try:
            self._answer(question)
        finally:
            self._screen.end_line()

    def converse(self) -> None:
        """Until it is left. An answer that fails is told, and the conversation goes on as if it had not been asked."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - input() edits lines, remembers them and completes paths with it
        self._screen.note(f"{self._body['model']} listens; /help tells more, /quit leaves")
        while True:
            try:
                typed = self._typed()
            except EOFError:
                self._screen.show("\n")
                return
            except KeyboardInterrupt:
                self._screen.note("\n/quit or Ctrl-D leaves")
                continue
            command, _, rest = typed.strip().partition(" ")
            if command in ("/quit", "/exit", "/bye"):
                return
            if command.startswith("/") and "/" not in command[1:]:
                self._commands.get(command, self._unknown)(rest.strip())
            elif command:
                self._take_turn(typed)

    def _typed(self) -> str:
        line = self._read(self._screen.prompt(PROMPT))
        if not line.lstrip().startswith(FENCE):
            return line
        lines = [line.lstrip().removeprefix(FENCE)]
        while not lines[-1].rstrip().endswith(FENCE):
            lines.append(self._read(self._screen.prompt(MORE)))
        lines[-1] = lines[-1].rstrip().removesuffix(FENCE)
        return "\n".join(lines).strip("\n")

    def _take_turn(self, question: str) -> None:
        try:
            self._answer(question)
        except ChatError as error:
            self._screen.note(str(error))
        except KeyboardInterrupt:
            self._screen.note("stopped")
        else:
            self._screen.end_line()

    def _answer(self, question: str) -> None:
        """Ask, and show what is said. What was said until Ctrl-C is kept. Raises ChatError and KeyboardInterrupt."""
        said = ""
        asked = {**self._body, "messages": self._history.asking(question)}
        try:
            with contextlib.closing(self._api.say(asked)) as pieces:
                for piece in pieces:
                    said += piece.text
                    self._screen.show(piece.text)
                    if piece.cut and self._screen.is_terminal:
                        self._screen.note("(cut off: it is as long as it may be)")
        except KeyboardInterrupt:
            if said:
                self._history.keep(question, said)
            raise
        self._history.keep(question, said)

    # --- commands -----------------------------------------------------------------------------------------------------

    def _image(self, path: str) -> None:
        if not path:
            self._screen.note("which one? /image FILE")
            return
        if len(path) > 1 and path[0] == path[-1] and path[0] in "'\"":
            path = path[1:-1]
        try:
            self._history.attach(Path(path))
        except ImageFileError as error:
            self._screen.note(str(error))
        else:
            count = self._history.attached
            self._screen.note("it is shown with the next question" if count == 1 else f"{count} are shown with it")

    def _system(self, text: str) -> None:
        self._history.system = text or None
        self._screen.note("the model is told so from now on" if text else "the model is told nothing")

    def _reset(self, _: str) -> None:
        self._history.reset()
        self._screen.note("all is forgotten" + (", but for /system" if self._history.system else ""))

    def _unknown(self, _: str) -> None:
        self._screen.note("there is no such command; /help lists them")
