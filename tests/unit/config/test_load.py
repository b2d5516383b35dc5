from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.config import files
from gemmad.config.keys import keys
from gemmad.config.load import Loaded, config_candidates, find_config, load_config
from gemmad.config.schema import Config
from gemmad.errors import ConfigError

NOWHERE = {"GEMMAD_CONFIG_DIR": "/nonexistent"}


def read(
    path: Path | None = None, *, env: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
) -> Loaded:
    return load_config(path, env=NOWHERE if env is None else env, overrides=overrides or {})


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "gemmad.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def errors_of(path: Path | None = None, **how: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(path, **how)
    return str(caught.value).splitlines()


def test_no_file_at_all_is_the_defaults() -> None:
    """Without file, variables and flags the defaults are in force."""
    loaded = read()
    assert loaded.config == Config()
    assert loaded.path is None
    assert set(loaded.origins.values()) == {"default"}


def test_flag_over_environment_over_file_over_default(tmp_path: Path) -> None:
    """Each key has the value of the highest rank that sets it, and tells which that was."""
    path = written(tmp_path, "[server]\nport = 1\nhost = 'file'\nmax_body = '1MiB'\n")
    env = {"GEMMAD_SERVER__PORT": "2", "GEMMAD_SERVER__HOST": "env"}
    loaded = read(path, env=env, overrides={"server.port": 3, "server.host": None})
    server = loaded.config.server
    assert (server.port, server.host, server.max_body, server.ping_every) == (3, "env", 1 << 20, 5.0)
    origins = [loaded.origins[f"server.{name}"] for name in ("port", "host", "max_body", "ping_every")]
    assert origins == ["flag", "environment", "file", "default"]


def test_all_errors_at_once(tmp_path: Path) -> None:
    """Every error of every source is told, with its place, its key and why."""
    path = written(
        tmp_path,
        """\
port = 3
[server]
port = 70000
prot = 5
max_waiting = 4
max_body = "2 apples"

[model]
served_names = ["a", 5]
[workers]
gpus = true
[servre]
[logging]
level = "loud"
""",
    )
    env = {"GEMMAD_SERVER__HOTS": "x", "GEMMAD_WORKERS__COUNT": "many"}
    assert errors_of(path, env=env, overrides={"sampling.top_p": 3}) == [
        "command line: sampling.top_p: must be less than or equal to 1, not 3",
        "environment: GEMMAD_SERVER__HOTS: unknown setting; did you mean GEMMAD_SERVER__HOST?",
        "environment: GEMMAD_WORKERS__COUNT: workers.count: expected integer, got 'many'",
        f"{path}:1: port: unknown section; did you mean server.port?",
        f"{path}:3: server.port: must be less than or equal to 65535, not 70000",
        f"{path}:4: server.prot: unknown key; did you mean server.port?",
        f"{path}:5: server.max_waiting: unknown key; did you mean dispatch.max_waiting?",
        f"{path}:6: server.max_body: '2 apples' is not a size; write for example 512MiB or 2GiB",
        f"{path}:9: model.served_names[1]: expected text, got 5",
        f'{path}:11: workers.gpus: expected "all" or list of text, got True',
        f"{path}:12: servre: unknown section; did you mean server?",
        f'{path}:14: logging.level: expected "debug" or "info" or "warning" or "error", got \'loud\'',
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[server]\nport = \n", "2: not TOML: Invalid value, column 8"),
        ("[server\n", "1: not TOML: Expected ']' at the end of a table declaration, column 8"),
        ('[server]\n\nhost = """\n', "3: not TOML: Unterminated string, at the end"),
        ("a = 1\na = 2\n", "2: not TOML: Cannot overwrite a value, column 6"),
        (b"[server]\nhost = '\xff'\n", "2: is not UTF-8 text"),
        ("server = 5\n", "1: server: must be a table, written [server]"),
        ("x = " + "[" * 100_000, " is nested too deeply"),
    ],
)
def test_a_file_that_is_no_config(tmp_path: Path, text: str | bytes, error: str) -> None:
    """What is no TOML, no UTF-8 or of another shape is one error with its line."""
    path = written(tmp_path, text)
    assert errors_of(path) == [f"{path}:{error}"]


def test_a_number_of_too_many_digits(tmp_path: Path) -> None:
    """A number that Python refuses to read is an error of the file."""
    assert "4300 digits" in errors_of(written(tmp_path, "x = " + "9" * 5000))[0]


