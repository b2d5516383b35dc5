"""Chat templates: the Jinja program that a checkpoint lays its conversations out with.

The environment is the one that transformers gives them, so a template does here what it did when the model was trained.
A template is a program from somewhere else: it runs in a sandbox, and what it may write and how long it may go on
writing are bounded.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from gemmad.errors import CheckpointError, InvalidRequestError

LIMIT_SECONDS = 10.0
"""A template that still writes after this long is given up."""

SPARE_CHARS = 1 << 20
"""What a template may write of its own, beside the conversation."""

GROWTH = 4
"""How often a template may repeat the conversation (JSON's escapes count too)."""

_SHOWN_CHARS = 300


class ChatTemplate:
    """One compiled template. Rendering is thread-safe."""

    def __init__(self, source: str, *, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises CheckpointError, with `name` and the line, for what is no template."""
        self.source = source
        self._clock = clock
        environment = _build_environment()
        try:
            self.literals = _find_literals(environment.parse(source))
            self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise CheckpointError(f"{name}: line {error.lineno}: {error.message}") from error
        except Exception as error:  # the compiler meets foreign code: whatever it raises, the template is to blame
            raise CheckpointError(f"{name}: {error}") from error

    def render(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        """The conversation as text. Raises InvalidRequestError with what the template has against it."""
        allowed_chars = SPARE_CHARS + GROWTH * sum(_count_chars(message) for message in messages)
        deadline = self._clock() + LIMIT_SECONDS
        pieces: list[str] = []
        try:
            for piece in self._template.generate(messages=messages, tools=None, documents=None, **variables):
                pieces.append(piece)
                allowed_chars -= len(piece)
                if allowed_chars < 0 or self._clock() > deadline:
                    break
            else:
                return "".join(pieces)
        except Exception as error:  # a template is foreign code and can raise anything
            raise _refuse(str(error) or type(error).__name__) from error
        raise _refuse("it does not come to an end")


def _refuse(reason: str) -> InvalidRequestError:
    shown = reason if len(reason) <= _SHOWN_CHARS else reason[:_SHOWN_CHARS] + "…"
    return InvalidRequestError(f"The model's chat template refuses these messages: {shown}", param="messages")


def _count_chars(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    return sum(_count_chars(item) for item in (value.values() if isinstance(value, Mapping) else value))


def _find_literals(tree: nodes.Template) -> str:
    """All text that the template itself can write, NUL between the pieces."""
    texts = {node.data for node in tree.find_all(nodes.TemplateData)}
    texts |= {node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)}
    return "\0".join(sorted(texts))


def _build_environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals.update(
        raise_exception=_raise_exception, strftime_now=_strftime_now, namespace=_SafeNamespace, dict=_make_dict
    )
    return environment


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    # Jinja's own filter escapes for HTML
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


def _make_dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    # the builtin itself would lead a template to its class
    return dict(*args, **kwargs)


class _SafeNamespace(Namespace):
    """Jinja's namespace without names that lead into the interpreter."""

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        attributes = dict(*args, **kwargs)
        for name in attributes:
            _check_name(name)
        super().__init__(attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if str(name).startswith("_"):
        raise jinja2.TemplateError(f"a namespace cannot hold {name!r}")


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks the assistant's words for training; here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012  # Jinja's class declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
