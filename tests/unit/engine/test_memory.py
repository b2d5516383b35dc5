"""The planner's numbers against the engine's own: what is planned is what is taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gemmad.demo import CHECKPOINT
from gemmad.engine.flat import MOST_BANNED_IDS, sliding_ring
from gemmad.engine.graphs import buckets
from gemmad.engine.memory import allocate_pools, shape_of
from gemmad.engine.pages import PagePool
from gemmad.engine.recording import RepeatRecorder
from gemmad.engine.scheduler import Limits, Scheduler
from gemmad.engine.sequence import new_sequence
from gemmad.engine.staging import Layout
from gemmad.engine.steering import Steering
from gemmad.generation import KVFormat, Prompt, SamplingParams, WeightFormat
from gemmad.kernels.matrices import BLOCK, empty_coded
from gemmad.kernels.ops import REFERENCE
from gemmad.kernels.pages import page_type
from gemmad.models.config import read_config
from gemmad.models.gemma3 import Gemma3
from gemmad.models.weights import coded_tensors, random_weights
from gemmad.planning import coding
from gemmad.planning.budget import step_sizes
from gemmad.planning.codes import matrix_pieces, weight_bytes, weight_pieces
from gemmad.planning.coding import Coding
from gemmad.planning.pages import PagePlan, PageRules, sequences_that_fit, split_pages
from gemmad.planning.shape import PUBLISHED, published_shape, read_shape
from gemmad.planning.step import graph_counts, input_bytes, ladder, steered_ladder, steering_bytes
from tests.unit.planning.settings import gpu

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "config",
    [
        *PUBLISHED.values(),
        {"model_type": "gemma3_text"},
        {"model_type": "gemma3_text", "sliding_window_pattern": 4, "num_hidden_layers": 9, "sliding_window": 7},
        {"model_type": "gemma3", "mm_tokens_per_image": 49, "text_config": {"vocab_size": 99}},
    ],
    ids=lambda config: json.dumps(config)[:50],
)
def test_both_readers_see_the_same_network(config: dict[str, Any], tmp_path: Path) -> None:
    """The planner, which knows neither torch nor transformers, reads from a config what the engine reads from it."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_shape(tmp_path) == shape_of(read_config(tmp_path))


def test_the_bundled_network_is_read_alike() -> None:
    """So it does for the bundled checkpoint."""
    assert read_shape(CHECKPOINT) == shape_of(read_config(CHECKPOINT))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_take_what_is_planned(dtype: torch.dtype) -> None:
    """To the byte, vision tower included."""
    weights = random_weights(read_config(CHECKPOINT), device=CPU, dtype=dtype)
    assert read_shape(CHECKPOINT).weight_bytes(dtype.itemsize) == weights.nbytes


@pytest.mark.parametrize("format", ["fp8", "int8", "int4"])
def test_coded_weights_take_what_is_planned(format: WeightFormat) -> None:
    """To the byte too, each tensor for itself."""
    weights = random_weights(read_config(CHECKPOINT), device=CPU, dtype=torch.bfloat16, format=format)
    assert weight_bytes(read_shape(CHECKPOINT), format, itemsize=2) == weights.nbytes
    pieces = weight_pieces(read_shape(CHECKPOINT), format, itemsize=2)
    assert sorted(pieces) == sorted(each.nbytes for each in coded_tensors(weights).values())


@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("offsets", [False, True])
def test_groups_take_what_is_planned(group: int, offsets: bool) -> None:
    """Whatever the groups of a checkpoint that comes coded, and in what its scales are."""
    assert coding.BLOCK == BLOCK
    for scale in (torch.float16, torch.float32):
        made = empty_coded("int4", 96, 512, device=CPU, group=group, scale_dtype=scale, offsets=offsets)
        pieces = matrix_pieces(Coding("int4", group, scale.itemsize, offsets), 96, 512)
        assert pieces == tuple(tensor.nbytes for tensor in made.tensors())


@pytest.mark.parametrize("kv", ["bf16", "int8", "fp8"])
def test_pools_take_what_is_planned(kv: KVFormat) -> None:
    """To the byte, each kind for itself."""
    rules = PageRules.of(read_shape(CHECKPOINT), page_tokens=8, longest_chunk=64, itemsize=2, kv=kv)
    plan = split_pages(rules, 3 << 20, max_context=512, max_sequences=5, prefix_cache=True)
    text = read_config(CHECKPOINT).text
    pools = allocate_pools(text, plan, page_tokens=8, device=CPU, dtype=page_type(kv, torch.bfloat16))
    assert sum(layer.nbytes for layer in pools.full) == plan.full_bytes
    assert sum(layer.nbytes for layer in pools.sliding) == plan.sliding_bytes


