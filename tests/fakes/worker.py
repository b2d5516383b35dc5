"""A real program that speaks the wire and knows no torch, well-behaved or not, as JSON on its command line says.

Its tokens are a function of (prompt, seed, position) alone, so a reply that two workers made can be checked token for
token against `expected_reply`. Tests take `command(Behaviour(...))` for the pool's `command`; by hand it runs as
`python tests/fakes/worker.py --fd N --behaviour '{"load_seconds": 1}'`.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import faulthandler
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Literal, NoReturn

if not __package__:  # run by its path, from wherever
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import msgspec
from msgspec import Struct

from gemmad.generation import Capacity, EngineLoad, FinishReason, Prompt, SamplingParams, TokenLogprobs
from gemmad.protocol.channel import BlockingChannel
from gemmad.protocol.messages import (
    EXIT_ASKED,
    PROTOCOL_VERSION,
    Abort,
    Configure,
    Drain,
    Dying,
    Heartbeat,
    Loading,
    Output,
    Ready,
    Rejected,
    Shutdown,
    Stepped,
    Submit,
    ToWorker,
)

PR_SET_PDEATHSIG = 1
LOAD_SIGN_SECONDS = 0.05


class Faults(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it does wrong. Counts of tokens are over all requests of its life."""

    silent_load: bool = False
    """No sign of life while it loads, after the first."""
    never_ready: bool = False
    """Loads for ever, with signs of life."""
    load_exit: int | None = None
    """Ends in the middle of loading; negative is a signal."""
    last_words: str | None = None
    """Said before any exit of its own that is not asked for."""
    first_message: Literal["loading", "ready", "old", "garbage"] = "loading"
    crash_after_tokens: int | None = None
    crash_with: int = -signal.SIGKILL
    """An exit status; negative is a signal."""
    hang_after_tokens: int | None = None
    garbage_after_tokens: int | None = None
    hang_up_after_tokens: int | None = None
    """Closes its end of the wire and stays."""
    poison_token: int | None = None
    """Crashes when a prompt with this token arrives, or rather"""
    poison_after: int = 0
    """when so many tokens of the reply to it have been said, by whomever."""
    poison_hangs: bool = False
    """It hangs then instead."""
    overrun: bool = False
    """Says more tokens than were asked for."""
    talk_after_end: bool = False
    """Goes on with a request that it has ended."""
    stranger: bool = False
    """Answers a request that nobody made."""
    reject: str | None = None
    ignore_sigterm: bool = False
    ignore_shutdown: bool = False
    ignore_drain: bool = False
    ignore_end_of_file: bool = False
    outlive_parent: bool = False
    """Does not ask the kernel to be killed with its parent."""


