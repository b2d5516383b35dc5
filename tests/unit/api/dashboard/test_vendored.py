"""What the pages use of others: committed as it came, whole, and in the package."""

from __future__ import annotations

import json
import shutil
import subprocess
from hashlib import sha256
from importlib import resources
from pathlib import Path

from gemmad.api.dashboard.pages import FOLDER

ROOT = Path(__file__).parents[4]
VENDOR = FOLDER / "vendor"
MANIFEST = json.loads((VENDOR / "vendored.json").read_text())


def test_files_are_those_of_the_locked_versions() -> None:
    """Each vendored file has the sha256 that was written down when it was copied from the version that is locked."""
    locked = json.loads((ROOT / "tools" / "assets" / "package-lock.json").read_text())["packages"]
    wanted = json.loads((ROOT / "tools" / "assets" / "package.json").read_text())["dependencies"]
    assert set(MANIFEST) == set(wanted)
    for name, package in MANIFEST.items():
        lock = locked[f"node_modules/{name}"]
        assert (package["version"], package["integrity"]) == (lock["version"], lock["integrity"])
        assert package["version"] == wanted[name], "a version is exact, so that `make assets` copies the same files"
        for file, told in package["files"].items():
            assert sha256((VENDOR / file).read_bytes()).hexdigest() == told["sha256"], f"{file}: run `make assets`"


def test_every_file_is_accounted_for() -> None:
    """Nothing lies among the vendored files that the manifest does not name, and each package brings its licence."""
    named = {file for package in MANIFEST.values() for file in package["files"]}
    assert {path.name for path in VENDOR.iterdir()} == named | {"vendored.json"}
    assert {f"{name}.LICENSE" for name in MANIFEST} <= named


def test_assets_are_in_the_package() -> None:
    """An installed gemmad finds pages, styles, scripts and vendored files beside its code, and git keeps them all."""
    assets = resources.files("gemmad.api.dashboard") / "assets"
    wanted = (
        "index.html",
        "style.css",
        "dashboard/main.js",
        "common/events.js",
        *(f"vendor/{n}" for n in ("uplot.js",)),
    )
    for name in wanted:
        assert assets.joinpath(name).is_file(), name
    if shutil.which("git") is None:
        return
    files = [str(path) for path in FOLDER.rglob("*") if path.is_file()]
    ignored = subprocess.run(
        ["git", "check-ignore", "--no-index", *files], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ignored.stdout == "", "the wheel leaves out what git ignores"
