"""The `gemmad` command. Each verb imports what it needs when it runs, so asking for help or the version is quick."""

from __future__ import annotations

import typer

from gemmad.cli import (
    bench,
    cancel,
    chat,
    completion,
    config,
    dashboard,
    doctor,
    drain,
    engine,
    evaluate,
    health,
    keys,
    logs,
    memory,
    models,
    plan,
    pull,
    recycle,
    reload,
    requests,
    resume,
    rm,
    serve,
    service,
    status,
    top,
    version,
    wait,
)
from gemmad.cli.examples import add_examples

_SERVING, _OPERATING, _MODELS, _HERE = "Serving", "Operating a running daemon", "Models", "This installation"

app = typer.Typer(
    name="gemmad",
    help="A daemon that serves Gemma 3, text and images, behind an OpenAI-compatible API.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve", rich_help_panel=_SERVING)(serve.serve)
app.command("health", rich_help_panel=_SERVING)(health.health)
app.command("wait", rich_help_panel=_SERVING)(wait.wait)
app.command("chat", rich_help_panel=_SERVING)(chat.chat)
app.command("status", rich_help_panel=_OPERATING)(status.status)
app.command("dashboard", rich_help_panel=_OPERATING)(dashboard.dashboard)
app.command("top", rich_help_panel=_OPERATING)(top.top)
app.command("memory", rich_help_panel=_OPERATING)(memory.memory)
app.command("logs", rich_help_panel=_OPERATING)(logs.logs)
app.command("requests", rich_help_panel=_OPERATING)(requests.requests)
app.command("cancel", rich_help_panel=_OPERATING)(cancel.cancel)
app.command("drain", rich_help_panel=_OPERATING)(drain.drain)
app.command("resume", rich_help_panel=_OPERATING)(resume.resume)
app.command("recycle", rich_help_panel=_OPERATING)(recycle.recycle)
app.command("reload", rich_help_panel=_OPERATING)(reload.reload)
app.command("pull", rich_help_panel=_MODELS)(pull.pull)
app.command("models", rich_help_panel=_MODELS)(models.models)
app.command("rm", rich_help_panel=_MODELS)(rm.rm)
app.command("bench", rich_help_panel=_HERE)(bench.bench)
app.command("evaluate", rich_help_panel=_HERE)(evaluate.evaluate)
app.command("doctor", rich_help_panel=_HERE)(doctor.doctor)
app.command("plan", rich_help_panel=_HERE)(plan.plan)
app.command("version", rich_help_panel=_HERE)(version.version)
app.command("completion", rich_help_panel=_HERE)(completion.completion)
app.add_typer(config.app, name="config", rich_help_panel=_HERE)
app.add_typer(keys.app, name="keys", rich_help_panel=_HERE)
app.add_typer(engine.app, name="engine", rich_help_panel=_HERE)
app.add_typer(service.app, name="service", rich_help_panel=_HERE)
add_examples(app)


def main() -> None:
    """The console script. Its name is the same however it is started: completion asks by it."""
    app(prog_name="gemmad")
