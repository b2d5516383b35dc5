"""Every field of a request for decisions, and what becomes of it."""

from __future__ import annotations

from gemmad.api.fields import honoured, ignored
from gemmad.api.openai.parameters import Parameter

DECISIONS: tuple[Parameter, ...] = (
    honoured("model", "one of the names in `GET /v1/models`"),
    honoured("input", "a string, or messages, calls and their outputs"),
    honoured("questions", "1 to 400 of type predicate, choice or score"),
    ignored("prompt_cache_key", "no cache needs the hint"),
    ignored("prompt_cache_options", "no cache needs the hint"),
    ignored("safety_identifier", "names the end user"),
)

QUESTION: tuple[Parameter, ...] = (
    honoured("type", "predicate, choice or score"),
    honoured("name", "comes back with the answer; need not be unique"),
    honoured("instructions", "a string, or parts of type input_text, input_image and input_json"),
    honoured("choices", "of a choice: 2 to 255, each a `value` (string or boolean) and a `description`"),
    honoured("levels", "of a score: 2 to 10, from low to high, each a `label` and a `description`"),
)
