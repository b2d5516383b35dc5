from __future__ import annotations

import json

from gemmad.generation import MemoryRow
from gemmad.planning.budget import Costs, plan_memory
from gemmad.planning.remedies import advise
from gemmad.planning.shape import published_shape
from gemmad.planning.sizes import format_bytes, setting_bytes
from gemmad.planning.table import formats_text, measured_bytes, memory_fields, plan_facts, plan_text, rows_text
from tests.unit.planning.settings import GIB, cpu, gpu

ROWS = (
    MemoryRow("weights", 3 * GIB, 3 * GIB + (1 << 20)),
    MemoryRow("kv full", 10 * GIB, 10 * GIB),
    MemoryRow("context", 512 << 20),
    MemoryRow("reserve", GIB),
)


def test_planned_and_measured() -> None:
    """Columns are aligned; what was not measured stays blank and counts as planned, the reserve as nothing."""
    assert rows_text(ROWS) == (
        "            planned   measured\n"
        "weights    3.00 GiB   3.00 GiB\n"
        "kv full   10.00 GiB  10.00 GiB\n"
        "context  512.00 MiB\n"
        "reserve    1.00 GiB\n"
        "sum       14.50 GiB  13.50 GiB"
    )
    assert measured_bytes(ROWS) == 13 * GIB + (513 << 20)


def test_planned_only() -> None:
    """Before anything was measured there is no such column."""
    assert rows_text(ROWS[2:]) == ("            planned\ncontext  512.00 MiB\nreserve    1.00 GiB\nsum        1.50 GiB")


def test_the_fields_of_an_event() -> None:
    """A log line has the sums, and each row as it is known best."""
    assert memory_fields(ROWS) == {
        "planned": "14.50 GiB",
        "measured": "13.50 GiB",
        "weights": "3.00 GiB",
        "kv_full": "10.00 GiB",
        "context": "512.00 MiB",
        "reserve": "1.00 GiB",
    }


def test_a_whole_plan() -> None:
    """Rows, share, pages and counts, in this order."""
    costs = Costs(context_bytes=512 << 20)
    settings = gpu(max_context=8192, max_sequences=16, attention="triton")
    plan = plan_memory(published_shape("270m"), settings, total_bytes=4 * GIB, costs=costs)
    blocks = plan_text(plan, "270m").split("\n\n")
    assert blocks[0] == "270m"
    assert blocks[1] == rows_text(plan.rows)
    assert blocks[2].splitlines() == [
        "The worker may take 3.60 GiB of the GPU's 4.00 GiB.",
        "Weights are bfloat16, keys and values bfloat16.",
    ]
    pages = f"{plan.pages.full_pages} full pages of 48.00 KiB, {plan.pages.sliding_pages} sliding pages of 240.00 KiB."
    assert blocks[3] == pages
    counts, sequences = (line.split() for line in blocks[4].splitlines())
    assert counts == ["tokens", "1024", "2048", "4096", "8192"]
    assert sequences == ["sequences", *(str(fit.sequences) for fit in plan.fits)]


def test_a_plan_that_does_not_fit() -> None:
    """There are no counts to show; for programs the problem and what would help are there."""
    shape, settings = published_shape("12b"), gpu()
    plan = plan_memory(shape, settings, total_bytes=32 * GIB)
    assert plan_text(plan, "12b").splitlines()[-2].endswith("of the GPU's 32.00 GiB.")
    facts = json.loads(json.dumps(plan_facts(plan, settings, advise(shape, settings, plan))))
    assert facts["problem"] == plan.problem
    assert [remedy["setting"] for remedy in facts["remedies"]] == ["engine.max_context", "engine.weights"]
    assert facts["gpu_bytes"] > 32 * GIB
    assert facts["sequences"] == []


def test_facts_of_a_cpu_plan() -> None:
    """For programs everything is a number of bytes or tokens."""
    settings = cpu(max_context=2048)
    plan = plan_memory(published_shape("270m"), settings, total_bytes=16 * GIB)
    facts = plan_facts(plan, settings, None)
    assert (facts["device"], facts["share_bytes"], facts["problem"]) == ("cpu", 16 * GIB, None)
    assert sum(facts["rows"].values()) == facts["planned_bytes"]
    assert facts["sequences"][-1] == {"tokens": 2048, "sequences": plan.fits[-1].sequences}
    lines = ["The host has 16.00 GiB.", "Weights are float32, keys and values float32."]
    assert plan_text(plan, "x").split("\n\n")[2].splitlines() == lines
    assert (facts["dtype"], facts["weights"], facts["kv"]) == ("float32", "bf16", "bf16")


def test_formats_are_told() -> None:
    """Whatever is coded is called by its format, int4 with its groups."""
    settings = gpu(max_context=2048, weights="int4", kv="fp8")
    plan = plan_memory(published_shape("4b"), settings, total_bytes=16 * GIB)
    assert formats_text(plan) == "Weights are int4 in groups of 128, keys and values fp8."
    facts = plan_facts(plan, settings, None)
    assert (facts["dtype"], facts["weights"], facts["kv"]) == ("bfloat16", "int4", "fp8")


def test_bytes_in_words() -> None:
    """Two places and the largest unit that leaves a whole; a setting is rounded to where it is safe."""
    assert [format_bytes(n) for n in (0, 1023, 1024, 1536 << 10, 5 << 40, 5 << 50)] == [
        "0 B", "1023 B", "1.00 KiB", "1.50 MiB", "5.00 TiB", "5120.00 TiB",
    ]  # fmt: skip
    assert setting_bytes((100 << 20) + 1, up=True) == "101MiB"
    assert setting_bytes((100 << 20) + 1, up=False) == "100MiB"
    assert setting_bytes((1 << 20) + 1, up=True) == "1025KiB"
