"""Penalties, bias and log-probabilities are transformers' and OpenAI's, whoever computes them and beside whomever."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import RepetitionPenaltyLogitsProcessor

from gemmad.demo import CHECKPOINT
from gemmad.engine.build import build_engine
from gemmad.engine.engine import Engine
from gemmad.engine.recording import RepeatRecorder, Work
from gemmad.engine.sequence import Grammars
from gemmad.errors import InvalidRequestError
from gemmad.generation import EngineSettings, Prompt, SamplingParams, TokenLogprobs
from gemmad.protocol.messages import Output
from tests.engine.grammars import CountingGrammars
from tests.engine.oracle import network

MAX_TOKENS = 8
PROMPTS = tuple(tuple(random.Random(n).choices(range(10, 2000), k=k)) for n, k in enumerate((5, 12, 3, 25, 9, 17)))
WISHES: tuple[dict[str, Any], ...] = (
    {"logprobs": 20},
    {"repetition_penalty": 1.4, "logprobs": 3},
    {"frequency_penalty": 1.5, "presence_penalty": -0.5, "logprobs": 0},
    {"frequency_penalty": -1.0, "repetition_penalty": 0.8, "logit_bias": ((7, 4.0), (200, -3.0)), "logprobs": 5},
    {"logit_bias": ((464, -100.0), (1809, 6.5))},
    {},
)
Build = Callable[..., Engine]


def build(*, recorded: bool, overlap: bool, grammars: Grammars | None = None, **settings: Any) -> Engine:
    """A warm engine over the bundled checkpoint; `recorded`: its steps go through buckets."""
    values: dict[str, Any] = {"checkpoint": str(CHECKPOINT), "cpu_threads": 1, "max_sequences": 8} | settings
    built = build_engine(
        EngineSettings(**values),
        progress=lambda *_: None,
        overlap=overlap,
        recorder=RepeatRecorder() if recorded else None,
        grammars=grammars or CountingGrammars(),
    )
    built.warm_up()
    return built


eager = functools.partial(build, recorded=False, overlap=False)
ahead = functools.partial(build, recorded=False, overlap=True)
graphs = functools.partial(build, recorded=True, overlap=True)
everyone = pytest.mark.parametrize("build", [eager, ahead, graphs], ids=["eager", "ahead", "graphs"])


def params(**wishes: Any) -> SamplingParams:
    """Greedy, but for the wishes."""
    return SamplingParams(**{"temperature": 0.0, "max_tokens": MAX_TOKENS} | wishes)


def collect(built: Engine, heard: dict[int, list[Output]]) -> None:
    """One step's outputs to their requests."""
    for output in built.step():
        heard.setdefault(output.request_id, []).append(output)


def run(built: Engine, asked: dict[int, tuple[Prompt, SamplingParams]]) -> dict[int, list[Output]]:
    """All at once, to their end."""
    heard: dict[int, list[Output]] = {}
    for number, (prompt, sampling) in asked.items():
        built.add(number, prompt, sampling)
    while not built.idle:
        collect(built, heard)
    built.check()
    return heard


def tokens(outputs: list[Output]) -> list[int]:
    """What a request has said."""
    return [token for output in outputs for token in output.token_ids]


def told(outputs: list[Output]) -> list[TokenLogprobs]:
    """What it was told of that."""
    return [one for output in outputs for one in output.logprobs]


@functools.cache
def greedy() -> dict[int, tuple[list[int], torch.Tensor]]:
    """By hand, from transformers' logits and its processor: tokens, and the log-softmax that each was drawn from."""
    return {number: _follow(list(PROMPTS[number]), params(**wishes)) for number, wishes in enumerate(WISHES)}


