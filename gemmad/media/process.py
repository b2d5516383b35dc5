"""A media process: one job after another, each under limits, until the socket ends.

It holds no key, no model and no other request, so the worst that a hostile file can do is end it; the daemon then
starts another. httpx is imported with the first URL that wants it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, assert_never

import msgspec

from gemmad.errors import InvalidRequestError, ProtocolError
from gemmad.media.confine import AddressSpace, confine_process
from gemmad.media.decode import decode
from gemmad.media.pixels import digest_of, seal
from gemmad.media.program import run_program
from gemmad.media.spec import ImageSpec
from gemmad.media.urls import decode_data_url, require_bytes, scheme_of
from gemmad.media.wire import Begin, Done, Idle, Job, Refused, ToMedia
from gemmad.protocol.channel import BlockingChannel

if TYPE_CHECKING:
    from gemmad.media.fetch import Fetcher

FETCH_SHARE = 0.9
"""Of a job's time that fetching may take, so that a slow server is refused here and costs no process."""


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m gemmad.media --fd N`: serve the socket that descriptor N is. The exit status."""
    return run_program(argv, prog="gemmad.media", description="Decodes images for gemmad.", union=ToMedia, serve=_serve)


def _serve(channel: BlockingChannel[Begin | Job]) -> int:
    begin = channel.receive()
    if begin is None:
        return 0
    if not isinstance(begin, Begin):
        raise ProtocolError("the first frame is not Begin")
    confine_process(largest_file=begin.spec.nbytes)
    desk = _Desk(begin.spec, AddressSpace(begin.memory_bytes))
    channel.send(Idle())
    while (message := channel.receive()) is not None:
        match message:
            case Job():
                if desk.answer(message, channel):
                    return 0
            case Begin():
                raise ProtocolError("a second Begin")
            case _:
                assert_never(message)
        del message  # with it goes the file, before the next one comes
    return 0


class _Desk:
    """Does jobs; keeps between them what is dear to make."""

    def __init__(self, spec: ImageSpec, space: AddressSpace) -> None:
        self._spec = spec
        self._space = space
        self._fetcher: Fetcher | None = None

    def answer(self, job: Job, channel: BlockingChannel[Begin | Job]) -> bool:
        """One job, one reply. True when the process has grown so much that it had better end."""
        outcome = self._outcome(job)
        leaving = self._space.has_grown
        if isinstance(outcome, Refused):
            channel.send(msgspec.structs.replace(outcome, leaving=leaving))
            return leaving
        digest = digest_of(outcome, height=self._spec.height, width=self._spec.width)
        fd = seal(outcome)
        try:
            channel.send(Done(job.number, digest, leaving), [fd])
        finally:
            os.close(fd)
        return leaving

    def _outcome(self, job: Job) -> bytes | Refused:
        deadline = time.monotonic() + job.seconds * FETCH_SHARE
        try:
            fetcher = None if scheme_of(job.url) == "data" else self._fetch_with()
            with self._space:
                return decode(self._file(job, fetcher, deadline), self._spec, max_pixels=job.max_pixels)
        except Exception as error:  # the next job must be served, whatever a library made of this one
            return _refusal(job, error)

    def _file(self, job: Job, fetcher: Fetcher | None, deadline: float) -> bytes:
        if fetcher is None:
            return require_bytes(decode_data_url(job.url, max_bytes=job.max_bytes), job.max_bytes)
        return fetcher.fetch(job.url, max_bytes=job.max_bytes, allow_private=job.allow_private, deadline=deadline)

    def _fetch_with(self) -> Fetcher:
        if self._fetcher is None:
            from gemmad.media.fetch import Fetcher

            self._fetcher = Fetcher()
            self._space.count_from_here()
        return self._fetcher


def _refusal(job: Job, error: Exception) -> Refused:
    match error:
        case InvalidRequestError():
            detail = "" if error.__cause__ is None else _detail(error.__cause__)
            return Refused(job.number, error.message, error.code or "invalid_image", detail)
        case MemoryError():
            message = "The image takes more memory to decode than is allowed."
            return Refused(job.number, message, "image_too_large")
        case _:
            return Refused(job.number, "The image could not be read.", "image_parse_error", _detail(error))


def _detail(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]
