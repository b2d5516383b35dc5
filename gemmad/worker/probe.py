"""`python -m gemmad.worker.probe`: import all that a worker imports, and tell as JSON where that comes from.

`gemmad engine` runs it in an environment before that becomes an engine.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

import torch

import gemmad.worker.loop  # noqa: F401 - what is tried

if __name__ == "__main__":
    facts = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "site": str(Path(torch.__file__).parents[1]),
    }
    print(json.dumps(facts))  # noqa: T201 - who runs it reads it