def test_a_variable_for_a_section_that_is_no_table(tmp_path: Path) -> None:
    """A variable does not hide that the file has a value where the section belongs."""
    path = written(tmp_path, "server = 5\n")
    assert errors_of(path, env={"GEMMAD_SERVER__PORT": "1"}) == [f"{path}:1: server: must be a table, written [server]"]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder, a pipe and an enormous file are refused with the reason, and nothing waits for them."""
    assert errors_of(tmp_path / "no") == [f"{tmp_path / 'no'}: cannot be read: No such file or directory"]
    assert errors_of(tmp_path) == [f"{tmp_path}: is not a regular file"]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert errors_of(pipe) == [f"{pipe}: is not a regular file"]
    large = written(tmp_path, "#" * (files.MAX_FILE_BYTES + 1))
    assert "larger than" in errors_of(large)[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    """A file that may not be read is refused with the reason."""
    path = written(tmp_path, "")
    path.chmod(0)
    assert errors_of(path) == [f"{path}: cannot be read: Permission denied"]


def test_environment_values() -> None:
    """Numbers, switches, quantities, lists and text are understood; an empty variable is not set."""
    config = read(
        env=NOWHERE
        | {
            "GEMMAD_SERVER__PORT": "8000",
            "GEMMAD_SERVER__MAX_BODY": "1MiB",
            "GEMMAD_SERVER__HOST": "",
            "GEMMAD_MODEL__SERVED_NAMES": '["a", "b"]',
            "GEMMAD_WORKERS__GPUS": "[0, 1]",
            "GEMMAD_MEDIA__FETCH": "false",
            "GEMMAD_MEDIA__TIMEOUT": "250ms",
            "GEMMAD_LOGGING__LEVEL": '"debug"',
            "GEMMAD_MODEL__PATH": "/2024-01-01",
            "GEMMAD_SAMPLING__TEMPERATURE": "0.5",
        }
    ).config
    assert (config.server.port, config.server.max_body, config.server.host) == (8000, 1 << 20, "127.0.0.1")
    assert (config.model.served_names, config.workers.gpus) == (("a", "b"), ("0", "1"))
    assert (config.media.fetch, config.media.timeout) == (False, 0.25)
    assert (config.logging.level, config.sampling.temperature) == ("debug", 0.5)
    assert config.model.path == Path("/2024-01-01")


def test_kubernetes_variables_are_not_settings() -> None:
    """What Kubernetes sets for a Service called gemmad changes nothing."""
    env = {"GEMMAD_PORT": "tcp://10.0.0.1:4363", "GEMMAD_HOST": "x", "GEMMAD_SERVICE_PORT": "1", "OTHER__X": "1"}
    assert read(env=NOWHERE | env).config == Config()


def test_a_text_that_breaks_out_of_its_value() -> None:
    """A newline in a variable sets no other key: it is part of the text."""
    config = read(env=NOWHERE | {"GEMMAD_SERVER__HOST": '"a"\nport = 1'}).config
    assert config.server.host == '"a"\nport = 1'


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path in the file belongs to the file's folder, one in a flag or variable to the current one, ~ to the user."""
    (tmp_path / "etc/models/a").mkdir(parents=True)
    path = written(tmp_path / "etc", "[model]\npath = 'models/a'\nchat_template = '~/t.jinja'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    loaded = read(Path("etc/gemmad.toml"), overrides={"server.uds": Path("s.sock")})
    assert loaded.path == path
    assert loaded.config.model.path == tmp_path / "etc/models/a"
    assert loaded.config.model.chat_template == Path("/home/someone/t.jinja")
    assert loaded.config.server.uds == tmp_path / "s.sock"
    assert read(env=NOWHERE | {"GEMMAD_MODEL__PATH": "m"}).config.model.path == tmp_path / "m"


def test_where_the_file_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--config, then $GEMMAD_CONFIG, then the config folder; the variable's file must exist."""
    monkeypatch.chdir(tmp_path)
    in_folder = written(tmp_path, "[server]\nport = 1\n")
    named = tmp_path / "named.toml"
    named.write_text("[server]\nport = 2\n")
    env = {"GEMMAD_CONFIG_DIR": str(tmp_path)}
    assert find_config(env) == in_folder
    assert find_config(env | {"GEMMAD_CONFIG": "named.toml"}) == named
    assert read(env=env | {"GEMMAD_CONFIG": "named.toml"}).config.server.port == 2
    assert read(in_folder, env=env | {"GEMMAD_CONFIG": "named.toml"}).config.server.port == 1
    assert "No such file" in errors_of(env=env | {"GEMMAD_CONFIG": "gone.toml"})[0]


def test_candidates(tmp_path: Path) -> None:
    """A config folder that somebody named is the only place; else the system's comes last."""
    assert config_candidates({"GEMMAD_CONFIG_DIR": str(tmp_path)}) == (tmp_path / "gemmad.toml",)
    assert config_candidates({"CONFIGURATION_DIRECTORY": "/run/etc"}) == (Path("/run/etc/gemmad.toml"),)
    assert config_candidates({})[-1] == Path("/etc/gemmad/gemmad.toml")


def test_reading_again(tmp_path: Path) -> None:
    """The same file, variables and flags are read again, even where the file was found and not named."""
    path = written(tmp_path, "[server]\nport = 1\n")
    first = read(env={"GEMMAD_CONFIG_DIR": str(tmp_path)}, overrides={"logging.level": "debug"})
    written(tmp_path, "[server]\nport = 2\n[logging]\nlevel = 'error'\n")
    second = first.again()
    assert (second.path, second.config.server.port, second.config.logging.level) == (path, 2, "debug")
    assert first.digest != second.digest
    path.unlink()
    with pytest.raises(ConfigError, match="No such file"):
        first.again()


def test_a_flag_for_no_key_is_our_own_mistake() -> None:
    """Overrides come from our own code: one that names no key is a bug and not an operator's error."""
    with pytest.raises(KeyError):
        read(overrides={"server.prot": 1})


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([key.dotted for key in keys()]), _VALUES, max_size=6))
def test_any_value_is_taken_or_told(overrides: dict[str, Any]) -> None:
    """Whatever value a key is given, the result is a config or a ConfigError with a line for that key."""
    try:
        read(overrides=overrides)
    except ConfigError as error:
        lines = str(error).splitlines()
        assert lines
        assert all(line.startswith("command line: ") for line in lines), lines


