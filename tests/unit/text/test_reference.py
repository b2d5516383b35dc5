"""The same conversation through transformers' own processor: its token ids are ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gemmad.demo import CHECKPOINT
from gemmad.text.chat import encode_chat
from gemmad.text.checkpoint import TextModel
from gemmad.text.messages import ImagePart, Message, Role, TextPart
from tests.unit.text.conftest import add_newline_tokens, copy_demo

IMG = None
Content = str | tuple[str | None, ...]
Conversation = tuple[tuple[Role, Content], ...]


def ask(*contents: Content) -> Conversation:
    """A conversation that the user begins, without a system message."""
    roles: tuple[Role, Role] = ("user", "assistant")
    return tuple((roles[number % 2], content) for number, content in enumerate(contents))


def instruct(system: Content, *contents: Content) -> Conversation:
    """A conversation with a system message."""
    return (("system", system), *ask(*contents))


CODE = "def f(x):\n    if x < 1 and x > -1:\n\treturn x  # done\n\n\n    return f(x - 1)"
JSON = '{"a": [1, 2.5, null], "b": {"c": "d\\n"}}'
HTML = "<table>\n<tr><td>1</td></tr>\n</table> &lt;b&gt; <b>bold</b> < b > <<end>> <|im_start|> </s> <s>"

CONVERSATIONS: dict[str, Conversation] = {
    "hello": ask("Hello"),
    "two turns": ask("Hello", "Hi there!", "How are you?"),
    "many turns": ask(*(f"turn {number}" for number in range(11))),
    "system": instruct("You are brief.", "Hello"),
    "system and turns": instruct("You are brief.", "Hello", "Hi!", "Why?"),
    "system with space around": instruct("  You are brief.\n\n", " Hello "),
    "system of several lines": instruct("One.\nTwo.\n\nThree.", "Hello\nthere"),
    "empty system": instruct("", "Hello"),
    "image": ask((IMG, "What is this?")),
    "image last": ask(("What is this?", IMG)),
    "image between": ask(("Is", IMG, "a dog?")),
    "image alone": ask((IMG,)),
    "two images": ask((IMG, IMG, "Compare")),
    "images between texts": ask(("first", IMG, "second", IMG, "third")),
    "three images alone": ask((IMG, IMG, IMG)),
    "image in each turn": ask((IMG, "one"), "a cat", ("two", IMG), "a dog", (IMG,), "a bird", "which was first?"),
    "system and image": instruct("Describe.", (IMG, "this")),
    "newlines around an image": ask(("look:\n", IMG, "\n\nwell?")),
    "many newlines around an image": ask(("look:\n\n\n", IMG, "\n\n\n\n", IMG, "\nwell?")),
    "spaces around an image": ask(("look: ", IMG, "  well?")),
    "blank text between images": ask((IMG, "  ", IMG)),
    "empty text beside an image": ask(("", IMG, "")),
    "system before an image": instruct("Look.\n", (IMG,)),
    "empty": ask(""),
    "blank": ask(" \n\t "),
    "empty reply": ask("Hello", "", "Hello?"),
    "space around": ask("  Hello  ", "\tHi\n", "\n\n\nWhy?\n"),
    "newlines at borders": ask("\nHello\n", "\n\nHi\n\n", "\n"),
    "newlines inside": ask("a\nb\n\nc\n\n\nd\n\n\n\ne\n\n\n\n\nf"),
    "spaces inside": ask("a  b   c    d     e\t\tf \n g"),
    "windows newlines": ask("a\r\nb\r\n\r\nc"),
    "code": ask(CODE),
    "json": ask(JSON, JSON, JSON),
    "markup that is no control token": ask(HTML),
    "halves of control tokens": ask("a <", "turn> b", "<end_of_", ">"),
    "a word within a control token": ask("bos", "turn", "of"),
    "german": ask("Grüße aus Köln, schöne Straße"),
    "chinese": ask("你好，世界！今天天气怎么样？", "很好。"),
    "japanese": ask("日本語のテキスト　全角スペース"),
    "arabic and hebrew": ask("مرحبا بالعالم שלום עולם"),
    "combining marks": ask("e\u0301 n\u0303 한국어 \u1112\u1161\u11ab"),
    "emoji": ask("👩‍👩‍👧‍👦 🏳️‍🌈 😀😀😀 ☃️"),
    "rare script": ask("𒀀𒀁𒀂 𝔘𝔫𝔦𝔠𝔬𝔡𝔢"),
    "the tokenizer's space": ask("a▁b ▁▁c▁ ▁"),
    "byte tokens in words": ask("<0x41><0xE2> <0x0A>"),
    "control characters": ask("a\0b\x07c\x1b[0m\x7f"),
    "odd spaces": ask("\ufeffa\u00a0b\u2003c\u200bd\u2028e\u3000"),
    "private characters": ask("\ue000 \U000f0000 \U0010fffd \U0010ffff"),
    "unused tokens": ask("a<unused0>b [multimodal] <unused99>"),
    "long": ask("All work and no play makes Jack a dull boy. " * 40),
}


def messages_of(conversation: Conversation) -> list[Message]:
    images = iter(range(99))
    return [
        Message(
            role,
            tuple(
                ImagePart(next(images)) if part is IMG else TextPart(part)
                for part in ((content,) if isinstance(content, str) else content)
            ),
        )
        for role, content in conversation
    ]


def chat_of(conversation: Conversation) -> list[dict[str, Any]]:
    picture = Image.new("RGB", (8, 8))
    parts = {
        content: [
            {"type": "image", "image": picture} if part is IMG else {"type": "text", "text": part}
            for part in ((content,) if isinstance(content, str) else content)
        ]
        for _, content in conversation
    }
    return [{"role": role, "content": parts[content]} for role, content in conversation]


class Reference:
    """One checkpoint, read by transformers and by us."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoProcessor

        self.model = TextModel.load(folder)
        self.processor = AutoProcessor.from_pretrained(folder)

    def theirs(self, conversation: Conversation, **options: Any) -> list[int]:
        options = options or {"add_generation_prompt": True}
        chat = chat_of(conversation)
        encoded = self.processor.apply_chat_template(chat, tokenize=True, return_dict=True, **options)
        (token_ids,) = encoded["input_ids"]
        return list(token_ids)

    def ours(self, conversation: Conversation, *, continue_final: bool = False) -> list[int]:
        messages = messages_of(conversation)
        images = sum(isinstance(part, ImagePart) for message in messages for part in message.parts)
        digests = [str(number) for number in range(images)]
        prompt = encode_chat(self.model, messages, image_digests=digests, continue_final=continue_final)
        return list(prompt.token_ids)


