"""From a spec to a source that a worker will be able to compile, and walk. Runs in the grammar processes."""

from __future__ import annotations

import random
import time

import numpy as np
import numpy.typing as npt

from gemmad.errors import InvalidRequestError
from gemmad.grammar.calls import write_calls
from gemmad.grammar.schema import code_of, plain
from gemmad.grammar.source import HEADER, body
from gemmad.grammar.spec import Calls, JsonObject, JsonSchema, Spec
from gemmad.grammar.vocabulary import Vocabulary

TRIAL_STEPS = 64
LARGEST_STEP_SECONDS = 0.25
"""A mask that takes longer would hold up everybody's next token."""


def write(spec: Spec, *, param: str) -> str:
    """The whole source for a spec. Raises InvalidRequestError."""
    if not isinstance(spec, Calls):
        return HEADER + "start: " + body(spec, param=param) + "\n"
    otherwise = "" if spec.otherwise is None else f"otherwise: {body(spec.otherwise, param=param)}"
    return write_calls(spec, param=param, otherwise=otherwise)


def check(source: str, vocabulary: Vocabulary, *, spec: Spec, param: str) -> None:
    """Compile it, and walk through it for some tokens. Raises InvalidRequestError."""
    matcher = vocabulary.begin(source)
    row = np.zeros_like(vocabulary.allowed)
    rng = random.Random(0)  # noqa: S311  # any walk will do, but the same one each time
    for _ in range(TRIAL_STEPS):
        if matcher.is_error():
            break
        began = time.thread_time()
        matcher.unsafe_compute_mask_ptr(row.ctypes.data, row.nbytes)
        if time.thread_time() - began > LARGEST_STEP_SECONDS:
            raise InvalidRequestError("The grammar is too complex.", param=param, code="grammar_too_complex")
        if matcher.is_stopped():
            break
        row &= vocabulary.allowed
        if not row.any():
            raise InvalidRequestError("No text goes on where the grammar leads.", param=param, code="invalid_grammar")
        token_id = _draw(row, rng, vocabulary.stop_token_ids)
        if token_id is None or not matcher.consume_token(token_id):
            break
    if matcher.is_error():
        problem = plain(str(matcher.get_error()))
        kind = "invalid_schema" if isinstance(spec, JsonSchema | JsonObject) else "invalid_grammar"
        message = f"The grammar cannot be used: {problem}."
        raise InvalidRequestError(message, param=param, code=code_of(problem, kind))


def _draw(row: npt.NDArray[np.int32], rng: random.Random, stops: tuple[int, ...]) -> int | None:
    """Some token that is allowed and ends nothing, if there is one."""
    words = np.flatnonzero(row)
    for _ in range(8):
        if not len(words):
            return None
        word = int(words[rng.randrange(len(words))])
        value = int(row[word]) & 0xFFFFFFFF
        ids = [32 * word + bit for bit in range(32) if value >> bit & 1]
        ids = [token_id for token_id in ids if token_id not in stops]
        if ids:
            return rng.choice(ids)
    return None
