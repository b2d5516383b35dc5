from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gemmad.metrics import (
    AlertReading,
    ConfigReading,
    Gaps,
    GpuReading,
    Metrics,
    Reading,
    RoomReading,
    WorkerReading,
)

WORKER = WorkerReading(
    name="gpu0",
    state="ready",
    device="cuda:0",
    gpu_uuid="GPU-1",
    running=7,
    kv_usage_ratio=0.5,
    kv_pages={"full": 10, "sliding": 6},
    kv_pages_used={"full": 5, "sliding": 1},
    host_rss_bytes=11,
    planned_bytes=12,
    reserved_bytes=9,
    allocated_bytes=8,
    above_baseline_bytes=-1,
    device_segments=4,
    starts=2,
    requests=13,
    steps=14,
    generated_tokens=15,
    prefilled_tokens=17,
    preemptions=3,
    prompt_tokens=20,
    cached_tokens=16,
    restarts={"crash": 1, "hang": 0},
    recycles={"asked": 5, "age": 0},
    failed_recycles={"asked": 0, "age": 6},
)
GPU = GpuReading(
    uuid="GPU-1",
    label="0",
    name="NVIDIA H200",
    utilisation=0.75,
    memory_used_bytes=60,
    memory_total_bytes=80,
    power_watts=550.5,
    power_limit_watts=700.0,
    temperature_celsius=65.0,
)
FULL = Reading(
    version="1",
    running=4,
    waiting=5,
    waiting_limit=9,
    refused=2,
    prompt_tokens=21,
    generated_tokens=6,
    failovers=22,
    quarantined=23,
    workers=(WORKER,),
    gpus=(GPU,),
    rooms=(RoomReading(name="media", busy=1, waiting=2, deaths=3),),
    alerts=(AlertReading(level="critical", about="kv", worker="gpu0"),),
    config=ConfigReading(is_good=False, reloaded_at=7.5, taken=3, refused=2, taken_back=1, trying=4, waiting=5),
)
"""One in which every series has a value."""
STATES = ("ready", "failed")


