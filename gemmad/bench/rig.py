"""An engine driven from here, as a worker's step loop drives it: requests in, tokens out, and a clock beside it."""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from collections.abc import Iterator
from typing import Any

import torch

from gemmad.engine.engine import Engine
from gemmad.generation import ImageSpan, Prompt, SamplingParams
from gemmad.models.config import ModelConfig
from gemmad.protocol.messages import Output

now = time.perf_counter


class DoesNotApply(Exception):  # noqa: N818 - nothing went wrong
    """This figure cannot be had of this model, or at this size; the message says why."""


class Rig:
    """One engine, and requests made up for it. Every prompt is new, unless it is passed again."""

    def __init__(self, engine: Engine, config: ModelConfig, *, seed: int = 0) -> None:
        self.engine = engine
        self.config = config
        self.said: dict[int, int] = {}
        """Tokens said so far by each request that was added since the last `clear`."""
        self._prompt_tokens: dict[int, int] = {}
        self._ids = itertools.count(1)
        self._random = random.Random(seed)  # noqa: S311 - token ids, not secrets
        self._pixels = torch.Generator().manual_seed(seed)

    # --- requests -----------------------------------------------------------------------------------------------------

    def prompt(self, tokens: int) -> Prompt:
        """So many random tokens."""
        return Prompt(tuple(self._random.choices(range(self.config.text.vocab_size), k=tokens)))

    def picture_prompt(self, text_tokens: int) -> tuple[Prompt, tuple[torch.Tensor, ...]]:
        """A random picture and then random text. Raises DoesNotApply for a text-only model."""
        height, width = self.engine.picture_size
        if not height:
            raise DoesNotApply("this model takes no images")
        pixels = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=self._pixels)
        text = self.prompt(text_tokens + 1).token_ids
        span = ImageSpan(1, self.config.image_tokens, f"{self._random.getrandbits(128):032x}")
        return Prompt((text[0], *(0,) * span.length, *text[1:]), (span,)), (pixels,)

    def request(self, text_tokens: int, *, picture: bool) -> tuple[Prompt, tuple[torch.Tensor, ...]]:
        """Random text, after a random picture or without one."""
        return self.picture_prompt(text_tokens) if picture else (self.prompt(text_tokens), ())

    def add(
        self,
        prompt: Prompt,
        *,
        reply_tokens: int,
        pixels: tuple[torch.Tensor, ...] = (),
        grammar: str | None = None,
    ) -> int:
        """Submit a request that says so many tokens, whatever they are; returns its id. A grammar that it is held to
        should not end before."""
        request_id = next(self._ids)
        sampling = SamplingParams(
            max_tokens=reply_tokens, temperature=1.0, top_k=64, top_p=0.95, seed=request_id, grammar=grammar
        )
        self.engine.add(request_id, prompt, sampling, pixels=pixels)
        self.said[request_id] = 0
        self._prompt_tokens[request_id] = len(prompt.token_ids)
        return request_id

    def abort(self, request_id: int) -> None:
        """Forget one request."""
        self.engine.abort(request_id)

    def clear(self) -> None:
        """Forget all requests, and wait until the device has done what it was told."""
        for request_id in self.said:
            self.engine.abort(request_id)
        self.said.clear()
        self._prompt_tokens.clear()
        self.engine.step()  # what was launched already

    # --- time ---------------------------------------------------------------------------------------------------------

    def step(self) -> tuple[Output, ...]:
        """One step of the engine."""
        outputs = self.engine.step()
        for output in outputs:
            self.said[output.request_id] += len(output.token_ids)
        return outputs

    def first_token(self, prompt: Prompt, **add: Any) -> tuple[float, Output]:
        """Submit, and step until it speaks: the seconds that took, and what it said. Others go on beside it."""
        start = now()
        request_id = self.add(prompt, **add)
        while not self.engine.idle:
            for output in self.step():
                if output.request_id == request_id:
                    return now() - start, output
        raise RuntimeError(f"a request ended without a word: {self.engine.take_refused()}")

    @contextlib.contextmanager
    def speaking(
        self, batch: int, *, prompt_tokens: int, reply_tokens: int, grammar: str | None = None
    ) -> Iterator[tuple[int, ...]]:
        """`batch` requests that all say a token in each step, for `reply_tokens` steps at least.

        Raises DoesNotApply when they do not fit into the pages together.
        """
        budget = max(1, self.engine.capacity.max_step_tokens - batch)
        settling = batch * prompt_tokens // budget + batch + 8  # the first ones speak while the last are computed
        self.require_room(batch, prompt_tokens + settling + reply_tokens)
        ids = tuple(
            self.add(self.prompt(prompt_tokens), reply_tokens=settling + reply_tokens, grammar=grammar)
            for _ in range(batch)
        )
        try:
            for _ in range(settling):
                if len(self.step()) == batch:
                    break
            else:
                raise DoesNotApply(f"{batch} requests never spoke together; the engine has too few pages for them")
            yield ids
        finally:
            self.clear()

    def mean_context(self, ids: tuple[int, ...]) -> float:
        """Tokens that these requests have on average, prompt and reply."""
        return sum(self._prompt_tokens[i] + self.said[i] for i in ids) / len(ids)

    # --- room ---------------------------------------------------------------------------------------------------------

    def require_room(self, sequences: int, tokens: int) -> None:
        """Raises DoesNotApply when so many sequences of so many tokens do not fit at a time."""
        held = self.engine.capacity
        if tokens > held.max_context:
            raise DoesNotApply(f"{tokens} tokens are more than the context of {held.max_context}")
        if sequences > held.max_sequences:
            raise DoesNotApply(f"{sequences} sequences are more than the engine's {held.max_sequences}")
        kinds = self.config.text.full_layers
        full = sequences * -(-tokens // held.page_tokens) if any(kinds) else 0
        one = min(-(-tokens // held.page_tokens), self.config.text.window // held.page_tokens + 2)
        prefilled = min(tokens, held.max_step_tokens) // held.page_tokens
        sliding = 0 if all(kinds) else sequences * one + prefilled
        if full > held.full_pages or sliding > max(held.sliding_pages, one + prefilled):
            raise DoesNotApply(
                f"{sequences} sequences of {tokens} tokens need {full} and {sliding} pages; "
                f"there are {held.full_pages} and {held.sliding_pages}"
            )
