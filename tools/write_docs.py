"""Write the pages of the docs that are made from the code. `make docs` runs it, tests hold page and code equal."""

from __future__ import annotations

from pathlib import Path

from gemmad.config.document import settings_page

DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    """Write every page."""
    (DOCS / "configuration.md").write_text(settings_page())


if __name__ == "__main__":
    main()
