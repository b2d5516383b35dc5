"""What is in packaging/, as far as it can be judged without building it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from gemmad.cli.main import app
from gemmad.config.load import load_config
from gemmad.config.paths import find_paths
from gemmad.engines.install import LOCKS, kinds

PACKAGING = Path(__file__).parents[2] / "packaging"
SCRIPTS = (PACKAGING / "install.sh", *(PACKAGING / "deb" / name for name in ("postinst", "prerm", "postrm")))
QUADLET = PACKAGING / "container" / "gemmad.container"
CONTAINERFILE = PACKAGING / "container" / "Containerfile"
GENERATORS = ("/usr/libexec/podman/quadlet", "/usr/lib/podman/quadlet")
CONTAINER_KEYS = {
    *(
        "AddDevice",
        "ContainerName",
        "DropCapability",
        "Environment",
        "HealthCmd",
        "HealthInterval",
        "HealthStartPeriod",
    ),
    *("Image", "NoNewPrivileges", "Notify", "PodmanArgs", "PublishPort", "ReadOnly", "Secret", "Tmpfs", "Volume"),
}
"""Of podman-systemd.unit(5), those that Podman 4.9 knows and the file uses."""


def settings(text: str) -> dict[str, str]:
    """The variables of gemmad's that a file sets."""
    return dict(re.findall(r"\b(GEMMAD_[A-Z_]+)=(\S+)", text))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_plain_sh(script: Path) -> None:
    """Every shell script parses, stops at its first error, and shellcheck has nothing to say."""
    assert subprocess.run(["sh", "-n", script], check=False).returncode == 0
    assert "\nset -e" in script.read_text()
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(["shellcheck", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("arguments", "commands"),
    [
        (["x.deb"], ["apt-get install --yes .*/x.deb", "gemmad engine install cuda"]),
        (["--engine", "cpu", "./x.deb"], ["apt-get install --yes .*/x.deb", "gemmad engine install cpu"]),
        (["--user", "x.whl"], ["(uv tool|pipx) install x.whl", "gemmad service install --user --now"]),
        (["x.whl"], ["pipx install x.whl", "gemmad service install --now"]),
    ],
)
def test_the_installer_calls_package_tools(arguments: list[str], commands: list[str], tmp_path: Path) -> None:
    """`install.sh --print` tells which public tools it would call, in order, and calls none."""
    command = [str(PACKAGING / "install.sh"), "--print", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert re.search(".*\n(.*\n)*?.*".join(commands), done.stdout), done.stdout
    assert all(line.startswith("+ ") for line in done.stdout.splitlines())


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--nonsense", "a"], ["--user", "a.deb"]])
def test_the_installer_refuses_what_it_does_not_know(arguments: list[str]) -> None:
    """Wrong arguments end with 2 and a word on standard error, and nothing is called."""
    done = subprocess.run(
        [PACKAGING / "install.sh", "--print", *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr


def test_the_quadlet_has_keys_that_podman_knows() -> None:
    """Each line is a section, a comment or a key; those for Podman are known; Notify= leaves READY to the daemon."""
    found: dict[str, set[str]] = {}
    for line in QUADLET.read_text().splitlines():
        if line.startswith("["):
            keys = found.setdefault(line.strip("[]"), set())
        elif line and not line.startswith("#"):
            keys.add(line.partition("=")[0])
    assert set(found) == {"Unit", "Container", "Service", "Install"}
    assert found["Container"] == CONTAINER_KEYS
    assert "Notify=true\n" in QUADLET.read_text()


def test_the_quadlet_makes_a_unit(tmp_path: Path) -> None:
    """Podman's own generator takes the file and makes a unit of type notify."""
    generator = next((path for path in GENERATORS if Path(path).exists()), None)
    if generator is None:
        pytest.skip("Podman's quadlet is not installed")
    shutil.copy(QUADLET, tmp_path)
    done = subprocess.run(
        [generator, "-dryrun"], env={"QUADLET_UNIT_DIRS": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Type=notify" in done.stdout


@pytest.mark.parametrize("file", [QUADLET, CONTAINERFILE], ids=lambda path: path.name)
def test_containers_set_what_there_is(file: Path) -> None:
    """Each variable of gemmad's is a setting or a folder that it reads, and each verb is one that it has."""
    env = settings(file.read_text())
    folders = {name: value for name, value in env.items() if name.endswith("_DIR")}
    paths = find_paths(folders, uid=0)
    found = {paths.config_dir, paths.state_dir, paths.cache_dir, paths.runtime_dir}
    assert {Path(value) for value in folders.values()} <= found
    load_config(None, env=env, overrides={})
    verbs = re.findall(r'(?<![\w./-])gemmad(?:", "| )(health|reload|version|serve|keys)', file.read_text())
    assert verbs
    assert set(verbs) <= set(getattr(get_command(app), "commands"))  # noqa: B009 - of a group only


def test_the_image_is_asked_how_it_is() -> None:
    """The image has a health check, runs as nobody special, and its engines are those that have locks."""
    text = CONTAINERFILE.read_text()
    assert "HEALTHCHECK" in text
    assert 'CMD ["gemmad", "health"]' in text
    assert "\nUSER gemmad\n" in text
    (default,) = re.findall(r"ARG ENGINE=(\w+)", text)
    assert default in kinds()
    assert f"COPY {LOCKS.relative_to(PACKAGING.parent)} " in text