def samples(reading: Reading) -> dict[tuple[str, ...], float]:
    """By name and values of the labels, these in the order of the labels' names."""
    text = Metrics(lambda: reading, states=STATES, wall=lambda: 99.0).render().decode()
    return {
        (sample.name.removeprefix("gemmad_"), *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_reading_as_metrics() -> None:
    """Every number of a reading is in the text that Prometheus reads."""
    told = samples(FULL)
    for expected in (
        ("requests_running", 4),
        ("requests_waiting", 5),
        ("requests_waiting_limit", 9),
        ("requests_refused_total", 2),
        ("prompt_tokens_total", 21),
        ("generation_tokens_total", 6),
        ("failovers_total", 22),
        ("quarantined_requests_total", 23),
        ("start_time_seconds", 99),
        ("build_info", "1", 1),
        ("config_reload_success", 0),
        ("config_reload_timestamp_seconds", 7.5),
        ("config_reloads_total", "taken", 3),
        ("config_reloads_total", "refused", 2),
        ("config_reloads_total", "taken_back", 1),
        ("config_settings_pending", "recycle", 4),
        ("config_settings_pending", "restart", 5),
        ("room_busy", "media", 1),
        ("room_waiting", "media", 2),
        ("room_deaths_total", "media", 3),
        ("memory_alert", "kv", "critical", "gpu0", 1),
    ):
        assert told[expected[:-1]] == expected[-1], expected


def test_a_worker_as_metrics() -> None:
    """Each number of a worker has a series with its name."""
    told = samples(FULL)
    for expected in (
        ("worker_info", "cuda:0", "GPU-1", "gpu0", 1),
        ("worker_state", "ready", "gpu0", 1),
        ("worker_state", "failed", "gpu0", 0),
        ("worker_starts_total", "gpu0", 2),
        ("worker_restarts_total", "crash", "gpu0", 1),
        ("worker_restarts_total", "hang", "gpu0", 0),
        ("worker_recycles_total", "done", "asked", "gpu0", 5),
        ("worker_recycles_total", "failed", "asked", "gpu0", 0),
        ("worker_recycles_total", "failed", "age", "gpu0", 6),
        ("worker_requests_running", "gpu0", 7),
        ("worker_requests_total", "gpu0", 13),
        ("worker_steps_total", "gpu0", 14),
        ("worker_generated_tokens_total", "gpu0", 15),
        ("worker_prefilled_tokens_total", "gpu0", 17),
        ("preemptions_total", "gpu0", 3),
        ("prefix_cache_queries_total", "gpu0", 20),
        ("prefix_cache_hits_total", "gpu0", 16),
        ("kv_cache_usage_ratio", "gpu0", 0.5),
        ("kv_pages", "full", "gpu0", 10),
        ("kv_pages_used", "sliding", "gpu0", 1),
        ("host_rss_bytes", "gpu0", 11),
        ("vram_bytes", "planned", "gpu0", 12),
        ("vram_bytes", "reserved", "gpu0", 9),
        ("vram_bytes", "allocated", "gpu0", 8),
        ("vram_above_baseline_bytes", "gpu0", -1),
        ("device_segments", "gpu0", 4),
    ):
        *key, value = expected
        assert told[tuple(map(str, key))] == value, expected


def test_a_gpu_as_metrics() -> None:
    """Each GPU has its series; what the driver does not measure has none, and is not told as 0."""
    told = samples(FULL)
    measured = {key[0]: value for key, value in told.items() if key[0].startswith("gpu_") and key[1:] == ("0", "GPU-1")}
    assert measured == {
        "gpu_utilisation_ratio": 0.75,
        "gpu_memory_used_bytes": 60,
        "gpu_memory_total_bytes": 80,
        "gpu_power_watts": 550.5,
        "gpu_power_limit_watts": 700,
        "gpu_temperature_celsius": 65,
    }
    part = GpuReading(uuid="MIG-1", label="0:1", name="NVIDIA H200 MIG 1g", memory_total_bytes=10)
    told = samples(Reading(version="1", gpus=(part,)))
    assert {key for key in told if key[0].startswith("gpu_")} == {
        ("gpu_info", "0:1", "NVIDIA H200 MIG 1g", "MIG-1"),
        ("gpu_memory_total_bytes", "0:1", "MIG-1"),
    }


def test_what_a_worker_on_a_cpu_does_not_have() -> None:
    """Without a GPU there are no series of its memory."""
    told = samples(Reading(version="1", workers=(WorkerReading(name="cpu0", state="ready", host_rss_bytes=5),)))
    names = {key[0] for key in told if "cpu0" in key}
    assert "host_rss_bytes" in names
    assert not names & {"vram_bytes", "vram_above_baseline_bytes", "device_segments", "kv_cache_usage_ratio"}


def test_the_buckets() -> None:
    """The first token is told apart from 5 ms to a minute, and a gap between tokens from 1 ms to 2 s."""
    told = [key for key in samples(FULL) if len(key) == 2]
    bounds = {
        name: sorted(float(key[1]) for key in told if key[0] == f"{name}_seconds_bucket")
        for name in ("time_to_first_token", "inter_token_latency")
    }
    assert (bounds["time_to_first_token"][0], bounds["time_to_first_token"][-2]) == (0.005, 60)
    assert (bounds["inter_token_latency"][0], bounds["inter_token_latency"][-2]) == (0.001, 2)


def test_outcomes_are_there_before_they_happen() -> None:
    """A counter that appears with its first request would hide it from `increase`."""
    told = samples(Reading(version="1"))
    assert {key[1] for key in told if key[0] == "requests_total"} >= {"stop", "length", "error", "gone"}


def test_two_daemons_in_one_process() -> None:
    """Each has metrics of its own."""
    first, second = (Metrics(lambda: Reading(version="1")) for _ in range(2))
    first.requests.labels(outcome="stop").inc()
    assert b'outcome="stop"} 1.0' in first.render()
    assert b'outcome="stop"} 0.0' in second.render()


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
