"""Spans of requests, from the real HTTP side to a collector that a test reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gemmad.supervisor.listener import Outlook, Verdict
from gemmad.tracing.span import Span, Told
from gemmad.tracing.tracer import Tracer
from tests.api.stage import MODEL, Script, Stage
from tests.api.test_lines import asked, run_beside, ways
from tests.fakes.media_pictures import data_url, noise, saved

PATH = "/v1/chat/completions"
SECRET = "xyzzy"
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collected:
    """What was told, and what share is wanted."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.share = 1.0
        self.tracer = Tracer(self.told.append, share=lambda: self.share)

    def one(self, stage: Stage) -> Told:
        """The only one, once it is there."""
        stage.wait_until(lambda: bool(self.told))
        (told,) = self.told
        return told


@pytest.fixture(scope="module")
def traced_stage() -> Iterator[tuple[Stage, Collected]]:
    collected = Collected()
    with Stage(tracer=collected.tracer) as stage:
        yield stage, collected


@pytest.fixture
def stage(traced_stage: tuple[Stage, Collected]) -> Iterator[Stage]:
    stage, _ = traced_stage
    stage.reset()
    stage.say("Hello there.")
    yield stage
    stage.wait_until(stage.is_idle)


@pytest.fixture
def collected(stage: Stage, traced_stage: tuple[Stage, Collected]) -> Collected:
    del stage
    _, collected = traced_stage
    collected.told.clear()
    collected.share = 1.0
    return collected


def walk(span: Span) -> Iterator[Span]:
    yield span
    for child in span.children:
        yield from walk(child)


def names(span: Span) -> list[str]:
    return [each.name for each in walk(span)]


def post(http: httpx.Client, path: str = PATH, *, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    return http.post(path, json=asked(path, **{"stream": False, **body}), headers=headers)


@ways
def test_a_request(stage: Stage, http: httpx.Client, collected: Collected, path: str, stream: bool) -> None:
    """In every dialect, streamed or not, a request is one trace from tokens to steps, and every part lies within it."""
    assert post(http, path, stream=stream, headers={"x-request-id": "mine"}).status_code == 200
    told = collected.one(stage)
    root = told.root
    assert names(root)[1:] == ["tokenise", "queue", "worker", "prefill", "decode"]
    assert root.name.endswith(f" {MODEL}")
    assert (root.attributes["url.path"], root.attributes["gemmad.request.id"]) == (path, "mine")
    assert root.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert (told.context.parent_id, told.context.sampled) == ("", True)
    for span in walk(root):
        assert span.began_at <= span.ended_at
        for child in span.children:
            assert span.began_at <= child.began_at <= child.ended_at <= span.ended_at


@pytest.mark.parametrize("wanted", [True, False])
def test_the_callers_word(stage: Stage, http: httpx.Client, collected: Collected, wanted: bool) -> None:
    """A caller's trace goes on, and its decision is kept whatever share is wanted here."""
    collected.share = 0.0 if wanted else 1.0
    flags = "01" if wanted else "00"
    post(http, headers={"traceparent": f"00-{TRACE}-{CALLER}-{flags}", "tracestate": "congo=t61"})
    post(http, headers={"traceparent": f"00-{'1' * 32}-{CALLER}-01"})
    stage.wait_until(lambda: len(collected.told) == 1 + wanted)
    contexts = [told.context for told in collected.told]
    assert [(one.trace_id, one.parent_id, one.state) for one in contexts if one.trace_id == TRACE] == (
        [(TRACE, CALLER, "congo=t61")] if wanted else []
    )


def test_a_share(stage: Stage, http: httpx.Client, collected: Collected) -> None:
    """The share is live; a request that is not one of it leaves nothing."""
    collected.share = 0.0
    post(http)
    collected.share = 1.0
    post(http)
    assert collected.one(stage).root.name == f"chat {MODEL}"


def test_pictures_and_grammars(stage: Stage, http: httpx.Client, collected: Collected) -> None:
    """Each picture is told, and the compiling of what the reply is held to."""
    picture = {"type": "image_url", "image_url": {"url": data_url(saved(noise(), "PNG"))}}
    post(http, messages=[{"role": "user", "content": [picture, picture]}], response_format={"type": "json_object"})
    root = collected.one(stage).root
    assert names(root)[1:7] == ["media", "image", "image", "tokenise", "grammar", "queue"]
    assert root.attributes["gemmad.images"] == 2


def test_a_failover(stage: Stage, http: httpx.Client, collected: Collected) -> None:
    """Both workers that had a request are in its trace, the second linked to the first, which says why."""
    tokens = (*stage.tokens("one two three four"), stage.text.stop_token_ids[-1])
    stage.play(Script(token_ids=tokens, pause_seconds=0.02))

    def interrupt() -> None:
        stage.wait_until(lambda: any(request.said_tokens for request in stage.dispatcher.requests()))
        stage.call(lambda: stage.worker.leave(Outlook.RETURNING, verdict=Verdict.SUSPECT))
        stage.call(stage.worker.arrive)

    run_beside(interrupt, lambda: post(http))
    root = collected.one(stage).root
    first, second = [span for span in root.children if span.name == "worker"]
    assert (first.error, second.after, second.error) == ("the test says so", first, None)
    assert int(str(second.attributes["gemmad.worker.life"])) == int(str(first.attributes["gemmad.worker.life"])) + 1
    assert [event.name for event in root.events] == ["failover"]
    assert root.error is None


def test_refused_and_failed(stage: Stage, http: httpx.Client, collected: Collected) -> None:
    """An error ends the trace where it happened, with its code; nobody but the routes that make replies is traced."""
    post(http, model="nobody")
    http.get("/v1/models")
    http.get("/health")
    root = collected.one(stage).root
    assert (root.name, root.error, root.children) == ("chat", "model_not_found", ())
    collected.told.clear()
    stage.play(Script(token_ids=stage.tokens("one"), then="reject"))
    post(http)
    assert collected.one(stage).root.attributes["error.type"] == "rejected"


def test_nothing_of_what_was_said(stage: Stage, http: httpx.Client, collected: Collected) -> None:
    """Neither prompt nor reply, stop words, tools, users or keys are in any span."""
    stage.say(f"It is {SECRET}.")
    tool = {"type": "function", "function": {"name": SECRET, "parameters": {"type": "object", "properties": {}}}}
    http.post(
        PATH,
        json=asked(PATH, stream=False, stop=[f"{SECRET}!"], tools=[tool], user=SECRET, metadata={"a": SECRET}),
        headers={"authorization": f"Bearer {SECRET}"},
    )
    told = collected.one(stage)
    assert SECRET not in repr(told)


def test_choices(stage: Stage, http: httpx.Client, collected: Collected) -> None:
    """Each choice has its turn at a worker."""
    post(http, n=3)
    root = collected.one(stage).root
    assert root.attributes["gen_ai.request.choice.count"] == 3
    assert [span.attributes["gemmad.choice"] for span in root.children if span.name == "worker"] == [0, 1, 2]
