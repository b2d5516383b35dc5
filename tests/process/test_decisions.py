"""Decisions of the real daemon and the bundled model, against the network as transformers computes it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from openai.types import Decision

from gemmad.demo import CHECKPOINT
from gemmad.text.chat import encode_chat
from gemmad.text.checkpoint import TextModel
from gemmad.text.messages import Message, TextPart
from tests.engine.oracle import network, picture, processor
from tests.fakes.media_pictures import data_url, saved
from tests.process.daemon import MODEL, DaemonProcess

STORY = "The river runs past the old mill and the people of the village walk there in the evening. " * 6
STATEMENT = "It is about a river."
PREDICATE: Any = {"type": "predicate", "instructions": STATEMENT}
PREDICATE_TEXT = f"Judge by all of the above whether this is true:\n\n{STATEMENT}\n\nAnswer with one word: Yes or No."
CHOICE: Any = {"type": "choice", "instructions": "Which?", "choices": [{"value": str(index)} for index in range(26)]}
OPTIONS = "\n".join(f"{chr(65 + index)}: {index}" for index in range(26))
CHOICE_TEXT = (
    f"Judge by all of the above, and choose the option that fits best:\n\nWhich?\n\n{OPTIONS}\n\n"
    "Answer with its letter only."
)


def decide(daemon: DaemonProcess, *questions: Any, given: Any = STORY) -> Decision:
    with daemon.client() as client:
        return client.decisions.create(model=MODEL, input=given, questions=questions)


def oracle(token_ids: list[int]) -> torch.Tensor:
    """Probabilities of the token after these, [vocabulary] float32."""
    with torch.inference_mode():
        logits = network()(input_ids=torch.tensor([token_ids])).logits
    return torch.softmax(logits[0, -1].float(), dim=-1)


def first_tokens(text: TextModel, *labels: str) -> list[int]:
    return [ids[0] for ids in text.encode_plain(labels)]


@pytest.fixture(scope="module")
def text() -> TextModel:
    return TextModel.load(CHECKPOINT)


def prompt(text: TextModel, *words: str) -> list[int]:
    return list(encode_chat(text, [Message("user", (TextPart("\n\n".join(words)),))]).token_ids)


def test_a_predicate_is_the_networks_own(demo_daemon: DaemonProcess, text: TextModel) -> None:
    """Yes against No, as transformers has them after the same words in one message."""
    [answer] = decide(demo_daemon, PREDICATE).answers
    yes, no = oracle(prompt(text, STORY, PREDICATE_TEXT))[first_tokens(text, "Yes", "No")].tolist()
    assert answer.type == "predicate"
    assert answer.probability == pytest.approx(yes / (yes + no), abs=1e-3)


def test_a_choice_is_the_networks_own(demo_daemon: DaemonProcess, text: TextModel) -> None:
    """Each of 26 letters, the unlikely ones among them."""
    [answer] = decide(demo_daemon, CHOICE).answers
    letters = oracle(prompt(text, STORY, CHOICE_TEXT))[first_tokens(text, *(chr(65 + i) for i in range(26)))]
    assert answer.type == "choice"
    told = [entry.probability for entry in answer.probabilities]
    assert told == pytest.approx((letters / letters.sum()).tolist(), abs=1e-3)
    assert answer.confidence == max(told)


def test_options_of_two_digits_are_the_networks_own(demo_daemon: DaemonProcess, text: TextModel) -> None:
    """A digit, and then the next one after it."""
    question = {**CHOICE, "choices": [{"value": chr(65 + index)} for index in range(40)]}
    [answer] = decide(demo_daemon, question).answers
    options = "\n".join(f"{10 + index}: {chr(65 + index)}" for index in range(40))
    words = CHOICE_TEXT.replace(OPTIONS, options).replace("letter", "number")
    asked, digits = prompt(text, STORY, words), first_tokens(text, *"0123456789")
    tens = oracle(asked)[digits[1:5]]
    ones = [oracle([*asked, digits[ten]])[digits] for ten in range(1, 5)]
    expected = [ten / tens.sum() * one / row.sum() for ten, row in zip(tens, ones, strict=True) for one in row]
    assert answer.type == "choice"
    told = [entry.probability for entry in answer.probabilities]
    assert told == pytest.approx([float(probability) for probability in expected], abs=1e-3)


def test_pictures_are_seen(demo_daemon: DaemonProcess, text: TextModel) -> None:
    """An image of the input counts as transformers has it, for every question."""
    image = picture(3)
    given: Any = [
        {
            "role": "user",
            "content": [
                {"type": "input_image", "image_url": data_url(saved(image, "PNG"))},
                {"type": "input_text", "text": "A picture."},
            ],
        }
    ]
    first, second = decide(demo_daemon, PREDICATE, PREDICATE, given=given).answers
    words = {"type": "text", "text": f"A picture.\n\n{PREDICATE_TEXT}"}
    asked = [{"role": "user", "content": [{"type": "image", "image": image}, words]}]
    inputs = processor().apply_chat_template(
        asked, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    with torch.inference_mode():
        held = torch.softmax(network()(**inputs).logits[0, -1].float(), dim=-1)
    yes, no = held[first_tokens(text, "Yes", "No")].tolist()
    assert first.type == second.type == "predicate"
    assert first.probability == pytest.approx(yes / (yes + no), abs=1e-3)
    assert second.probability == pytest.approx(first.probability, abs=1e-5)


def test_the_input_is_computed_once(demo_daemon: DaemonProcess, text: TextModel) -> None:
    """Of many questions all but the first find the input's pages: what is computed for each is little more than its own
    words. The same request again finds all of them, and has the same answers."""
    given = f"This is new. {STORY}"
    questions = [{**PREDICATE, "instructions": f"Statement {index} is true."} for index in range(40)]
    decision = decide(demo_daemon, *questions, given=given)
    usage, tokens = decision.usage, len(text.encode_plain([given])[0])
    assert len(decision.answers) == 40
    assert usage.input_tokens_details.cached_tokens > 39 * (tokens - 32)
    assert usage.output_tokens >= 40
    again = decide(demo_daemon, *questions, given=given)
    assert again.usage.input_tokens_details.cached_tokens > usage.input_tokens_details.cached_tokens
    assert predicates(again) == pytest.approx(predicates(decision), abs=1e-5)


def predicates(decision: Decision) -> list[float]:
    return [answer.probability for answer in decision.answers if answer.type == "predicate"]
