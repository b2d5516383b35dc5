"""gemmad as a service of one user, whose manager runs without a login."""

from __future__ import annotations

import pytest

from tests.system.box import PATH, Box
from tests.system.installed import COMMAND, ENV, READY_SECONDS, Installed

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

NAME = "ada"
SETTINGS = """\
[Service]
Environment=GEMMAD_ENGINE__DEVICE=cpu LD_LIBRARY_PATH=/srv/python/lib
"""


class Ada:
    """A user of the box who lingers."""

    def __init__(self, box: Box) -> None:
        self._box = box
        box.run("useradd", "--create-home", NAME)
        box.run("loginctl", "enable-linger", NAME)
        self.uid = box.run("id", "--user", NAME).stdout.strip()
        box.wait_until(box.file(f"/run/user/{self.uid}/systemd/private").exists, words="her manager is up")

    def run(self, *command: str, check: bool = True) -> str:
        """What a command of hers says."""
        env = {
            "HOME": f"/home/{NAME}",
            "PATH": PATH,
            "XDG_RUNTIME_DIR": f"/run/user/{self.uid}",
            **ENV,
        }
        told = [f"{name}={value}" for name, value in env.items()]
        done = self._box.run(
            "setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", "env", *told, *command,
            check=check, seconds=READY_SECONDS,
        )  # fmt: skip
        return done.stdout + done.stderr


def test_a_user_has_a_service_of_their_own(box: Box) -> None:
    """A user installs the unit, reloads it, restarts it and removes it without being root, and it serves without a
    login."""
    if not box.file("/usr/bin/dbus-daemon").exists():
        pytest.skip("dbus is not installed: users have no managers here")
    gemmad = Installed(box)
    gemmad.prepare()
    ada = Ada(box)
    box.write(f"/home/{NAME}/.config/systemd/user/gemmad.service.d/test.conf", SETTINGS)
    box.run("chown", "-R", f"{NAME}:", f"/home/{NAME}")
    assert "wrote /home/ada/.config/systemd/user/gemmad.service" in ada.run(
        COMMAND, "service", "install", "--user", "--now", "--demo"
    )
    assert gemmad.answer() == "1, 2, 3."
    ada.run("systemctl", "--user", "reload", "gemmad")
    assert "ready" in ada.run(COMMAND, "status")
    assert "serving" in ada.run(COMMAND, "service", "status", "--user")
    assert box.file(f"/run/user/{ada.uid}/gemmad/control.sock").exists()
    ada.run(COMMAND, "service", "uninstall", "--user")
    assert gemmad.get("/health") == (0, None)
    assert not box.file(f"/run/user/{ada.uid}/gemmad").exists()
