"""Replies that are held to a grammar stay in it, with steps launched ahead; nobody waits for one that is compiled."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from gemmad.demo import CHECKPOINT
from gemmad.engine.engine import Engine
from gemmad.generation import FinishReason, Prompt
from gemmad.grammar import source
from gemmad.grammar.matcher import Grammars
from gemmad.protocol.messages import Output
from tests.engine.grammars import STOP, CountingGrammars, counts
from tests.engine.oracle import processor
from tests.engine.test_steering import Build, ahead, collect, eager, everyone, params, run, tokens


def grammars(built: Engine) -> CountingGrammars:
    """The test's own."""
    found = built._grammars
    assert isinstance(found, CountingGrammars)
    return found


@everyone
def test_a_reply_is_what_its_grammar_allows(build: Build) -> None:
    """Beside others with and without one, greedy or drawn, to the end that the grammar has; nobody else is changed."""
    built = build()
    held = {
        number: (
            Prompt((5, 6, number + 10)),
            params(grammar=str(n), temperature=t, stop_token_ids=(STOP,), seed=number),
        )
        for number, (n, t) in enumerate([(1, 0.0), (3, 1.0), (6, 1.0), (2, 0.0)])
    }
    free = {number: (Prompt((5, 6, number)), params(temperature=1.0, seed=number)) for number in (10, 11)}
    heard = run(built, held | free)
    for number, length in enumerate((1, 3, 6, 2)):
        reply = tokens(heard[number])
        assert (len(reply), reply[-1]) == (length + 1, STOP)
        assert counts(reply, length)
        assert heard[number][-1].finish is FinishReason.STOP
    assert {number: tokens(heard[number]) for number in free} == {n: tokens(o) for n, o in run(eager(), free).items()}


@everyone
def test_whoever_does_not_stop_says_stop_ids(build: Build) -> None:
    """A request without stop ids comes to its length behind the end of its grammar."""
    reply = tokens(run(build(), {1: (Prompt((5, 6)), params(grammar="3"))})[1])
    assert counts(reply[:4], 3)
    assert reply[3:] == [STOP] * 5


@everyone
def test_a_shortest_length_gives_way_to_the_grammar(build: Build) -> None:
    """Where nothing but the end may follow, the reply ends."""
    heard = run(build(), {1: (Prompt((5, 6)), params(grammar="2", min_tokens=6, stop_token_ids=(STOP,)))})
    assert len(tokens(heard[1])) == 3
    assert heard[1][-1].finish is FinishReason.STOP


@everyone
def test_nobody_waits_for_a_grammar(build: Build) -> None:
    """Others are served while one is compiled, and it is when it is there; it can be taken back before."""
    built, heard = build(), dict[int, list[Output]]()
    built.add(1, Prompt((5, 6)), params(grammar="later:2", stop_token_ids=(STOP,)))
    built.add(2, Prompt((5, 7)), params(grammar="later:2"))
    built.add(3, Prompt((5, 8)), params())
    assert built.load().waiting == 3
    while 3 not in heard or heard[3][-1].finish is None:
        collect(built, heard)
    assert set(heard) == {3}
    assert built.step() == ()
    built.abort(2)
    grammars(built).compile_now()
    while not built.idle:
        collect(built, heard)
    assert counts(tokens(heard[1]), 2)
    assert set(heard) == {1, 3}
    built.check()


@everyone
def test_what_cannot_be_compiled_is_refused(build: Build) -> None:
    """The request ends with the reason, once, and nothing of it is left."""
    built = build()
    built.add(1, Prompt((5, 6)), params(grammar="broken"))
    assert built.take_refused() == ()
    assert built.step() == ()
    assert built.take_refused() == ((1, "the grammar cannot be compiled: no such rule"),)
    assert built.take_refused() == ()
    assert built.idle


@everyone
def test_what_was_said_before_must_match(build: Build) -> None:
    """A reply that comes from elsewhere and is not of its grammar is refused."""
    built = build()
    built.add(1, Prompt((5, 6)), params(grammar="5"), generated=(10, 99))
    built.step()
    assert built.take_refused() == ((1, "the reply left its grammar"),)


@everyone
def test_a_matcher_that_gives_up_ends_its_request(build: Build) -> None:
    """The client is told that and why, not a reply that breaks off; its neighbours go on."""
    built = build()
    built.add(1, Prompt((5, 6)), params(grammar="deep:3", max_tokens=20))
    built.add(2, Prompt((5, 6)), params(grammar="4", stop_token_ids=(STOP,)))
    heard: dict[int, list[Output]] = {}
    while not built.idle:
        collect(built, heard)
    assert built.take_refused() == ((1, "too deep"),)
    assert heard[1][-1].finish is None
    assert counts(tokens(heard[2]), 4)
    built.check()


@pytest.mark.parametrize("grammar", [None, "4"])
def test_masks_are_made_for_held_replies_only(grammar: str | None) -> None:
    """One for each token of a held reply, the one behind its end too: a step ahead nobody knows that it ended."""
    built = ahead()
    before = grammars(built).filled
    run(built, {1: (Prompt((5, 6)), params(grammar=grammar, stop_token_ids=(STOP,)))})
    assert grammars(built).filled - before == (5 if grammar else 0)


@pytest.fixture(scope="module")
def compiler() -> Iterator[Grammars]:
    """What a worker compiles with."""
    found = Grammars(CHECKPOINT, vocab_size=2048, stop_token_ids=(3, 6))
    yield found
    found.close()


@pytest.fixture(scope="module", autouse=True)
def _threads(compiler: Grammars) -> None:
    """Its threads are there before a test begins that would be blamed for them."""
    for future in [compiler.begin(source.HEADER + 'start: "a"\n') for _ in range(4)]:
        future.result()


@everyone
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_real_grammar(build: Build, temperature: float, compiler: Grammars) -> None:
    """Replies match as a whole when they end, and as far as they go when their length ends them; also elsewhere, with
    what was said before; and neighbours say what they say without them."""
    pattern, text = re.compile("(red|green|blue) fox(es)? [0-9]{2,4}[.]"), processor().tokenizer
    grammar = source.HEADER + 'start: ("red" | "green" | "blue") " fox" "es"? /[ ][0-9]{2,4}/ "."\n'
    built = build(grammars=compiler)
    held = {
        number: (
            Prompt((5, 6, number + 10)),
            params(grammar=grammar, temperature=temperature, max_tokens=30, stop_token_ids=(3, 6), seed=number),
        )
        for number in range(6)
    }
    free = {10: (Prompt((5, 6, 10)), params(temperature=temperature, seed=10))}
    heard = run(built, held | free)
    assert built.take_refused() == ()
    assert tokens(heard[10]) == tokens(run(eager(), free)[10])
    for number, (prompt, sampling) in held.items():
        reply = tokens(heard[number])
        assert heard[number][-1].finish is FinishReason.STOP
        assert pattern.fullmatch(text.decode(reply[:-1])), text.decode(reply)
        half = reply[: len(reply) // 2]
        built.add(20 + number, prompt, sampling, generated=tuple(half))
        rest: dict[int, list[Output]] = {}
        while not built.idle:
            collect(built, rest)
        assert half + tokens(rest[20 + number]) == reply