@torch.inference_mode()
def _follow(ids: list[int], sampling: SamplingParams) -> tuple[list[int], torch.Tensor]:
    reply: list[int] = []
    rows = []
    for _ in range(sampling.max_tokens):
        logits = network()(input_ids=torch.tensor([ids + reply])).logits[:, -1].float()
        rows.append(logits[0].log_softmax(-1))
        scores = RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)(torch.tensor([ids + reply]), logits)[0]
        for token in set(reply):
            times = reply.count(token)
            scores[token] -= times * sampling.frequency_penalty + sampling.presence_penalty
        for token, bias in sampling.logit_bias:
            scores[token] += bias
        reply.append(int(scores.argmax()))
    return reply, torch.stack(rows)


def asked() -> dict[int, tuple[Prompt, SamplingParams]]:
    """Each prompt with its wishes."""
    return {number: (Prompt(PROMPTS[number]), params(**wishes)) for number, wishes in enumerate(WISHES)}


@everyone
def test_tokens_and_log_probabilities_are_transformers(build: Build) -> None:
    """Side by side, each with other wishes: greedy tokens are equal, log-probabilities the network's own, to 1e-4."""
    heard = run(build(), asked())
    for number, (reply, rows) in greedy().items():
        assert tokens(heard[number]) == reply
        count = WISHES[number].get("logprobs")
        assert len(told(heard[number])) == (0 if count is None else len(reply))
        for token, row, one in zip(reply, rows, told(heard[number]), strict=count is not None):
            assert one.token == pytest.approx(float(row[token]), abs=1e-4)
            assert len(one.top_ids) == len(one.top) == count
            assert list(one.top) == pytest.approx(row.topk(len(one.top)).values.tolist(), abs=1e-4)
            assert list(one.top) == pytest.approx(row[list(one.top_ids)].tolist(), abs=1e-4)


@everyone
def test_bias_bans_and_forces(build: Build) -> None:
    """-100 is never said, 100 always; in a draw at temperature 1, too."""
    banned = greedy()[5][0][0]
    heard = run(
        build(),
        {
            1: (Prompt(PROMPTS[5]), params(logit_bias=((banned, -100.0),))),
            2: (Prompt(PROMPTS[5]), params(temperature=1.0, logit_bias=((1234, 100.0),))),
        },
    )
    assert banned not in tokens(heard[1])
    assert tokens(heard[2]) == [1234] * MAX_TOKENS


def mixture(count: int, *, seed: int) -> dict[int, tuple[Prompt, SamplingParams]]:
    """Requests with any wishes, drawn with a seed of their own; every other one has none."""
    chance = random.Random(seed)
    found = {}
    for number in range(count):
        wishes = chance.choice(WISHES[:-1]) if number % 2 else {}
        if chance.random() < 0.3:
            wishes = {"grammar": str(chance.randrange(2, 7)), "stop_token_ids": (3,)} | wishes
        sampling = params(temperature=chance.choice((0.0, 1.0)), top_k=chance.choice((0, 40)), seed=number, **wishes)
        found[number] = (Prompt(chance.choice(PROMPTS)), sampling)
    return found


@functools.cache
def alone() -> dict[int, list[Output]]:
    """What each of a mixture says when it is by itself."""
    built = eager()
    return {number: run(built, {number: request})[number] for number, request in mixture(24, seed=1).items()}


def assert_as_alone(heard: dict[int, list[Output]]) -> None:
    """Tokens are equal, and what was told of them to a rounding."""
    for number, outputs in heard.items():
        assert tokens(outputs) == tokens(alone()[number])
        assert outputs[-1].finish == alone()[number][-1].finish
        for ours, theirs in zip(told(outputs), told(alone()[number]), strict=True):
            assert ours.top_ids == theirs.top_ids
            assert (ours.token, *ours.top) == pytest.approx((theirs.token, *theirs.top), abs=1e-4)


@everyone
@pytest.mark.parametrize("chunk", [11, 200])
def test_a_crowd_is_served_as_each_alone(build: Build, chunk: int) -> None:
    """Requests that come one after the other, with wishes and without, give each the tokens that it gives alone."""
    built, chance = build(max_step_tokens=chunk, max_sequences=5), random.Random(chunk)
    heard: dict[int, list[Output]] = {}
    for number, request in mixture(24, seed=1).items():
        built.add(number, *request)
        for _ in range(chance.randrange(4)):
            collect(built, heard)
    while not built.idle:
        collect(built, heard)
    built.check()
    assert len(heard) == 24
    assert_as_alone(heard)


