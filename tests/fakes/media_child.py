"""A media process that misbehaves as told: `python -m tests.fakes.media_child BEHAVIOUR --fd N`."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable

from gemmad.media.pixels import seal
from gemmad.media.spec import ImageSpec
from gemmad.media.wire import Begin, Done, Idle, Job, Refused, ToMedia
from gemmad.protocol.channel import BlockingChannel
from gemmad.protocol.framing import encode_frame

Channel = BlockingChannel[Begin | Job]


def main() -> None:
    """Do as told until the daemon hangs up."""
    behaviour, sock = sys.argv[1], socket.socket(fileno=int(sys.argv[3]))
    if behaviour == "dies at start":
        sys.exit(7)
    channel: Channel = BlockingChannel(sock, ToMedia)
    begin = channel.receive()
    assert isinstance(begin, Begin)
    if behaviour == "never ready":
        time.sleep(60)
    if behaviour == "late":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    channel.send(Idle())
    if behaviour == "idle twice":
        channel.send(Idle())
    if behaviour == "speaks first":
        channel.send(Refused(1, "No.", "invalid_image"))
    while (job := channel.receive()) is not None:
        assert isinstance(job, Job)
        BEHAVIOURS.get(behaviour, _answer)(channel, sock, begin.spec, job)


def _answer(channel: Channel, sock: socket.socket, spec: ImageSpec, job: Job) -> None:
    _done(channel, job, [seal(bytes(spec.nbytes))])


def _late(channel: Channel, sock: socket.socket, spec: ImageSpec, job: Job) -> None:
    signal.sigwait({signal.SIGUSR1})
    _answer(channel, sock, spec, job)


def _leave(channel: Channel, sock: socket.socket, spec: ImageSpec, job: Job) -> None:
    _done(channel, job, [seal(bytes(spec.nbytes))], leaving=True)
    sys.exit(0)


def _linger(channel: Channel, sock: socket.socket, spec: ImageSpec, job: Job) -> None:
    _done(channel, job, [seal(bytes(spec.nbytes))], leaving=True)
    time.sleep(60)


def _hang(channel: Channel, sock: socket.socket, spec: ImageSpec, job: Job) -> None:
    time.sleep(60)


def _crash(channel: Channel, sock: socket.socket, spec: ImageSpec, job: Job) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _garbage(channel: Channel, sock: socket.socket, spec: ImageSpec, job: Job) -> None:
    sock.sendall(b"\x05\0\0\0hello")


def _without_pixels(channel: Channel, sock: socket.socket, spec: ImageSpec, job: Job) -> None:
    _done(channel, job, [])


def _unsealed(channel: Channel, sock: socket.socket, spec: ImageSpec, job: Job) -> None:
    fd = os.memfd_create("pixels", os.MFD_ALLOW_SEALING)
    os.write(fd, bytes(spec.nbytes))
    _done(channel, job, [fd])


def _short(channel: Channel, sock: socket.socket, spec: ImageSpec, job: Job) -> None:
    _done(channel, job, [seal(bytes(spec.nbytes - 1))])


def _other_job(channel: Channel, sock: socket.socket, spec: ImageSpec, job: Job) -> None:
    fd = seal(bytes(spec.nbytes))
    channel.send(Done(job.number + 1, "digest"), [fd])
    os.close(fd)


def _flood(channel: Channel, sock: socket.socket, spec: ImageSpec, job: Job) -> None:
    data = encode_frame(Done(job.number, "digest"))
    for byte in data[:-1]:  # descriptors without a frame that they belong to
        socket.send_fds(sock, [bytes([byte])], [2] * 10)
    time.sleep(60)


def _done(channel: Channel, job: Job, fds: list[int], *, leaving: bool = False) -> None:
    channel.send(Done(job.number, "digest", leaving), fds)
    for fd in fds:
        os.close(fd)


BEHAVIOURS: dict[str, Callable[[Channel, socket.socket, ImageSpec, Job], None]] = {
    "late": _late,
    "leave": _leave,
    "linger": _linger,
    "hang": _hang,
    "crash": _crash,
    "garbage": _garbage,
    "without pixels": _without_pixels,
    "unsealed": _unsealed,
    "short": _short,
    "other job": _other_job,
    "flood": _flood,
}

if __name__ == "__main__":
    main()
