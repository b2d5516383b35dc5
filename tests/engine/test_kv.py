"""An engine whose keys and values are codes of 8 bits says nearly what transformers says, and is as steady as any."""

from __future__ import annotations

import pytest

from gemmad.generation import KVFormat
from tests.engine.test_graph_runner import engine as graph_engine
from tests.engine.test_oracle import answers, engine, questions
from tests.engine.test_prefix import serve, whole_pages

kinds = pytest.mark.parametrize("kv", ["int8", "fp8"])
LEAST_AGREEMENT = {"int8": 0.99, "fp8": 0.97}
"""Tokens of replies before the first that differs, of all. The bundled model is sure of what it says: here it is 1."""


@kinds
def test_it_says_nearly_the_same(kv: KVFormat) -> None:
    """Greedy replies begin as transformers' do, and most are the same to their end."""
    asked = dict(list(enumerate(questions()))[::2])
    said, _ = serve(engine(kv=kv, max_sequences=8), asked)
    same = total = 0
    for number, ours in said.items():
        answer = answers()[number]
        first = next((i for i, (a, b) in enumerate(zip(ours, answer, strict=False)) if a != b), len(answer))
        same, total = same + first, total + len(answer)
    assert same >= LEAST_AGREEMENT[kv] * total, f"{same} of {total}"


@pytest.mark.parametrize("kv", ["fp8"])
def test_found_pages_give_the_same_tokens(kv: KVFormat) -> None:
    """A prompt whose pages are found goes on as one that is computed anew."""
    built = engine(kv=kv, max_step_tokens=1000, max_sequences=16)
    asked = dict(enumerate(questions()[:14]))
    fresh, _ = serve(built, asked)
    again, found = serve(built, asked)
    assert again == fresh
    assert found == {number: whole_pages(question) for number, question in asked.items()}


@pytest.mark.parametrize("kv", ["int8"])
def test_recorded_steps_say_the_same(kv: KVFormat) -> None:
    """Steps that are recorded once and replayed write and read the same codes."""
    asked = dict(enumerate(questions()[:10]))
    assert serve(graph_engine(overlap=False, kv=kv), asked)[0] == serve(engine(kv=kv), asked)[0]


@kinds
def test_pages_cost_half(kv: KVFormat) -> None:
    """In the same memory there is room for more tokens, by what codes save and scales cost."""
    plain, coded = (engine(kv=each, kv_bytes=8 << 20, max_context=512) for each in ("bf16", kv))
    assert coded.capacity.full_pages + coded.capacity.sliding_pages > 2 * (
        plain.capacity.full_pages + plain.capacity.sliding_pages
    )
