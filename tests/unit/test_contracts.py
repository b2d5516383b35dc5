from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORKER_SIDE = {"bench", "evaluate", "worker", "engine", "models", "kernels"}
FORBIDDEN = {"torch", "transformers", "accelerate", "safetensors"}

IMPORT_ALL = """
import importlib, pkgutil, sys
import gemmad
worker_side = {worker_side!r}
for module in pkgutil.walk_packages(gemmad.__path__, "gemmad."):
    if module.name.split(".")[1] not in worker_side and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(" ".join(sorted({forbidden!r} & sys.modules.keys())))
"""


def test_import_contracts() -> None:
    """Imports point down, and no package of the daemon leads to torch."""
    script = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_the_contract_covers_every_package_of_the_daemon() -> None:
    """A new top-level package is the daemon's, and so under the contract, unless it is named as the worker's."""
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    covered = set(contracts["importlinter:contract:no-torch"]["source_modules"].split())
    children = {path.stem for path in (ROOT / "gemmad").iterdir() if path.suffix == ".py" or path.is_dir()}
    packages = {name for name in children if name.isidentifier() and not name.startswith("__")}
    assert covered == {f"gemmad.{name}" for name in packages - WORKER_SIDE}


def test_the_daemon_imports_no_torch() -> None:
    """A process that has imported all that the daemon imports has neither torch nor transformers."""
    script = IMPORT_ALL.format(worker_side=WORKER_SIDE, forbidden=FORBIDDEN)
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ""
