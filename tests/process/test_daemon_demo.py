"""The whole house: the real daemon, the real worker, the bundled model, the official SDK."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
from pathlib import Path
from typing import Any

from openai.types.chat import ChatCompletionMessageParam
from PIL import Image

from tests.clients import run_async
from tests.fakes.media_pictures import data_url, saved
from tests.process.daemon import MODEL, DaemonProcess

QUESTIONS = (
    "Count to 3.",
    "Count to 9.",
    "Repeat after me: the quick brown fox",
    "Repeat after me: a red circle",
    "Repeat after me: good morning",
    "My name is Ada. What is my name?",
    "Tell me a story.",
    "Hello!",
)
TIMES = 8
MAX_TOKENS = 12


def user(content: Any) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": content}]


async def stream_of(client: Any, content: Any) -> tuple[str, str | None]:
    """Text and finish reason of one greedy stream."""
    stream = await client.chat.completions.create(
        model=MODEL, messages=user(content), temperature=0, max_tokens=MAX_TOKENS, stream=True
    )
    text, finish = "", None
    async for chunk in stream:
        text += chunk.choices[0].delta.content or ""
        finish = chunk.choices[0].finish_reason
    return text, finish


def test_sixty_four_streams_of_the_demo(demo_daemon: DaemonProcess) -> None:
    """64 streams at once say what each of them says alone, and leave the daemon as it was."""
    with demo_daemon.client() as client:
        alone = {}
        for question in QUESTIONS:
            choice = client.chat.completions.create(
                model=MODEL, messages=user(question), temperature=0, max_tokens=MAX_TOKENS
            ).choices[0]
            alone[question] = (choice.message.content, choice.finish_reason)

    async def together() -> list[tuple[str, str | None]]:
        async with demo_daemon.async_client(timeout=100) as client:
            return await asyncio.gather(*(stream_of(client, question) for question in QUESTIONS * TIMES))

    assert run_async(together()) == [alone[question] for question in QUESTIONS * TIMES]
    demo_daemon.wait_until(lambda: demo_daemon.metric("gemmad_requests_running") == 0)
    assert demo_daemon.get("/health")[1]["status"] == "ready"


def test_pictures_reach_the_model(demo_daemon: DaemonProcess) -> None:
    """Every picture takes its soft tokens in the prompt, whatever is in it."""
    usages = []
    with demo_daemon.client() as client:
        for colours in ((), ("red",), ("blue",), ("red", "blue")):
            parts: list[dict[str, Any]] = [{"type": "text", "text": "What is it?"}]
            for colour in colours:
                url = data_url(saved(Image.new("RGB", (40, 40), colour), "PNG"))
                parts.append({"type": "image_url", "image_url": {"url": url}})
            reply = client.chat.completions.create(model=MODEL, messages=user(parts), temperature=0, max_tokens=8)
            assert reply.usage is not None
            usages.append(reply.usage.prompt_tokens)
    none, red, blue, both = usages
    assert red == blue
    assert none + 16 < red < both


def test_a_seed_repeats_a_reply(demo_daemon: DaemonProcess) -> None:
    """The same seed draws the same reply, streamed or not."""
    with demo_daemon.client() as client:
        fields: dict[str, Any] = {
            "model": MODEL,
            "messages": user("Tell me a story."),
            "temperature": 1.5,
            "seed": 7,
            "max_tokens": 16,
        }
        whole = client.chat.completions.create(**fields).choices[0].message.content
        stream = client.chat.completions.create(**fields, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == whole


def test_it_stays_small(demo_daemon: DaemonProcess) -> None:
    """The daemon holds no torch, whatever it has served, and its children are workers and media processes."""
    maps = Path(f"/proc/{demo_daemon.process.pid}/maps").read_text()
    assert "torch" not in maps
    assert "safetensors" not in maps
    lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in demo_daemon.children()]
    modules = {line.split("\0")[2] for line in lines} - {"gemmad.worker.zygote"}  # which comes when it likes
    assert modules == {"gemmad.media", "gemmad.worker"}


def test_hints_for_who_starts_it_by_hand(demo_daemon: DaemonProcess) -> None:
    """Once the demo answers, what to try is printed with the right address; the printed curl command works."""
    demo_daemon.wait_until(lambda: "Stop it with Ctrl-C" in demo_daemon.log)
    command = demo_daemon.log[demo_daemon.log.index("  curl ") : demo_daemon.log.index("or with the OpenAI SDK")]
    words = shlex.split(command.replace("\\\n", " "))
    result = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    assert '"object":"chat.completion"' in result.stdout


def test_a_prompt_is_not_computed_twice(demo_daemon: DaemonProcess) -> None:
    """Usage tells how much of a prompt was there from an earlier request, streamed or not, and so do the metrics."""
    fields: dict[str, Any] = {
        "model": MODEL,
        "messages": user("Once upon a time a heron stood in the reeds and waited for the evening. " * 5),
        "temperature": 0,
        "max_tokens": 2,
    }
    hits = 'gemmad_prefix_cache_hits_total{worker="cpu0"}'
    before = demo_daemon.metric(hits)
    with demo_daemon.client() as client:
        usages = [client.chat.completions.create(**fields).usage for _ in range(2)]
        *_, last = client.chat.completions.create(**fields, stream=True, stream_options={"include_usage": True})
    found, whole_pages = [], 0
    for usage in (*usages, last.usage):
        assert usage is not None
        assert usage.prompt_tokens_details is not None
        found.append(usage.prompt_tokens_details.cached_tokens or 0)
        whole_pages = (usage.prompt_tokens - 1) // 16 * 16
    assert whole_pages > 64
    assert found[0] < 16
    assert found[1] == found[2] == whole_pages
    demo_daemon.wait_until(lambda: demo_daemon.metric(hits) >= before + sum(found))