class Behaviour(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How it works."""

    faults: Faults = Faults()
    faulty_lives: int = 1 << 30
    """The faults are those of its first so many lives; later ones behave."""
    load_seconds: float = 0.0
    step_seconds: float = 0.002
    tokens_per_step: int = 1
    heartbeat_seconds: float = 0.1
    max_sequences: int = 4
    max_context: int = 4096
    reply: Literal["hash", "echo"] | tuple[int, ...] = "hash"
    """hash: pseudo-random ids; echo: the prompt over and over; ids: just those, then a stop id."""
    lowest_id: int = 10
    highest_id: int = 250
    print_lines: tuple[str, ...] = ()
    print_descriptors: bool = False
    start_child: bool = False
    """Starts a process that would outlive it, and prints its id."""


def command(behaviour: Behaviour | None = None) -> tuple[str, ...]:
    """The command line for a pool."""
    text = msgspec.json.encode(behaviour or Behaviour()).decode()
    return sys.executable, str(Path(__file__).resolve()), "--behaviour", text


def expected_reply(
    prompt: Prompt, sampling: SamplingParams, behaviour: Behaviour | None = None
) -> tuple[tuple[int, ...], FinishReason]:
    """All tokens of a reply, and its end, whoever says it and however often it moves on."""
    said: list[int] = []
    while True:
        token, finish = next_token(prompt, sampling, len(said), behaviour or Behaviour())
        said.append(token)
        if finish is not None:
            return tuple(said), finish


def next_token(
    prompt: Prompt, sampling: SamplingParams, position: int, behaviour: Behaviour
) -> tuple[int, FinishReason | None]:
    """The token after `position` others."""
    finish = FinishReason.LENGTH if position + 1 >= sampling.max_tokens else None
    stop = sampling.stop_token_ids
    match behaviour.reply:
        case "hash":
            mixed = zlib.crc32(repr((prompt.token_ids, sampling.seed, position)).encode())
            token = behaviour.lowest_id + mixed % (behaviour.highest_id - behaviour.lowest_id)
        case "echo":
            token = prompt.token_ids[position % len(prompt.token_ids)]
        case ids:
            token = ids[position] if position < len(ids) else stop[0]
            if position == len(ids) or (position == len(ids) - 1 and not stop):
                finish = FinishReason.STOP
    return token, FinishReason.STOP if token in stop else finish


def expected_logprobs(token_ids: tuple[int, ...], sampling: SamplingParams) -> tuple[TokenLogprobs, ...]:
    """What it tells of tokens, if it is asked: the one that was drawn is the likeliest, the ids after it come next."""
    count = sampling.logprobs
    if count is None:
        return ()
    return tuple(
        TokenLogprobs(
            -0.125 * (token % 8),
            tuple(token + rank for rank in range(count)),
            tuple(-0.125 * (token % 8) - rank for rank in range(count)),
        )
        for token in token_ids
    )


class Sequence:
    """A request that it works at."""

    def __init__(self, submit: Submit) -> None:
        self.submit = submit
        self.position = len(submit.generated)
        self.fresh = True


class FakeWorker:
    """One life. The main thread steps; one other reads the wire."""

    def __init__(self, channel: BlockingChannel[ToWorker], behaviour: Behaviour) -> None:
        self.channel = channel
        self.behaviour = behaviour
        self.faults = behaviour.faults
        self.inbox: queue.SimpleQueue[ToWorker] = queue.SimpleQueue()
        self.sequences: dict[int, Sequence] = {}
        self.draining = False
        self.steps = 0
        self.said_tokens = 0
        self.beat_at = 0.0

    def run(self) -> NoReturn:
        first = self.channel.receive()
        if not isinstance(first, Configure):
            os._exit(EXIT_ASKED)  # the daemon was gone before it said anything
        if first.life > self.behaviour.faulty_lives:
            self.faults = Faults()
        if self.faults.ignore_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        threading.Thread(target=self.read, daemon=True).start()
        self.say_hello()
        self.load(first)
        while True:
            self.take_messages()
            if self.draining and not self.sequences and not self.faults.ignore_drain:
                self.leave(EXIT_ASKED)
            if self.sequences:
                self.step()
            self.beat()

    def read(self) -> None:
        while True:
            message = self.channel.receive()
            if message is None:
                if self.faults.ignore_end_of_file or self.faults.hang_up_after_tokens is not None:
                    return
                os._exit(EXIT_ASKED)
            if isinstance(message, Submit):
                for fd in self.channel.take_fds(len(message.prompt.images)):
                    os.close(fd)
            if isinstance(message, Shutdown) and not self.faults.ignore_shutdown:
                os._exit(EXIT_ASKED)
            self.inbox.put(message)

    def say_hello(self) -> None:
        lines = list(self.behaviour.print_lines)
        if self.behaviour.print_descriptors:
            lines.append(f"descriptors {sorted(int(fd) for fd in os.listdir('/proc/self/fd'))}")
        if self.behaviour.start_child:
            lines.append(f"child {subprocess.Popen(['sleep', '600']).pid}")
        sys.stderr.write("".join(f"{line}\n" for line in lines))
        match self.faults.first_message:
            case "loading":
                self.channel.send(Loading(PROTOCOL_VERSION, "imports", 0.0))
            case "old":
                self.channel.send(Loading(PROTOCOL_VERSION - 1, "imports", 0.0))
            case "garbage":
                self.say_garbage()
            case "ready":
                pass

    def load(self, configure: Configure) -> None:
        began = time.monotonic()
        while self.faults.never_ready or time.monotonic() - began < self.behaviour.load_seconds:
            time.sleep(LOAD_SIGN_SECONDS)
            if not self.faults.silent_load:
                share = (time.monotonic() - began) / self.behaviour.load_seconds if self.behaviour.load_seconds else 0
                self.channel.send(Loading(PROTOCOL_VERSION, "weights", min(1.0, share)))
        if self.faults.load_exit is not None:
            self.leave(self.faults.load_exit)
        capacity = Capacity(
            max_context=min(self.behaviour.max_context, configure.settings.max_context or self.behaviour.max_context),
            max_sequences=self.behaviour.max_sequences,
            max_step_tokens=2048,
            page_tokens=16,
            full_pages=self.behaviour.max_context * self.behaviour.max_sequences // 16,
            sliding_pages=1024,
        )
        self.channel.send(Ready(capacity=capacity, pid=os.getpid(), seconds=time.monotonic() - began))

    def take_messages(self) -> None:
        """Waits for a message while there is nothing else to do, and for the time of a step while there is."""
        wait = self.behaviour.step_seconds if self.sequences else self.behaviour.heartbeat_seconds
        until = time.monotonic() + wait
        with contextlib.suppress(queue.Empty):
            while True:
                left = until - time.monotonic()
                self.take(self.inbox.get(timeout=max(0.0, left)) if left > 0 else self.inbox.get_nowait())
                if wait == self.behaviour.heartbeat_seconds:
                    return

    def take(self, message: ToWorker) -> None:
        match message:
            case Submit():
                if self.faults.reject is not None:
                    self.channel.send(Rejected(message.request_id, self.faults.reject))
                    return
                self.sequences[message.request_id] = Sequence(message)
                self.die_of_poison()
            case Abort(request_id):
                self.sequences.pop(request_id, None)
            case Drain():
                self.draining = True
            case Shutdown() | Configure():
                pass

    def die_of_poison(self) -> None:
        if self.faults.poison_token is None:
            return
        for sequence in self.sequences.values():
            poisonous = self.faults.poison_token in sequence.submit.prompt.token_ids
            if poisonous and sequence.position >= self.faults.poison_after:
                self.hang() if self.faults.poison_hangs else self.leave(self.faults.crash_with)

    def step(self) -> None:
        self.die_of_poison()
        self.steps += 1
        outputs = []
        for sequence in list(self.sequences.values())[: self.behaviour.max_sequences]:
            outputs += self.advance(sequence)
        if self.faults.stranger:
            outputs.append(Output(1 << 40, (1,)))
        self.channel.send(Stepped(self.steps, tuple(outputs)))
        self.fail_if_it_is_time()

    def advance(self, sequence: Sequence) -> list[Output]:
        submit = sequence.submit
        token_ids: list[int] = []
        finish: FinishReason | None = None
        while finish is None and len(token_ids) < self.behaviour.tokens_per_step:
            token, finish = next_token(submit.prompt, submit.sampling, sequence.position, self.behaviour)
            token_ids.append(token)
            sequence.position += 1
            self.said_tokens += 1
        if self.faults.overrun:
            token_ids += [1] * submit.sampling.max_tokens
        cached = len(submit.prompt.token_ids) // 2 if sequence.fresh else 0
        sequence.fresh = False
        told = expected_logprobs(tuple(token_ids), submit.sampling)
        outputs = [Output(submit.request_id, tuple(token_ids), finish, cached, told)]
        if finish is not None:
            del self.sequences[submit.request_id]
            if self.faults.talk_after_end:
                outputs.append(Output(submit.request_id, (1,), logprobs=expected_logprobs((1,), submit.sampling)))
        return outputs

    def fail_if_it_is_time(self) -> None:
        def due(count: int | None) -> bool:
            return count is not None and self.said_tokens >= count

        if due(self.faults.crash_after_tokens):
            self.leave(self.faults.crash_with)
        if due(self.faults.garbage_after_tokens):
            self.say_garbage()
        if due(self.faults.hang_up_after_tokens):
            self.channel._sock.shutdown(socket.SHUT_RDWR)
            self.hang()
        if due(self.faults.hang_after_tokens):
            self.hang()

    def beat(self) -> None:
        if time.monotonic() < self.beat_at:
            return
        self.beat_at = time.monotonic() + self.behaviour.heartbeat_seconds
        self.channel.send(
            Heartbeat(EngineLoad(steps=self.steps, running=len(self.sequences), generated_tokens=self.said_tokens))
        )

    def say_garbage(self) -> None:
        self.channel._sock.sendall(b"\x05\x00\x00\x00hello\xff\xff\xff\xff")

    def hang(self) -> NoReturn:
        while True:
            time.sleep(3600)

    def leave(self, status: int) -> NoReturn:
        if status != EXIT_ASKED and self.faults.last_words is not None:
            self.channel.send(Dying(max(status, 1), self.faults.last_words))
        if status >= 0:
            os._exit(status)
        os.kill(os.getpid(), -status)
        self.hang()  # until the signal is there


def main() -> NoReturn:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--behaviour", default="{}")
    arguments = parser.parse_args()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    behaviour = msgspec.json.decode(arguments.behaviour, type=Behaviour)
    if not behaviour.faults.outlive_parent:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    sock = socket.socket(fileno=arguments.fd)
    sock.set_inheritable(False)
    channel: BlockingChannel[ToWorker] = BlockingChannel(sock, ToWorker)
    try:
        FakeWorker(channel, behaviour).run()
    except BrokenPipeError:  # the daemon is gone, or does not want to hear more
        if behaviour.faults.ignore_end_of_file:
            while True:
                time.sleep(3600)
        os._exit(EXIT_ASKED)


if __name__ == "__main__":
    main()
