from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gemmad.metrics import ConfigReading, Gaps, Metrics, Reading, WorkerReading


def test_a_reading_as_metrics() -> None:
    """Every number of a reading is in the text that Prometheus reads."""
    worker = WorkerReading(
        name="gpu0",
        state="ready",
        starts=2,
        kv_usage_ratio=0.5,
        preemptions=3,
        prompt_tokens=20,
        cached_tokens=16,
        device_bytes=9,
        planned_bytes=12,
        device_segments=4,
    )
    config = ConfigReading(is_good=False, reloaded_at=7.5, taken=3, refused=2, taken_back=1, trying=4, waiting=5)
    reading = Reading(version="1", running=4, waiting=5, generated_tokens=6, workers=(worker,), config=config)
    text = Metrics(lambda: reading, states=["ready", "failed"]).render().decode()
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["gemmad_requests_running",] == 4
    assert samples["gemmad_requests_waiting",] == 5
    assert samples["gemmad_generation_tokens_total",] == 6
    assert samples["gemmad_config_reload_success",] == 0
    assert samples["gemmad_config_reload_timestamp_seconds",] == 7.5
    reloads = [samples["gemmad_config_reloads_total", outcome] for outcome in ("taken", "refused", "taken_back")]
    assert reloads == [3, 2, 1]
    assert [samples["gemmad_config_settings_pending", until] for until in ("recycle", "restart")] == [4, 5]
    assert samples["gemmad_worker_state", "gpu0", "ready"] == 1
    assert samples["gemmad_worker_state", "failed", "gpu0"] == 0
    assert samples["gemmad_kv_cache_usage_ratio", "gpu0"] == 0.5
    assert samples["gemmad_preemptions_total", "gpu0"] == 3
    assert samples["gemmad_prefix_cache_queries_total", "gpu0"] == 20
    assert samples["gemmad_prefix_cache_hits_total", "gpu0"] == 16
    assert samples["gemmad_vram_bytes", "gpu0", "reserved"] == 9
    assert samples["gemmad_vram_bytes", "gpu0", "planned"] == 12
    assert samples["gemmad_device_segments", "gpu0"] == 4
    assert samples["gemmad_build_info", "1"] == 1


def test_two_daemons_in_one_process() -> None:
    """Each has metrics of its own."""
    first, second = (Metrics(lambda: Reading(version="1")) for _ in range(2))
    first.requests.labels(outcome="stop").inc()
    assert b'outcome="stop"' in first.render()
    assert b'outcome="stop"' not in second.render()


def test_gaps_are_told_as_a_histogram() -> None:
    """Bounds, counts and sum are those of prometheus_client's own, on a bound and beyond the last one too."""
    bounds = (0.001, 0.0025, 0.5, 1.0)
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    judge = Histogram("gap_seconds", "Between.", buckets=bounds, registry=theirs)
    gaps = Gaps("gap_seconds", "Between.", bounds)
    ours.register(gaps)
    for seconds in (0.0, 0.001, 0.0011, 0.5, 0.7, 3.0):
        judge.observe(seconds)
        gaps.observe(seconds)
    expected = [line for line in generate_latest(theirs).splitlines() if b"_created" not in line]
    assert generate_latest(ours).splitlines() == expected
