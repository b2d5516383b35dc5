"""Several choices of one request, drawn by the real worker."""

from __future__ import annotations

from typing import Any

from tests.process.daemon import MODEL, DaemonProcess

ASK: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Tell me something about a heron."}],
    "temperature": 1.9,
    "extra_body": {"top_k": 0},
    "top_p": 1.0,
    "max_tokens": 12,
}


def test_a_choice_can_be_had_again_alone(demo_daemon: DaemonProcess) -> None:
    """Choice i of a request with a seed is what a request with the seed + i says, streamed or not, and they differ."""
    with demo_daemon.client() as client:
        whole = client.chat.completions.create(**ASK, seed=5, n=4)
        texts = [choice.message.content for choice in whole.choices]
        alone = [client.chat.completions.create(**ASK, seed=5 + index).choices[0].message.content for index in range(4)]
        streamed = [""] * 4
        for chunk in client.chat.completions.create(**ASK, seed=5, n=4, stream=True):
            streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == alone == streamed
    assert len(set(texts)) > 1
    assert whole.usage is not None
    assert whole.usage.completion_tokens <= 4 * 12
    assert whole.usage.prompt_tokens < 40