@given(
    length=st.integers(1, 5000),
    chunk=st.integers(1, 600),
    page=st.integers(1, 64),
    window=st.integers(1, 300),
    kinds=st.sampled_from(((1, 1), (0, 1), (1, 0))),
)
def test_planner_and_scheduler_count_alike(
    length: int, chunk: int, page: int, window: int, kinds: tuple[int, int]
) -> None:
    """A sequence holds the pages that the planner gives it."""
    full, sliding = kinds
    limits = Limits(1, chunk, page, window, full_layers=bool(full), sliding_layers=bool(sliding))
    rules = PageRules(
        page_tokens=page, window=window, full_layers=full, sliding_layers=sliding, token_bytes=1, longest_chunk=chunk
    )
    assert rules.full(length) == limits.full_pages_for(length)
    assert rules.sliding(length, chunk=chunk) == limits.most_sliding_pages(length, chunk)


@settings(max_examples=30)
@given(
    length=st.integers(40, 120),
    page=st.sampled_from((1, 4, 8)),
    window=st.integers(4, 40),
    chunk=st.integers(24, 40),
    spare=st.integers(0, 400),
)
def test_what_is_said_to_fit_runs_side_by_side(length: int, page: int, window: int, chunk: int, spare: int) -> None:
    """As many sequences as a plan tells run at once to their full length, and none has to give way."""
    rules = PageRules(
        page_tokens=page, window=window, full_layers=1, sliding_layers=2, token_bytes=1, longest_chunk=chunk
    )
    kv_bytes = rules.least(length).nbytes + spare * page
    plan = split_pages(rules, kv_bytes, max_context=length, max_sequences=12, prefix_cache=False)
    count = min(12, sequences_that_fit(rules, plan, length))
    limits = Limits(12, chunk, page, window)
    scheduler = Scheduler(limits, PagePool(plan.full_pages), PagePool(plan.sliding_pages))
    prompt = Prompt((1,) * (length // 4))
    for number in range(count):
        scheduler.add(new_sequence(number, prompt, SamplingParams(max_tokens=length - length // 4)))
    at_once = 0
    while scheduler.running or scheduler.waiting:
        chunks = scheduler.schedule()
        at_once = max(at_once, len(scheduler.running))
        scheduler.advance(chunks)
        for spoken in [chunk.sequence for chunk in chunks if chunk.speaks]:
            if spoken.append(0) is not None:
                scheduler.remove(spoken)
    assert (at_once, scheduler.preemptions) == (count, 0)


@pytest.mark.parametrize(("sequences", "tokens"), [(1, 16), (64, 2048), (24, 300), (128, 8192)])
def test_as_many_graphs_as_are_planned(sequences: int, tokens: int) -> None:
    """The planner's ladder is the runner's."""
    sizes = step_sizes(published_shape("1b"), gpu(max_sequences=sequences, max_step_tokens=tokens))
    recorded = buckets(sequences, sizes.tokens, gathers=sizes.attention != "triton")
    heads = len(ladder(1, sequences)) + len(steered_ladder(sequences))
    assert graph_counts(sizes) == (len(recorded), heads)
    assert heads == sum(bucket.decode for bucket in recorded)


@pytest.mark.parametrize(("sequences", "tokens", "context"), [(1, 16, 64), (64, 2048, 131_072), (24, 300, 4000)])
def test_inputs_fit_their_row(sequences: int, tokens: int, context: int) -> None:
    """The buffers of the largest step are no larger than planned, and not much smaller."""
    shape = published_shape("12b")
    sizes = step_sizes(shape, gpu(max_sequences=sequences, max_step_tokens=tokens, max_context=context))
    limits = Limits(sequences, tokens, sizes.page_tokens, shape.window)
    columns, width = sliding_ring(limits, sizes.tokens), limits.full_pages_for(context)
    layouts = [
        Layout(bucket, sliding_columns=columns, full_columns=width) for bucket in buckets(sequences, sizes.tokens)
    ]
    taken = max(layout.nbytes for layout in layouts) + sequences * (8 + shape.hidden_size * sizes.itemsize)
    assert MOST_BANNED_IDS == 8
    assert taken <= input_bytes(shape, sizes) <= taken * 1.2 + 4096


@pytest.mark.parametrize("sequences", [1, 24])
def test_steering_takes_what_is_planned(sequences: int) -> None:
    """To the byte."""
    config = read_config(CHECKPOINT)
    weights = random_weights(config, device=CPU, dtype=torch.float32)
    pools = allocate_pools(config.text, PagePlan(1, 1, 1, 1), page_tokens=1, device=CPU, dtype=torch.float32)
    model = Gemma3(config.text, weights, pools, REFERENCE)
    steering = Steering(model, REFERENCE, max_sequences=sequences, recorder=RepeatRecorder())
    shape = read_shape(CHECKPOINT)
    assert steering.nbytes == steering_bytes(shape, step_sizes(shape, gpu(max_sequences=sequences)))


def test_a_page_costs_what_its_layers_hold() -> None:
    """12B: 8 KiB a token and layer; 8 layers see everything, 40 a window."""
    rules = PageRules.of(published_shape("12b"), page_tokens=16, longest_chunk=2048, itemsize=2)
    assert rules.least(32_768) == PagePlan(2048, 193, 8 * 16 * 8192, 40 * 16 * 8192)
