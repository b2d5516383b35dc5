"""Calls read out of a reply's text."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.text.calls import Call, CallReader
from gemmad.text.opening import BEFORE_FIRST_NAME, express, quote_name, write_call

NAMES = ("get", "get_weather", 'q"uo\\te', "größe 🙂", "", "a/b.c-d")
Read = tuple[str, list[tuple[str, str]], bool]


def read(*pieces: str, names: tuple[str, ...] = NAMES, is_forced: bool = False, has_form: bool = False) -> Read:
    """Text, calls as their deltas have them, and whether the last is cut; the deltas are checked on the way."""
    reader = CallReader(names, key="k", is_forced=is_forced, has_form=has_form)
    heard = [*(reader.feed(piece) for piece in pieces), reader.finish()]
    calls: list[tuple[str, str]] = []
    ids: list[str] = []
    for delta in (delta for each in heard for delta in each.calls):
        if delta.index == len(calls):
            assert delta.id is not None
            assert delta.name is not None
            assert delta.arguments == ""
            ids.append(delta.id)
            calls.append((delta.name, ""))
            continue
        assert delta.index == len(calls) - 1
        assert delta.id is None
        assert delta.name is None
        calls[-1] = (calls[-1][0], calls[-1][1] + delta.arguments)
    whole = calls[:-1] if reader.is_cut else calls
    assert (
        reader.calls == [Call(*each) for each in zip(ids, *zip(*whole, strict=True), strict=False)] if whole else True
    )
    assert len(reader.calls) == len(whole)
    assert len(set(ids)) == len(ids)
    return "".join(each.text for each in heard), calls, reader.is_cut


ONE = write_call("get", '{"a": 1}')

CASES: list[tuple[str, str, list[tuple[str, str]]]] = [
    ("", "", []),
    ("Hello", "Hello", []),
    ("\n Hello\n\n there \n", "\n Hello\n\n there \n", []),
    (" \n ", " \n ", []),
    (ONE, "", [("get", '{"a": 1}')]),
    (f"{ONE}\n{ONE}", "", [("get", '{"a": 1}')] * 2),
    (f"{ONE}{ONE}", "", [("get", '{"a": 1}')] * 2),
    (f"[{ONE},\n {ONE}]", "", [("get", '{"a": 1}')] * 2),
    (f"```json\n[\n  {ONE}\n]\n```\n", "", [("get", '{"a": 1}')]),
    (f"```tool_code\n{ONE}\n```", "", [("get", '{"a": 1}')]),
    (f"```\n{ONE}\n```", "", [("get", '{"a": 1}')]),
    (f"\n\n  {ONE}", "", [("get", '{"a": 1}')]),
    (f"I look.\n\n{ONE}", "I look.\n\n", [("get", '{"a": 1}')]),
    (f"I look.\n```json\n{ONE}\n```", "I look.\n", [("get", '{"a": 1}')]),
    (f"so: {ONE}", f"so: {ONE}", []),
    ('{\n "name" : "get" ,\n "parameters" : {} }', "", [("get", "{}")]),
    ('{"name":"get_weather","parameters":{}}', "", [("get_weather", "{}")]),
    ('{"name": "get_", "parameters": {}}', '{"name": "get_", "parameters": {}}', []),
    ('{"name": "John", "age": 3}', '{"name": "John", "age": 3}', []),
    ('{"name": "get", "age": 3}', '{"name": "get", "age": 3}', []),
    ('{"name": "get", "parameters": 3}', '{"name": "get", "parameters": 3}', []),
    ('```json\n{"name": "John"}\n```', '```json\n{"name": "John"}\n```', []),
    ("```python\nprint(1)\n```", "```python\nprint(1)\n```", []),
    ("```js\n```", "```js\n```", []),
    ("[1, 2]", "[1, 2]", []),
    ('{"na', '{"na', []),
    ("``", "``", []),
    (
        write_call("get", '{"a": {"b": "}{\\"}\\\\"}, "c": [{}]}'),
        "",
        [("get", '{"a": {"b": "}{\\"}\\\\"}, "c": [{}]}')],
    ),
    *((write_call(name, '{"é": "🙂"}'), "", [(name, '{"é": "🙂"}')]) for name in NAMES),
]


@pytest.mark.parametrize(("said", "text", "calls"), CASES)
def test_reads(said: str, text: str, calls: list[tuple[str, str]]) -> None:
    """Calls are told from text wherever they may stand, as a whole and letter by letter."""
    assert read(said) == (text, calls, False)
    assert read(*said) == (text, calls, False)


PARTS = (
    *(ONE, write_call('q"uo\\te', '{"x": "\\\\\\""}'), "```json\n", "```", "[", "]", "{", '"name"', ": ", '"get"', ","),
    *('"parameters"', "{}", "}", "\n", " ", "text", "\\", '"', "é"),
)
parts = st.lists(st.sampled_from(PARTS), max_size=10).map("".join)


@given(said=parts, cuts=st.sets(st.integers(0, 300)), forced=st.booleans(), form=st.booleans())
def test_cuts_do_not_matter(said: str, cuts: set[int], forced: bool, form: bool) -> None:
    """However a reply is cut into pieces, it says the same."""
    at = [0, *sorted(cut for cut in cuts if cut < len(said)), len(said)]
    pieces = [said[start:end] for start, end in itertools.pairwise(at)]
    whole = read(said, is_forced=forced, has_form=form)
    assert read(*pieces, is_forced=forced, has_form=form) == whole
    assert read(*said, is_forced=forced, has_form=form) == whole


@given(said=parts)
def test_no_word_is_lost(said: str) -> None:
    """A reply without calls is its text."""
    text, calls, _ = read(*said)
    if not calls:
        assert text == said
    else:
        assert said.lstrip().startswith(text.strip())


@given(said=st.text())
def test_ordinary_text(said: str) -> None:
    """Any text at all is read to its end."""
    assert read(*said) == (said, [], False)


def test_ordinary_text_is_not_held() -> None:
    """Text that cannot become a call is shown at once."""
    reader = CallReader(NAMES, key="k")
    assert reader.feed("H").text == "H"
    assert reader.feed('i {"name": "get"').text == 'i {"name": "get"'
    assert reader.feed("\n").text == ""
    assert reader.feed("a").text == "\na"


def test_arguments_stream() -> None:
    """Name and id come with the opening, arguments as they are said."""
    reader = CallReader(["f"], key="k")
    assert reader.feed('{"name": "f", "parameters": ').calls == ()
    (begin, first) = reader.feed("{").calls
    assert (begin.name, begin.arguments, first.arguments) == ("f", "", "{")
    assert [delta.arguments for delta in reader.feed('"a": "b').calls] == ['"a": "b']
    assert reader.is_cut
    assert [delta.arguments for delta in reader.feed('"}}').calls] == ['"}']
    assert not reader.is_cut


def test_ids() -> None:
    """They are of OpenAI's form, of the reply's key and the call's number alone, and differ with both."""

    def ids(key: str) -> list[str]:
        reader = CallReader(NAMES, key=key)
        reader.feed(f"{ONE}\n{ONE}")
        return [call.id for call in reader.calls]

    assert all(re.fullmatch("call_[0-9a-f]{24}", call_id) for call_id in ids("a"))
    assert ids("a") == ids("a")
    assert len({*ids("a"), *ids("b"), *ids("\ud800")}) == 6


