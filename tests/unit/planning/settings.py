"""Settings and networks for planners, and hypothesis' strategies for both."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from gemmad.generation import EngineSettings
from gemmad.planning.budget import Costs
from gemmad.planning.pages import PageRules
from gemmad.planning.shape import PUBLISHED, ModelShape, published_shape

GIB = 1 << 30
COSTS = Costs(
    context_bytes=512 << 20,
    matmul_bytes=64 << 20,
    graph_bytes=256 << 10,
    graph_layer_bytes=64 << 10,
    slack_bytes=64 << 20,
    process_bytes=1 << 30,
)
"""Round ones, for numbers that a test knows; the real ones follow the last measurement."""


def gpu(**changes: Any) -> EngineSettings:
    """A GPU worker's, silent but for the changes."""
    return EngineSettings(**({"checkpoint": "", "device": "cuda:0"} | changes))


def cpu(**changes: Any) -> EngineSettings:
    """A CPU worker's."""
    return EngineSettings(**({"checkpoint": ""} | changes))


shapes = st.sampled_from(tuple(PUBLISHED)).map(published_shape)


@st.composite
def fitting_settings(draw: st.DrawFn, shape: ModelShape) -> EngineSettings:
    """Settings that a GPU might be given."""
    return gpu(
        max_context=draw(st.integers(16, shape.max_context)),
        max_sequences=draw(st.integers(1, 300)),
        max_step_tokens=draw(st.integers(16, 8192)),
        page_tokens=draw(st.sampled_from((1, 16, 64))),
        memory_fraction=draw(st.floats(0.3, 0.98)),
        reserve_bytes=draw(st.integers(0, 2 * GIB)),
        attention=draw(st.sampled_from(("auto", "triton", "torch"))),
        prefix_cache=draw(st.booleans()),
    )


rules = st.builds(
    PageRules,
    page_tokens=st.integers(1, 64),
    window=st.integers(1, 300),
    full_layers=st.integers(0, 4),
    sliding_layers=st.integers(0, 4),
    token_bytes=st.integers(1, 50),
    longest_chunk=st.integers(1, 500),
).filter(lambda rules: rules.full_layers + rules.sliding_layers > 0)
