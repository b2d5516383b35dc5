"""`gemmad completion`: what a shell needs to complete verbs, options, workers and requests."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Shell = Literal["bash", "zsh", "fish"]
SHELLS: tuple[Shell, ...] = ("bash", "zsh", "fish")
FILE_NAMES: dict[Shell, str] = {"bash": "gemmad", "zsh": "_gemmad", "fish": "gemmad.fish"}
"""As each shell's folder of completions wants them called."""


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="Whose.")],
) -> None:
    """Print the completion script for a shell; `gemmad --install-completion` puts the one of your shell in place.

    Exit status: 0 printed, 2 no such shell.
    """
    typer.echo(script(shell), nl=False)


def script(shell: Shell) -> str:
    """For the command `gemmad`: it asks that command itself each time."""
    from typer._completion_shared import get_completion_script

    return get_completion_script(prog_name="gemmad", complete_var="_GEMMAD_COMPLETE", shell=shell) + "\n"