def test_cut_short() -> None:
    """A reply that ends within a call says so, and has no such call among the whole ones."""
    reader = CallReader(NAMES, key="k")
    reader.feed(f'{ONE}\n{{"name": "get", "parameters": {{"a": "b')
    assert reader.is_cut
    assert [call.arguments for call in reader.calls] == ['{"a": 1}']
    assert reader.finish().text == ""


@pytest.mark.parametrize("said", ['{"name": "ge', "{", '{"name": "get", "param', " "])
def test_cut_opening(said: str) -> None:
    """An opening that never became a call is text, and nothing at all where a call is forced."""
    assert read(*said) == (said, [], False)
    assert read(*said, is_forced=True) == ("", [], False)


def test_text_with_a_form() -> None:
    """Where text is held to a form, a call is the whole reply: lines within may look like one."""
    said = f"[\n{ONE}\n]"
    assert read(*said, has_form=True)[1] == [("get", '{"a": 1}')]
    said = f"[1,\n{ONE}\n]"
    assert read(*said, has_form=True) == (said, [], False)
    assert read(*said)[1] == [("get", '{"a": 1}')]


forms = st.from_regex(f"(?:{express(BEFORE_FIRST_NAME).replace('*', '{0,3}')})", fullmatch=True)


@given(opening=forms, name=st.sampled_from(NAMES))
def test_reader_and_expression_are_one(opening: str, name: str) -> None:
    """All that the grammar's expression admits before a name is an opening to the reader."""
    assert read(*opening, f'{quote_name(name)}, "parameters": {{}}}}') == ("", [(name, "{}")], False)


@given(arguments=st.dictionaries(st.text(), st.recursive(st.none() | st.text(), st.lists), max_size=4))
def test_any_arguments(arguments: dict[str, object]) -> None:
    """Whatever JSON the arguments are, they come out as they were said."""
    said = json.dumps(arguments)
    assert read(*write_call("get", said)) == ("", [("get", said)], False)
