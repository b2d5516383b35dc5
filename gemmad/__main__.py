"""`python -m gemmad` is the `gemmad` command."""

from __future__ import annotations

from gemmad.cli.main import main

main()
