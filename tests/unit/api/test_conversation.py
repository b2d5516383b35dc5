from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.api.openai.conversation import (
    choice_seed,
    conversation,
    room_in_context,
    sampling_params,
    stop_strings,
)
from gemmad.api.openai.schema import ChatRequest, parse_chat
from gemmad.config.schema import SamplingSection
from gemmad.errors import ContextLengthError, InvalidRequestError
from gemmad.generation import SamplingParams
from gemmad.text.checkpoint import GenerationDefaults
from gemmad.text.messages import ImagePart, Message, TextPart

DEFAULTS = GenerationDefaults(temperature=0.7, top_k=64, top_p=0.95, min_p=0.01)


def chat(messages: Any = None, **fields: Any) -> ChatRequest:
    return parse_chat({"model": "m", "messages": messages or [{"role": "user", "content": "Hi"}], **fields})


def sample(request: ChatRequest, section: SamplingSection | None = None, *, room: int = 100) -> SamplingParams:
    return sampling_params(
        request,
        section=section or SamplingSection(),
        defaults=DEFAULTS,
        stop_token_ids=(7,),
        room=room,
        random_seed=lambda: 42,
    )


def test_images_are_counted_through_the_request() -> None:
    """Images have the order in which they appear, over all messages, and know their field."""

    def image(url: str) -> dict[str, Any]:
        return {"type": "image_url", "image_url": {"url": url, "detail": "low"}}

    talk = conversation(
        chat(
            [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [image("a"), {"type": "text", "text": "and"}, image("b")]},
                {"role": "assistant", "content": "Both."},
                {"role": "user", "content": [image("c")]},
            ]
        ),
        max_images=3,
    )
    assert talk.messages == (
        Message("system", (TextPart("Be brief."),)),
        Message("user", (ImagePart(0), TextPart("and"), ImagePart(1))),
        Message("assistant", (TextPart("Both."),)),
        Message("user", (ImagePart(2),)),
    )
    assert [image.url for image in talk.images] == ["a", "b", "c"]
    assert talk.images[2].param == "messages[3].content[0].image_url.url"
    assert talk.characters == len("Be brief.andBoth.")


def test_the_request_wins_over_the_config_over_the_checkpoint() -> None:
    """Each value comes from the first of the three that has it; zero is a value."""
    assert sample(chat()).temperature == 0.7
    section = SamplingSection(temperature=0.0, top_p=0.5, top_k=0, min_p=0.0, max_tokens=9)
    configured = sample(chat(), section)
    assert (configured.temperature, configured.top_p, configured.top_k, configured.min_p) == (0.0, 0.5, 0, 0.0)
    assert configured.max_tokens == 9
    asked = sample(chat(temperature=1.5, top_p=0, top_k=-1, min_p=1, max_tokens=3), section)
    assert (asked.temperature, asked.top_p, asked.top_k, asked.min_p, asked.max_tokens) == (1.5, 0, 0, 1, 3)


def test_a_reply_fills_the_context_unless_told_otherwise() -> None:
    """Without a limit the reply may have what is left, and the config's default never more than that."""
    assert sample(chat(), room=77).max_tokens == 77
    assert sample(chat(), SamplingSection(max_tokens=1000), room=77).max_tokens == 77


def test_seeds() -> None:
    """The request's seed is taken as it is; without one it is drawn."""
    assert sample(chat(seed=-(2**63))).seed == -(2**63)
    assert sample(chat(seed=0)).seed == 0
    assert sample(chat()).seed == 42


def test_benchmarks_ignore_the_end() -> None:
    """With ignore_eos no token ends the reply."""
    assert sample(chat()).stop_token_ids == (7,)
    assert sample(chat(ignore_eos=True)).stop_token_ids == ()


def test_the_room_in_the_context() -> None:
    """A prompt must leave room for a token, or for as many as were asked for; the error has the numbers."""
    assert room_in_context(chat(), prompt_tokens=90, max_context=100) == 10
    assert room_in_context(chat(max_tokens=10), prompt_tokens=90, max_context=100) == 10
    with pytest.raises(ContextLengthError, match=r"100 tokens.*101 tokens \(90 in the messages, 11 in the completion"):
        room_in_context(chat(max_tokens=11), prompt_tokens=90, max_context=100)
    with pytest.raises(ContextLengthError, match=r"100 tokens.*resulted in 100 tokens"):
        room_in_context(chat(), prompt_tokens=100, max_context=100)


def test_more_tokens_at_least_than_at_most() -> None:
    """min_tokens over what the reply may have is refused."""
    with pytest.raises(InvalidRequestError) as caught:
        sample(chat(min_tokens=11), room=10)
    assert caught.value.param == "min_tokens"


def test_stop_strings() -> None:
    """One, several or none."""
    assert stop_strings(chat()) == ()
    assert stop_strings(chat(stop="a")) == ("a",)
    assert stop_strings(chat(stop=["a", "b"])) == ("a", "b")


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_seeds_of_choices(seed: int) -> None:
    """The first choice has the request's own seed, the others have others, all of 64 bits."""
    seeds = [choice_seed(seed, index) for index in range(16)]
    assert seeds[0] == seed
    assert len(set(seeds)) == 16
    assert all(-(1 << 63) <= each < 1 << 63 for each in seeds)
    assert all((each - seed) % (1 << 64) == index for index, each in enumerate(seeds))
