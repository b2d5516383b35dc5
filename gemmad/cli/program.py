"""Programs that need torch, which the command line never imports: this process becomes them, and signals and the exit
status need no one to pass them on."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from gemmad.cli.exits import EXIT_FAILED, fail


def become_the_program(module: str, argument: str) -> NoReturn:
    """Run `python -m MODULE ARGUMENT` by the Python that workers have."""
    from gemmad.config.paths import find_paths
    from gemmad.engines.store import EngineStore, engines_dir
    from gemmad.supervisor.interpreter import Interpreter

    sys.stdout.flush()
    sys.stderr.flush()
    try:
        command = Interpreter(EngineStore(engines_dir(find_paths(os.environ)))).command(module)
    except OSError as error:
        fail(str(error), EXIT_FAILED)
    os.execv(command[0], [*command, argument])  # noqa: S606