@given(st.binary(max_size=200) | st.text(alphabet="[]{}=\"\n .ab1#'", max_size=60).map(str.encode))
def test_any_file_is_taken_or_told(data: bytes) -> None:
    """Whatever bytes the file has, the result is a config or a ConfigError that names the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), data)
        lines = []
        try:
            read(path)
        except ConfigError as error:
            lines = str(error).split("\n")
        assert all(line.startswith(f"{path}:") for line in lines), lines


def beside(folder: Path, name: str, text: str) -> Path:
    """A file in conf.d."""
    (folder / "conf.d").mkdir(exist_ok=True)
    path = folder / "conf.d" / name
    path.write_text(text)
    return path


def test_files_beside_the_file(tmp_path: Path) -> None:
    """Those in conf.d win over the file, the later over the earlier by name, key by key; places tell which line did."""
    path = written(tmp_path, "[server]\nport = 1\nhost = 'a'\n[workers]\nstop_grace = 7\n")
    second = beside(tmp_path, "20-b.toml", "[server]\nport = 3\n")
    first = beside(tmp_path, "10-a.toml", "\n[server]\nport = 2\nhost = 'b'\n[auth]\napi_keys_file = 'keys'\n")
    loaded = read(path)
    server = loaded.config.server
    assert (server.port, server.host, loaded.config.workers.stop_grace) == (3, "b", 7.0)
    assert loaded.config.auth.api_keys_file == tmp_path / "conf.d" / "keys"
    assert (loaded.places["server.port"], loaded.places["server.host"]) == (f"{second}:2", f"{first}:4")
    assert (loaded.places["workers.stop_grace"], "server.uds" in loaded.places) == (f"{path}:5", False)
    assert loaded.origins["server.port"] == "file"


@pytest.mark.parametrize("name", ["10-a.conf", ".10-a.toml", "10-a.toml~", ".#10-a.toml"])
def test_what_is_not_a_file_of_ours(tmp_path: Path, name: str) -> None:
    """What editors leave in conf.d, and files of other kinds, are not read."""
    path = written(tmp_path, "")
    beside(tmp_path, name, "nonsense")
    assert read(path).config == Config()


def test_errors_of_all_files_at_once(tmp_path: Path) -> None:
    """What is wrong in each of them is told with its own file and line, in the order in which they are read."""
    path = written(tmp_path, "[server]\nprot = 1\nport = 'x'\n")
    first = beside(tmp_path, "1.toml", "[server\n")
    second = beside(tmp_path, "2.toml", "\n[server]\nhots = 'h'\n[loging]\n")
    (tmp_path / "conf.d" / "3.toml").mkdir()
    assert sorted(errors_of(path)) == sorted(
        [
            f"{path}:2: server.prot: unknown key; did you mean server.port?",
            f"{path}:3: server.port: expected integer, got 'x'",
            f"{first}:1: not TOML: Expected ']' at the end of a table declaration, column 8",
            f"{second}:3: server.hots: unknown key; did you mean server.host?",
            f"{second}:4: loging: unknown section; did you mean logging?",
            f"{tmp_path}/conf.d/3.toml: is not a regular file",
        ]
    )


def test_a_later_file_can_mend_an_earlier_one(tmp_path: Path) -> None:
    """A value that is overridden is not looked at."""
    path = written(tmp_path, "[server]\nport = 'x'\n")
    beside(tmp_path, "1.toml", "[server]\nport = 5\n")
    assert read(path).config.server.port == 5


def test_the_digest_tells_any_change(tmp_path: Path) -> None:
    """What was read has the digest that the watcher computes, and a file more, less or changed has another."""
    path = written(tmp_path, "")
    seen = {read(path).digest}
    fragment = beside(tmp_path, "1.toml", "")
    for change in (
        lambda: None,
        lambda: fragment.write_text("[server]\n"),
        lambda: fragment.rename(fragment.with_name("2.toml")),
        lambda: path.write_text("#"),
    ):
        change()
        digest = read(path).digest
        assert digest == files.config_digest(path)
        assert digest not in seen
        seen.add(digest)
