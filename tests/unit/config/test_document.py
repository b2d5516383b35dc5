from __future__ import annotations

import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from gemmad.config.document import (
    MAY_BE_SECRET,
    config_toml,
    example_file,
    settings_page,
    told_value,
    toml_value,
    without_secret,
)
from gemmad.config.keys import changes, keys, sections
from gemmad.config.load import load_config
from gemmad.config.quantities import Address
from gemmad.config.schema import Config

ROOT = Path(__file__).parents[3]


def test_the_page_is_the_schema() -> None:
    """docs/configuration.md is what the schema says now; `make docs` writes it."""
    assert (ROOT / "docs/configuration.md").read_text() == settings_page()


def test_every_key_is_on_the_page() -> None:
    """Every key has a row with its sentence."""
    page = settings_page()
    for key in keys():
        assert f"| `{key.name}` |" in page
        assert key.doc in page


def test_a_config_as_a_file_says_the_same(tmp_path: Path) -> None:
    """A config written as TOML is read back as the same config, whatever its texts are."""
    config = Config.model_validate(
        {
            "model": {"path": '/a "b"\\\n\x7f\x01é😀', "served_names": ["x'y", ""]},
            "server": {"uds": "/run/x.sock", "ping_every": 0.1},
            "sampling": {"temperature": 0, "top_p": 0.25},
            "media": {"fetch": False},
        }
    )
    path = tmp_path / "gemmad.toml"
    path.write_text(config_toml(config))
    assert load_config(path, env={}, overrides={}).config == config


def test_origins_are_remarks(tmp_path: Path) -> None:
    """With origins each line says who set it, and the file still reads as the same config."""
    path = tmp_path / "gemmad.toml"
    path.write_text("[server]\nport = 5\n")
    loaded = load_config(path, env={}, overrides={"server.host": "h"})
    text = config_toml(loaded.config, loaded.origins)
    assert "port = 5  # file\n" in text
    assert 'host = "h"  # flag\n' in text
    path.write_text(text)
    assert load_config(path, env={}, overrides={}).config == loaded.config


def test_the_example_is_the_schema() -> None:
    """packaging/gemmad.toml is what the schema says now; `make docs` writes it."""
    assert (ROOT / "packaging/gemmad.toml").read_text() == example_file()


def test_the_example_says_nothing(tmp_path: Path) -> None:
    """As it is it leaves every default; with every key uncommented it is right, and sets every key."""
    path = tmp_path / "gemmad.toml"
    path.write_text(example_file())
    assert load_config(path, env={}, overrides={}).config == Config()
    path.write_text(re.sub(r"(?m)^#(?! )", "", example_file()))
    loaded = load_config(path, env={}, overrides={})
    assert set(loaded.origins.values()) == {"file"}
    unset = {key.dotted for key in keys() if key.default is None}
    default = load_config(None, env={"GEMMAD_CONFIG_DIR": "/nonexistent"}, overrides={}).config
    assert {change.key for change in changes(default, loaded.config)} == unset


def test_a_value_as_it_stands_in_a_file() -> None:
    """What is not set has no text."""
    assert (toml_value(None), toml_value(("a",)), toml_value(Path("/x"))) == (None, '["a"]', '"/x"')


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("https://hooks.example.com:8443/services/T0/secret", "https://hooks.example.com:8443/…"),
        ("https://hooks.example.com/?token=secret", "https://hooks.example.com/…"),
        ("https://hooks.example.com/", "https://hooks.example.com"),
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318"),
        (None, None),
    ],
)
def test_what_may_be_a_secret(address: str | None, told: str | None) -> None:
    """Of an address that may let its reader in only the host is told; other settings are told as they are."""
    for key in ("monitor.webhook", "tracing.endpoint"):
        assert without_secret(key, address) == told
        assert told_value(key, address) == toml_value(told)
    assert told_value("model.path", Path("/srv/m")) == '"/srv/m"'
    assert told_value("server.port", 80) == "80"


def test_every_address_may_be_a_secret() -> None:
    """Settings that take a URL are among those of which only the host is told."""
    addresses = {
        f"{section}.{name}"
        for section, kind in sections().items()
        for name, annotation in get_type_hints(kind, include_extras=True).items()
        if Address in (annotation, *get_args(annotation))
    }
    assert addresses == MAY_BE_SECRET
