from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gemmad.planning.pages import PagePlan, PageRules, sequences_that_fit, split_pages
from tests.unit.planning.settings import rules

DEMO = PageRules(page_tokens=16, window=64, full_layers=2, sliding_layers=4, token_bytes=256, longest_chunk=256)

contexts = st.integers(1, 3000)
counts = st.integers(1, 40)


@given(rules=rules, max_context=contexts, max_sequences=counts, spare=st.integers(0, 1 << 22), prefix=st.booleans())
def test_pages_are_worth_what_was_given(
    rules: PageRules, max_context: int, max_sequences: int, spare: int, prefix: bool
) -> None:
    """The pools hold one longest sequence, cost no more than was given, and leave only what is no page or of no use."""
    least = rules.least(max_context)
    kv_bytes = least.nbytes + spare
    plan = split_pages(rules, kv_bytes, max_context=max_context, max_sequences=max_sequences, prefix_cache=prefix)
    assert plan.nbytes <= kv_bytes
    assert plan.full_pages >= least.full_pages
    assert plan.sliding_pages >= least.sliding_pages
    assert sequences_that_fit(rules, plan, max_context) >= 1
    rest = kv_bytes - plan.nbytes
    every = max_sequences + (64 if prefix else 0)
    if rules.full_layers and rest >= plan.full_page_bytes:
        assert plan.full_pages == every * rules.full(max_context)
    if rules.sliding_layers and rest >= plan.sliding_page_bytes:
        assert sequences_that_fit(rules, plan, max_context) >= every or rules.full_layers
        assert plan.sliding_pages >= every * rules.sliding(max_context)


@given(rules=rules, full=st.integers(0, 500), sliding=st.integers(0, 500), length=contexts)
def test_as_many_fit_as_are_said_and_not_one_more(rules: PageRules, full: int, sliding: int, length: int) -> None:
    """The count is the largest for which both pools have the pages: all speak, one computes its longest chunk."""
    plan = rules.plan(full, sliding)
    count = sequences_that_fit(rules, plan, length)

    def fit(sequences: int) -> bool:
        speaking = (sequences - 1) * rules.sliding(length)
        worst = rules.sliding(length, chunk=rules.longest_chunk)
        return sequences * rules.full(length) <= full and speaking + worst <= sliding

    assert count == 0 or fit(count)
    assert not fit(count + 1)


@given(rules=rules, length=contexts, chunk=st.integers(1, 500))
def test_a_longer_sequence_holds_no_fewer_pages(rules: PageRules, length: int, chunk: int) -> None:
    """Pages grow with the length and the chunk, and the window bounds the sliding ones."""
    assert rules.full(length) <= rules.full(length + 1)
    assert rules.sliding(length, chunk=chunk) <= rules.sliding(length + 1, chunk=chunk)
    assert rules.sliding(length, chunk=chunk) <= rules.sliding(length, chunk=chunk + 1)
    assert rules.sliding(length) <= -(-rules.window // rules.page_tokens) + 1


def test_the_bundled_network() -> None:
    """Known numbers: pages of both kinds, and how many sequences of which length they hold."""
    assert DEMO.least(8192) == PagePlan(512, 21, 8192, 16384)
    plan = split_pages(DEMO, 12 << 20, max_context=8192, max_sequences=24, prefix_cache=False)
    assert (plan.full_pages, plan.sliding_pages) == (1264, 21 + 23 * 5)
    assert plan.nbytes == 12 << 20
    assert [sequences_that_fit(DEMO, plan, length) for length in (16, 512, 1024, 8192)] == [136, 24, 19, 2]


def test_short_sequences_do_not_wait_for_windows() -> None:
    """Where bytes are few, half of what is over goes to the windows of all sequences, and half to whole contexts."""
    spare = 40 * 16384
    plan = split_pages(DEMO, 512 * 8192 + 21 * 16384 + spare, max_context=8192, max_sequences=64, prefix_cache=True)
    assert (plan.full_pages, plan.sliding_pages) == (512 + 40, 21 + 20)


def test_without_a_prefix_cache_no_page_is_taken_in_vain() -> None:
    """More sliding pages than all sequences hold together are of no use then; whole contexts get the rest."""
    plain = split_pages(DEMO, 1 << 30, max_context=8192, max_sequences=4, prefix_cache=False)
    assert (plain.full_pages, plain.sliding_pages) == (4 * 512, 21 + 3 * 5)
    kept = split_pages(DEMO, 1 << 30, max_context=8192, max_sequences=4, prefix_cache=True)
    assert (kept.full_pages, kept.sliding_pages) == (68 * 512, 21 + 67 * 5)
