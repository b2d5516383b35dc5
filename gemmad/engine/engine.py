"""Continuous batching: requests in, tokens out, one step at a time. One thread owns an engine."""

from __future__ import annotations

import torch

from gemmad.engine.flat import MOST_BANNED_IDS
from gemmad.engine.holding import Antechamber
from gemmad.engine.memory import Ledger
from gemmad.engine.runner import Launched, Runner
from gemmad.engine.scheduler import Chunk, Scheduler
from gemmad.engine.sequence import Grammars, Sequence, new_sequence
from gemmad.engine.vision import PictureEncoder
from gemmad.errors import InvalidRequestError
from gemmad.generation import Capacity, EngineLoad, ImageSpan, Prompt, SamplingParams, TokenLogprobs
from gemmad.logs import get_logger
from gemmad.models.config import ModelConfig
from gemmad.planning.host import host_rss_bytes
from gemmad.planning.step import MOST_BIASES, MOST_LOGPROBS
from gemmad.protocol.messages import Output

COMPILE_WAIT_SECONDS = 0.01
"""How long a step waits for a grammar when there is nothing else to do."""

_log = get_logger(__name__)


class Engine:
    """A checkpoint, its pages, and the sequences that are computed on them."""

    def __init__(
        self,
        config: ModelConfig,
        capacity: Capacity,
        *,
        runner: Runner,
        scheduler: Scheduler,
        encoder: PictureEncoder | None,
        overlap: bool,
        memory: Ledger,
        grammars: Grammars,
    ) -> None:
        self.memory = memory
        """Where its memory was to go, and where it went."""
        self._config = config
        self._capacity = capacity
        self._runner = runner
        self._scheduler = scheduler
        self._encoder = encoder
        self._overlap = overlap
        self._under_way: Launched | None = None
        self._grammars = grammars
        self._antechamber = Antechamber(grammars)
        self._sequences: dict[int, Sequence] = {}
        self._refused: list[tuple[int, str]] = []
        self._steps = self._generated = self._prefilled = 0

    @property
    def capacity(self) -> Capacity:
        """What fits; fixed for the engine's life."""
        return self._capacity

    @property
    def picture_size(self) -> tuple[int, int]:
        """Height and width of the pictures that it takes; zeros for a text-only checkpoint."""
        return self._encoder.size if self._encoder is not None else (0, 0)

    @property
    def idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return not self._sequences

    def add(
        self,
        request_id: int,
        prompt: Prompt,
        sampling: SamplingParams,
        *,
        generated: tuple[int, ...] = (),
        pixels: tuple[torch.Tensor, ...] = (),
    ) -> None:
        """Take a request. Raises InvalidRequestError for one that this engine can never serve; then nothing is held."""
        self._refuse_the_impossible(prompt, sampling, generated, pixels)
        sequence = new_sequence(request_id, prompt, sampling, generated=generated, pixels=pixels)
        self._sequences[request_id] = sequence
        (self._scheduler if sampling.grammar is None else self._antechamber).add(sequence)

    def abort(self, request_id: int) -> None:
        """Forget a request and free its pages; unknown ids are ignored."""
        sequence = self._sequences.pop(request_id, None)
        if sequence is not None and not self._antechamber.remove(sequence):
            self._scheduler.remove(sequence)

    def take_refused(self) -> tuple[tuple[int, str], ...]:
        """Requests that were taken and ended without an output since this was asked last, and why."""
        refused, self._refused = tuple(self._refused), []
        return refused

    def step(self) -> tuple[Output, ...]:
        """Launch one batch; returns what each request has said in the last one that is done.

        With `overlap` that is the batch before: while its tokens travel here, the device computes the next one already,
        for which it needs no token from here. A request that has ended meanwhile is computed once in vain.
        """
        self._admit_held()
        chunks = self._scheduler.schedule()
        if not chunks and not self._under_way and self._antechamber:
            self._antechamber.wait(COMPILE_WAIT_SECONDS)
            return ()
        assert chunks or self._under_way or self.idle, "there is work and none of it can be scheduled"
        launched = self._launch(chunks) if chunks else None
        if not self._overlap:
            return self._hear(launched)
        before, self._under_way = self._under_way, launched
        return self._hear(before)

    def _admit_held(self) -> None:
        """Those whose grammars have been compiled go on."""
        if not self._antechamber:
            return
        ready, refused = self._antechamber.leave()
        for sequence in ready:
            self._scheduler.add(sequence)
        for sequence, reason in refused:
            del self._sequences[sequence.request_id]
            self._refused.append((sequence.request_id, reason))

    def _launch(self, chunks: list[Chunk]) -> Launched:
        try:
            launched = self._runner.launch(chunks, self._under_way)
        except torch.OutOfMemoryError as error:
            # The plan should not let it happen; if it does, a smaller step may do, and no request is lost.
            torch.cuda.empty_cache()
            _log.error("a step ran out of memory", tokens=_tokens(chunks), sequences=len(chunks), reason=str(error))
            chunks, failed = self._scheduler.schedule_less(), chunks
            launched = self._launch_again(chunks, failed)
        self._scheduler.advance(chunks)
        self._steps += 1
        self._prefilled += sum(chunk.count for chunk in chunks if chunk.count > 1)
        return launched

    def _launch_again(self, chunks: list[Chunk], failed: list[Chunk]) -> Launched:
        """A second failure is a crash, with what is known."""
        load = self.load()
        diagnosis = (
            f"out of memory on the device: a step of {_tokens(failed)} tokens of {len(failed)} sequences did not fit, "
            f"nor one of {_tokens(chunks)} of {len(chunks)}; the allocator has reserved {load.device_bytes} bytes in "
            f"{load.device_segments} segments; raise memory.reserve, or lower engine.max_step_tokens"
        )
        if not chunks:
            raise RuntimeError(diagnosis)
        try:
            return self._runner.launch(chunks, self._under_way)
        except torch.OutOfMemoryError as error:
            raise RuntimeError(diagnosis) from error

    def _hear(self, launched: Launched | None) -> tuple[Output, ...]:
        if launched is None:
            return ()
        said = zip(launched.speaking, launched.drawn(), launched.told(), strict=True)
        alive = [(s, token, told) for s, token, told in said if self._sequences.get(s.request_id) is s]
        outputs = tuple(self._say(s, token, told) for s, token, told in alive if not self._is_stuck(s))
        self._generated += len(outputs)
        return outputs

    def _is_stuck(self, sequence: Sequence) -> bool:
        """A reply that cannot go on by its grammar ends here: no mask lets it leave, but a matcher may give up."""
        problem = sequence.hold.problem if sequence.hold is not None else None
        if problem is None:
            return False
        _log.error("a reply is stuck in its grammar", number=sequence.request_id, said=sequence.said, reason=problem)
        self.abort(sequence.request_id)
        self._refused.append((sequence.request_id, problem))
        return True

    def warm_up(self) -> None:
        """Serve requests of our own, an image among them, so that READY means that it has served."""
        count = min(3 * self._capacity.page_tokens, self._capacity.max_context - 4)
        prompts: list[tuple[Prompt, tuple[torch.Tensor, ...]]] = [(Prompt((0,) * count), ())]
        if self._encoder is not None:
            span = ImageSpan(1, self._config.image_tokens, "warm-up")
            prompts.append((Prompt((0,) * (span.length + 2), (span,)), (self._encoder.blank(),)))
        for number, (prompt, pixels) in enumerate(prompts):
            self.add(-1 - number, prompt, SamplingParams(max_tokens=2, seed=number), pixels=pixels)
        while not self.idle:
            self.step()
        steered = SamplingParams(max_tokens=2, repetition_penalty=1.1, logit_bias=((0, 1.0),), logprobs=MOST_LOGPROBS)
        self.add(-1, prompts[0][0], steered)
        while not self.idle:
            self.step()
        self._scheduler.forget_prefixes()
        self.check()

    def warm_grammars(self) -> None:
        """Begin to read the vocabulary for them, beside whatever else goes on."""
        self._grammars.warm()

    def check(self) -> None:
        """The books balance; an idle engine holds no page. A broken count is a crash, not a log line."""
        self._scheduler.check()
        assert not self.idle or self._scheduler.pages_used == (0, 0), "an idle engine holds pages"

    def load(self) -> EngineLoad:
        """What it is busy with."""
        full, sliding = self._scheduler.pages_used
        return EngineLoad(
            steps=self._steps,
            running=len(self._scheduler.running),
            waiting=len(self._scheduler.waiting) + len(self._antechamber),
            full_pages_used=full,
            sliding_pages_used=sliding,
            preemptions=self._scheduler.preemptions,
            generated_tokens=self._generated,
            prefilled_tokens=self._prefilled,
            prompt_tokens=self._scheduler.prompt_tokens,
            cached_tokens=self._scheduler.cached_tokens,
            host_rss_bytes=host_rss_bytes(),
            **_allocator_load(self.memory.device),
        )

    def _say(self, sequence: Sequence, token: int, told: TokenLogprobs | None) -> Output:
        cached = (sequence.cached_tokens or 0) if sequence.said == sequence.inherited else 0
        finish = sequence.append(token)
        if finish is not None:
            del self._sequences[sequence.request_id]
            self._scheduler.remove(sequence)
        return Output(sequence.request_id, (token,), finish, cached, () if told is None else (told,))

    def _refuse_the_impossible(
        self, prompt: Prompt, sampling: SamplingParams, generated: tuple[int, ...], pixels: tuple[torch.Tensor, ...]
    ) -> None:
        length = len(prompt.token_ids) + sampling.max_tokens
        if not prompt.token_ids or sampling.max_tokens <= len(generated):
            raise InvalidRequestError("there is nothing to compute")
        if length > self._capacity.max_context:
            raise InvalidRequestError(f"{length} tokens are more than the context of {self._capacity.max_context}")
        if prompt.images and self._encoder is None:
            raise InvalidRequestError("this checkpoint takes no images")
        if len(pixels) != len(prompt.images):
            raise InvalidRequestError(f"{len(prompt.images)} images are in the prompt, {len(pixels)} came")
        if sampling.min_tokens and len(sampling.stop_token_ids) > MOST_BANNED_IDS:
            raise InvalidRequestError(f"min_tokens goes with at most {MOST_BANNED_IDS} stop ids")
        vocabulary = range(self._config.text.vocab_size)
        _refuse_impossible_wishes(sampling, vocabulary)
        spans = {i for span in prompt.images for i in range(span.start, span.start + span.length)}
        if any(token not in vocabulary for i, token in enumerate(prompt.token_ids) if i not in spans):
            raise InvalidRequestError(f"token ids lie between 0 and {vocabulary.stop - 1}")


