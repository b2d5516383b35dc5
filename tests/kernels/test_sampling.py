"""Drawing without sorting gives the twin's tokens."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gemmad.kernels.batch import SamplingBatch
from gemmad.kernels.reference import sampling as twin
from tests.kernels.conftest import DEVICE

pytest.importorskip("triton", reason="triton is not installed")

CUT = {"chunk": 64, "most": 16, "likely": 32, "room": 64}
CUT |= {"bins": 64, "slice": 256, "tile": 128, "listed": 128, "stride": 128}


def batch(rows: int, **changes: Any) -> SamplingBatch:
    """Rows that sample without filters, each with its own seed."""
    values: dict[str, Any] = {
        "temperature": torch.ones(rows),
        "top_k": torch.zeros(rows, dtype=torch.int64),
        "top_p": torch.ones(rows),
        "min_p": torch.zeros(rows),
        "seed": torch.arange(rows) * 0x123456789ABC,
        "position": torch.arange(rows) * 7,
        "banned_ids": torch.full((rows, 2), -1),
    }
    return SamplingBatch(**{name: value.to(DEVICE) for name, value in (values | changes).items()})


def mixture(chance: random.Random, rows: int, vocabulary: int) -> SamplingBatch:
    """Rows of every kind side by side."""

    def choose(*values: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.tensor([chance.choice(values) for _ in range(rows)], dtype=dtype)

    return batch(
        rows,
        temperature=choose(0.0, 1.0, 0.5, 2.0),
        top_k=choose(0, 0, 1, 5, 16, 17, 40, 10000, dtype=torch.int64),
        # No whole number of equal tokens has such a share: where one has, rounding decides about the last.
        top_p=choose(1.0, 1.0, 0.953, 0.503, 0.053, 0.0),
        min_p=choose(0.0, 0.0, 0.02, 0.5, 1.0),
        seed=torch.tensor([chance.randrange(-(1 << 63), 1 << 63) for _ in range(rows)]),
        position=torch.tensor([chance.randrange(1 << 40) for _ in range(rows)]),
        banned_ids=torch.tensor(
            [[chance.choice([-1, -1, chance.randrange(vocabulary)]) for _ in range(3)] for _ in range(rows)]
        ),
    )


def draw(logits: torch.Tensor, rows: SamplingBatch, **cut: int) -> list[int]:
    """Tokens of the kernels, cut small so that every part of them has work."""
    from gemmad.kernels.triton import sampling
    from gemmad.kernels.triton.cut import Cut

    logits = logits.to(DEVICE)
    drawn: list[int] = sampling.sample(logits, rows, cut=Cut(**CUT | cut)).tolist()
    return drawn


def wanted(logits: torch.Tensor, rows: SamplingBatch) -> list[int]:
    """The twin's tokens."""
    drawn: list[int] = twin.sample(logits.to(DEVICE), rows).tolist()
    return drawn


@given(st.integers(0, 1 << 30))
@settings(max_examples=25)
def test_any_mixture_of_rows_equals_the_twin(seed: int) -> None:
    """Any filters, temperatures and bans beside each other, over flat, steep, tied and mostly forbidden logits."""
    chance, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    vocabulary = chance.choice([5, 17, 64, 100, 300, 500])
    logits = torch.randn(4, vocabulary, generator=generator) * chance.choice([0.1, 1, 4, 10])
    if chance.random() < 0.3:
        logits = logits.round()
    if chance.random() < 0.2:
        logits[torch.rand(logits.shape, generator=generator) < 0.9] = float("-inf")
        logits[:, :4] = 0.0
    rows = mixture(chance, len(logits), vocabulary)
    assert draw(logits, rows) == wanted(logits, rows)


@pytest.mark.parametrize("kind", ["equal", "sorted", "reversed"])
def test_logits_that_crowd_the_list_of_candidates(kind: str) -> None:
    """Where far more tokens than expected may be among the k, the draw is still the twin's."""
    logits = {
        "equal": torch.zeros(4, 500),
        "sorted": torch.linspace(5, 0, 500).repeat(4, 1),
        "reversed": torch.linspace(0, 5, 500).repeat(4, 1),
    }[kind]
    rows = batch(4, top_k=torch.tensor([16, 3, 100, 0]), top_p=torch.tensor([1.0, 0.6, 0.5, 0.3]))
    assert draw(logits, rows) == wanted(logits, rows)


@given(st.integers(0, 1 << 30), st.sampled_from([32, 256]))
@settings(max_examples=8)
def test_rows_that_are_narrowed_down(seed: int, bins: int) -> None:
    """Where no first draw settles a row, where its filters end is found exactly, however coarse the bins are."""
    chance, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 300, generator=generator) * chance.choice([0.01, 0.3, 1, 4, 30])
    rows = batch(
        4,
        top_k=torch.tensor([0, 0, 20, 100]),
        top_p=torch.tensor([chance.choice([0.01, 0.1, 0.3, 0.9, 0.999]) for _ in range(4)]),
        min_p=torch.tensor([0.0, 0.01, 0.0, 0.01]),
        seed=torch.tensor([chance.randrange(1 << 62) for _ in range(4)]),
    )
    assert draw(logits, rows, bins=bins, listed=512) == wanted(logits, rows)


