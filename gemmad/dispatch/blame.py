"""Which request it is that workers die of: pure rules over what each one was there for.

Every worker's death is a loss to all requests that were on its desk. They move on at once; whether any of them may be
to blame is known a moment later, when the exit is judged. Until then a loss counts against them, in doubt.

    losses against it   what follows
    0, 1                it runs with others, like any request
    2                   trial: it runs alone, on an empty desk that takes nothing else meanwhile
    3                   it is refused: the third was lost while it was alone; before, all three verdicts are waited for

A loss counts at once and a verdict can only take it back, so on a desk nothing rises: who was alone at its third loss
was so from its hand-over on. Hence a poisonous request costs three workers at most, however fast it moves from one to
the next, and only the last of them is its own. Workers that were told to go or were killed from outside count for
nothing.

A trial need not last to the end of the reply. Drawing a token depends on the seed and the position alone, so what was
deadly is met again at the same position: a request that has said `TRIAL_TOKENS` more than at any death is acquitted,
and its losses count no more. (`TRIAL_TOKENS` is more than a worker can have computed and not yet told when it died.)
A batch of innocents is thus cleared in a prompt's time for each, and nobody waits for whole replies. What kills by
chance, or only in company, passes; it ends when it was there at more than `dispatch.max_failovers` suspicious deaths,
which no trial takes back. Those that somebody else was found guilty of do not count there. (That number is well above
3, so that who is innocent lives through several culprits at a time.)
"""

from __future__ import annotations

import dataclasses
import enum

from gemmad.supervisor.listener import Verdict

LOSSES_FOR_TRIAL = 2
LOSSES_FOR_REFUSAL = 3
TRIAL_TOKENS = 16


class Treatment(enum.Enum):
    """What is to be done with a request."""

    WITH_OTHERS = "with others"
    ALONE = "alone"
    AWAITS_VERDICT = "awaits verdict"
    """It may be handed to nobody."""
    REFUSED = "refused"


@dataclasses.dataclass(eq=False, slots=True)
class Loss:
    """One life of one worker that is over."""

    verdict: Verdict | None = None
    solved: bool = False
    """Somebody was found guilty of it."""


@dataclasses.dataclass(eq=False, slots=True)
class Record:
    """What is known of one request."""

    losses: list[Loss] = dataclasses.field(default_factory=list)
    acquitted_of: int = 0
    """How many of the first losses count no more."""
    furthest: int = 0
    """The most tokens that it had said at a loss."""

    def note(self, loss: Loss, *, said: int) -> None:
        """It was there."""
        self.losses.append(loss)
        self.furthest = max(self.furthest, said)

    def treatment(self) -> Treatment:
        """By what counts against it now."""
        against = [loss for loss in self.losses[self.acquitted_of :] if loss.verdict is not Verdict.INNOCENT]
        if len(against) < LOSSES_FOR_TRIAL:
            return Treatment.WITH_OTHERS
        if len(against) < LOSSES_FOR_REFUSAL:
            return Treatment.ALONE
        if any(loss.verdict is None for loss in against):
            return Treatment.AWAITS_VERDICT
        return Treatment.REFUSED

    def deaths(self) -> int:
        """Suspicious ones that nobody else was found guilty of."""
        return sum(loss.verdict is Verdict.SUSPECT and not loss.solved for loss in self.losses)

    def has_passed(self, *, said: int) -> bool:
        """Whether it has lived through all that may have been deadly."""
        return said >= self.furthest + TRIAL_TOKENS

    def acquit(self) -> None:
        """What has been counts no more."""
        self.acquitted_of = len(self.losses)

    def convict(self) -> None:
        """It has done it, all of it."""
        for loss in self.losses[self.acquitted_of :]:
            loss.solved = True