@everyone
def test_under_preemption(build: Build) -> None:
    """Whoever is set back and comes again goes on with its counts and in its grammar."""
    page = 16 * 2 * 2 * 32 * 4 * 2  # 16 tokens of keys and values in one kind's layers
    built = build(max_context=48, max_step_tokens=48, kv_bytes=14 * page, prefix_cache=False)
    heard = run(built, mixture(24, seed=1))
    assert built.load().preemptions > 0
    assert_as_alone(heard)


@everyone
def test_a_reply_goes_on_elsewhere(build: Build) -> None:
    """What was said before a worker was lost counts, and the matcher has taken it."""
    built, heard = build(), dict[int, list[Output]]()
    for number, (prompt, sampling) in mixture(24, seed=1).items():
        half = tokens(alone()[number])[: len(tokens(alone()[number])) // 2]
        built.add(number, prompt, sampling, generated=tuple(half))
        heard[number] = alone()[number][: len(half)]
    while not built.idle:
        collect(built, heard)
    assert_as_alone(heard)


@everyone
def test_who_leaves_costs_nobody(build: Build) -> None:
    """Requests that are taken back leave their row of the tables to others, who are told what is theirs."""
    built, heard, chance = build(max_sequences=3), dict[int, list[Output]](), random.Random(4)
    for number, request in mixture(24, seed=1).items():
        built.add(number, *request)
    for number in chance.sample(range(24), 10):
        for _ in range(chance.randrange(5)):
            collect(built, heard)
        built.abort(number)
    while not built.idle:
        collect(built, heard)
    finished = {number: outputs for number, outputs in heard.items() if outputs[-1].finish is not None}
    assert len(finished) >= 14
    assert_as_alone(finished)


@pytest.mark.parametrize(
    "wishes",
    [
        {"logit_bias": tuple((n, 1.0) for n in range(1025))},
        {"logit_bias": ((2048, 1.0),)},
        {"logit_bias": ((5, 1.0), (5, 2.0))},
        {"repetition_penalty": 0.0},
        {"logprobs": 21},
    ],
)
def test_what_cannot_be_had_is_refused(wishes: dict[str, Any]) -> None:
    """More than the tables hold, or nonsense, is refused before anything is held."""
    built = eager()
    with pytest.raises(InvalidRequestError):
        built.add(1, Prompt((1, 2)), msgspec.structs.replace(params(), **wishes))
    assert built.idle


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what is done to tensors between the pieces of recorded work."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.made: set[str] = set()
        self.copies = 0
        self.recording = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.recording or func.is_view:
            return result
        if func is torch.ops.aten.copy_.default:
            self.copies += 1
        else:
            self.made.add(str(func))
        return result


class _Watched(RepeatRecorder):
    """Recorded work may make tensors: on a GPU they lie in the graphs' own memory."""

    def __init__(self, watch: _Watch) -> None:
        self._watch = watch

    def record(self, work: Work) -> Work:
        """`work`, unwatched."""

        def unwatched() -> None:
            self._watch.recording = True
            try:
                work()
            finally:
                self._watch.recording = False

        return unwatched


def test_a_step_allocates_nothing() -> None:
    """Beside recorded work, whatever is wanted, a step copies from buffer to buffer and makes no tensor."""
    watch = _Watch()
    built = build_engine(
        EngineSettings(checkpoint=str(CHECKPOINT), cpu_threads=1, max_sequences=4),
        progress=lambda *_: None,
        overlap=True,
        recorder=_Watched(watch),
        grammars=CountingGrammars(),
    )
    built.warm_up()
    with watch:
        run(built, mixture(12, seed=3))
    assert watch.copies > 0
    assert watch.made == set()
