from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub.constants import HF_TOKEN_PATH

from gemmad.hub.token import find_token, is_offline


def test_where_a_token_is_looked_for(tmp_path: Path) -> None:
    """The environment's token comes before systemd's credential, and that before the one that a login stored."""
    credentials, home = tmp_path / "credentials", tmp_path / "home"
    credentials.mkdir()
    home.mkdir()
    env = {"HF_HOME": str(home), "CREDENTIALS_DIRECTORY": str(credentials)}
    assert find_token(env) is None
    (home / "token").write_text("stored\n")
    assert (found := find_token(env)) is not None
    assert (found.value, found.source) == ("stored", str(home / "token"))
    (credentials / "hf-token").write_text(" given \n")
    assert (found := find_token(env)) is not None
    assert (found.value, found.source) == ("given", str(credentials / "hf-token"))
    assert (found := find_token(env | {"HF_TOKEN": "mine"})) is not None
    assert (found.value, found.source) == ("mine", "HF_TOKEN")
    assert find_token({"HF_TOKEN": " ", "HF_TOKEN_PATH": str(tmp_path / "none")}) is None


def test_a_token_is_not_shown() -> None:
    """Whoever prints a token by mistake prints where it is from."""
    assert "secret" not in repr(find_token({"HF_TOKEN": "secret"}))


def test_the_stored_token_is_the_librarys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """We look where huggingface_hub stores what a login gave it."""
    found = find_token({"HF_TOKEN_PATH": HF_TOKEN_PATH})
    path = Path(HF_TOKEN_PATH)
    assert (found.value if found else None) == (path.read_text().strip() if path.exists() else None)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".cache/huggingface").mkdir(parents=True)
    (tmp_path / ".cache/huggingface/token").write_text("t")
    assert find_token({}) is not None


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("true", True), ("ON", True), ("0", False), ("", False)])
def test_offline(value: str, expected: bool) -> None:
    """HF_HUB_OFFLINE is read as huggingface_hub reads it."""
    assert is_offline({"HF_HUB_OFFLINE": value}) is expected
    assert is_offline({"TRANSFORMERS_OFFLINE": value}) is expected
