"""Chat templates."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from gemmad.errors import CheckpointError, InvalidRequestError
from gemmad.text.template import SPARE_CHARS, ChatTemplate

HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]


def render(source: str, **variables: Any) -> str:
    return ChatTemplate(source, name="here").render(HELLO, **variables)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ bos }}{% for m in messages %}\n  {{ m.role }}\n{% endfor %}", "<b>  user\n"),
        ("  {% if true %}\n  x\n  {% endif %}\ny", "  x\ny"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% for i in range(3) %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "02"),
        ("{{ {'b': '<é>', 'a': 1} | tojson }}", '{"b": "<é>", "a": 1}'),
        ("{{ {'b': 2, 'a': 'é'} | tojson(ensure_ascii=true, sort_keys=true) }}", '{"a": "\\u00e9", "b": 2}'),
        ("{{ [1] | tojson(indent=1) }}", "[\n 1\n]"),
        ("{% set n = namespace(x=1) %}{% for i in [5] %}{% set n.x = i %}{% endfor %}{{ n.x }}", "5"),
        ("{{ dict(a=1).a }}", "1"),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}!", "Hello!"),
        ("{{ tools is none }} {{ documents is none }}", "True True"),
        ("{{ strftime_now('%Y')[:2] }}", "20"),
    ],
)
def test_speaks_the_dialect(source: str, expected: str) -> None:
    """Templates have what transformers offers them, blocks trimmed as there."""
    assert render(source, bos="<b>") == expected


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ raise_exception('not so') }}", "not so"),
        ("{{ messages[0].nothing.more }}", "no attribute"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ 'a' + 1 }}", "str"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ dict.__globals__.x }}", "unsafe"),
        ("{% set n = namespace(_x=1) %}", "_x"),
        ("{% set n = namespace() %}{% set n._x = 1 %}", "_x"),
        ("{% for i in range(10000000) %}{% endfor %}", "too big"),
        ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", "recursion"),
        ("{{ raise_exception('x' * 5000) }}", "…"),
    ],
)
def test_refusals_are_the_request_s(source: str, reason: str) -> None:
    """Whatever a template raises is an invalid request that names `messages`, in a sentence of bounded length."""
    with pytest.raises(InvalidRequestError, match=reason) as caught:
        render(source)
    assert caught.value.param == "messages"
    assert len(caught.value.message) < 500


def test_endless_output() -> None:
    """A template that writes far more than the conversation is stopped."""
    row = "x" * (SPARE_CHARS // 1000)
    assert len(render(f"{{% for i in range(900) %}}{row}{{% endfor %}}")) == 900 * len(row)
    with pytest.raises(InvalidRequestError, match="end"):
        render(f"{{% for i in range(1100) %}}{row}{{% endfor %}}")


def test_deadline() -> None:
    """A template that writes for too long is stopped."""
    ticks = itertools.count(step=1.0)
    template = ChatTemplate("{% for i in range(99) %}{{ i }}{% endfor %}", name="here", clock=lambda: next(ticks))
    with pytest.raises(InvalidRequestError, match="end"):
        template.render(HELLO)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{% if %}", "here: line 1: "),
        ("a\n{{ b | nothing }}", "here: line 2: No filter named 'nothing'"),
        ("{% generation %}", "here: line 1: "),
        ("{{" + "(" * 5000, "here: "),
    ],
)
def test_broken_templates(source: str, reason: str) -> None:
    """A template that does not compile is the checkpoint's fault; the message has its name and the line."""
    with pytest.raises(CheckpointError, match=reason):
        ChatTemplate(source, name="here")


def test_literals() -> None:
    """What the template itself can write is known without running it."""
    literals = ChatTemplate("<a>{{ '<b>' + role }}{# <c> #}{% if x == '<d>' %}<e>{% endif %}", name="here").literals
    assert [token in literals for token in ("<a>", "<b>", "<c>", "<d>", "<e>")] == [True, True, False, True, True]
