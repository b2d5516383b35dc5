"""docs/metrics.md, the dashboard and the alert rules against the names that the code tells."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from gemmad.metrics import Metrics
from gemmad.supervisor.ending import Cause
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.tally import TRIGGERS
from tests.unit.test_metrics import FULL

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "packaging" / "prometheus"
DASHBOARD = json.loads((ROOT / "packaging" / "grafana" / "gemmad.json").read_text())
NAME = re.compile(r"\bgemmad_[a-z0-9_]+")
LABELS = re.compile(r"\b(gemmad_[a-z0-9_]+)\{([^}]*)\}")
ENDINGS = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


def families() -> dict[str, tuple[str, frozenset[str], str]]:
    """By the name that people ask for: the type, the labels and the words."""
    metrics = Metrics(lambda: FULL, states=[state.value for state in State])
    metrics.memory_alerts.labels(level="critical", about="kv").inc()
    told = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        if not family.name.endswith("_created"):
            labels = frozenset(label for sample in family.samples for label in sample.labels) - {"le"}
            name = f"{family.name}_total" if family.type == "counter" else family.name
            told[name] = (family.type, labels, family.documentation)
    return told


def series() -> dict[str, frozenset[str]]:
    """All names that an expression may have, each with its labels."""
    told: dict[str, frozenset[str]] = {}
    for name, (kind, labels, _) in families().items():
        if kind == "histogram":
            told |= {f"{name}{ending}": labels | ({"le"} if ending == "_bucket" else set()) for ending in ENDINGS[kind]}
        else:
            told[name] = labels
    return told


def panels(parent: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Those of the dashboard, and those in its rows."""
    for panel in parent["panels"]:
        yield panel
        yield from panels({"panels": panel.get("panels", [])})


def expressions() -> list[str]:
    """The dashboard's: of panels and of variables."""
    asked = [target["expr"] for panel in panels(DASHBOARD) for target in panel.get("targets", [])]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            asked.append(variable["query"]["query"])
    return asked


def rules() -> list[dict[str, Any]]:
    """The alert rules."""
    told = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())
    return [rule for group in told["groups"] for rule in group["rules"]]


def check_expression(expression: str) -> None:
    """Every name that it has is told, and with the labels that it selects by."""
    known = series()
    names = set(NAME.findall(expression))
    assert names, expression
    assert names <= known.keys(), (expression, names - known.keys())
    for name, matchers in LABELS.findall(expression):
        asked = set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", matchers)) - {"job", "instance"}
        assert asked <= known[name], (expression, name, asked - known[name])


def test_every_metric_is_documented() -> None:
    """The tables of docs/metrics.md have each metric with its type, labels and words, and no other."""
    text = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(gemmad_\w+)` \| (\w+) \| (.*?) \| (.*) \|$", text, re.MULTILINE)
    documented = {name: (kind, frozenset(re.findall(r"`(\w+)`", labels)), words) for name, kind, labels, words in rows}
    assert len(documented) == len(rows)
    assert documented == families()


def test_the_words_of_labels_are_documented() -> None:
    """docs/metrics.md names each cause of a restart and each trigger of a renewal, and no other."""
    text = (ROOT / "docs" / "metrics.md").read_text()

    def listed(heading: str) -> list[str]:
        section = re.split(r"\n##+ ", text[text.index(f"\n{heading}\n") + 1 :])[0]
        return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)

    assert listed("### Why a life ended") == [cause.value for cause in Cause]
    assert sorted(listed("### What a renewal is for")) == sorted(TRIGGERS.values())


def test_the_dashboard_asks_for_what_is_there() -> None:
    """Every expression of the dashboard uses names and labels that the daemon tells."""
    for expression in expressions():
        check_expression(expression)


def test_the_dashboard_shows_what_is_there() -> None:
    """No metric that changes is missing on it, but for those that only serve to join others."""
    shown = {name for expression in expressions() for name in NAME.findall(expression)}
    left = {name for name in families() if not any(each.startswith(name) for each in shown)}
    assert left <= {"gemmad_worker_info", "gemmad_gpu_info", "gemmad_worker_starts_total"}


def test_the_dashboard_can_be_imported() -> None:
    """Panels have numbers of their own, lie beside each other, and take the datasource that is chosen."""
    told = list(panels(DASHBOARD))
    assert len({panel["id"] for panel in told}) == len(told)
    taken: set[tuple[int, int]] = set()
    for panel in told:
        x, y, w, h = (panel["gridPos"][name] for name in "xywh")
        assert x + w <= 24, panel["title"]
        cells = {(column, line) for column in range(x, x + w) for line in range(y, y + h)}
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
            assert panel["description"], panel["title"]
    assert "datasource" in {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert DASHBOARD["id"] is None


def test_the_rules_ask_for_what_is_there() -> None:
    """Every alert uses names and labels that the daemon tells, and says what to do."""
    for rule in rules():
        if NAME.search(rule["expr"]):
            check_expression(rule["expr"])
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"].keys() == {"summary", "description"}


def test_every_rule_is_tried() -> None:
    """The rules' own test makes each alert fire."""
    told = yaml.safe_load((PROMETHEUS / "alerts.test.yml").read_text())
    fired = {each["alertname"] for test in told["tests"] for each in test["alert_rule_test"] if each.get("exp_alerts")}
    assert fired == {rule["alert"] for rule in rules()}


def test_the_rules_are_documented() -> None:
    """docs/metrics.md has a row for each alert."""
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert re.findall(r"^\| `(Gemmad\w+)` \|", text, re.MULTILINE) == [rule["alert"] for rule in rules()]


@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", "alerts.yml"), ("test", "rules", "alerts.test.yml"), ("check", "config", "gemmad.yml")],
    ids=["rules", "tried", "config"],
)
def test_what_promtool_says(arguments: tuple[str, ...]) -> None:
    """Prometheus's own tool takes rules and config, and every alert fires and stays silent when it should."""
    promtool(*arguments, folder=PROMETHEUS)


def test_what_promtool_says_of_the_metrics() -> None:
    """Names, types and words are as Prometheus's guidelines want them."""
    told = Metrics(lambda: FULL, states=[state.value for state in State]).render()
    promtool("check", "metrics", folder=PROMETHEUS, stdin=told)


def test_what_promtool_says_of_the_dashboard(tmp_path: Path) -> None:
    """Each expression of it, with its variables filled in, is one that Prometheus can read."""
    filled = [
        expression.replace("$instance", ".*").replace("$worker", ".*").replace("$__rate_interval", "1m")
        for expression in expressions()
        if not expression.startswith("label_values(")
    ]
    recorded = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(filled)]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    promtool("check", "rules", str(path), folder=tmp_path)


def promtool(*arguments: str, folder: Path, stdin: bytes = b"") -> None:
    """Run it; what it complains of fails the test."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian: apt install prometheus)")
    done = subprocess.run([program, *arguments], cwd=folder, input=stdin, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
