"""API keys, as a file tells them and as they are checked.

One key a line, in one of these forms; empty lines and lines that begin with `#` mean nothing:

    name:key            a key and whose it is; two lines may have the same name, while a key is replaced by another
    name:sha256:HEX     the same, without the key itself: its SHA-256, as `gemmad keys new` prints it
    key, sha256:HEX     a key without a name

Only digests are kept, and no message quotes a line. SHA-256 without salt or stretching is right for keys that nobody
made up: there is nothing to guess in 256 random bits.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from msgspec import Struct

from gemmad.config.files import read_file
from gemmad.errors import ConfigError

KEY_PREFIX = "sk-gemmad-"
"""So that people, and programs that look for leaked secrets, know what it is; some clients insist on `sk-`."""
KEY_BYTES = 32
MIN_KEY_CHARACTERS = 8
MAX_KEYS = 1000
"""Each request is compared with all of them, in a tenth of a millisecond."""

_HASH = "sha256:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_KEY = re.compile(r"[!-~]{1,512}")


class Holder(Struct, frozen=True):
    """Whose a key is."""

    name: str
    admin: bool = False
    """An operator."""


class _Entry(Struct, frozen=True):
    holder: Holder
    digest: bytes


class Keyring:
    """All keys in force. False when there are none, and then nobody needs one."""

    def __init__(self, entries: Iterable[_Entry] = ()) -> None:
        self._entries = tuple(entries)

    def find(self, key: str) -> Holder | None:
        """Whose `key` is, None if nobody's. How long it takes does not depend on how much of a key is right."""
        digest = sha256(key.encode("utf-8", "surrogateescape")).digest()
        found: Holder | None = None
        for entry in self._entries:
            if hmac.compare_digest(entry.digest, digest):
                found = entry.holder
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """Of all holders, each once."""
        return tuple(dict.fromkeys(entry.holder.name for entry in self._entries))

    def __or__(self, other: Keyring) -> Keyring:
        """All keys of both."""
        return Keyring((*self._entries, *other._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keyring) and self._entries == other._entries

    def __hash__(self) -> int:
        return hash(self._entries)

    def __repr__(self) -> str:
        return f"Keyring({len(self)} keys)"  # whatever prints it shows neither keys nor their digests


def read_keyring(path: Path, *, admin: bool = False) -> Keyring:
    """The keys in a file. Raises ConfigError: one line for each mistake, and for a file without any key."""
    return parse_keyring(read_file(path), path=path, admin=admin)


def parse_keyring(data: bytes, *, path: Path, admin: bool = False) -> Keyring:
    """As `read_keyring`, of the file's content."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{where}: is not UTF-8 text") from None
    entries: list[_Entry] = []
    errors: list[str] = []
    lines: dict[bytes, int] = {}
    for number, line in _lines(text):
        try:
            entry = _entry(line, number=number, admin=admin)
        except ValueError as error:
            errors.append(f"{path}:{number}: {error}")
            continue
        if (first := lines.setdefault(entry.digest, number)) != number:
            errors.append(f"{path}:{number}: is the key of line {first} again")
        entries.append(entry)
    if not entries and not errors:
        errors.append(f"{path}: has no key; `gemmad keys new` makes one")
    if len(entries) > MAX_KEYS:
        errors.append(f"{path}: has {len(entries)} keys, and {MAX_KEYS} are the most")
    if errors:
        raise ConfigError("\n".join(errors))
    return Keyring(entries)


def new_key() -> str:
    """A key that nobody can guess."""
    return KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)


def key_line(key: str, *, name: str) -> str:
    """What a keys file says for `key`; the key cannot be read off it. Raises ValueError for an impossible name."""
    hashed = _HASH + sha256(key.encode()).hexdigest()
    return f"{_checked_name(name)}:{hashed}" if name else hashed


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            yield number, stripped


def _entry(line: str, *, number: int, admin: bool) -> _Entry:
    name, colon, secret = line.partition(":")
    if not colon or line.startswith(_HASH):
        name, secret = f"line-{number}", line
    return _Entry(Holder(_checked_name(name), admin), _digest(secret))


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            "a name has 1 to 64 letters, digits, dots, dashes, underscores and @, and begins with one of the first two"
        )
    return name


def _digest(secret: str) -> bytes:
    if secret.startswith(_HASH):
        hexadecimal = secret.removeprefix(_HASH)
        if not re.fullmatch(r"[0-9A-Fa-f]{64}", hexadecimal):
            raise ValueError("sha256: is followed by 64 hexadecimal digits")
        return bytes.fromhex(hexadecimal)
    if not _KEY.fullmatch(secret):
        raise ValueError("a key has up to 512 visible ASCII characters and no space")
    if len(secret) < MIN_KEY_CHARACTERS:
        raise ValueError(f"a key has at least {MIN_KEY_CHARACTERS} characters; `gemmad keys new` makes one")
    return sha256(secret.encode()).digest()
