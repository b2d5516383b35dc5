"""What a reply can be held to, as a client asks for it."""

from __future__ import annotations

from msgspec import Struct

from gemmad.generation import Tool, ToolChoice


class JsonObject(Struct, frozen=True, tag=True):
    """Any JSON object."""


class JsonSchema(Struct, frozen=True, tag=True):
    """JSON that a schema allows."""

    schema: str
    """As JSON text, with the keys in the client's order."""
    strict: bool = False
    """OpenAI's word for: every keyword counts. A keyword that cannot be held is refused; without it, it is left out."""


class Regex(Struct, frozen=True, tag=True):
    """Text that matches a regular expression as a whole."""

    pattern: str


class Choice(Struct, frozen=True, tag=True):
    """One of these, exactly."""

    options: tuple[str, ...]


class Ebnf(Struct, frozen=True, tag=True):
    """Text of a context-free grammar, as vLLM's `guided_grammar` and llama.cpp's GBNF write it, or Lark's."""

    source: str


class Calls(Struct, frozen=True, tag=True):
    """Calls of functions, or, if the choice is `auto`, calls or anything else."""

    tools: tuple[Tool, ...]
    choice: ToolChoice
    otherwise: JsonObject | JsonSchema | Regex | Choice | Ebnf | None = None
    """What a reply without calls is held to; None: nothing."""


Spec = JsonObject | JsonSchema | Regex | Choice | Ebnf | Calls
