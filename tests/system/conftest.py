"""One box for each file of tests, with gemmad in it; where no box can be had the tests are skipped, and say why."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.box import Box, NoBoxError
from tests.system.installed import ENV, Installed, binds

WANTS = "dbus.service systemd-logind.service systemd-user-sessions.service"
"""So that users have managers of their own."""


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A running systemd, and gemmad's files in it."""
    try:
        with Box(binds(tmp_path_factory.mktemp("box")), env=ENV, wants=WANTS) as box:
            yield box
    except NoBoxError as obstacle:
        pytest.skip(str(obstacle))


@pytest.fixture(scope="module")
def installed(box: Box) -> Installed:
    """gemmad as a service of the box's system; it is not started yet."""
    gemmad = Installed(box)
    gemmad.prepare()
    gemmad.install()
    return gemmad


@pytest.fixture
def gemmad(installed: Installed) -> Installed:
    """The same, serving."""
    installed.make_ready()
    return installed
