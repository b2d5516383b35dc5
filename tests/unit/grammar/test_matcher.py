"""Where a reply stands in its grammar, in the worker."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemmad.errors import CheckpointError, InvalidRequestError
from gemmad.grammar.check import write
from gemmad.grammar.matcher import Grammars, Matcher
from gemmad.grammar.spec import Choice, Ebnf, JsonObject, JsonSchema, Regex
from gemmad.grammar.vocabulary import Vocabulary

from .vocabularies import CHECKPOINT, STOPS, VOCAB_SIZE, allowed, begin, demo, demo_texts, row, says, walk

WAIT_SECONDS = 60


@pytest.fixture
def grammars() -> Iterator[Grammars]:
    made = Grammars(CHECKPOINT, vocab_size=VOCAB_SIZE, stop_token_ids=STOPS, filling_threads=2)
    yield made
    made.close()


def values(depth: int) -> st.SearchStrategy[dict[str, Any]]:
    """Schemas that a random walk ends in: nothing in them is long."""
    scalar = st.one_of(
        st.just({"type": "boolean"}),
        st.just({"type": "null"}),
        st.builds(
            lambda low, span: {"type": "integer", "minimum": low, "maximum": low + span},
            st.integers(-999, 999),
            st.integers(0, 500),
        ),
        st.builds(
            lambda low, span: {"type": "string", "minLength": low, "maxLength": low + span},
            st.integers(0, 4),
            st.integers(0, 6),
        ),
        st.just({"type": "string", "pattern": "^[a-c]{1,3}-[0-9]{2}$"}),
        st.sampled_from(["date", "ipv4", "uuid", "time"]).map(lambda name: {"type": "string", "format": name}),
        st.lists(st.one_of(st.integers(-9, 9), st.text(max_size=4), st.booleans()), min_size=1, max_size=4).map(
            lambda options: {"enum": options}
        ),
        st.one_of(st.integers(-(2**53), 2**53), st.text(max_size=5), st.none()).map(lambda value: {"const": value}),
    )
    if depth == 0:
        return scalar
    below = values(depth - 1)
    array = st.builds(
        lambda items, low, span: {"type": "array", "items": items, "minItems": low, "maxItems": low + span},
        below,
        st.integers(0, 2),
        st.integers(0, 2),
    )
    names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)
    record = st.builds(
        lambda properties, seed: {
            "type": "object",
            "properties": properties,
            "required": [name for name in properties if random.Random(seed + name).random() < 0.5],
            "additionalProperties": False,
        },
        st.dictionaries(names, below, max_size=4),
        st.text(max_size=2),
    )
    return st.one_of(scalar, array, record, st.lists(below, min_size=1, max_size=3).map(lambda some: {"anyOf": some}))


@settings(max_examples=60)
@given(schema=values(2), seed=st.integers(0, 2**32))
def test_any_walk_through_the_masks_ends_in_json_that_the_schema_allows(schema: dict[str, Any], seed: int) -> None:
    """Whatever is drawn, what comes out is JSON, and another implementation finds that it satisfies the schema."""
    text, _, ended = walk(begin(JsonSchema(json.dumps(schema), strict=True)), random.Random(seed))
    assert ended, text
    jsonschema.validate(json.loads(text), schema)


@settings(max_examples=15)
@given(schema=values(2), seed=st.integers(0, 2**32))
def test_the_state_follows_from_source_and_tokens(schema: dict[str, Any], seed: int) -> None:
    """A matcher that accepts what another one accepted allows the same next, though it saw no mask meanwhile."""
    spec = JsonSchema(json.dumps(schema), strict=True)
    first = begin(spec)
    _, ids, _ = walk(first, random.Random(seed), steps=20)
    second, third = begin(spec), begin(spec)
    for token_id in ids:
        allowed(second)
        assert second.accept(token_id)
        assert third.accept(token_id)
    assert allowed(second) == allowed(third)


def test_control_tokens_and_ids_beyond_the_tokenizer_are_never_allowed() -> None:
    """Where any text may come, every token that steers, images' soft tokens and padding of the vocabulary may not."""
    free = allowed(begin(Regex("(?s:.*)")))
    control = {0, 1, 2, 4, 5, 7, 8, 2039, *range(2040, 2048)}
    assert not control & set(free)
    assert set(STOPS) < set(free)
    matcher = begin(Regex("(?s:.*)"))
    assert not any(matcher.accept(token_id) for token_id in control)


def test_characters_without_a_token_are_spelled_in_bytes_and_others_are_not() -> None:
    """Bytes of a rare character are allowed in turn; a byte that has a token as a character is not."""
    matcher = begin(Choice(("🦖",)))
    assert says(matcher, "🦖") == ""
    assert matcher.ended
    texts = demo_texts()
    spellings = [token_id for token_id in allowed(begin(Choice(("a",)))) if texts[token_id] == b"a"]
    assert spellings == [token_id for token_id, said in enumerate(texts) if said == b"a" and token_id > 264]


def test_a_refused_token_changes_nothing() -> None:
    """After a token that is not allowed the matcher is where it was."""
    matcher = begin(JsonObject())
    before = allowed(matcher)
    assert not matcher.accept(demo_texts().index(b"]"))
    assert not matcher.accept(STOPS[0])
    assert matcher.error is None
    assert allowed(matcher) == before


