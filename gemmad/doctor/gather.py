"""Gathers the facts: what may hang in children side by side, all else here. It takes ten seconds at most."""

from __future__ import annotations

import platform
import stat
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import msgspec

from gemmad import __version__
from gemmad.config.keyring import read_keyring
from gemmad.config.load import find_config, load_config
from gemmad.config.models import model_folder
from gemmad.config.paths import Paths, find_paths
from gemmad.config.schema import Config, ServerSection
from gemmad.daemon.doorkeeper import check_keys, key_files
from gemmad.doctor import look
from gemmad.doctor.ask import Reply, ask
from gemmad.doctor.facts import (
    DaemonFacts,
    Facts,
    Folder,
    GpuFacts,
    KeyFileFacts,
    ModelFacts,
    PortHolder,
    ServiceFacts,
    SettingsFacts,
    Told,
    TorchFacts,
)
from gemmad.doctor.read_host import read_host
from gemmad.doctor.read_service import read_service
from gemmad.engines.store import EngineError, EngineStore, engines_dir
from gemmad.errors import ConfigError
from gemmad.supervisor.interpreter import Interpreter

T = TypeVar("T")

LOOK_SECONDS = 7.0
"""For each child; with what the daemon may take, and the end, it stays below ten."""
MANAGER_SECONDS = 2.5
PROBE = "gemmad.worker.probe"
_PARTS = ("torch", "tokenizers", "transformers", "msgspec", "uvicorn", "starlette", "nvidia-ml-py")


def gather(daemon: DaemonFacts, *, config: Path | None, env: Mapping[str, str], uid: int) -> Facts:
    """All of it. `daemon` was asked before: what it serves and reads is what is looked at, where it runs."""
    paths = whose_paths(daemon, env, uid=uid)
    settings = read_settings(config or _config_of(daemon, env), env)
    with ThreadPoolExecutor(8) as pool:
        gpus = pool.submit(_look, (look.GPUS,), GpuFacts)
        torch = pool.submit(read_torch, engines_dir(paths))
        kinds = (f"state={paths.state_dir}", f"cache={paths.cache_dir}")
        folders = pool.submit(_look, (look.FOLDERS, *kinds), tuple[Folder, ...])
        folder = _model_of(daemon, settings.config, paths)
        model = pool.submit(_look_at_model, folder, settings.config)
        ports = pool.submit(_look_at_port, settings.config)
        service = pool.submit(_told, partial(read_service, seconds=MANAGER_SECONDS))
        return Facts(
            version=__version__,
            uid=uid,
            parts=parts(),
            settings=settings,
            daemon=daemon,
            host=read_host(),
            gpus=gpus.result(),
            torch=torch.result(),
            folders=folders.result(),
            model=model.result(),
            ports=ports.result(),
            service=service.result(),
        )


def whose_paths(daemon: DaemonFacts, env: Mapping[str, str], *, uid: int) -> Paths:
    """The folders of the daemon that was found: the system's, if it is the system's; else of whoever asks."""
    own, system = find_paths(env, uid=uid), find_paths(env, uid=0)
    found = daemon.overview is not None or daemon.closed or daemon.silent is not None
    return system if found and Path(daemon.socket).parent == system.runtime_dir != own.runtime_dir else own


def read_settings(path: Path | None, env: Mapping[str, str]) -> SettingsFacts:
    """What `gemmad config check` would say, and the files of keys, without anything of the keys."""
    shown = path or find_config(env)
    told = None if shown is None else str(shown)
    try:
        config = load_config(path, env=env, overrides={}).config
    except ConfigError as error:
        closed = shown is not None and _is_closed(shown)
        return SettingsFacts(path=told, config=None, errors=tuple(str(error).splitlines()), closed=closed)
    errors: tuple[str, ...] = ()
    try:
        check_keys(config, env=env)
    except ConfigError as error:
        errors = tuple(str(error).splitlines())
    files = tuple(_key_file(file.path) for file in key_files(config, env))
    return SettingsFacts(path=told, config=config, errors=errors, key_files=files)


