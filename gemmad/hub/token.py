"""Who we are to the hub, and whether we may speak to it at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

CREDENTIAL = "hf-token"
"""Name of systemd's credential: `LoadCredential=hf-token:/etc/gemmad/hf-token`."""
HOW_TO = (
    "set it as HF_TOKEN, store it once with `hf auth login`, or give it to a service as systemd's credential "
    f"{CREDENTIAL}"
)
_TRUE = {"1", "ON", "YES", "TRUE"}


class Token(Struct, frozen=True):
    """A secret, and where it is from; only the latter is ever shown."""

    value: str
    source: str

    def __repr__(self) -> str:
        return f"Token(from {self.source})"


def find_token(env: Mapping[str, str]) -> Token | None:
    """From the environment, else systemd's credentials, else what `hf auth login` stored."""
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if value := env.get(variable, "").strip():
            return Token(value, variable)
    if folder := env.get("CREDENTIALS_DIRECTORY", ""):
        path = Path(folder) / CREDENTIAL
        if value := _read(path):
            return Token(value, str(path))
    stored = _stored_at(env)
    value = _read(stored)
    return Token(value, str(stored)) if value else None


def is_offline(env: Mapping[str, str]) -> bool:
    """Whether the environment forbids to ask the hub."""
    return (env.get("HF_HUB_OFFLINE") or env.get("TRANSFORMERS_OFFLINE") or "").upper() in _TRUE


def _stored_at(env: Mapping[str, str]) -> Path:
    """Where `hf auth login` puts it, by the rules of huggingface_hub."""
    if path := env.get("HF_TOKEN_PATH"):
        return Path(path).expanduser()
    home = env.get("HF_HOME") or f"{env.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    return Path(home).expanduser() / "token"


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
