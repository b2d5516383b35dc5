"""What schemathesis sends: bodies that get past the model's name, and replies that end soon."""

from __future__ import annotations

from typing import Any

import schemathesis

MODEL = "gemma-3-demo"
LENGTHS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "num_predict", "min_tokens")
LONGEST = 4


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Of a JSON object only, and only where it names a model or a length at all."""
    if not isinstance(body, dict):
        return body
    named = {"model": MODEL} if isinstance(body.get("model"), str) else {}
    short = {name: min(body[name], LONGEST) for name in LENGTHS if type(body.get(name)) is int}
    return {**body, **named, **short}
