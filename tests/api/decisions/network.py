"""A worker's network that holds what a test says, played on the stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from gemmad.generation import TokenLogprobs
from gemmad.protocol.messages import Submit
from tests.api.stage import Script, Stage

VOCABULARY = 2048

Held = Mapping[int, float]
"""Probabilities of some tokens; the others share the rest."""


def play_network(stage: Stage, held: Callable[[Submit], Held], *, pause_seconds: float = 0.0) -> None:
    """From now on each token is drawn from `held` and told as a worker tells it: the likeliest as far as asked for, and
    the one that was drawn, by a bias perhaps."""

    def script(submit: Submit) -> Script:
        logprobs = _logprobs(held(submit))
        bias = dict(submit.sampling.logit_bias)
        drawn = max(logprobs, key=lambda token: logprobs[token] + bias.get(token, 0.0))
        top = sorted(logprobs, key=lambda token: -logprobs[token])[: submit.sampling.logprobs or 0]
        told = TokenLogprobs(logprobs[drawn], tuple(top), tuple(logprobs[token] for token in top))
        return Script(token_ids=(drawn,), logprobs=(told,), pause_seconds=pause_seconds)

    stage.play(script)


def label_tokens(stage: Stage, *labels: str) -> list[int]:
    """First tokens of labels."""
    return [stage.tokens(label)[0] for label in labels]


def held_of(stage: Stage, **labels: float) -> dict[int, float]:
    """Probabilities of labels by their first tokens; a leading underscore is dropped, so digits can be named."""
    return {stage.tokens(label.lstrip("_"))[0]: probability for label, probability in labels.items()}


def shown(stage: Stage, submit: Submit) -> str:
    """The words of a prompt."""
    return str(stage.text.tokenizer.decode(list(submit.prompt.token_ids), skip_special_tokens=False))


def _logprobs(held: Held) -> dict[int, float]:
    rest = (1.0 - math.fsum(held.values())) / (VOCABULARY - len(held))
    return {token: math.log(held.get(token, rest)) for token in range(VOCABULARY)}
