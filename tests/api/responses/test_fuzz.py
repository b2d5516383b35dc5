"""Whatever is sent, the answer is a response or an error that names its field."""

from __future__ import annotations

from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gemmad.api.openai.responses.parameters import ITEMS, PARTS, RESPONSES
from tests.api.stage import MODEL

TYPES = st.sampled_from([one.name for one in (*ITEMS, *PARTS)] + ["function", "namespace", "custom", "text", ""])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    TYPES,
)
NAMES = (
    "type",
    "role",
    "content",
    "text",
    "id",
    "call_id",
    "name",
    "arguments",
    "output",
    "image_url",
    "tools",
    "mode",
)
KEYS = st.sampled_from((*NAMES, "format", "schema", "strict", "parameters", "namespace", "effort"))
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=8,
)
FIELDS = st.sampled_from([one.name for one in RESPONSES if one.name not in ("background", "model", "stream")])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(FIELDS, VALUES, max_size=4), st.booleans())
def test_anything(http: httpx.Client, fields: dict[str, Any], streamed: bool) -> None:
    """No request makes the server fail; a refusal is in OpenAI's shape."""
    for path in ("/v1/responses", "/v1/responses/input_tokens"):
        answer = http.post(path, json={"model": MODEL, "input": "Hi", "stream": streamed, **fields})
        assert answer.status_code in (200, 400), answer.text
        if answer.status_code == 400:
            assert answer.json()["error"]["type"] == "invalid_request_error"
