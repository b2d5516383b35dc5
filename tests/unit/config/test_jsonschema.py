from __future__ import annotations

import re
import tomllib
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from gemmad.config.document import config_toml, example_file
from gemmad.config.jsonschema import json_schema
from gemmad.config.keys import keys
from gemmad.config.schema import Config


def takes(document: dict[str, Any]) -> bool:
    """Whether the JSON Schema does."""
    return bool(jsonschema.Draft202012Validator(json_schema()).is_valid(document))


def is_config(document: dict[str, Any]) -> bool:
    """Whether the daemon does."""
    try:
        Config.model_validate(document)
    except ValidationError:
        return False
    return True


def test_it_is_a_schema_of_every_key() -> None:
    """It is valid JSON Schema, and has each key with its sentence, its class and its default."""
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for key in keys():
        told = schema["properties"][key.section]["properties"][key.name]
        assert told["description"].startswith(key.doc)
        assert ("default" in told) == (key.default is not None)


def test_files_that_we_write_are_right() -> None:
    """The example, the example with all keys, and a config with its defaults written out."""
    everything = re.sub(r"(?m)^#(?! )", "", example_file())
    for text in (example_file(), everything, config_toml(Config())):
        assert takes(tomllib.loads(text))


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("server", {"port": 8000}),
        ("server", {"port": 65536}),
        ("server", {"prot": 1}),
        ("server", {"max_body": "64MiB"}),
        ("server", {"max_body": "64 quarts"}),
        ("server", {"max_body": 12}),
        ("server", {"ping_every": "1h30m"}),
        ("server", {"ping_every": "250ms"}),
        ("server", {"ping_every": "soon"}),
        ("server", {"ping_every": 0}),
        ("memory", {"fraction": 0.99}),
        ("memory", {"kv_bytes": 1}),
        ("memory", {"kv_bytes": "1GiB"}),
        ("engine", {"attention": "magic"}),
        ("engine", {"page_tokens": 16}),
        ("workers", {"gpus": "all"}),
        ("workers", {"gpus": "some"}),
        ("workers", {"gpus": [0, "0:1", "GPU-1"]}),
        ("recycle", {"at": ["04:00", "4:00"]}),
        ("recycle", {"at": ["25:00"]}),
        ("recycle", {"fragmentation": 1}),
        ("nonsense", {}),
    ],
)
def test_it_agrees_with_the_daemon(section: str, values: dict[str, Any]) -> None:
    """An editor marks as wrong what the daemon refuses, and nothing else."""
    document = {section: values}
    assert takes(document) == is_config(document)
