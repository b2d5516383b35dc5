from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemmad.config.keyring import Holder
from gemmad.config.load import load_config
from gemmad.config.schema import Config
from gemmad.daemon.doorkeeper import Doorkeeper, check_keys
from gemmad.daemon.notify import Notifier
from gemmad.daemon.reload import Current, Reloader
from gemmad.errors import ConfigError

ALICE = Holder("alice")


def config(**values: Any) -> Config:
    overrides = {name.replace("__", "."): value for name, value in values.items()}
    return load_config(None, env={"GEMMAD_CONFIG_DIR": "/nonexistent"}, overrides=overrides).config


def key_file(folder: Path, text: str = "alice:sk-first-key", *, name: str = "keys", mode: int = 0o600) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return path


def test_no_key_on_loopback() -> None:
    """On loopback, and on a Unix socket, nobody needs a key."""
    for host in ("127.0.0.1", "::1", "localhost", "127.1.2.3"):
        assert not Doorkeeper(config(server__host=host), env={}).keyring
    assert not Doorkeeper(config(server__uds="/tmp/x", server__host="0.0.0.0"), env={}).keyring


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "2001:db8::1"])
def test_no_key_where_others_come(host: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An address that other machines can reach is refused without a key, unless the operator insists."""
    with pytest.raises(ConfigError, match=r"server\.host: .* no API key is set; set auth\.api_keys_file"):
        Doorkeeper(config(server__host=host), env={})
    caplog.set_level("INFO")
    assert Doorkeeper(config(server__host=host, server__allow_open=True), env={}).exposed
    assert "everyone who can connect may call" in caplog.text
    assert Doorkeeper(config(server__host=host, auth__api_keys_file=key_file(tmp_path)), env={}).keyring


def test_credentials_of_systemd(tmp_path: Path) -> None:
    """Without files in the config, systemd's credentials have the keys; a file in the config wins."""
    key_file(tmp_path, name="api-keys")
    key_file(tmp_path, "op:sk-admin-key", name="admin-keys")
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    keyring = Doorkeeper(config(), env=env).keyring
    assert keyring.find("sk-first-key") == ALICE
    assert keyring.find("sk-admin-key") == Holder("op", admin=True)
    own = key_file(tmp_path, "sk-another-key", name="own")
    keyring = Doorkeeper(config(auth__api_keys_file=own), env=env).keyring
    assert keyring.find("sk-first-key") is None
    assert not Doorkeeper(config(), env={"CREDENTIALS_DIRECTORY": str(tmp_path / "none")}).keyring


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    """The mistakes of all files of keys are told together."""
    broken, missing = key_file(tmp_path, "alice:x"), tmp_path / "missing"
    with pytest.raises(ConfigError) as caught:
        check_keys(config(auth__api_keys_file=broken, auth__admin_keys_file=missing), env={})
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"{broken}:1: ")
    assert second == f"{missing}: cannot be read: No such file or directory"


def test_a_file_that_everyone_can_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Keys that every user of the machine can read are used, with a warning."""
    Doorkeeper(config(auth__api_keys_file=key_file(tmp_path, mode=0o640)), env={})
    assert "can read the API keys" not in caplog.text
    Doorkeeper(config(auth__api_keys_file=key_file(tmp_path, mode=0o644)), env={})
    assert "can read the API keys" in caplog.text
    assert "sk-first-key" not in caplog.text


class House:
    """A reloader with a doorkeeper, and the config that is written."""

    def __init__(self, **values: Any) -> None:
        self.values = values
        self.doorkeeper = Doorkeeper(config(**values), env={})
        self.reloader = Reloader(
            Current(config(**values)), load=self._load, notifier=Notifier({}), prepare=self.doorkeeper.prepare
        )

    def reload(self, **values: Any) -> str:
        self.values = values
        return asyncio.run(self.reloader.reload()).words

    def _load(self) -> Any:
        overrides = {name.replace("__", "."): value for name, value in self.values.items()}
        return load_config(None, env={"GEMMAD_CONFIG_DIR": "/nonexistent"}, overrides=overrides)


def test_a_reload_reads_the_keys(tmp_path: Path) -> None:
    """New keys are in force when the reload ends, which says so; the same ones are no change."""
    path = key_file(tmp_path)
    house = House(auth__api_keys_file=path)
    assert house.reload(auth__api_keys_file=path) == "config unchanged"
    key_file(tmp_path, "alice:sk-second-key")
    assert house.reload(auth__api_keys_file=path) == "config reloaded, applied: API keys"
    assert house.doorkeeper.keyring.find("sk-second-key") == ALICE
    assert house.doorkeeper.keyring.find("sk-first-key") is None


@pytest.mark.parametrize("text", ["", "alice:x", None])
def test_broken_keys_keep_the_old_ones(tmp_path: Path, text: str | None) -> None:
    """A file of keys that cannot be used refuses the whole reload: keys and settings stay as they are."""
    path = key_file(tmp_path)
    house = House(auth__api_keys_file=path)
    path.unlink()
    if text is not None:
        key_file(tmp_path, text)
    assert house.reload(auth__api_keys_file=path, dispatch__max_waiting=5).startswith(f"config refused: {path}")
    assert house.doorkeeper.keyring.find("sk-first-key") == ALICE


def test_no_reload_opens_the_door(tmp_path: Path) -> None:
    """What runs where others come cannot lose its keys by an edit, nor by one of the address that waits for a restart;
    nor can such an address be asked for without a key."""
    path = key_file(tmp_path)
    house = House(server__host="0.0.0.0", auth__api_keys_file=path)
    for edit in ({"server__host": "0.0.0.0"}, {"server__host": "127.0.0.1"}, {}):
        assert house.reload(**edit).startswith("config refused: server.host: other machines can reach ")
        assert house.doorkeeper.keyring
    assert "applied" in house.reload(server__host="0.0.0.0", server__allow_open=True)
    assert not house.doorkeeper.keyring
    assert House().reload(server__host="0.0.0.0").startswith("config refused: server.host")


def test_files_are_watched(tmp_path: Path) -> None:
    """An edit of a file of keys rings, also of one that was named while the daemon runs, and of one that is broken."""
    path, other = key_file(tmp_path), tmp_path / "elsewhere" / "keys"
    other.parent.mkdir()

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)

    async def scenario() -> None:
        house = House(auth__api_keys_file=path)
        tasks = [
            asyncio.create_task(house.reloader.run()),
            asyncio.create_task(house.doorkeeper.watch(house.reloader.ring)),
        ]

        def opens(key: str) -> bool:
            return house.doorkeeper.keyring.find(key) is not None

        key_file(tmp_path, "alice:sk-second-key")
        await until(lambda: opens("sk-second-key"))
        house.values = {"auth__api_keys_file": other}
        house.reloader.ring()  # as the watch of the config does
        await until(lambda: house.reloader.outcome is not None and not house.reloader.outcome.ok)
        assert opens("sk-second-key")
        key_file(other.parent, "alice:sk-third-key")
        await until(lambda: opens("sk-third-key"))
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    asyncio.run(scenario())
