from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from gemmad.config.keyring import MAX_KEYS, Holder, Keyring, key_line, new_key, parse_keyring, read_keyring
from gemmad.errors import ConfigError

PATH = Path("/etc/keys")
SECRET = "sk-a-long-secret"
HASHED = "sha256:" + sha256(SECRET.encode()).hexdigest()


def parsed(text: str, *, admin: bool = False) -> Keyring:
    return parse_keyring(text.encode(), path=PATH, admin=admin)


def refused(text: str | bytes) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_keyring(text if isinstance(text, bytes) else text.encode(), path=PATH)
    assert SECRET not in str(caught.value)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (f"alice:{SECRET}", "alice"),
        (f"alice:{HASHED}", "alice"),
        (f"  a.b_c-d@e:{HASHED.upper().replace('SHA256', 'sha256')}\t", "a.b_c-d@e"),
        (SECRET, "line-3"),
        (HASHED, "line-3"),
    ],
)
def test_forms_of_a_line(line: str, name: str) -> None:
    """A key stands as itself or as its hash, with a name or without; comments and empty lines mean nothing."""
    keyring = parsed(f"# who may\n\n{line}\n")
    assert keyring.find(SECRET) == Holder(name)
    assert keyring.find(SECRET + "x") is keyring.find("") is keyring.find(HASHED) is None


def test_a_holder_may_have_two_keys() -> None:
    """While a key is replaced by another, both are its holder's."""
    keyring = parsed("alice:old-key-1\nalice:new-key-1\nbob:other-key\n")
    assert keyring.find("old-key-1") == keyring.find("new-key-1") == Holder("alice")
    assert (keyring.names, len(keyring)) == (("alice", "bob"), 3)


def test_what_is_no_key_file() -> None:
    """Every mistake is told with its line, and no line is quoted."""
    assert refused(f"alice:{SECRET}\n-x:{SECRET}1\nbob:short\nc:sha256:12\nd:two words 123\ne:{SECRET}\n") == [
        "/etc/keys:2: a name has 1 to 64 letters, digits, dots, dashes, underscores and @, "
        "and begins with one of the first two",
        "/etc/keys:3: a key has at least 8 characters; `gemmad keys new` makes one",
        "/etc/keys:4: sha256: is followed by 64 hexadecimal digits",
        "/etc/keys:5: a key has up to 512 visible ASCII characters and no space",
        "/etc/keys:6: is the key of line 1 again",
    ]


@pytest.mark.parametrize("text", [b"", b"# nobody\n", b"\xff\xfe", b"\n" * 10])
def test_a_file_without_a_key_opens_nothing(text: bytes) -> None:
    """A file that was emptied, or is no text, is a mistake and never means that everyone may call."""
    assert len(refused(text)) == 1


def test_too_many_keys() -> None:
    """The number of keys is bounded, since each request is compared with all of them."""
    assert str(MAX_KEYS) in refused("".join(f"key-number-{n}\n" for n in range(MAX_KEYS + 1)))[0]


def test_new_keys(tmp_path: Path) -> None:
    """A new key is unlike any other, and its line in the file opens for it without telling it."""
    first, second = new_key(), new_key()
    line = key_line(first, name="alice")
    assert first != second
    assert first not in line
    (tmp_path / "keys").write_text(line)
    assert read_keyring(tmp_path / "keys", admin=True).find(first) == Holder("alice", admin=True)
    with pytest.raises(ValueError, match="a name has"):
        key_line(first, name="a:b")


def test_a_keyring_shows_nothing() -> None:
    """What prints a keyring prints neither keys nor their hashes."""
    keyring = parsed(f"alice:{SECRET}")
    shown = f"{keyring} {keyring!r} {[keyring]}"
    assert SECRET not in shown
    assert HASHED.removeprefix("sha256:") not in shown


def test_operators_win_where_a_key_stands_twice() -> None:
    """A key that is in the operators' file too is an operator's."""
    both = parsed(SECRET) | parsed(SECRET, admin=True)
    assert both.find(SECRET) == Holder("line-1", admin=True)
    assert not Keyring()
