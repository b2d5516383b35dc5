"""The API keys in force: read at the start, read again with each reload, and their files watched as the config is.

The rule that an address which others can reach needs a key is held here, at the start and at each reload.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from gemmad import logs
from gemmad.config.files import content_digest
from gemmad.config.keyring import Keyring, read_keyring
from gemmad.config.schema import Config
from gemmad.daemon.sockets import leads_outside
from gemmad.errors import ConfigError

CREDENTIAL, ADMIN_CREDENTIAL = "api-keys", "admin-keys"
"""Names of systemd's credentials: `LoadCredential=api-keys:/etc/gemmad/api-keys`."""

log = logs.get_logger(__name__)

_OPEN = (
    "server.host: other machines can reach {where}, and no API key is set; set auth.api_keys_file (`gemmad keys new` "
    "makes a key), or server.allow_open = true to serve everyone who can connect"
)


class KeyFile(Struct, frozen=True):
    """Where keys are."""

    path: Path
    admin: bool


class Doorkeeper:
    """The only writer of `keyring`.

    It is made before anything listens, and raises ConfigError then: for keys that cannot be used, or are missing.
    """

    def __init__(self, config: Config, *, env: Mapping[str, str], exposed: bool = False) -> None:
        """`exposed`: others can reach what is listened on, whatever the config says of it."""
        self._env = env
        self._moved = asyncio.Event()
        files = key_files(config, env)
        self._watched = {file.path: content_digest(file.path) for file in files}
        self._exposed = exposed or leads_outside(config.server)
        self.keyring = check_keys(config, env=env, exposed=exposed)
        _report(self.keyring, files, host=config.server.host if self._exposed else None)

    @property
    def exposed(self) -> bool:
        """Whether other machines can reach the address that this daemon listens on, to its end."""
        return self._exposed

    async def prepare(self, config: Config) -> Callable[[], str | None]:
        """Read the keys that `config` names; what then puts them in force, and tells in a word what that changed.

        Raises ConfigError, and then the old keys stay; what was named is watched all the same, so that it can be
        mended.
        """
        files = key_files(config, self._env)
        digests = await asyncio.to_thread(lambda: {file.path: content_digest(file.path) for file in files})
        try:
            keyring = await asyncio.to_thread(check_keys, config, env=self._env, exposed=self._exposed)
        finally:
            if digests.keys() != self._watched.keys():
                self._moved.set()
            self._watched = digests
        return lambda: self._take(keyring, files)

    def check(self, config: Config) -> None:
        """Raises ConfigError where `prepare` would."""
        check_keys(config, env=self._env, exposed=self._exposed)

    async def watch(self, ring: Callable[[], None]) -> None:
        """Ring whenever a file of keys has changed, until cancelled."""
        from gemmad.daemon.watch import ConfigWatcher  # watchdog; nobody waits for it

        while True:
            self._moved.clear()
            async with asyncio.TaskGroup() as group:
                watchers = [ConfigWatcher(path, seen=seen, ring=ring) for path, seen in self._watched.items()]
                tasks = [group.create_task(watcher.run()) for watcher in watchers]
                await self._moved.wait()
                for task in tasks:
                    task.cancel()

    def _take(self, keyring: Keyring, files: tuple[KeyFile, ...]) -> str | None:
        if keyring == self.keyring:
            return None
        self.keyring = keyring
        _report(keyring, files)
        return "API keys"


def check_keys(config: Config, *, env: Mapping[str, str], exposed: bool = False) -> Keyring:
    """The keys that `config` names. Raises ConfigError for any that cannot be used, and for none where some are needed.

    `exposed`: a daemon runs that others can reach. Its address changes with the next one only, so what runs counts as
    much as what is wanted.
    """
    keyring = read_keys(key_files(config, env))
    server = config.server
    if not keyring and not server.allow_open and (exposed or leads_outside(server)):
        where = f"{server.host!r}" if leads_outside(server) else "this daemon until it is started anew"
        raise ConfigError(_OPEN.format(where=where))
    return keyring


def key_files(config: Config, env: Mapping[str, str]) -> tuple[KeyFile, ...]:
    """Those that the config names, else systemd's credentials where it was given some."""
    section, folder = config.auth, env.get("CREDENTIALS_DIRECTORY", "")
    files = []
    for path, credential, admin in (
        (section.api_keys_file, CREDENTIAL, False),
        (section.admin_keys_file, ADMIN_CREDENTIAL, True),
    ):
        given = Path(folder) / credential if folder else None
        if path is not None:
            files.append(KeyFile(path, admin))
        elif given is not None and given.exists():
            files.append(KeyFile(given, admin))
    return tuple(files)


def read_keys(files: tuple[KeyFile, ...]) -> Keyring:
    """All their keys. Raises ConfigError with the mistakes of all files."""
    keyring, errors = Keyring(), []
    for file in files:
        try:
            keyring |= read_keyring(file.path, admin=file.admin)
        except ConfigError as error:
            errors.append(str(error))
    if errors:
        raise ConfigError("\n".join(errors))
    return keyring


def _report(keyring: Keyring, files: tuple[KeyFile, ...], *, host: str | None = None) -> None:
    """`host` is the address that others can reach, if they can."""
    if keyring:
        log.info("API keys", keys=len(keyring), holders=len(keyring.names), files=[str(file.path) for file in files])
    elif host is not None:
        log.warning("no API key is set: everyone who can connect may call", host=host)
    for file in files:
        if _is_open_to_all(file.path):
            log.warning("every user of this machine can read the API keys", path=str(file.path))


def _is_open_to_all(path: Path) -> bool:
    try:
        return bool(os.stat(path).st_mode & stat.S_IROTH)
    except OSError:
        return False