def read_torch(engines: Path, *, seconds: float = LOOK_SECONDS) -> Told[TorchFacts]:
    """What the interpreter tells that the next worker would run in; `engines` is the folder of environments."""
    store = EngineStore(engines)
    try:
        engine = store.current()
        command = Interpreter(store).command(PROBE)
    except (EngineError, OSError) as error:
        return Told(TorchFacts(where="workers' Python", problem=str(error)))
    where = f"engine {engine.name}" if engine is not None else sys.executable
    reply = ask((*command, "--cuda"), seconds=seconds)
    if reply.problem is not None:
        return Told(problem=reply.problem)
    if reply.status != 0:
        words = reply.errors.splitlines()[-1:] or [f"exit status {reply.status}"]
        return Told(TorchFacts(where=where, problem=words[0]))
    try:
        return Told(msgspec.convert({"where": where} | msgspec.json.decode(reply.output.splitlines()[-1]), TorchFacts))
    except (msgspec.MsgspecError, IndexError, TypeError) as error:
        return Told(TorchFacts(where=where, problem=f"it said something strange: {error}"))


def parts() -> dict[str, str]:
    """Versions of what it is made of, read from their metadata."""
    found = {"Python": platform.python_version(), "kernel": platform.release(), "machine": platform.machine()}
    for name in _PARTS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def read_reply(reply: Reply, kind: type[T]) -> Told[T]:
    """What a child of `gemmad.doctor.look` said."""
    if reply.problem is not None:
        return Told(problem=reply.problem)
    if reply.status != 0:
        return Told(problem=(reply.errors.splitlines() or [f"it ended with {reply.status}"])[-1])
    try:
        return Told(msgspec.json.decode(reply.output, type=kind))
    except msgspec.MsgspecError as error:
        return Told(problem=f"it said something strange: {error}")


def _look(words: tuple[str, ...], kind: type[T]) -> Told[T]:
    return read_reply(ask((sys.executable, "-m", "gemmad.doctor.look", *words), seconds=LOOK_SECONDS), kind)


def _look_at_model(folder: Path | None, config: Config | None) -> Told[ModelFacts]:
    if folder is None:
        return Told()
    template = None if config is None else config.model.chat_template
    words = (look.MODEL, str(folder), *(() if template is None else (str(template),)))
    return _look(words, ModelFacts)


def _look_at_port(config: Config | None) -> Told[tuple[PortHolder, ...]]:
    server = ServerSection() if config is None else config.server
    if server.uds is not None or not server.port:
        return Told(())
    return _look((look.PORT, server.host, str(server.port)), tuple[PortHolder, ...])


def _told(read: Callable[[], ServiceFacts]) -> Told[ServiceFacts]:
    facts = read()
    return Told(facts, facts.problem)


def _config_of(daemon: DaemonFacts, env: Mapping[str, str]) -> Path | None:
    """What the running daemon reads; one that has no file is as one that would be started now."""
    if daemon.overview is None or daemon.overview.config.path is None or env.get("GEMMAD_CONFIG"):
        return None
    return Path(daemon.overview.config.path)


def _model_of(daemon: DaemonFacts, config: Config | None, paths: Paths) -> Path | None:
    if daemon.overview is not None and daemon.overview.checkpoint is not None:
        return Path(daemon.overview.checkpoint)
    if config is None or config.model.path is None:
        return None
    return model_folder(config.model.path, paths)


def _is_closed(path: Path) -> bool:
    try:
        with path.open("rb"):
            return False
    except PermissionError:
        return True
    except OSError:
        return False


def _key_file(path: Path) -> KeyFileFacts:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return KeyFileFacts(path=str(path), mode=None)
    try:
        keys = len(read_keyring(path))
    except ConfigError:
        keys = None
    return KeyFileFacts(path=str(path), mode=mode, keys=keys)
