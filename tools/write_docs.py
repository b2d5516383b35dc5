"""Write the pages of the docs that are made from the code. `make docs` runs it, tests hold page and code equal."""

from __future__ import annotations

from pathlib import Path

from gemmad.api.openapi.fields import fields_page
from gemmad.cli.completion import FILE_NAMES, SHELLS, script
from gemmad.cli.main import app
from gemmad.cli.manual import man_pages
from gemmad.cli.reference import cli_page, read_groups
from gemmad.config.document import example_file, settings_page
from gemmad.planning.cards import cards_table

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MAN = ROOT / "packaging" / "man"
COMPLETIONS = ROOT / "packaging" / "completions"
CARDS = ("<!-- cards -->", "<!-- /cards -->")


def main() -> None:
    """Write every page."""
    (DOCS / "configuration.md").write_text(settings_page())
    (ROOT / "packaging" / "gemmad.toml").write_text(example_file())
    (DOCS / "api-fields.md").write_text(fields_page())
    write_cards()
    write_command_line()


def write_cards() -> None:
    """The table of formats on common cards, between its marks in a page that is written by hand."""
    page = DOCS / "quantisation.md"
    before, rest = page.read_text().split(CARDS[0])
    after = rest.split(CARDS[1])[1]
    page.write_text(f"{before}{CARDS[0]}\n{cards_table()}\n{CARDS[1]}{after}")


def write_command_line() -> None:
    """Its page, the manual pages and the completions; what belongs to a verb that is no more is removed."""
    groups = read_groups(app)
    (DOCS / "cli.md").write_text(cli_page(groups))
    for folder in (MAN, COMPLETIONS):
        folder.mkdir(exist_ok=True)
    pages = man_pages(groups)
    for name, text in pages.items():
        (MAN / name).write_text(text)
    for path in MAN.glob("*.1"):
        if path.name not in pages:
            path.unlink()
    for shell in SHELLS:
        (COMPLETIONS / FILE_NAMES[shell]).write_text(script(shell))


if __name__ == "__main__":
    main()
