"""docs/troubleshooting.md names things that there are."""

from __future__ import annotations

import re
from pathlib import Path

from gemmad.api.overview import Configuration, Reload
from gemmad.cli import exits
from gemmad.cli.main import app
from gemmad.cli.reference import read_groups
from gemmad.config.keys import keys_by_name, sections
from gemmad.doctor.examine import examine
from gemmad.doctor.facts import DaemonFacts, Told
from tests.unit.cli.operated import overview, worker
from tests.unit.doctor.patients import facts, gpus

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "troubleshooting.md").read_text()
FENCED = re.search(r"```sh\n(.*?)```", PAGE, re.DOTALL)
assert FENCED is not None
CODE = re.findall(r"`([^`]+)`", PAGE.replace(FENCED[0], "")) + [
    line.partition("#")[0] for line in FENCED[1].splitlines()
]


def test_settings_and_verbs() -> None:
    """Every setting and every verb that the page names exists, with its options."""
    pattern = re.compile(rf"({'|'.join(sections())})\.[a-z_]+")
    named = {words for words in CODE if pattern.fullmatch(words)}
    assert len(named) > 10
    assert named <= set(keys_by_name())
    verbs = {verb.name: verb for group in read_groups(app) for verb in group.verbs}
    for line in [words for words in CODE if words.startswith("gemmad ")]:
        words = line.split()[1:]
        verb = verbs.get(" ".join(words[:2])) or verbs.get(words[0])
        assert verb is not None, line
        known = {name for option in verb.options for name in option.names}
        assert {word for word in words if word.startswith("-")} <= known, line


def test_metrics() -> None:
    """Every metric is in the list of metrics."""
    named = {words for words in CODE if re.fullmatch(r"gemmad_[a-z_]+", words)}
    assert len(named) > 5
    listed = set(re.findall(r"`(gemmad_[a-z_]+)`", (DOCS / "metrics.md").read_text()))
    assert named <= listed


def test_exit_statuses() -> None:
    """The statuses are those that commands leave with."""
    named = {int(status) for status in re.findall(r"exit status (\d+)", PAGE)}
    assert named == {exits.EXIT_TRY_AGAIN, exits.EXIT_CONFIG, exits.EXIT_NOT_RUNNING, exits.EXIT_NO_ACCESS}


def test_checks() -> None:
    """Every check that a column of doctor's names is one that it makes."""
    reload = Configuration(path="/g.toml", reload=Reload(ok=True, seconds_ago=1.0))
    running = DaemonFacts(socket="/s", overview=overview(worker(), config=reload))
    sick = examine(facts(gpus=Told(gpus(xids=("Xid 79",))), folders=Told(problem="no answer")), environ={})
    names = {each.name for each in (*sick, *examine(facts(daemon=running), environ={}))}
    first_words = set()
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 3 and cells[1].startswith("`"):
            first_words.add(re.findall(r"`([^`]+)`", cells[1])[0])
    told = {words for words in first_words if not words.startswith("gemmad")}
    assert len(told) > 8
    assert told <= names
