"""Examples of every verb: below its help, in its manual page and in docs/cli.md. A test holds that none is missing."""

from __future__ import annotations

from collections.abc import Mapping

import typer
from typer.models import CommandInfo

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "serve": ("gemmad serve --demo", "gemmad serve --model google/gemma-3-4b-it --port 8000"),
    "health": ("gemmad health", "gemmad health --url http://10.0.0.7:4363 --json"),
    "wait": ("gemmad wait --ready --timeout 120 && ./use-it",),
    "chat": (
        "gemmad chat",
        'gemmad chat "What is on this picture?" --image cat.png',
        'gemmad chat "Summarise this:" < report.txt',
    ),
    "status": ("gemmad status", "gemmad status --watch", "gemmad status --json | jq .requests"),
    "dashboard": ("gemmad dashboard", "gemmad dashboard --no-browser"),
    "top": ("gemmad top", "gemmad top --once", "gemmad top --json | jq .gpus"),
    "memory": ("gemmad memory", "gemmad memory --since 7d --plot memory.png", "gemmad memory --worker gpu0 --json"),
    "logs": ("gemmad logs -f", 'gemmad logs --since "10 min ago" -n 1000'),
    "requests": ("gemmad requests", "gemmad requests --json"),
    "cancel": ("gemmad cancel req_0f3a",),
    "drain": ("gemmad drain gpu1 --wait", "gemmad drain --all"),
    "resume": ("gemmad resume gpu1 --wait",),
    "recycle": ("gemmad recycle gpu0", "gemmad recycle --all --wait"),
    "reload": ("gemmad reload --dry-run", "gemmad reload"),
    "bench": ("gemmad bench --demo --quick", "gemmad bench --model /srv/gemma-3-12b-it --markdown bench.md"),
    "evaluate": (
        "gemmad evaluate --demo --text chats.txt --replies --context 512",
        "gemmad evaluate --model google/gemma-3-4b-it --text wiki.test.raw --json run.json",
    ),
    "doctor": ("gemmad doctor", "gemmad doctor --json | jq .summary"),
    "plan": (
        "gemmad plan",
        "gemmad plan --model 12b --gpu-memory 12GiB",
        "gemmad plan --model 12b --gpu-memory 24GiB --context 32768 --propose",
    ),
    "pull": ("gemmad pull google/gemma-3-4b-it", "gemmad pull google/gemma-3-4b-it --verify"),
    "models": ("gemmad models", "gemmad models --json"),
    "rm": ("gemmad rm google/gemma-3-4b-it",),
    "version": ("gemmad version", "gemmad version --json"),
    "completion": (
        "gemmad completion bash > ~/.local/share/bash-completion/completions/gemmad",
        "gemmad completion fish > ~/.config/fish/completions/gemmad.fish",
    ),
    "config check": ("gemmad config check", "gemmad config check --config new.toml"),
    "config show": ("gemmad config show --origin",),
    "config path": ("gemmad config path",),
    "config diff": ("gemmad config diff",),
    "config schema": ("gemmad config schema > gemmad.schema.json",),
    "config example": ("gemmad config example > gemmad.toml",),
    "keys new": ("gemmad keys new --name alice",),
    "engine install": ("gemmad engine install cuda",),
    "engine add": ("gemmad engine add /opt/torch/bin/python",),
    "engine list": ("gemmad engine list",),
    "engine use": ("gemmad engine use cuda-2",),
    "engine rollback": ("gemmad engine rollback",),
    "engine remove": ("gemmad engine remove cuda-1",),
    "service install": ("gemmad service install --user --now", "gemmad service install --print"),
    "service uninstall": ("gemmad service uninstall --user",),
    "service status": ("gemmad service status",),
}
"""By verb. Without square brackets, which a terminal's help takes for markup."""


def add_examples(app: typer.Typer) -> None:
    """Put them below the help of each verb of `app` and of its groups; lists of verbs only say what each does."""
    for info in app.registered_commands:
        _complete(info, command_name(info))
    for group in app.registered_groups:
        assert group.typer_instance is not None
        for info in group.typer_instance.registered_commands:
            _complete(info, f"{group.name} {command_name(info)}")


def command_name(info: CommandInfo) -> str:
    """What is typed for it."""
    assert info.callback is not None
    return info.name or info.callback.__name__.replace("_", "-")


def _complete(info: CommandInfo, name: str) -> None:
    assert info.callback is not None
    info.epilog = _epilog(EXAMPLES.get(name, ()))
    told = " ".join((info.callback.__doc__ or "").split("\n\n")[0].split())
    info.short_help = told.partition(" Exit status: ")[0]


def _epilog(examples: tuple[str, ...]) -> str | None:
    if not examples:
        return None
    return "\n".join(["Example:" if len(examples) == 1 else "Examples:", *(f"  {example}" for example in examples)])
