"""docs/monitoring.md is about this code."""

from __future__ import annotations

import json
import re
from pathlib import Path

from gemmad.config.schema import Config, MonitorSection
from gemmad.monitor.measures import ABOUTS
from gemmad.monitor.sample import MemorySample
from gemmad.monitor.webhook import PAUSES_SECONDS, QUEUE_LIMIT, Post

PAGE = (Path(__file__).parents[3] / "docs" / "monitoring.md").read_text()


def part(title: str) -> str:
    """What is below a heading."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def first_column(text: str) -> list[str]:
    """Names in the first cells of its table."""
    rows = re.findall(r"^\| (.+?) \|", text, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`(\w+)`", row)]


def test_fields_of_samples() -> None:
    """Every field of a sample is told, and no other."""
    assert sorted(first_column(part("What is kept"))) == sorted(MemorySample.__struct_fields__)


def test_what_alerts_are_about() -> None:
    """Each kind of memory has its row."""
    assert first_column(part("Alerts")) == list(ABOUTS)


def test_the_webhooks_body() -> None:
    """The example and the table have the fields of a post; retries and the queue are told as they are."""
    text = part("The webhook")
    example = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    assert example is not None
    assert tuple(json.loads(example[1])) == Post.__struct_fields__
    assert sorted(first_column(text)) == sorted(Post.__struct_fields__)
    first, second, third = (f"{pause:g}" for pause in PAUSES_SECONDS)
    assert f"after {first}, {second} and {third} seconds" in text
    assert f"At most {QUEUE_LIMIT} alerts wait" in text


def test_settings() -> None:
    """Every setting of the section is named, and every one that is named is there."""
    named = set(re.findall(r"`(\w+\.\w+)(?: =[^`]*)?`", PAGE))
    own = {name.partition(".")[2] for name in named if name.startswith("monitor.")}
    assert own == set(MonitorSection.model_fields)
    for name in named - {"history.sqlite3", "memory.png"}:
        section, _, key = name.partition(".")
        assert key in getattr(Config(), section).__class__.model_fields, name
