"""Workers that go in the middle of a reply, as clients see it: they do not."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import httpx
import pytest
from openai import InternalServerError, OpenAI

from gemmad.protocol.messages import Submit
from gemmad.supervisor.listener import Outlook, Verdict
from tests.api.stage import MODEL, Script, Stage
from tests.api.test_bad_input import HI, URL, refused
from tests.api.test_wire import events

ASK: Any = {"model": MODEL, "messages": HI, "seed": 1}


def stop_after(stage: Stage, text: str, tokens: int) -> None:
    """The first life says so many tokens and is silent; any later one says the rest."""
    token_ids = (*stage.tokens(text), stage.text.stop_token_ids[-1])
    first = [True]

    def script(submit: Submit) -> Script:
        if first and not submit.generated:
            first.clear()
            return Script(token_ids=token_ids[:tokens], then="silence")
        return Script(token_ids=token_ids)

    stage.play(script)


def lose_worker(stage: Stage, *, said: int, away_seconds: float = 0.0, verdict: Verdict = Verdict.INNOCENT) -> None:
    """Once so much is said the worker goes, and comes back after a while."""

    def has_said() -> bool:
        return any(len(ticket.said) >= said for ticket in stage.dispatcher._table)

    stage.wait_until(has_said)
    stage.call(lambda: stage.worker.leave(Outlook.RETURNING, verdict=verdict))
    time.sleep(away_seconds)
    stage.call(stage.worker.arrive)


def test_a_stream_is_held_with_comments(stage: Stage, http: httpx.Client) -> None:
    """While a reply waits for its next worker comments come in the middle of it, and then its rest, as if nothing had
    been."""
    text = "The circle is red and round."
    stop_after(stage, text, 3)
    loss = threading.Thread(target=lose_worker, args=(stage,), kwargs={"said": 3, "away_seconds": 0.5})
    loss.start()
    with stage.settings(server={"ping_every": 0.1}):
        answer = http.post(URL, json={**ASK, "stream": True, "stream_options": {"include_usage": True}}).text
    loss.join()
    *chunks, usage, done = events(answer)
    assert "".join(json.loads(chunk)["choices"][0]["delta"].get("content", "") for chunk in chunks) == text
    assert done == "[DONE]"
    first_text, last_text = answer.index('"content":"The'), answer.rindex('"content"')
    assert answer[first_text:last_text].count("\n\n: ") >= 3
    told = json.loads(usage)["usage"]
    assert told["completion_tokens"] == len(stage.tokens(text)) + 1
    assert told["prompt_tokens_details"]["cached_tokens"] == 3  # what the first life said


@pytest.mark.parametrize(("text", "stop", "expected"), [
    ("one two three END of it", "END of", "one two three "),
    ("one two three END, or so", "END of", "one two three END, or so"),
    ("one two three END", "END of", "one two three END"),
])  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_half_said(
    stage: Stage, client: OpenAI, text: str, stop: str, expected: str, stream: bool
) -> None:
    """What was held back because it may become a stop string is neither lost nor shown too early when the worker goes
    in the middle of it."""
    half = len(stage.tokens(text[: text.index("END") + 2]))
    stop_after(stage, text, half)
    loss = threading.Thread(target=lose_worker, args=(stage,), kwargs={"said": half})
    loss.start()
    if stream:
        chunks = list(client.chat.completions.create(**ASK, stop=stop, stream=True))
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    else:
        said = client.chat.completions.create(**ASK, stop=stop).choices[0].message.content or ""
    loss.join()
    assert said == expected


def test_the_next_worker_gets_the_same_request(stage: Stage, client: OpenAI) -> None:
    """Prompt, sampling and seed go along with what has been said, for each of several choices."""
    token_ids = (*stage.tokens("one two three four"), stage.text.stop_token_ids[-1])
    silent = [2]

    def script(submit: Submit) -> Script:
        if silent[0]:
            silent[0] -= 1
            return Script(token_ids=token_ids[:2], then="silence")
        return Script(token_ids=token_ids)

    stage.play(script)
    loss = threading.Thread(target=lose_worker, args=(stage,), kwargs={"said": 2})
    loss.start()
    reply = client.chat.completions.create(**ASK, n=2, temperature=0.5)
    loss.join()
    assert [choice.message.content for choice in reply.choices] == ["one two three four"] * 2
    before, after = stage.worker.submits[:2], stage.worker.submits[2:]
    assert [(each.prompt, each.sampling) for each in before] == [(each.prompt, each.sampling) for each in after]
    assert [each.sampling.seed for each in after] == [1, 2]
    assert {each.generated for each in after} <= {token_ids[:1], token_ids[:2]}


@pytest.mark.parametrize("stream", [False, True])
def test_what_workers_die_of(stage: Stage, client: OpenAI, http: httpx.Client, stream: bool) -> None:
    """A request that three workers die of, the third one with it alone, is refused so that no SDK tries it again."""
    stage.play(Script(then="silence"))
    before = stage.call(lambda: stage.dispatcher.status().counts.quarantined)

    def kill() -> None:
        for death in range(3):
            stage.wait_until(lambda: bool(stage.worker.at_work))
            stage.call(lambda: stage.worker.leave(Outlook.RETURNING, verdict=Verdict.SUSPECT))
            stage.call(stage.worker.arrive)
            assert death < 3

    killer = threading.Thread(target=kill)
    killer.start()
    answer = http.post(URL, json={**ASK, "stream": stream})
    killer.join()
    if stream:
        assert '"code":"worker_lost"' in answer.text
        assert "[DONE]" not in answer.text
    else:
        assert refused(answer, 500)["code"] == "worker_lost"
        assert answer.headers["x-should-retry"] == "false"
    assert stage.call(lambda: stage.dispatcher.status().counts.quarantined) == before + 1
    assert f"gemmad_quarantined_requests_total {before + 1}.0" in http.get("/metrics").text


def test_the_sdk_does_not_try_it_again(stage: Stage) -> None:
    """The official SDK, told to retry five times, does not send a poisonous request twice."""
    stage.play(Script(then="silence"))

    def kill() -> None:
        for _ in range(3):
            stage.wait_until(lambda: bool(stage.worker.at_work))
            stage.call(lambda: stage.worker.leave(Outlook.RETURNING, verdict=Verdict.SUSPECT))
            stage.call(stage.worker.arrive)

    killer = threading.Thread(target=kill)
    killer.start()
    with stage.client(max_retries=5) as client, pytest.raises(InternalServerError):
        client.chat.completions.create(**ASK)
    killer.join()
    assert len(stage.worker.submits) == 3