def test_stop_ids_are_allowed_where_the_text_may_end_and_alone_where_it_must() -> None:
    """A stop id is no part of the text; at the grammar's end nothing else is left, and `ended` says so."""
    matcher = begin(Regex("ab?"))
    assert not set(STOPS) & set(allowed(matcher))
    assert says(matcher, "a") == ""
    assert set(STOPS) < set(allowed(matcher))
    assert not matcher.ended
    assert says(matcher, "b") == ""
    assert allowed(matcher) == sorted(STOPS)
    assert matcher.ended
    assert all(matcher.accept(stop) for stop in STOPS)


def test_one_reply_that_gives_up_costs_no_other() -> None:
    """A text that may mean too many things ends its own reply with the reason; one beside it goes on."""
    source = write(Ebnf('start: (a | b | c)*\na: "x"*\nb: "x"+\nc: "x" c | "x"'), param="grammar")
    lost, kept = (Matcher(demo().begin(source), demo()) for _ in range(2))
    for _ in range(500):
        allowed(lost)
        if lost.error is not None:
            break
        says(lost, "x")
    assert lost.error is not None
    assert "items" in lost.error
    assert allowed(lost) == sorted(STOPS)
    assert lost.accept(STOPS[0])
    assert says(kept, "xx") == ""
    assert kept.error is None


def test_matchers_are_made_beside_who_asks_and_filled_together(grammars: Grammars) -> None:
    """A batch's masks equal those of its matchers one by one; rows of others stay as they are."""
    sources = [write(spec, param="x") for spec in (JsonObject(), Regex("a+"), Choice(("b",)), JsonObject())]
    matchers = [grammars.begin(source).result(WAIT_SECONDS) for source in sources]
    assert says(matchers[3], '{"a') == ""
    bitmask = np.full((6, VOCAB_SIZE // 32), 7, dtype=np.int32)
    rows = [5, 0, 3, 2]
    grammars.fill_batch(list(zip(matchers, rows, strict=True)), bitmask)
    for matcher, at in zip(matchers, rows, strict=True):
        alone = row()
        matcher.fill(alone)
        assert (bitmask[at] == alone).all()
    assert (bitmask[[1, 4]] == 7).all()
    grammars.fill_batch([], bitmask)


def test_a_source_that_cannot_be_compiled_fails_its_future(grammars: Grammars) -> None:
    """What the daemon would have refused is refused by the worker too, and the next one is compiled."""
    with pytest.raises(InvalidRequestError, match="unknown name"):
        grammars.begin("start: nowhere").result(WAIT_SECONDS)
    assert grammars.begin('start: "a"').result(WAIT_SECONDS).error is None
    assert grammars.warm().result(WAIT_SECONDS) is None


def test_without_a_tokenizer_or_with_stop_ids_of_another_model_there_is_no_vocabulary(tmp_path: Path) -> None:
    """A checkpoint that cannot be used says which file or ids are wrong."""
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        Vocabulary.load(tmp_path, vocab_size=VOCAB_SIZE, stop_token_ids=STOPS)
    with pytest.raises(CheckpointError, match="stop ids"):
        Vocabulary.load(CHECKPOINT, vocab_size=VOCAB_SIZE, stop_token_ids=(VOCAB_SIZE,))
    assert Vocabulary.load(CHECKPOINT, vocab_size=VOCAB_SIZE, stop_token_ids=()).stop_token_ids == STOPS


def test_a_vocabulary_whose_size_is_no_multiple_of_a_word_is_padded_with_nothing() -> None:
    """Bits behind the last id are never set."""
    vocabulary = Vocabulary([b"a", b"b", b"", *[b"c"] * 31], (2,))
    mask = np.zeros(2, dtype=np.int32)
    vocabulary.begin("start: /[abc]*/").unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
    mask &= vocabulary.allowed
    assert np.unpackbits(mask.view(np.uint8), bitorder="little").sum() == 34


@settings(max_examples=40)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=20), other=st.text(max_size=20))
def test_a_choice_is_any_text_to_the_letter(text: str, other: str) -> None:
    """Whatever characters an option has, they mean themselves."""
    options = tuple(option.encode("utf-8", "ignore").decode() for option in (text, other))
    matcher = begin(Choice(options))
    assert says(matcher, text) == ""
    assert set(STOPS) & set(allowed(matcher))


def test_a_grammar_may_recurse() -> None:
    """What no regular expression can hold: brackets that are closed as they were opened."""
    spec = Ebnf('root ::= "(" root ")" | "x"')
    matcher = begin(spec)
    assert says(matcher, "((x))") == ""
    assert matcher.ended
    assert says(begin(spec), "((x)x") == "x"


def test_the_worker_imports_nothing_more_for_it_and_the_daemon_no_torch() -> None:
    """The matcher needs llguidance and numpy; neither side of the room imports torch, transformers or tokenizers."""
    code = (
        "import sys; import gemmad.grammar.matcher; worker = set(sys.modules); "
        "import gemmad.grammar.room, gemmad.grammar.process; "
        "print({'tokenizers', 'jinja2', 'torch', 'transformers', 'pydantic'} & worker, "
        "{'torch', 'transformers'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.strip() == "set() set()"