def _refuse_impossible_wishes(sampling: SamplingParams, vocabulary: range) -> None:
    biased = [token for token, _ in sampling.logit_bias]
    if len(biased) > MOST_BIASES:
        raise InvalidRequestError(f"at most {MOST_BIASES} tokens can be biased")
    if biased != sorted(set(biased)) or any(token not in vocabulary for token in biased):
        raise InvalidRequestError(f"ids of biased tokens lie between 0 and {vocabulary.stop - 1}, each once, ascending")
    if sampling.repetition_penalty <= 0:
        raise InvalidRequestError("a repetition penalty is more than 0")
    if sampling.logprobs is not None and not 0 <= sampling.logprobs <= MOST_LOGPROBS:
        raise InvalidRequestError(f"at most {MOST_LOGPROBS} likeliest tokens are told")


def _tokens(chunks: list[Chunk]) -> int:
    return sum(chunk.count for chunk in chunks)


def _allocator_load(device: torch.device) -> dict[str, int]:
    """What torch's allocator tells of its device; nothing on a CPU."""
    if device.type != "cuda":
        return {}
    stats = torch.cuda.memory_stats(device)
    return {
        "device_bytes": stats["reserved_bytes.all.current"],
        "device_allocated_bytes": stats["allocated_bytes.all.current"],
        "device_segments": stats["segment.all.allocated"],
        "device_allocations": stats["allocation.all.allocated"],
    }
