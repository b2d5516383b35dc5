"""The settings in force, for whoever looks at the dashboard. What might be a secret is not shown."""

from __future__ import annotations

from msgspec import Struct

from gemmad.api.operator import Operator
from gemmad.api.overview import ConfigDiff, Reload
from gemmad.config.document import told_value
from gemmad.config.keys import keys, value_of


class SettingInForce(Struct, frozen=True):
    """One key of the configuration."""

    section: str
    key: str
    value: str | None
    """As it stands in a file; None: it is not set."""
    default: bool
    """Whether it is what a file without the key would have."""
    when: str
    """What puts another value in force: live, recycle or restart."""
    doc: str


class InForce(Struct, frozen=True, kw_only=True):
    """The answer to `GET /dashboard/config`."""

    path: str | None
    """The file; None: there is none, the defaults are in force."""
    settings: tuple[SettingInForce, ...]
    reload: Reload | None
    """How the last one went; None before the first."""
    diff: ConfigDiff
    """What the files have otherwise by now."""


async def in_force(operator: Operator) -> InForce:
    """As of now. It reads the files, in a thread."""
    levers = operator.levers
    config = levers.config()
    settings = tuple(
        SettingInForce(
            section=key.section,
            key=key.name,
            value=told_value(key.dotted, value_of(config, key)),
            default=value_of(config, key) == key.default,
            when=key.when,
            doc=key.doc,
        )
        for key in keys()
    )
    return InForce(
        path=None if levers.config_path is None else str(levers.config_path),
        settings=settings,
        reload=levers.last_reload(),
        diff=await levers.config_diff(),
    )
