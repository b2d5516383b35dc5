"""`python -m gemmad.worker.probe`: import all that a worker imports, and tell as JSON where that comes from.

`gemmad engine` runs it in an environment before that becomes an engine; `gemmad doctor` runs it with `--cuda`, which
also tells whether CUDA begins. No context is made, so nothing of a GPU's memory is taken.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch

import gemmad.worker.loop  # noqa: F401 - what is tried


def cuda_facts() -> dict[str, Any]:
    """Why CUDA does not begin in this process, or which GPUs its kernels were compiled for."""
    if torch.version.cuda is None:
        return {"arches": [], "cuda_problem": None}
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return {"arches": [], "cuda_problem": str(error)}
    return {"arches": torch.cuda.get_arch_list(), "cuda_problem": None}


if __name__ == "__main__":
    facts: dict[str, Any] = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "site": str(Path(torch.__file__).parents[1]),
    }
    if "--cuda" in sys.argv[1:]:
        facts |= cuda_facts()
    print(json.dumps(facts))  # noqa: T201 - who runs it reads it
