"""`/tokenize`, `/detokenize` and what `/v1/models` says, as editors and vLLM's clients read them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from openai import OpenAI

from tests.api.stage import MODEL, Stage
from tests.api.test_bad_input import refused
from tests.fakes.media_pictures import data_url, noise, saved


def test_a_prompt(stage: Stage, http: httpx.Client) -> None:
    """A text gives its ids, with the beginning-of-text token unless it is not wanted, and their names if they are."""
    body = http.post("/tokenize", json={"model": MODEL, "prompt": "Hello there."}).json()
    ids = [stage.text.bos_id, *stage.tokens("Hello there.")]
    assert body == {"count": len(ids), "max_model_len": 8192, "tokens": ids, "token_strs": None}
    bare = {"prompt": "Hello there.", "add_special_tokens": False, "return_token_strs": True}
    body = http.post("/tokenize", json=bare).json()
    assert body["tokens"] == ids[1:]
    assert "".join(body["token_strs"]).replace("▁", " ") == "Hello there."


def test_messages(stage: Stage, http: httpx.Client, client: OpenAI) -> None:
    """A conversation gives the ids that a chat completion has as its prompt, pictures and tools included."""
    picture = {"type": "image_url", "image_url": {"url": data_url(saved(noise(), "PNG"))}}
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [picture, {"type": "text", "text": "What is it?"}]},
        {"role": "assistant", "content": "It is"},
    ]
    client.chat.completions.create(model=MODEL, messages=messages, extra_body={"continue_final_message": True})
    prompt = stage.worker.submits[0].prompt
    fields = {"model": MODEL, "messages": messages, "add_generation_prompt": False, "continue_final_message": True}
    body = http.post("/tokenize", json=fields).json()
    assert tuple(body["tokens"]) == prompt.token_ids
    tools = [{"type": "function", "function": {"name": "look_around"}}]
    assert http.post("/tokenize", json={**fields, "tools": tools}).json()["count"] > body["count"]


def test_detokenize(http: httpx.Client) -> None:
    """Ids become text again, control tokens included."""
    for text in ("Hello there.", "Größe 🎈", "<start_of_turn>user\nHi<end_of_turn>\n", ""):
        ids = http.post("/tokenize", json={"prompt": text}).json()["tokens"]
        body = http.post("/detokenize", json={"model": MODEL, "tokens": ids}).json()
        assert body == {"prompt": f"<bos>{text}"}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": 5}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": [{"role": "user", "content": "Hi"}]}, "messages"),
        ("/tokenize", {"messages": [{"role": "user"}]}, "messages[0].content"),
        ("/tokenize", {"prompt": "a" * 1_000_000}, "prompt"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": "abc"}, "tokens"),
        ("/detokenize", {"tokens": [1, -1]}, "tokens"),
        ("/detokenize", {"tokens": [10**6]}, "tokens"),
        ("/detokenize", {"tokens": [True]}, "tokens"),
    ],
)
def test_wrong_values(http: httpx.Client, path: str, body: dict[str, Any], param: str) -> None:
    """What makes no sense is a 400 that names its field."""
    assert refused(http.post(path, json=body))["param"] == param


def test_an_unknown_model(http: httpx.Client) -> None:
    """A model that is not served is a 404 here too."""
    for path, body in (("/tokenize", {"prompt": "a"}), ("/detokenize", {"tokens": []})):
        assert refused(http.post(path, json={**body, "model": "gpt-9"}), 404)["param"] == "model"


def test_models(http: httpx.Client, client: OpenAI) -> None:
    """Every name says how long its context is and what it can do."""
    for model in client.models.list():
        assert (model.max_model_len, model.capabilities) == (8192, ["completion", "tools", "vision"])  # type: ignore[attr-defined]
    assert http.get(f"/v1/models/{MODEL}").json()["capabilities"] == ["completion", "tools", "vision"]
