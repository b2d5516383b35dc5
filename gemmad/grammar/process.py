"""A grammar process: one spec after another, under limits, until the socket ends.

What it reads comes from clients: a schema may explode, a regular expression hang. The worst that it can do is end this
process; the daemon then starts another.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import assert_never

from gemmad.errors import InvalidRequestError, ProtocolError
from gemmad.grammar.check import check, write
from gemmad.grammar.vocabulary import Vocabulary
from gemmad.grammar.wire import Begin, Done, Idle, Job, Refused, ToGrammar
from gemmad.media.confine import AddressSpace, confine_process
from gemmad.media.program import run_program
from gemmad.protocol.channel import BlockingChannel


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m gemmad.grammar --fd N`: serve the socket that descriptor N is. The exit status."""
    return run_program(
        argv, prog="gemmad.grammar", description="Compiles grammars for gemmad.", union=ToGrammar, serve=_serve
    )


def _serve(channel: BlockingChannel[Begin | Job]) -> int:
    begin = channel.receive()
    if begin is None:
        return 0
    if not isinstance(begin, Begin):
        raise ProtocolError("the first frame is not Begin")
    confine_process(largest_file=0)
    vocabulary = Vocabulary.load(
        Path(begin.checkpoint), vocab_size=begin.vocab_size, stop_token_ids=begin.stop_token_ids
    )
    space = AddressSpace(begin.memory_bytes)
    channel.send(Idle())
    while (message := channel.receive()) is not None:
        match message:
            case Job():
                outcome = _answer(message, vocabulary, space)
                channel.send(outcome)
                if outcome.leaving:
                    return 0
            case Begin():
                raise ProtocolError("a second Begin")
            case _:
                assert_never(message)
    return 0


def _answer(job: Job, vocabulary: Vocabulary, space: AddressSpace) -> Done | Refused:
    try:
        with space:
            source = write(job.spec, param=job.param)
            check(source, vocabulary, spec=job.spec, param=job.param)
    except InvalidRequestError as error:
        return Refused(job.number, error.message, error.param, error.code, space.has_grown)
    except (MemoryError, RecursionError):
        message = "The grammar takes more memory to compile than is allowed."
        return Refused(job.number, message, job.param, "grammar_too_complex", leaving=True)
    return Done(job.number, source, space.has_grown)
