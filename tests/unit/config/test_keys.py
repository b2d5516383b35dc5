from __future__ import annotations

from gemmad.config.keys import Change, changes, keys, keys_by_name, sections, value_of, with_changes, with_keys
from gemmad.config.schema import Config


def config(**values: object) -> Config:
    """A config with some keys set, named `section__key`."""
    tables: dict[str, dict[str, object]] = {}
    for name, value in values.items():
        section, _, key = name.partition("__")
        tables.setdefault(section, {})[key] = value
    return Config.model_validate(tables)


def test_every_key_says_what_it_is() -> None:
    """Every key of every section has a type in words, one sentence, a class, and a default that the schema takes."""
    assert {key.section for key in keys()} == set(sections())
    for key in keys():
        assert key.type_words
        assert key.doc.endswith("."), key.dotted
        assert key.when in ("live", "recycle", "restart")
        assert value_of(Config(), key) == key.default
    assert Config.model_validate({key.section: {key.name: key.default} for key in keys()})


def test_names_of_a_key() -> None:
    """A key has a dotted name and a variable; paths are known as such."""
    key = keys_by_name()["model.chat_template"]
    assert (key.dotted, key.variable, key.is_path) == (
        "model.chat_template",
        "GEMMAD_MODEL__CHAT_TEMPLATE",
        True,
    )
    assert [key.dotted for key in keys() if key.is_path] == [
        "server.uds",
        "auth.api_keys_file",
        "auth.admin_keys_file",
        "model.path",
        "model.chat_template",
    ]


def test_changes_between_two_configs() -> None:
    """Each differing key is one change with both values and its class; equal configs have none."""
    old = config(server__port=1, dispatch__max_waiting=5)
    new = config(server__port=2, dispatch__max_waiting=6, engine__max_sequences=8)
    assert changes(old, old) == ()
    assert changes(old, new) == (
        Change("server.port", 1, 2, "restart"),
        Change("engine.max_sequences", 64, 8, "recycle"),
        Change("dispatch.max_waiting", 5, 6, "live"),
    )


def test_only_live_keys_are_taken_over() -> None:
    """A running config takes the live keys of the wanted one and keeps the others, in the same section too."""
    running = config(server__port=1, server__ping_every=1, model__path="/a")
    wanted = config(
        server__port=2, server__ping_every=2, model__path="/b", model__served_names=["b"], engine__max_sequences=8
    )
    merged = with_keys(running, wanted, when="live")
    assert (merged.server.port, merged.server.ping_every) == (1, 2.0)
    assert (str(merged.model.path), merged.model.served_names) == ("/a", ("b",))
    assert {change.when for change in changes(running, merged)} == {"live"}
    assert {change.when for change in changes(merged, wanted)} == {"recycle", "restart"}


def test_single_changes_are_taken_over() -> None:
    """A config with the changes between it and another one is that other one."""
    running = config(server__port=1, engine__max_sequences=8)
    wanted = config(server__port=2, engine__max_sequences=9, engine__dtype="float32")
    assert with_changes(running, changes(running, wanted)) == wanted
    assert with_changes(running, ()) == running
