"""What share of each memory is taken, and in which words."""

from __future__ import annotations

from gemmad.config.schema import RecycleSection
from gemmad.monitor.measures import HostMemory, Measure, measures
from gemmad.monitor.sample import MemorySample
from tests.unit.monitor.samples import GIB, sample


def of(about: str, *samples: MemorySample, recycle: RecycleSection | None = None) -> list[Measure]:
    """Those about one thing."""
    found = measures(samples, recycle=recycle or RecycleSection(), host=None)
    return [each for each in found if each.about == about]


def test_an_engine_that_keeps_to_its_plan_is_no_news() -> None:
    """It fills its share by design: nine tenths of the GPU are used, and no share is above a quarter."""
    found = measures([sample()], recycle=RecycleSection(), host=HostMemory(100, 90))
    assert {each.about: each.share for each in found} == {"kv": 0.2, "drift": 0.0, "vram": 0.0, "host": 1 - 90 / 100}


def test_others_on_the_gpu() -> None:
    """What is beyond the plans counts against what they leave: it is all that can still be taken."""
    (vram,) = of("vram", sample(gpu_used_bytes=79 * GIB))
    assert vram.share == 7 / 8
    assert "7.00 GiB of the 8.00 GiB" in vram.words
    assert "1.00 GiB are free" in vram.words
    assert "memory.fraction" in vram.action


def test_one_word_for_each_gpu() -> None:
    """Workers that share a GPU are one measure, the first one's."""
    two = [sample(worker="gpu0-0", planned_bytes=36 * GIB), sample(worker="gpu0-1", planned_bytes=36 * GIB)]
    other = sample(worker="gpu1", gpu="GPU-2", gpu_used_bytes=80 * GIB)
    assert [(each.worker, each.share) for each in of("vram", *two, other)] == [("gpu0-0", 0.0), ("gpu1", 1.0)]


def test_where_the_gpu_cannot_be_judged() -> None:
    """While a worker is renewed, has no plan, or the driver is silent, and on a CPU, nothing is said of the GPU."""
    assert of("vram", sample(gpu_planned_bytes=None)) == []
    assert of("vram", sample(planned_bytes=None, gpu_planned_bytes=0)) == []
    assert of("vram", sample(gpu_used_bytes=None)) == []
    assert of("vram", sample(gpu=None)) == []
    assert of("vram", sample(gpu_planned_bytes=80 * GIB)) == []


def test_pages() -> None:
    """The fuller pool counts; that requests were set back is told."""
    (kv,) = of("kv", sample(sliding_pages_used=90, preemptions=4))
    assert kv.share == 0.9
    assert "90% of 10.00 GiB" in kv.words
    assert "4 requests" in kv.words
    assert of("kv", sample(full_pages=0, sliding_pages=0)) == []


def test_growth() -> None:
    """What renewal cures is measured against the limits at which it does, and not without one."""
    grown = sample(above_baseline_bytes=384 << 20, allocated_bytes=35 * GIB, host_rss_bytes=4 * GIB)
    assert [each.share for each in of("drift", grown)] == [0.75]
    assert of("fragmentation", grown) == of("host", grown) == []
    limits = RecycleSection(vram_drift=None, fragmentation=0.5, host_rss=5 * GIB)
    assert of("drift", grown, recycle=limits) == []
    assert [each.share for each in of("fragmentation", grown, recycle=limits)] == [1.0]
    (host,) = of("host", grown, recycle=limits)
    assert (host.worker, host.share) == ("gpu0", 0.8)
    assert "gemmad recycle gpu0" in host.action


def test_less_than_at_the_start_is_nothing() -> None:
    """A worker that has given memory back has no negative share."""
    assert [each.share for each in of("drift", sample(above_baseline_bytes=-5))] == [0.0]


def test_the_host() -> None:
    """The host's memory is nobody's in particular."""
    (host,) = measures([], recycle=RecycleSection(), host=HostMemory(64 * GIB, 1 * GIB))
    assert (host.about, host.worker, round(host.share, 3)) == ("host", None, 0.984)
    assert "98% of 64.00 GiB" in host.words
