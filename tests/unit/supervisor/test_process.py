"""The pure parts of running a program."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.supervisor.process import MAX_LINE_BYTES, LineCutter, explain_exit, worker_environment


@given(st.binary(max_size=400), st.lists(st.integers(0, 400)))
def test_lines_do_not_depend_on_how_they_arrive(text: bytes, cuts: list[int]) -> None:
    """Output cut anywhere gives the same lines as in one piece."""
    whole = LineCutter()
    expected = whole.feed(text) + whole.rest()
    pieces = LineCutter()
    lines: list[str] = []
    places = [0, *sorted(cut for cut in cuts if cut <= len(text)), len(text)]
    for start, end in itertools.pairwise(places):
        lines += pieces.feed(text[start:end])
    assert lines + pieces.rest() == expected


def test_a_long_line_is_cut_and_marked() -> None:
    """A line without an end takes no more memory than a line may have."""
    cutter = LineCutter()
    for _ in range(100):
        assert cutter.feed(b"x" * MAX_LINE_BYTES) == []
    assert cutter.feed(b"\nnext\n") == ["x" * MAX_LINE_BYTES + " …", "next"]


def test_blank_lines_are_no_events() -> None:
    """Only lines with something in them come out, without trailing space."""
    assert LineCutter().feed(b"\n  \r\none \r\n\n") == ["one"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exit 0"),
        (1, "status 1"),
        (3, "settings or weights"),
        (4, "GPU is lost"),
        (127, "not found"),
        (-9, "SIGKILL, by the kernel if memory ran out"),
        (137, "SIGKILL, by the kernel if memory ran out"),
        (-11, "SIGSEGV"),
        (-15, "killed by SIGTERM (exit -15)"),
        (-40, "killed by signal 40"),
        (255, "status 255"),
    ],
)
def test_an_exit_in_words(code: int, words: str) -> None:
    """A status is told with its signal's name and the likely cause."""
    assert words in explain_exit(code)


@given(st.integers(-64, 255))
def test_every_exit_has_words(code: int) -> None:
    """No status is beyond words."""
    assert explain_exit(code)


def test_a_worker_gets_the_daemons_variables_but_not_its_own() -> None:
    """What the service manager tells the daemon stays with it; the seat's variables win."""
    daemon = {"PATH": "/bin", "NOTIFY_SOCKET": "/run/x", "LISTEN_FDS": "1", "OMP_NUM_THREADS": "64"}
    env = worker_environment(daemon, {"OMP_NUM_THREADS": "2"})
    assert env["PATH"] == "/bin"
    assert env["OMP_NUM_THREADS"] == "2"
    assert not {"NOTIFY_SOCKET", "LISTEN_FDS"} & set(env)
