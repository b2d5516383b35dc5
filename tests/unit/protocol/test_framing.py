from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.errors import ProtocolError
from gemmad.generation import (
    Capacity,
    EngineLoad,
    EngineSettings,
    FinishReason,
    ImageSpan,
    Prompt,
    SamplingParams,
)
from gemmad.protocol import framing
from gemmad.protocol.framing import FrameDecoder, encode_frame
from gemmad.protocol.messages import (
    PROTOCOL_VERSION,
    Abort,
    Configure,
    Drain,
    Dying,
    FromWorker,
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

COUNTS = st.integers(min_value=0, max_value=2**62)
TOKENS = st.lists(st.integers(min_value=0, max_value=300_000), max_size=20).map(tuple)
SUBMITS = st.builds(
    Submit,
    request_id=COUNTS,
    prompt=st.builds(
        Prompt,
        token_ids=TOKENS,
        images=st.lists(st.builds(ImageSpan, start=COUNTS, length=COUNTS, digest=st.text(max_size=8)), max_size=3).map(
            tuple
        ),
    ),
    sampling=st.builds(
        SamplingParams,
        temperature=st.floats(min_value=0, max_value=2),
        seed=st.integers(min_value=0, max_value=2**64 - 1),
        max_tokens=COUNTS,
        stop_token_ids=TOKENS,
    ),
    generated=TOKENS,
)
OUTPUTS = st.builds(
    Output, request_id=COUNTS, token_ids=TOKENS, finish=st.none() | st.sampled_from(FinishReason), cached_tokens=COUNTS
)
TO_WORKER = st.one_of(
    SUBMITS,
    st.builds(Abort, request_id=COUNTS),
    st.just(Drain()),
    st.just(Shutdown()),
    st.builds(
        Configure,
        protocol=st.just(PROTOCOL_VERSION),
        worker=st.text(max_size=8),
        life=COUNTS,
        settings=st.builds(EngineSettings, checkpoint=st.text(max_size=8), max_context=st.none() | COUNTS),
    ),
)
FROM_WORKER = st.one_of(
    st.builds(Loading, protocol=COUNTS, stage=st.text(max_size=8), fraction=st.floats(min_value=0, max_value=1)),
    st.builds(
        Ready,
        capacity=st.builds(
            Capacity,
            max_context=COUNTS,
            max_sequences=COUNTS,
            max_step_tokens=COUNTS,
            page_tokens=COUNTS,
            full_pages=COUNTS,
            sliding_pages=COUNTS,
        ),
        pid=COUNTS,
        seconds=st.floats(min_value=0, max_value=1e6),
    ),
    st.builds(Stepped, step=COUNTS, outputs=st.lists(OUTPUTS, max_size=4).map(tuple)),
    st.builds(Rejected, request_id=COUNTS, reason=st.text(max_size=20)),
    st.builds(Heartbeat, load=st.builds(EngineLoad, steps=COUNTS)),
    st.builds(Dying, exit_code=st.integers(0, 255), reason=st.text(max_size=20)),
)


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` cut at `cuts`, each taken modulo its length."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


@pytest.mark.parametrize(("union", "messages"), [(ToWorker, TO_WORKER), (FromWorker, FROM_WORKER)])
def test_messages_survive_any_cutting(union: Any, messages: st.SearchStrategy[Any]) -> None:
    """Any messages, cut anywhere on their way, come out the same, in order, with nothing left over."""

    @given(st.lists(messages, max_size=5), st.lists(st.integers(min_value=0), max_size=12))
    def survive(sent: list[msgspec.Struct], cuts: list[int]) -> None:
        decoder: FrameDecoder[Any] = FrameDecoder(union)
        data = b"".join(map(encode_frame, sent))
        received = [message for piece in in_pieces(data, cuts) for message in decoder.feed(piece)]
        assert received == sent
        assert decoder.pending_bytes == 0

    survive()


def test_byte_by_byte() -> None:
    """A message comes out with its last byte and not before."""
    decoder: FrameDecoder[Any] = FrameDecoder(ToWorker)
    frame = encode_frame(Abort(7))
    assert [decoder.feed(frame[i : i + 1]) for i in range(len(frame) - 1)] == [[]] * (len(frame) - 1)
    assert decoder.pending_bytes == len(frame) - 1
    assert decoder.feed(memoryview(frame)[-1:]) == [Abort(7)]


@given(st.lists(st.binary(max_size=64), max_size=4))
def test_garbage_is_a_protocol_error_or_unfinished(pieces: list[bytes]) -> None:
    """Whatever bytes come, the decoder waits for more or raises ProtocolError, nothing else."""
    decoder: FrameDecoder[Any] = FrameDecoder(FromWorker)
    try:
        for piece in pieces:
            decoder.feed(piece)
    except ProtocolError:
        return
    assert decoder.pending_bytes <= sum(map(len, pieces))


@given(st.binary(max_size=64))
def test_a_whole_frame_of_garbage(body: bytes) -> None:
    """A frame whose body is no message of the union is a ProtocolError."""
    decoder: FrameDecoder[Any] = FrameDecoder(FromWorker)
    with pytest.raises(ProtocolError):
        decoder.feed(framing.LENGTH.pack(len(body)) + body)


@pytest.mark.parametrize(
    "body",
    [
        msgspec.msgpack.encode({"type": "Nobody"}),
        msgspec.msgpack.encode({"type": "Abort"}),
        msgspec.msgpack.encode({"type": "Abort", "request_id": "seven"}),
        msgspec.msgpack.encode({"type": "Abort", "request_id": 7}) + b"\x00",
        b"\x82\xa4type\xa5Abort\xaarequest_id\xc1",
        b"\x82\xa4type\xa5Abort\xa1x" + b"\x91" * 100_000,
        b"\x81\xa4type\xa5Ab\xff\xfet",
    ],
    ids=["tag", "missing", "wrong type", "trailing", "reserved", "deep", "not utf-8"],
)
def test_what_is_no_message(body: bytes) -> None:
    """An unknown tag, a missing or wrong field, trailing bytes and nesting without end are ProtocolErrors."""
    with pytest.raises(ProtocolError):
        FrameDecoder[Any](ToWorker).feed(framing.LENGTH.pack(len(body)) + body)


def test_the_other_direction_is_garbage() -> None:
    """A worker's message is no message to a worker."""
    with pytest.raises(ProtocolError):
        FrameDecoder[Any](ToWorker).feed(encode_frame(Dying(1, "no")))


def test_an_enormous_length_is_refused_at_once() -> None:
    """A length over the limit is an error with its four bytes: nothing is collected for it."""
    with pytest.raises(ProtocolError, match="over the limit"):
        FrameDecoder[Any](ToWorker).feed(framing.LENGTH.pack(framing.MAX_FRAME_BYTES + 1))


def test_an_enormous_message_is_not_sent() -> None:
    """A message over the frame limit is refused where it would be sent."""
    with pytest.raises(ProtocolError, match="Rejected"):
        encode_frame(Rejected(1, "x" * (framing.MAX_FRAME_BYTES + 1)))
