"""The `gemmad` command. Each verb imports what it needs when it runs, so asking for help or the version is quick."""

from __future__ import annotations

import typer

from gemmad.cli import bench, config, drain, health, plan, recycle, resume, serve, status, version

app = typer.Typer(
    name="gemmad",
    help="A daemon that serves Gemma 3, text and images, behind an OpenAI-compatible API.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("health")(health.health)
app.command("status")(status.status)
app.command("drain")(drain.drain)
app.command("resume")(resume.resume)
app.command("recycle")(recycle.recycle)
app.command("bench")(bench.bench)
app.command("plan")(plan.plan)
app.command("version")(version.version)
app.add_typer(config.app, name="config")


def main() -> None:
    """The console script."""
    app()
