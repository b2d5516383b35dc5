"""A step's inputs in one buffer: what a graph reads there is what the eager runner would compute with."""

from __future__ import annotations

import torch

from gemmad.engine.flat import flatten, sliding_ring
from gemmad.engine.graphs import buckets
from gemmad.engine.pages import PagePool
from gemmad.engine.scheduler import Limits, Scheduler
from gemmad.engine.sequence import new_sequence
from gemmad.engine.staging import Bucket, Layout, Writer
from gemmad.generation import Prompt, SamplingParams

LIMITS = Limits(max_sequences=4, step_tokens=32, page_tokens=4, window=8)


def test_a_ladder_reaches_every_size() -> None:
    """Each step that can be scheduled has a bucket, and none is captured twice."""
    found = buckets(48, 2304)
    assert len(found) == len(set(found))
    assert max(b.rows for b in found if b.decode) == 48
    assert max(b.rows for b in found if not b.decode) == 2304
    assert all(b.sequences == 48 for b in found if not b.decode)


def test_fields_lie_apart_and_aligned() -> None:
    """No field overlaps another, and each begins where its numbers may be read."""
    layout = Layout(Bucket(24, 4, False), sliding_columns=11, full_columns=100)
    end = 0
    for field in layout.fields.values():
        assert field.offset >= end
        assert field.offset % 16 == 0
        end = field.offset + field.count * field.dtype.itemsize
    assert end <= layout.nbytes
    assert layout.sent_bytes(3) < layout.sent_bytes(100) <= layout.nbytes


def test_a_short_step_after_a_long_one_leaves_nothing_of_it() -> None:
    """What a step does not fill is padding: nobody's row, seeing nothing, written nowhere."""
    layout = Layout(Bucket(32, 4, False), sliding_columns=sliding_ring(LIMITS, 32), full_columns=16)
    buffer = torch.randint(0, 255, (layout.nbytes,), dtype=torch.uint8)
    writer, fields = Writer(buffer, [layout]), layout.views(buffer)
    scheduler = Scheduler(LIMITS, PagePool(64), PagePool(64))
    for number, length in enumerate((5, 9)):
        scheduler.add(new_sequence(number, Prompt(tuple(range(1, length + 1))), SamplingParams(max_tokens=4, seed=-7)))
    chunks = scheduler.schedule()
    flat = flatten(chunks, (), LIMITS, None)
    full = [chunk.sequence.full_pages for chunk in chunks]
    sent = writer.write(layout.bucket, flat, (full, [[7, 8], [9]]))
    assert sent == layout.sent_bytes(3)
    assert fields["token_ids"][:14].tolist() == [*range(1, 6), *range(1, 10)]
    assert fields["query_starts"].tolist() == [0, 5, 14, 14, 14]
    assert fields["context_lens"].tolist() == [5, 9, 0, 0]
    assert fields["output_rows"][:2].tolist() == [4, 13]
    assert fields["seed"][:2].tolist() == [-7, -7]
    assert fields["full_width"].tolist() == [3]
    assert fields["full_table"][3:6].tolist() == full[1]
    for name in ("reach", "feed", "image_index", "full_slots", "sliding_slots"):
        assert set(fields[name][14:].tolist()) == {-1}, name
    assert set(fields["temperature"][2:].tolist()) == {0.0}
    assert set(fields["banned_ids"].tolist()) == {-1}


def test_a_token_that_is_not_known_is_fed_from_the_last_step() -> None:
    """A sequence whose last token is still being drawn points at where it will be."""
    scheduler = Scheduler(LIMITS, PagePool(64), PagePool(64))
    for number in range(2):
        scheduler.add(new_sequence(number, Prompt((1, 2, 3)), SamplingParams(max_tokens=4)))
    first = scheduler.schedule()
    scheduler.advance(first)
    spoke = [chunk.sequence for chunk in first]
    flat = flatten(scheduler.schedule(), spoke[::-1], LIMITS, None)
    assert flat.feed == [1, 0]
    assert flat.positions == [3, 3]