def test_the_sizes_that_are_used() -> None:
    """The kernels as they are cut for a whole vocabulary give the twin's tokens over a part of one."""
    from gemmad.kernels.triton import sampling

    logits = torch.randn(3, 20000, generator=torch.Generator().manual_seed(5)).bfloat16().to(DEVICE)
    rows = batch(3, top_k=torch.tensor([0, 200, 64]), top_p=torch.tensor([0.053, 0.9, 0.95]))
    assert sampling.sample(logits, rows).tolist() == wanted(logits, rows)


def test_min_p_alone() -> None:
    """What min_p keeps is drawn from at once."""
    logits = torch.randn(4, 500, generator=torch.Generator().manual_seed(4)) * 2
    rows = batch(4, min_p=torch.tensor([0.001, 0.1, 0.9, 1.0]))
    assert draw(logits, rows) == wanted(logits, rows)
    assert draw(logits, rows)[3] == int(logits[3].argmax())


def test_bfloat16_logits() -> None:
    """Logits as the head gives them need no copy in float32 first, neither here nor in the twin."""
    logits = (torch.randn(6, 400, generator=torch.Generator().manual_seed(1)) * 3).bfloat16()
    rows = mixture(random.Random(1), 6, 400)
    assert draw(logits, rows) == wanted(logits, rows) == wanted(logits.float(), rows)


def test_a_row_is_drawn_alone_as_among_others() -> None:
    """What a row's neighbours are changes nothing."""
    logits = torch.randn(6, 300, generator=torch.Generator().manual_seed(2))
    rows = mixture(random.Random(2), 6, 300)
    together = draw(logits, rows)
    for row in range(6):
        fields: dict[str, Any] = {name: value[row : row + 1] for name, value in vars(rows).items() if name != "greedy"}
        alone = SamplingBatch(**fields)
        assert draw(logits[row : row + 1], alone) == [together[row]]


def test_logits_that_are_no_numbers_end() -> None:
    """A network gone wrong gives some token of the vocabulary, and no kernel runs for ever."""
    logits = torch.full((6, 200), float("nan"))
    logits[3:] = float("-inf")
    kinds = batch(6, top_k=torch.tensor([0, 8, 50] * 2), top_p=torch.full((6,), 0.5), min_p=torch.full((6,), 0.1))
    assert all(0 <= token < 200 for token in draw(logits, kinds))


def test_philox_equals_its_twin() -> None:
    """The generator agrees in every bit, for seeds of either sign and positions beyond 32 bits."""
    import triton
    import triton.language as tl

    from gemmad.kernels.triton.noise import philox

    @triton.jit  # type: ignore[untyped-decorator]
    def kernel(seeds, positions, out, philox: tl.constexpr, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
        row = tl.program_id(0)
        ids = tl.arange(0, SIZE)
        drawn = philox(tl.load(seeds + row), tl.load(positions + row), ids * 257)
        tl.store(out + row * SIZE + ids, drawn.to(tl.int64))

    seeds = torch.tensor([0, -1, 1 << 62, -(1 << 63), 12345678901234567], device=DEVICE)
    positions = torch.tensor([0, 1, (1 << 31) + 5, 1 << 40, 131071], device=DEVICE)
    out = torch.full((5, 1024), -1, dtype=torch.int64, device=DEVICE)
    kernel[(5,)](seeds, positions, out, philox=philox, SIZE=1024)
    assert torch.equal(out, twin.philox(seeds[:, None], positions[:, None], torch.arange(1024, device=DEVICE) * 257))


def test_noise_is_exact_at_the_ends() -> None:
    """From the smallest uniform to the largest, noise in float32 is that of float64 but for its last bits."""
    import triton
    import triton.language as tl

    from gemmad.kernels.triton.noise import gumbel_of

    @triton.jit  # type: ignore[untyped-decorator]
    def kernel(bits, out, gumbel_of: tl.constexpr, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
        places = tl.arange(0, SIZE)
        tl.store(out + places, gumbel_of(tl.load(bits + places)))

    ends = [torch.arange(start, start + 512) for start in (0, (1 << 23) - 256, (1 << 24) - 512)]
    bits = torch.cat([*ends, torch.randint(0, 1 << 24, (512,))]).int().to(DEVICE)
    out = torch.full(bits.shape, float("nan"), device=DEVICE)
    kernel[(1,)](bits, out, gumbel_of=gumbel_of, SIZE=len(bits))
    exact = -(-((bits.double() + 0.5) * 2.0**-24).log()).log()
    torch.testing.assert_close(out.double(), exact, rtol=1e-6, atol=2e-7)
