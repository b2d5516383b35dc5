"""Operations that OpenAI's clients know."""

from __future__ import annotations

from gemmad.api.errors import Envelope
from gemmad.api.fields import honoured
from gemmad.api.openai import wire
from gemmad.api.openai.chat_schema import ChatRequest
from gemmad.api.openai.completion_schema import CompletionRequest, DetokenizeRequest, TokenizeRequest
from gemmad.api.openai.completion_wire import TextCompletion
from gemmad.api.openai.decisions import wire as decisions
from gemmad.api.openai.decisions.parameters import DECISIONS, QUESTION
from gemmad.api.openai.decisions.schema import DecisionRequest
from gemmad.api.openai.parameters import CHAT, COMPLETION, MESSAGE
from gemmad.api.openai.tokenize import Detokenized, Tokenized
from gemmad.api.openapi.operation import SSE, Operation, Stream
from gemmad.api.openapi.responses import RESPONSES

_DONE = "The last event's data is `[DONE]`, unless one tells an error."
_NOT_STORED = frozenset({404})

_TEXT_TOKENS = (
    honoured("model", "one of the names in `GET /v1/models`; the one that is served if absent"),
    honoured("prompt", "a text"),
    honoured("add_special_tokens", "true if absent: of a text, whether the beginning-of-text token comes first"),
)
TOKENIZE = (
    *_TEXT_TOKENS,
    honoured("messages", "instead of `prompt`, as in `POST /v1/chat/completions`"),
    honoured("tools", "with `messages`, as there"),
    honoured("add_generation_prompt", "true if absent: whether the beginning of the reply's turn is counted"),
    honoured("continue_final_message", "the assistant's last message is left open"),
    honoured("return_token_strs", "the tokens as text too"),
)
DETOKENIZE = (_TEXT_TOKENS[0], honoured("tokens", "ids"))

_MODELS = (
    Operation(
        method="get",
        path="/v1/models",
        name="list_models",
        summary="The names that are served",
        tag="models",
        answer=wire.ModelList,
    ),
    Operation(
        method="get",
        path="/v1/models/{model}",
        name="retrieve_model",
        summary="One of them",
        tag="models",
        answer=wire.Model,
        refuses=_NOT_STORED,
    ),
)

_CHAT = (
    Operation(
        method="post",
        path="/v1/chat/completions",
        name="create_chat_completion",
        summary="A reply to a conversation",
        tag="chat",
        body=ChatRequest,
        fields=CHAT,
        parts=(("Messages", MESSAGE),),
        answer=wire.Completion,
        stream=Stream((wire.Chunk, Envelope), f"{SSE} {_DONE}"),
    ),
    Operation(
        method="post",
        path="/v1/completions",
        name="create_completion",
        summary="What goes on from a text",
        tag="completions",
        body=CompletionRequest,
        fields=COMPLETION,
        answer=TextCompletion,
        stream=Stream((TextCompletion, Envelope), f"{SSE} {_DONE}"),
    ),
    Operation(
        method="post",
        path="/tokenize",
        name="tokenize",
        summary="The tokens of a text, or of a conversation as the model is shown it",
        tag="tokens",
        body=TokenizeRequest,
        fields=TOKENIZE,
        answer=Tokenized,
    ),
    Operation(
        method="post",
        path="/detokenize",
        name="detokenize",
        summary="The text of tokens",
        tag="tokens",
        body=DetokenizeRequest,
        fields=DETOKENIZE,
        answer=Detokenized,
    ),
)

_DECISIONS = (
    Operation(
        method="post",
        path="/v1/decisions",
        name="create_decision",
        summary="Answers from the model's own probabilities",
        tag="decisions",
        body=DecisionRequest,
        fields=DECISIONS,
        parts=(("Questions", QUESTION),),
        answer=decisions.Decision,
    ),
)

OPENAI = (*_CHAT, *RESPONSES, *_DECISIONS, *_MODELS)
