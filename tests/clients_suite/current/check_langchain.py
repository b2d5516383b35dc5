"""LangChain: the standard suite of `langchain-tests`, on `ChatOpenAI` over chat completions and over responses."""

from __future__ import annotations

from typing import Any

import pytest
from daemon import MODEL
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests
from pictures import red_square
from terse import logit_bias

CLEVER = "the model would have to understand the question"
ONLINE = "it fetches its picture from the internet; test_pictures has the same messages"
LEFT_OUT = {
    "test_tool_calling": CLEVER,
    "test_tool_calling_async": CLEVER,
    "test_bind_runnables_as_tools": CLEVER,
    "test_tool_calling_with_no_arguments": "the tool's schema allows arguments, and a tiny model makes some up",
    "test_json_mode": CLEVER,
    "test_agent_loop": CLEVER,
    "test_unicode_tool_call_integration": CLEVER,
    "test_image_inputs": ONLINE,
    "test_image_tool_message": ONLINE,
}


class ChatSuite(ChatModelIntegrationTests):
    """What the bundled model has and has not."""

    responses = False

    @pytest.fixture(autouse=True)
    def served(self, base_url: str, request: pytest.FixtureRequest) -> None:
        """Where it is, and what is not expected of it."""
        self.base_url = base_url
        if reason := LEFT_OUT.get(request.node.originalname):
            request.node.add_marker(pytest.mark.xfail(reason=reason, strict=reason != ONLINE))

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        """The class under test."""
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        """Where to ask for what."""
        return {
            "model": MODEL,
            "base_url": self.base_url,
            "api_key": "none",
            "use_responses_api": self.responses,
            "stream_usage": True,
        }

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        """Greedy and terse."""
        terse = {"logit_bias": logit_bias()}
        return {"temperature": 0, "max_tokens": 100, "timeout": 120, "max_retries": 0, "extra_body": terse}

    @property
    def supports_json_mode(self) -> bool:
        """`response_format` json_object."""
        return True

    @property
    def supports_image_inputs(self) -> bool:
        """Images as data."""
        return True

    @property
    def supports_image_tool_message(self) -> bool:
        """Images in what tools return."""
        return True

    def test_pictures(self, model: BaseChatModel) -> None:
        """Pictures in OpenAI's and in LangChain's own blocks, from the user and from a tool."""
        data = red_square().partition(",")[2]
        blocks: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": red_square()}},
            {"type": "image", "base64": data, "mime_type": "image/png"},
        ]
        call = {"type": "tool_call", "id": "1", "name": "picture", "args": {}}
        for block in blocks:
            told = HumanMessage(content=[{"type": "text", "text": "What is it?"}, block])
            assert isinstance(model.invoke([told]), AIMessage)
            shown = ToolMessage(content=[block], tool_call_id="1", name="picture")
            assert isinstance(
                model.invoke([HumanMessage("Show me one."), AIMessage([], tool_calls=[call]), shown]), AIMessage
            )


class CheckChatCompletions(ChatSuite):
    """`ChatOpenAI` over `/v1/chat/completions`."""


class CheckResponses(ChatSuite):
    """`ChatOpenAI` over `/v1/responses`."""

    responses = True


def test_old_completions(base_url: str) -> None:
    """`OpenAI`, the class for models that only go on with a text."""
    llm = OpenAI(model=MODEL, base_url=base_url, api_key="none", temperature=0, max_tokens=8, max_retries=0)
    assert llm.invoke("Once upon a time") == "".join(llm.stream("Once upon a time"))
