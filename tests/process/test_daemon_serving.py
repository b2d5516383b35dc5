"""The daemon at work: many clients, workers that die, settings that change, and what it writes about it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from openai import APIStatusError

from tests.clients import run_async
from tests.fakes.media_pictures import data_url, noise, saved
from tests.fakes.worker import Behaviour, Faults
from tests.process.daemon import MODEL, DaemonProcess, start_fake

HI: Any = [{"role": "user", "content": "Hi"}]


async def one_stream(daemon: DaemonProcess, **fields: Any) -> tuple[str, str | None]:
    """Text and finish reason of one stream."""
    async with daemon.async_client(timeout=60) as client:
        return await stream_of(client, **fields)


async def stream_of(client: Any, **fields: Any) -> tuple[str, str | None]:
    stream = await client.chat.completions.create(**{"model": MODEL, "messages": HI, "stream": True, **fields})
    text, finish = "", None
    async for chunk in stream:
        text += chunk.choices[0].delta.content or ""
        finish = chunk.choices[0].finish_reason
    return text, finish


def test_an_echo(tmp_path: Path) -> None:
    """Words go through template and tokenizer to the worker and come back as words, up to the end of the turn."""
    with start_fake(tmp_path, Behaviour(reply="echo")) as daemon:
        daemon.wait_ready()
        text, finish = run_async(
            one_stream(daemon, messages=[{"role": "user", "content": "The circle is red."}], max_tokens=100)
        )
    assert text.endswith("The circle is red.")
    assert finish == "stop"


def test_sixty_four_streams(tmp_path: Path) -> None:
    """64 concurrent streams, cancels, refusals and images leave tables, descriptors and children as they were."""
    with start_fake(tmp_path, Behaviour(reply="echo", step_seconds=0.001, max_sequences=16)) as daemon:
        daemon.wait_ready()
        run_async(one_stream(daemon, max_tokens=4))
        daemon.wait_until(lambda: not sockets(daemon))
        before = (Counter(daemon.descriptors()).total(), daemon.children())

        async def talk() -> None:
            async with daemon.async_client(timeout=60) as client:
                answers = await asyncio.gather(*(ask(client, number) for number in range(64)))
            assert all(finish == "stop" for _, finish in answers)
            assert [text.rpartition(" ")[2] for text, _ in answers] == [str(number) for number in range(64)]

        run_async(talk())
        daemon.wait_until(lambda: not sockets(daemon))
        assert daemon.metric("gemmad_requests_running") == daemon.metric("gemmad_requests_waiting") == 0
        daemon.wait_until(lambda: (len(daemon.descriptors()), daemon.children()) == before)


async def ask(client: Any, number: int) -> tuple[str, str | None]:
    """A question whose echo ends with its number; some clients do more, and worse."""
    content: Any = f"Say {number}"
    if number % 8 == 1:
        content = [{"type": "image_url", "image_url": {"url": data_url(saved(noise(seed=number), "PNG"))}}]
        await stream_of(client, messages=[{"role": "user", "content": content}], max_tokens=5)
        content = f"Say {number}"
    if number % 8 == 2:
        stream = await client.chat.completions.create(model=MODEL, messages=HI, stream=True, max_tokens=50)
        await stream.close()
    if number % 8 == 3:
        with pytest.raises(APIStatusError):
            await stream_of(client, temperature=9)
    return await stream_of(client, messages=[{"role": "user", "content": content}], max_tokens=200)


def sockets(daemon: DaemonProcess) -> list[str]:
    """Connections of clients, which end a moment after the client has left."""
    tables = [Path(f"/proc/{daemon.process.pid}/net/tcp").read_text().splitlines()[1:]]
    port = f":{daemon.port:04X}"
    return [line for table in tables for line in table if line.split()[1].endswith(port) and line.split()[3] == "01"]


def test_a_worker_that_dies_in_the_middle(tmp_path: Path) -> None:
    """Streams go on after their worker was killed, and say what they would have said."""
    calm = Behaviour()
    wild = Behaviour(faults=Faults(crash_after_tokens=20), faulty_lives=1)
    texts = []
    for name, behaviour in (("calm", calm), ("wild", wild)):
        (tmp_path / name).mkdir()
        with start_fake(tmp_path / name, behaviour, workers__restart_pause=0.05) as daemon:
            daemon.wait_ready()
            texts.append(run_async(one_stream(daemon, seed=5, max_tokens=60)))
            failovers = daemon.metric("gemmad_failovers_total")
    assert texts[0] == texts[1]
    assert failovers == 1


def test_a_setting_that_changes(tmp_path: Path) -> None:
    """A live setting holds for the next request after the file was saved; a bad file changes nothing."""
    config = tmp_path / "config" / "gemmad.toml"
    config.parent.mkdir()
    config.write_text("[sampling]\nmax_tokens = 3\n")
    with start_fake(tmp_path) as daemon:
        daemon.wait_ready()

        def replied() -> int:
            with daemon.client() as client:
                usage = client.chat.completions.create(model=MODEL, messages=HI).usage
            assert usage is not None
            return usage.completion_tokens

        assert replied() == 3
        config.write_text("[sampling]\nmax_tokens = 5\n")
        daemon.wait_until(lambda: replied() == 5)
        config.write_text("[sampling]\nmax_tokens = -1\n")
        daemon.wait_until(lambda: daemon.metric("gemmad_config_reload_success") == 0)
        assert replied() == 5


def test_the_log_line_of_a_request(fake_daemon: DaemonProcess) -> None:
    """One line for each request says what it took, with the client's own id, and nothing of what was written."""
    with fake_daemon.client() as client:
        client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "My secret is xyzzy."}],
            max_tokens=4,
            extra_headers={"x-request-id": "mine-1"},
        )
        with pytest.raises(APIStatusError):
            client.chat.completions.create(model="nobody", messages=HI, extra_headers={"x-request-id": "mine-2"})
    fake_daemon.wait_until(lambda: len(fake_daemon.events("request finished")) == 2)
    good, bad = fake_daemon.events("request finished")
    assert good["request_id"] == "mine-1"
    assert (good["status"], good["finish"], good["completion_tokens"], good["retry_count"]) == (200, "length", 4, 0)
    assert good["prompt_tokens"] > 4
    assert 0 < good["ttft_seconds"] <= good["seconds"]
    assert (bad["request_id"], bad["status"], bad["error"]) == ("mine-2", 404, "model_not_found")
    assert "xyzzy" not in fake_daemon.log


def test_no_log_level_shows_what_was_written(tmp_path: Path) -> None:
    """Not even the debug log has words of a prompt or a reply in it."""
    with start_fake(tmp_path, Behaviour(reply="echo"), logging__level="debug") as daemon:
        daemon.wait_ready()
        text, _ = run_async(one_stream(daemon, messages=[{"role": "user", "content": "My secret is xyzzy."}]))
        assert "xyzzy" in text
        assert daemon.stop() == 0
        assert daemon.events("request finished")
        assert "xyzzy" not in daemon.log


def test_one_long_prompt_stops_nobody(fake_daemon: DaemonProcess) -> None:
    """While a text far over the context is looked at, others are answered."""
    body = [{"role": "user", "content": "word " * 2_000_000}]

    async def talk() -> float:
        async with fake_daemon.async_client(timeout=60) as client:
            long = asyncio.create_task(stream_of(client, messages=body))
            worst = 0.0
            while not long.done():
                began = time.monotonic()
                await stream_of(client, max_tokens=1)
                worst = max(worst, time.monotonic() - began)
            with pytest.raises(APIStatusError) as caught:
                await long
            assert caught.value.code == "context_length_exceeded"
            return worst

    assert run_async(talk()) < 2.0
