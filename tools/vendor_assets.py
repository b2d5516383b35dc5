"""`make assets`: copies what the pages use of others from tools/assets/node_modules into the package.

What is copied is committed, so that neither an installation nor a wheel's build needs npm. `vendored.json` beside it
tells from which version each file is, and its sha256; a test holds it to the lock file and to the files.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parent / "assets"
VENDOR = Path(__file__).parents[1] / "gemmad" / "api" / "dashboard" / "assets" / "vendor"

FILES = {
    "uplot": {
        "uplot.js": "dist/uPlot.iife.min.js",
        "uplot.css": "dist/uPlot.min.css",
        "uplot.LICENSE": "LICENSE",
    },
    "marked": {"marked.js": "lib/marked.esm.js", "marked.LICENSE": "LICENSE"},
    "dompurify": {"dompurify.js": "dist/purify.es.mjs", "dompurify.LICENSE": "LICENSE"},
}
"""By package: the name here, and where it is in the package."""


def main() -> None:
    """Copy, and write down what was copied. Files that are named no more go."""
    locked = json.loads((ASSETS / "package-lock.json").read_text())["packages"]
    VENDOR.mkdir(parents=True, exist_ok=True)
    manifest = {name: _copy(name, files, locked[f"node_modules/{name}"]) for name, files in FILES.items()}
    (VENDOR / "vendored.json").write_text(json.dumps(manifest, indent=2) + "\n")
    wanted = {"vendored.json", *(name for files in FILES.values() for name in files)}
    for path in VENDOR.iterdir():
        if path.name not in wanted:
            path.unlink()


def _copy(name: str, files: dict[str, str], locked: dict[str, str]) -> dict[str, Any]:
    package = ASSETS / "node_modules" / name
    installed = json.loads((package / "package.json").read_text())["version"]
    if installed != locked["version"]:
        sys.exit(f"{name} {installed} is installed, the lock says {locked['version']}: run npm ci in {ASSETS}")
    for target, source in files.items():
        shutil.copyfile(package / source, VENDOR / target)
    return {
        "version": locked["version"],
        "integrity": locked["integrity"],
        "licence": locked["license"],
        "files": {
            target: {"source": source, "sha256": hashlib.sha256((VENDOR / target).read_bytes()).hexdigest()}
            for target, source in files.items()
        },
    }


if __name__ == "__main__":
    main()
