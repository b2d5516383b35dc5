"""What would fit on a device: formats of weights and cache with the longest context that each leaves room for."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from gemmad.generation import EngineSettings
from gemmad.planning.budget import Costs, Fit, context_of, page_rules, plan_memory
from gemmad.planning.formats import Capability, combinations
from gemmad.planning.pages import sequences_that_fit
from gemmad.planning.searching import largest_that_fits
from gemmad.planning.shape import ModelShape

SIDE_BY_SIDE = (4096, 8192)
"""Lengths of which a proposal counts sequences."""
USEFUL_CONTEXT = 8192
"""Where what was asked for cannot be, the truest formats that hold so many tokens are better than truer ones with
fewer."""
_STEPS = ((32, 2048), (16, 1024), (4, 512), (1, 256))
"""Sequences and tokens of a step: smaller ones leave more for pages. None goes beyond what is asked for."""
_SHORTEST = 1024
"""Formats that leave no room for so many tokens are not worth telling."""
_ROUND = 1024
"""Contexts are told in multiples of this where there are so many tokens."""


class Proposal(Struct, frozen=True, kw_only=True):
    """Settings that fit."""

    settings: EngineSettings
    """With no format left open."""
    max_context: int
    """Theirs; or what the network was trained for, where they are silent."""
    longest: int
    """Tokens of the longest sequence that their formats leave room for, at most what the network was trained for."""
    fits: tuple[Fit, ...]
    """Sequences side by side, of each length of `SIDE_BY_SIDE` that the context reaches."""
    whole_steps: bool
    """Whether as many sequences and tokens in a step are had as were asked for."""
    reaches: bool
    """Whether it does all that was asked for: those, and the context."""

    def changes(self, asked: EngineSettings) -> dict[str, int | str]:
        """What has to be set otherwise than what was asked for: names as in the configuration, and values."""
        names = ("weights", "kv", "max_context", "max_sequences", "max_step_tokens")
        pairs = {name: getattr(self.settings, name) for name in names}
        return {f"engine.{name}": value for name, value in pairs.items() if value != getattr(asked, name)}


class Proposals(Struct, frozen=True):
    """All that fit, the truest first."""

    listed: tuple[Proposal, ...]
    best: Proposal | None
    """The one to take; None where nothing fits."""


def propose(
    shape: ModelShape,
    settings: EngineSettings,
    total_bytes: int,
    *,
    capability: Capability | None = None,
    costs: Costs | None = None,
) -> Proposals:
    """Proposals for a device with `total_bytes`, for all choices that `auto` leaves open in `settings`.

    The best is the first that does all that is asked for, which is what `formats.resolve` takes. Where none does it is
    the first that holds the context with fewer sequences or shorter steps, then the first with `USEFUL_CONTEXT`, those
    with whole steps before others, then the one with the longest context.

    Raises MemoryPlanError for a context longer than the network was trained for.
    """
    wanted = context_of(shape, settings)
    device = _Device(shape, total_bytes, costs)
    choices = combinations(settings, shape, capability=capability)
    listed = tuple(each for each in (device.proposal(choice, wanted) for choice in choices) if each is not None)
    return Proposals(listed, _best(listed, wanted))


def _best(listed: Sequence[Proposal], wanted: int) -> Proposal | None:
    useful = min(wanted, USEFUL_CONTEXT)
    orders = (
        (each for each in listed if each.reaches),
        (each for each in listed if each.longest >= wanted),
        (each for each in listed if each.longest >= useful and each.whole_steps),
        (each for each in listed if each.longest >= useful),
    )
    for order in orders:
        if (found := next(order, None)) is not None:
            return found
    return max(listed, key=lambda each: each.longest, default=None)


class _Device(Struct, frozen=True):
    """What settings are tried on."""

    shape: ModelShape
    total_bytes: int
    costs: Costs | None

    def proposal(self, settings: EngineSettings, wanted: int) -> Proposal | None:
        """With these formats; None where not even a short context fits."""
        sized = self._sized(settings, wanted)
        if sized is None:
            return None
        most = self.shape.max_context + 1
        longest = largest_that_fits(1, most, lambda context: self._holds(sized, context))
        assert longest is not None, "a longer one fits"
        taken = sized if longest >= wanted else msgspec.structs.replace(sized, max_context=_rounded(longest))
        max_context = context_of(self.shape, taken)
        return Proposal(
            settings=taken,
            max_context=max_context,
            longest=longest,
            fits=tuple(self._fit(taken, length) for length in SIDE_BY_SIDE if length <= max_context),
            whole_steps=sized == settings,
            reaches=longest >= wanted and sized == settings,
        )

    def _sized(self, settings: EngineSettings, wanted: int) -> EngineSettings | None:
        """With the largest steps that hold what is wanted; else a useful context; else a short one."""
        sizes = tuple(dict.fromkeys((settings, *(_smaller(settings, *step) for step in _STEPS))))
        for least in (wanted, min(wanted, USEFUL_CONTEXT), min(wanted, _SHORTEST)):
            for each in sizes:
                if self._holds(each, least):
                    return each
        return None

    def _holds(self, settings: EngineSettings, context: int) -> bool:
        changed = msgspec.structs.replace(settings, max_context=context)
        return plan_memory(self.shape, changed, total_bytes=self.total_bytes, costs=self.costs).problem is None

    def _fit(self, settings: EngineSettings, length: int) -> Fit:
        pages = plan_memory(self.shape, settings, total_bytes=self.total_bytes, costs=self.costs).pages
        count = sequences_that_fit(page_rules(self.shape, settings), pages, length)
        return Fit(length, min(settings.max_sequences, count))


def _smaller(settings: EngineSettings, sequences: int, tokens: int) -> EngineSettings:
    return msgspec.structs.replace(
        settings,
        max_sequences=min(settings.max_sequences, sequences),
        max_step_tokens=min(settings.max_step_tokens, tokens),
    )


def _rounded(context: int) -> int:
    return context - context % _ROUND if context > _ROUND else context
