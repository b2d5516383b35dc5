"""Who is suspected, tried, acquitted and refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gemmad.dispatch.blame import TRIAL_TOKENS, Loss, Record, Treatment
from gemmad.supervisor.listener import Verdict

SUSPECT, INNOCENT = Verdict.SUSPECT, Verdict.INNOCENT


def record_of(*verdicts: Verdict | None) -> Record:
    record = Record()
    for verdict in verdicts:
        record.note(Loss(verdict), said=0)
    return record


def test_one_loss_is_nothing() -> None:
    """Any worker may die once."""
    assert record_of().treatment() is Treatment.WITH_OTHERS
    assert record_of(SUSPECT).treatment() is Treatment.WITH_OTHERS
    assert record_of(None).treatment() is Treatment.WITH_OTHERS


def test_two_losses_lead_to_a_trial() -> None:
    """The second one makes it run alone, before it is known why it was."""
    assert record_of(SUSPECT, SUSPECT).treatment() is Treatment.ALONE
    assert record_of(SUSPECT, None).treatment() is Treatment.ALONE
    assert record_of(None, None).treatment() is Treatment.ALONE


def test_three_losses_are_proof() -> None:
    """Once all three are judged; until then it is handed to nobody."""
    assert record_of(SUSPECT, SUSPECT, None).treatment() is Treatment.AWAITS_VERDICT
    assert record_of(None, None, None).treatment() is Treatment.AWAITS_VERDICT
    assert record_of(SUSPECT, SUSPECT, SUSPECT).treatment() is Treatment.REFUSED


def test_innocent_losses_count_for_nothing() -> None:
    """Workers that were recycled or killed from outside mark nobody, however many."""
    assert record_of(*[INNOCENT] * 50).treatment() is Treatment.WITH_OTHERS
    record = record_of(SUSPECT, *[INNOCENT] * 50, SUSPECT, INNOCENT)
    assert record.treatment() is Treatment.ALONE
    assert record.deaths() == 2
    pending = Loss()
    record.note(pending, said=0)
    assert record.treatment() is Treatment.AWAITS_VERDICT
    pending.verdict = INNOCENT
    assert record.treatment() is Treatment.ALONE


def test_an_acquittal_wipes_the_slate_but_not_the_count() -> None:
    """Who lived beyond what was deadly runs with others again, and its deaths are still counted."""
    record = Record()
    for said in (40, 50):
        record.note(Loss(SUSPECT), said=said)
    assert not record.has_passed(said=50 + TRIAL_TOKENS - 1)
    assert record.has_passed(said=50 + TRIAL_TOKENS)
    record.acquit()
    assert record.treatment() is Treatment.WITH_OTHERS
    record.note(Loss(SUSPECT), said=70)
    assert record.treatment() is Treatment.WITH_OTHERS
    record.note(Loss(SUSPECT), said=80)
    assert record.treatment() is Treatment.ALONE
    assert record.deaths() == 4


def test_a_conviction_solves_the_deaths() -> None:
    """What one was found guilty of is not counted against others who were there, but they stay suspect."""
    together = [Loss(SUSPECT), Loss(SUSPECT)]
    guilty, bystander = Record(), Record()
    for loss in together:
        guilty.note(loss, said=0)
        bystander.note(loss, said=0)
    guilty.note(Loss(SUSPECT), said=0)
    guilty.convict()
    assert bystander.deaths() == 0
    assert bystander.treatment() is Treatment.ALONE


@given(st.lists(st.sampled_from([None, SUSPECT, INNOCENT]), max_size=8), st.data())
def test_a_verdict_never_makes_it_worse_on_a_desk(verdicts: list[Verdict | None], data: st.DataObject) -> None:
    """Whoever was let run with others at its hand-over still may, whatever the verdicts are; who was alone may stay."""
    order = [Treatment.WITH_OTHERS, Treatment.ALONE, Treatment.AWAITS_VERDICT]
    record = record_of(*verdicts)
    before = record.treatment()
    for loss in record.losses:
        if loss.verdict is None:
            loss.verdict = data.draw(st.sampled_from([SUSPECT, INNOCENT]))
    if before in order[:2]:
        assert order.index(record.treatment()) <= order.index(before)
