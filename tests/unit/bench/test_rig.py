from __future__ import annotations

import pytest

from gemmad.bench.rig import DoesNotApply, Rig


def test_requests_speak_together(rig: Rig) -> None:
    """Inside, each step gives every request a token; outside, none is left and no page is held."""
    with rig.speaking(3, prompt_tokens=20, reply_tokens=10) as ids:
        for _ in range(10):
            assert sorted(output.request_id for output in rig.step()) == list(ids)
        said = rig.said[ids[0]]
        assert rig.mean_context(ids) == 20 + said
    assert rig.engine.idle


def test_the_first_token_comes_while_others_go_on(rig: Rig) -> None:
    """A newcomer is waited for, and those that speak already have spoken meanwhile."""
    with rig.speaking(2, prompt_tokens=8, reply_tokens=20) as ids:
        before = rig.said[ids[0]]
        seconds, output = rig.first_token(rig.prompt(30), reply_tokens=1)
        assert seconds > 0
        assert output.request_id not in ids
        assert rig.said[ids[0]] > before


def test_every_prompt_is_new(rig: Rig) -> None:
    """Two prompts share nothing, so no cache shortens what is measured; the same one is found in it."""
    first, second = rig.prompt(64), rig.prompt(64)
    assert first != second
    cached = []
    for prompt in (first, second, first):
        _, output = rig.first_token(prompt, reply_tokens=1)
        cached.append(output.cached_tokens)
        rig.clear()
    assert cached[:2] == [0, 0]
    assert cached[2] > 0


def test_a_picture_goes_before_the_text(rig: Rig) -> None:
    """The prompt holds the picture's soft tokens, and the engine takes it with its pixels."""
    prompt, pixels = rig.picture_prompt(5)
    assert len(prompt.token_ids) == 5 + 1 + rig.config.image_tokens
    assert tuple(pixels[0].shape) == (*rig.engine.picture_size, 3)
    rig.first_token(prompt, reply_tokens=1, pixels=pixels)


@pytest.mark.parametrize(
    ("sequences", "tokens", "words"),
    [(1, 641, "context of 640"), (7, 10, "engine's 6"), (6, 640, None)],
)
def test_what_does_not_fit_is_said(rig: Rig, sequences: int, tokens: int, words: str | None) -> None:
    """Sizes over the engine's are told apart from errors, with the numbers."""
    if words is None:
        rig.require_room(sequences, tokens)
        return
    with pytest.raises(DoesNotApply, match=words):
        rig.require_room(sequences, tokens)
