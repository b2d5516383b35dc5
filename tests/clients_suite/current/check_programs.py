"""Programs that are clients, each in an empty home with the settings of docs/clients.md.

What they send before the first word of the user is longer than the bundled model's context: it is served once more
with a longer one, in which it cannot make sense. That a turn comes to its end is all that is asked of it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from daemon import ROOT, serving

PACKAGES = ROOT / "tests" / "clients_suite" / "node" / "node_modules"
CODEX = ("node", PACKAGES / "@openai" / "codex" / "bin" / "codex.js")
CLAUDE = ("node", PACKAGES / "@anthropic-ai" / "claude-code" / "cli-wrapper.cjs")
CONTINUE = ("node", PACKAGES / "@continuedev" / "cli" / "dist" / "cn.js")
CLINE = (PACKAGES / ".bin" / "cline",)
AIDER = ROOT / ".venv-clients" / "aider" / "bin" / "aider"
CHECKPOINT = ROOT / "gemmad" / "demo" / "checkpoint"
MODEL = "gemma-3-long"
CONTEXT = 131_072
FRANCE = "What is the capital of France?"
PATIENCE_SECONDS = 280


@pytest.fixture(scope="module")
def long_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bundled weights with a long context, without `/v1`. Replies are short: they would not end by themselves."""
    folder = tmp_path_factory.mktemp("long")
    checkpoint = shutil.copytree(CHECKPOINT, folder / "checkpoint")
    config = json.loads((checkpoint / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = CONTEXT
    (checkpoint / "config.json").write_text(json.dumps(config))
    settings = {
        "GEMMAD_MODEL__SERVED_NAMES": f'["{MODEL}"]',
        "GEMMAD_ENGINE__MAX_CONTEXT": "65536",
        "GEMMAD_SAMPLING__MAX_TOKENS": "64",
    }
    with serving(folder, "--model", str(checkpoint), settings=settings) as url:
        yield url


def run(command: Sequence[str | Path], home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A program that has nothing but an empty folder to work in and a home of its own."""
    project = home / "project"
    project.mkdir()
    clean = {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb", **env}
    return subprocess.run(
        command, cwd=project, env=clean, capture_output=True, text=True, timeout=PATIENCE_SECONDS,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def codex_home(home: Path, base_url: str, model: str) -> Path:
    """A home with Codex's settings."""
    (home / ".codex").mkdir()
    (home / ".codex" / "config.toml").write_text(
        f'model = "{model}"\nmodel_provider = "gemmad"\nmodel_context_window = {CONTEXT}\n'
        f'[model_providers.gemmad]\nname = "gemmad"\nbase_url = "{base_url}/v1"\nwire_api = "responses"\n'
    )
    return home


def claude_env(url: str, model: str) -> dict[str, str]:
    """Claude Code's settings."""
    return {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_AUTH_TOKEN": "none",
        "ANTHROPIC_MODEL": model,
        "ANTHROPIC_DEFAULT_OPUS_MODEL": model,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": model,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": model,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }


def test_codex(tmp_path: Path, long_url: str) -> None:
    """`codex exec` reads a reply to its end; a tiny model's end is the limit of its length."""
    home = codex_home(tmp_path, long_url, MODEL)
    done = run([*CODEX, "exec", "--json", "--skip-git-repo-check", FRANCE], home)
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    items = [event["item"]["type"] for event in events if event["type"] == "item.completed"]
    assert "agent_message" in items, done
    last = events[-1]
    limit = "Incomplete response returned, reason: max_output_tokens"
    assert last["type"] == "turn.completed" or last["error"]["message"] == limit, done


def test_claude_code(tmp_path: Path, url: str, model: str) -> None:
    """`claude -p` gets its answer: without tools and with a short system message the bundled model has room."""
    words = ["-p", "--tools", "", "--system-prompt", "Be kind.", "--output-format", "json", FRANCE]
    done = run([*CLAUDE, *words], tmp_path, **claude_env(url, model))
    answer = json.loads(done.stdout)
    assert answer["is_error"] is False, answer
    assert answer["result"]


def test_claude_code_with_all_its_tools(tmp_path: Path, long_url: str) -> None:
    """All that it sends by itself is taken: what it complains of, if of anything, is the limit of the length."""
    env = {**claude_env(long_url, MODEL), "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "64"}
    done = run([*CLAUDE, "-p", "--output-format", "json", FRANCE], tmp_path, **env)
    answer = json.loads(done.stdout)
    assert answer["is_error"] is False or "exceeded the 64 output token maximum" in answer["result"], answer


def test_aider(tmp_path: Path, long_url: str) -> None:
    """`aider --message` comes to the end of a turn."""
    words = [
        "--model", f"openai/{MODEL}", "--no-git", "--yes-always", "--no-check-update", "--analytics-disable",
        "--no-show-model-warnings", "--no-show-release-notes", "--chat-mode", "ask", "--message", FRANCE,
    ]  # fmt: skip
    done = run([AIDER, *words], tmp_path, OPENAI_API_BASE=f"{long_url}/v1", OPENAI_API_KEY="none")
    assert done.returncode == 0, done
    assert "Tokens:" in done.stdout, done


def test_continue(tmp_path: Path, long_url: str) -> None:
    """Continue's `cn -p` comes to the end of a turn."""
    config = tmp_path / "config.yaml"
    config.write_text(
        "name: gemmad\nversion: 0.0.1\nschema: v1\nmodels:\n  - name: Gemma\n    provider: openai\n"
        f"    model: {MODEL}\n    apiBase: {long_url}/v1\n    apiKey: none\n"
        "    capabilities: [tool_use, image_input]\n"
    )
    done = run([*CONTINUE, "--config", config, "-p", FRANCE], tmp_path)
    assert done.returncode == 0, done
    assert done.stdout.strip(), done


def test_cline(tmp_path: Path, long_url: str) -> None:
    """`cline` comes to the end of a task."""
    data = tmp_path / "data"
    project = tmp_path / "project"
    words = ["-p", "openai-compatible", "-k", "none", "-m", MODEL, "-b", f"{long_url}/v1", "--data-dir", data]
    done = run([*CLINE, "auth", *words], tmp_path)
    assert done.returncode == 0, done
    project.rmdir()
    done = run([*CLINE, "--data-dir", data, "--json", FRANCE], tmp_path)
    results = [line for line in done.stdout.splitlines() if '"type":"run_result"' in line]
    assert results, done
    assert json.loads(results[-1])["usage"]["outputTokens"] > 0
