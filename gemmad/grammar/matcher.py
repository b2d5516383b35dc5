"""The worker's side: grammars compiled beside the step loop, and where each reply stands in its own.

A matcher's state follows from its source and the tokens that it accepted, nothing else: a request that moves to
another worker begins anew there, accepts what was said already, and goes on as if nothing had happened.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from llguidance import LLExecutor, LLMatcher

from gemmad.errors import InvalidRequestError
from gemmad.grammar.vocabulary import Vocabulary

COMPILING_THREADS = 2
MOST_FILLING_THREADS = 16

Masks = npt.NDArray[np.int32]
"""Token i may be drawn if bit `i % 32` of word `i // 32` is set."""


class Matcher:
    """Where one reply stands in its grammar. Used by one thread at a time."""

    def __init__(self, inner: LLMatcher, vocabulary: Vocabulary) -> None:
        self.inner = inner
        self._vocabulary = vocabulary

    def accept(self, token_id: int) -> bool:
        """Go on by a token. False, and nothing has changed, if the grammar does not allow it here. Stop ids are
        accepted, and change nothing, where the grammar may end."""
        if token_id in self._vocabulary.stop_token_ids:
            return self.error is not None or bool(self.inner.is_accepting())
        return self.inner.try_consume_tokens([token_id]) == 1

    def fill(self, row: Masks) -> None:
        """Write into `[ceil(vocab / 32)]` which tokens may come next; stop ids are among them where the grammar may
        end, and alone where it must."""
        assert row.dtype == np.int32
        assert row.flags.c_contiguous
        self.inner.unsafe_compute_mask_ptr(row.ctypes.data, row.nbytes)
        np.bitwise_and(row, self._vocabulary.allowed, out=row)

    @property
    def ended(self) -> bool:
        """Whether it is known that nothing but a stop id may come."""
        return bool(self.inner.is_stopped())

    @property
    def error(self) -> str | None:
        """Why it gave up, if it has: the text led to more states than one grammar may have (`vocabulary.LIMITS`). Then
        only stop ids are allowed, and the text is not whole."""
        if not self.inner.is_error():
            return None
        return str(self.inner.get_error()).partition("\n")[0]


class Grammars:
    """What replies of one worker are held to. Each matcher is compiled for itself (see `Vocabulary.begin`)."""

    def __init__(
        self,
        checkpoint: Path,
        *,
        vocab_size: int,
        stop_token_ids: tuple[int, ...],
        filling_threads: int | None = None,
    ) -> None:
        """`vocab_size` is the network's, which may be above the tokenizer's. Nothing is read before `warm` or `begin`.
        `filling_threads`: for masks; None takes half of the cores."""
        self._checkpoint = checkpoint
        self._vocab_size = vocab_size
        self._stop_token_ids = stop_token_ids
        self._filling_threads = filling_threads
        self._executor: LLExecutor | None = None
        self._compiling = concurrent.futures.ThreadPoolExecutor(COMPILING_THREADS, thread_name_prefix="grammar")
        self._reading: concurrent.futures.Future[Vocabulary] | None = None
        self._lock = threading.Lock()
        self._meeting = threading.Barrier(COMPILING_THREADS)

    def warm(self) -> concurrent.futures.Future[None]:
        """Begin to read the vocabulary, if that has not begun: a second for Gemma's, with the interpreter held. Done
        when it is read and every thread is there."""
        self._read()
        # One that waits is not idle, so that the next one is begun.
        ends = [self._compiling.submit(self._meet) for _ in range(COMPILING_THREADS)]
        return self._compiling.submit(lambda: _all(ends))

    def begin(self, source: str) -> concurrent.futures.Future[Matcher]:
        """A matcher at the beginning of `source`, made in a thread of its own. Fails with InvalidRequestError if it
        cannot be compiled, which `GrammarRoom.compile` has ruled out."""
        return self._compiling.submit(self._compile, source, self._read())

    def fill_batch(self, rows: Sequence[tuple[Matcher, int]], bitmask: Masks) -> None:
        """For each (matcher, i) fill `bitmask[i]`, in several threads. `bitmask` is `[rows, ceil(vocab / 32)]`,
        C-contiguous, in host memory (pinned or not). Other rows stay as they are."""
        if not rows:
            return
        assert bitmask.dtype == np.int32
        assert bitmask.flags.c_contiguous
        if self._executor is None:
            self._executor = LLExecutor(self._filling_threads or _half_of_the_cores())
        count, words = bitmask.shape
        inner = [(matcher.inner, row) for matcher, row in rows]
        self._executor.unsafe_compute_mask_ptr(inner, bitmask.ctypes.data, words * bitmask.itemsize, count)
        allowed = self._read().result().allowed
        for _, row in rows:
            np.bitwise_and(bitmask[row], allowed, out=bitmask[row])

    def close(self) -> None:
        """End the threads; what has not begun is cancelled."""
        self._meeting.abort()
        self._compiling.shutdown(wait=True, cancel_futures=True)
        self._executor = None

    def _meet(self) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):  # it is closed meanwhile
            self._meeting.wait()

    def _read(self) -> concurrent.futures.Future[Vocabulary]:
        with self._lock:
            if self._reading is None:
                self._reading = self._compiling.submit(
                    Vocabulary.load,
                    self._checkpoint,
                    vocab_size=self._vocab_size,
                    stop_token_ids=self._stop_token_ids,
                )
            return self._reading

    @staticmethod
    def _compile(source: str, reading: concurrent.futures.Future[Vocabulary]) -> Matcher:
        vocabulary = reading.result()
        matcher = Matcher(vocabulary.begin(source), vocabulary)
        if matcher.error is not None:
            raise InvalidRequestError(matcher.error, code="invalid_grammar")
        return matcher


def _half_of_the_cores() -> int:
    """The other half computes, compiles and reads."""
    return max(1, min(len(os.sched_getaffinity(0)) // 2, MOST_FILLING_THREADS))


def _all(futures: Sequence[concurrent.futures.Future[None]]) -> None:
    for future in futures:
        future.result()
