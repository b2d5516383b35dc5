from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.api.asks import Ask, Conversation, Names, Wishes
from gemmad.api.sampling import choice_seed, room_in_context, sampling_params
from gemmad.config.schema import SamplingSection
from gemmad.demo import CHECKPOINT
from gemmad.errors import ContextLengthError, InvalidRequestError
from gemmad.generation import SamplingParams
from gemmad.text.checkpoint import GenerationDefaults, TextModel

DEFAULTS = GenerationDefaults(temperature=0.7, top_k=64, top_p=0.95, min_p=0.01)
TEXT = dataclasses.replace(TextModel.load(CHECKPOINT), defaults=DEFAULTS, stop_token_ids=(7,))


def ask(**wishes: Any) -> Ask:
    return Ask(model="m", prompt=Conversation(()), wishes=Wishes(**wishes), names=Names(logit_bias="the_bias"))


def sample(asked: Ask, section: SamplingSection | None = None, *, room: int = 100) -> SamplingParams:
    return sampling_params(asked, section=section or SamplingSection(), text=TEXT, room=room, random_seed=lambda: 42)


def test_the_request_wins_over_the_config_over_the_checkpoint() -> None:
    """Each value comes from the first of the three that has it; zero is a value."""
    assert sample(ask()).temperature == 0.7
    section = SamplingSection(temperature=0.0, top_p=0.5, top_k=0, min_p=0.0, max_tokens=9)
    configured = sample(ask(), section)
    assert (configured.temperature, configured.top_p, configured.top_k, configured.min_p) == (0.0, 0.5, 0, 0.0)
    assert configured.max_tokens == 9
    asked = sample(ask(temperature=1.5, top_p=0.0, top_k=-1, min_p=1.0, max_tokens=3), section)
    assert (asked.temperature, asked.top_p, asked.top_k, asked.min_p, asked.max_tokens) == (1.5, 0, 0, 1, 3)


def test_a_reply_fills_the_context_unless_told_otherwise() -> None:
    """Without a limit the reply may have what is left, and the config's default never more than that."""
    assert sample(ask(), room=77).max_tokens == 77
    assert sample(ask(), SamplingSection(max_tokens=1000), room=77).max_tokens == 77


def test_seeds() -> None:
    """The request's seed is taken as it is; without one it is drawn."""
    assert sample(ask(seed=-(2**63))).seed == -(2**63)
    assert sample(ask(seed=0)).seed == 0
    assert sample(ask()).seed == 42


def test_benchmarks_ignore_the_end() -> None:
    """With ignore_eos no token ends the reply."""
    assert sample(ask()).stop_token_ids == (7,)
    assert sample(ask(ignore_eos=True)).stop_token_ids == ()


def test_the_room_in_the_context() -> None:
    """A prompt must leave room for a token, or for as many as were asked for; the error has the numbers."""
    assert room_in_context(ask(), prompt_tokens=90, max_context=100) == 10
    assert room_in_context(ask(max_tokens=10), prompt_tokens=90, max_context=100) == 10
    with pytest.raises(ContextLengthError, match=r"100 tokens.*101 tokens \(90 in the messages, 11 in the completion"):
        room_in_context(ask(max_tokens=11), prompt_tokens=90, max_context=100)
    with pytest.raises(ContextLengthError, match=r"100 tokens.*resulted in 100 tokens"):
        room_in_context(ask(), prompt_tokens=100, max_context=100)


def test_more_tokens_at_least_than_at_most() -> None:
    """min_tokens over what the reply may have is refused."""
    with pytest.raises(InvalidRequestError) as caught:
        sample(ask(min_tokens=11), room=10)
    assert caught.value.param == "min_tokens"


def test_biased_ids_are_of_the_vocabulary() -> None:
    """Biases are sorted by id, and an id that the model does not have is refused by the client's own name of it."""
    last = TEXT.vocab_size - 1
    assert sample(ask(logit_bias=((last, 1.0), (0, -1.0)))).logit_bias == ((0, -1.0), (last, 1.0))
    with pytest.raises(InvalidRequestError, match=f"0 to {last}") as caught:
        sample(ask(logit_bias=((last + 1, 1.0),)))
    assert caught.value.param == "the_bias"


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_seeds_of_choices(seed: int) -> None:
    """The first choice has the request's own seed, the others have others, all of 64 bits."""
    seeds = [choice_seed(seed, index) for index in range(16)]
    assert seeds[0] == seed
    assert len(set(seeds)) == 16
    assert all(-(1 << 63) <= each < 1 << 63 for each in seeds)
    assert all((each - seed) % (1 << 64) == index for index, each in enumerate(seeds))
