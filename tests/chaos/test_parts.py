"""What a chaos run judges by: a run that cannot fail would show nothing."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import uuid

import msgspec
import pytest

from gemmad.api.overview import Configuration, Overview, Requests, Tokens
from tests.chaos.asking import Results
from tests.chaos.leftovers import MARK, growth, holdings, kind_of_command, kind_of_descriptor, marked
from tests.chaos.questions import Answer, difference, difference_so_far, questions
from tests.chaos.report import miscounted, percentile, table, unsettled

QUESTION = questions()[0]
CALM = Answer(("one two three",), ("stop",), 9, 3)
REQUESTS = Requests(
    running=0, waiting=0, total=5, refused=0, finished=3, failed=0, abandoned=2, failovers=1, quarantined=0
)
OVERVIEW = Overview(
    version="1",
    pid=1,
    uptime_seconds=1.0,
    state="ready",
    degraded=False,
    url="",
    models=(),
    max_context=None,
    config=Configuration(path=None, reload=None),
    requests=REQUESTS,
    tokens=Tokens(prompt=0, generated=0, per_second=0.0),
    workers=(),
)


def test_questions_have_one_answer_each() -> None:
    """Every question is greedy or has a seed, and a name of its own."""
    asked = questions()
    assert len({question.name for question in asked}) == len(asked)
    assert all(question.fields["temperature"] == 0 or "seed" in question.fields for question in asked)
    assert {question.choices for question in asked} == {1, 2}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (("one two four",), "choice 0 from character 8: 'four' and not 'three'"),
        (("one two",), "choice 0 from character 7: '' and not ' three'"),
        (("one two two three",), "choice 0 from character 9: 'wo three' and not 'hree'"),
    ],
)
def test_a_token_that_is_lost_repeated_or_wrong(said: tuple[str, ...], told: str) -> None:
    """It is seen, and told where."""
    wild = msgspec.structs.replace(CALM, texts=said)
    assert difference(QUESTION, calm=CALM, wild=wild) == f"{QUESTION.name}: {told}"
    assert difference(QUESTION, calm=CALM, wild=CALM) == ""


@pytest.mark.parametrize("change", [{"finishes": ("length",)}, {"completion_tokens": 4}, {"prompt_tokens": 8}])
def test_an_ending_or_count_that_is_wrong(change: dict[str, object]) -> None:
    """The same text is not enough."""
    assert difference(QUESTION, calm=CALM, wild=msgspec.structs.replace(CALM, **change)) != ""


def test_a_reply_that_was_left() -> None:
    """What was said of it has to be how the whole one begins."""
    assert difference_so_far(QUESTION, calm=CALM, said=("one tw",)) == ""
    assert "'one four'" in difference_so_far(QUESTION, calm=CALM, said=("one four",))


def test_what_a_daemon_holds_more_than_before() -> None:
    """A process, a descriptor and a memfd more are each told, whoever's child the process is."""
    mark = uuid.uuid4().hex
    before = holdings(os.getpid(), mark)
    program = "import os, sys; fd = os.memfd_create('left'); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env={**os.environ, MARK: mark}, **pipes) as child:  # type: ignore[call-overload]
        child.stdout.readline()
        assert marked(mark) == {child.pid}
        found = growth(before, holdings(os.getpid(), mark))
        child.stdin.close()
        child.wait()
    assert any(each.startswith("processes, ") for each in found)
    assert any(each.startswith("descriptors, pipe: ") for each in found)
    assert "memfds: 1 and not 0" in found
    assert not marked(mark)


def test_kinds() -> None:
    """What differs from one life to the next makes no other kind."""
    assert kind_of_command("/venv/bin/python\0-m\0gemmad.worker\0--fd\x0013\0") == "gemmad.worker"
    assert kind_of_command("sleep\x00600\x00") == "sleep"
    assert kind_of_descriptor("socket:[123]") == kind_of_descriptor("socket:[99]") == "socket"
    assert kind_of_descriptor("anon_inode:[pidfd]") != kind_of_descriptor("anon_inode:[eventpoll]")


def test_an_idle_daemon() -> None:
    """Requests that are left, and a state that is not ready, are told; so is a count that is not right."""
    assert unsettled(OVERVIEW) == miscounted(OVERVIEW) == []
    assert unsettled(msgspec.structs.replace(OVERVIEW, state="recovering")) == ["the daemon is recovering"]
    busy = msgspec.structs.replace(REQUESTS, running=1)
    assert unsettled(msgspec.structs.replace(OVERVIEW, requests=busy)) == ["1 requests are running, 0 waiting"]
    for change in ({"failed": 1, "total": 6}, {"finished": 4}, {"refused": 1, "total": 6}):
        wrong = msgspec.structs.replace(REQUESTS, **change)
        assert miscounted(msgspec.structs.replace(OVERVIEW, requests=wrong)) != []


def test_the_table() -> None:
    """It has the counts, and the latencies by rank."""
    assert [percentile([3.0, 1.0, 2.0, 4.0], share) for share in (0.5, 0.99, 1)] == [2.0, 4.0, 4.0]
    results = dataclasses.replace(Results(), seconds=[1.0, 2.0], left=1, tokens=50)
    told = table(results, {"kills": 7}, seconds=10.0, failovers=3)
    assert "3 in 10 s, 1 left" in told
    assert "50 (5 a second)" in told
    assert "p50 1.00 s, p99 2.00 s, most 2.00 s" in told