@pytest.fixture(scope="session", params=["demo", "newline tokens"])
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The demo's tokenizer, and one with added tokens that are not special, as the hub's checkpoints have them."""
    if request.param == "demo":
        return Reference(CHECKPOINT)
    return Reference(copy_demo(tmp_path_factory.mktemp("hub") / "checkpoint", tokenizer=add_newline_tokens))


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_same_ids(reference: Reference, name: str) -> None:
    """An ordinary conversation has the very ids that transformers gives it."""
    assert reference.ours(CONVERSATIONS[name]) == reference.theirs(CONVERSATIONS[name])


CONTINUED = {
    "words": ask("Count", "One, two,"),
    "space at the end": ask("Count", "One, two, "),
    "newlines at the end": ask("Count", "One,\ntwo,\n\n"),
    "space at the beginning": ask("Count", "  One"),
    "later turn": instruct("S", "Count", "One", "On", "Two"),
    "half a control token": ask("Count", "One <end_of_"),
    "emoji": ask("Count", "1️⃣ 👩‍👩‍👧"),
    "code": ask("Write it", f"```python\n{CODE}\n"),
}


@pytest.mark.parametrize("name", CONTINUED)
def test_same_ids_continued(reference: Reference, name: str) -> None:
    """A reply that is to be continued has the ids that transformers gives it."""
    theirs = reference.theirs(CONTINUED[name], continue_final_message=True)
    assert reference.ours(CONTINUED[name], continue_final=True) == theirs


pieces = st.one_of(
    st.text(),
    st.sampled_from(
        ["\n", "\n\n", "\n\n\n", " ", "  ", "\t", "the ", "▁", "▁▁", "<", ">", "<unused0>", "😀", "日本", "."]
    ),
)
ordinary = st.lists(pieces, max_size=8).map("".join)


@given(texts=st.lists(st.one_of(ordinary, st.tuples(ordinary, st.none(), ordinary)), min_size=1, max_size=4))
def test_same_ids_at_random(reference: Reference, texts: list[Content]) -> None:
    """Any texts, with images between them, have the ids that transformers gives them."""
    conversation = ask(*texts)
    assert reference.ours(conversation) == reference.theirs(conversation)


def test_same_decoding(reference: Reference) -> None:
    """The tokens that are not shown are those that transformers skips."""
    token_ids = list(range(reference.model.vocab_size))
    said = "".join(piece for token_id in token_ids if isinstance(piece := reference.model.texts[token_id], str))
    words = [token_id for token_id in token_ids if not isinstance(reference.model.texts[token_id], int)]
    assert said == reference.processor.tokenizer.decode(words, skip_special_tokens=True)
