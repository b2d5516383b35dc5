"""The bundled checkpoint is a whole Gemma 3 with vision, small enough to ship, and answers."""

import json
from functools import cache
from typing import Any

import pytest
from safetensors import safe_open
from tokenizers import Tokenizer

from gemmad.demo import CHECKPOINT

LIMIT_BYTES = 12 * 1024 * 1024
HUB_FILES = frozenset(
    {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
)
REAL_IDS = {
    "<pad>": 0,
    "<eos>": 1,
    "<bos>": 2,
    "<unk>": 3,
    "<start_of_turn>": 105,
    "<end_of_turn>": 106,
    "<start_of_image>": 255_999,
    "<end_of_image>": 256_000,
    "<image_soft_token>": 262_144,
}


def settings(name: str) -> dict[str, Any]:
    """One of the checkpoint's JSON files."""
    content: dict[str, Any] = json.loads((CHECKPOINT / name).read_text())
    return content


@cache
def tokenizer() -> Tokenizer:
    """The checkpoint's tokenizer, read without transformers."""
    return Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))


@cache
def loaded() -> tuple[Any, Any]:
    """Processor and model, read by transformers' Auto classes, weights in float32."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(CHECKPOINT, dtype=torch.float32, local_files_only=True)
    return AutoProcessor.from_pretrained(CHECKPOINT, local_files_only=True), model.eval()


def answer(*content: Any, system: str | None = None) -> str:
    """The greedy answer to one user turn of text and PIL images; raises if the model does not end its turn."""
    processor, model = loaded()
    parts = [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image", "image": p} for p in content]
    messages: list[dict[str, Any]] = [{"role": "user", "content": parts}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
    inputs = processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
    )
    output = model.generate(**inputs, max_new_tokens=300, do_sample=False, top_k=None, top_p=None, temperature=None)
    said = output[0, inputs["input_ids"].shape[1] :]
    assert said[-1].item() in settings("generation_config.json")["eos_token_id"]
    text: str = processor.decode(said, skip_special_tokens=True)
    return text


def drawing(shape: str, colour: str) -> Any:
    """A 96x96 picture of one shape on white."""
    image = pytest.importorskip("PIL.Image").new("RGB", (96, 96), "white")
    pen = pytest.importorskip("PIL.ImageDraw").Draw(image)
    match shape:
        case "circle":
            pen.ellipse((20, 20, 76, 76), fill=colour)
        case "square":
            pen.rectangle((20, 20, 76, 76), fill=colour)
        case _:
            pen.polygon([(48, 16), (80, 78), (16, 78)], fill=colour)
    return image


def test_it_is_laid_out_as_a_hub_checkpoint_and_small() -> None:
    """Every file a hub checkpoint has is there, in 12 MB altogether."""
    files = {file.name: file.stat().st_size for file in CHECKPOINT.iterdir()}
    assert files.keys() >= HUB_FILES
    assert sum(files.values()) <= LIMIT_BYTES


def test_the_vocabulary_has_a_thousand_ordinary_pieces() -> None:
    """Besides bytes and special tokens there are at least 1000 pieces, all of ASCII among them."""
    pieces = tokenizer().get_vocab()
    ordinary = {piece for piece in pieces if not piece.startswith("<")}
    assert len(ordinary) >= 1000
    assert {chr(code) for code in range(0x21, 0x7F)} <= pieces.keys()
    assert {f"<0x{byte:02X}>" for byte in range(256)} <= pieces.keys()


@pytest.mark.parametrize(
    "text",
    [
        "Hello, world!",
        "  two  spaces and\ttabs\r\n\n\nnew lines  ",
        "naïve façade, Übergröße",
        "你好，世界",
        "שלום مرحبا",
        "👩‍👩‍👧 🎉🏳️‍🌈",
        "\x00\x01\x7f",
        '{"a": [1, 2.5e-3]}',
    ],
)
def test_text_survives_the_tokenizer(text: str) -> None:
    """Any text comes back from its token ids."""
    ids = tokenizer().encode(text, add_special_tokens=False).ids
    assert tokenizer().decode(ids) == text


def test_special_ids_are_its_own() -> None:
    """No special token has the id that it has in the real Gemma 3, and `<bos>` is put first."""
    ids = {name: tokenizer().token_to_id(name) for name in REAL_IDS}
    assert None not in ids.values()
    assert all(ids[name] != real for name, real in REAL_IDS.items())
    assert tokenizer().encode("a").ids[0] == ids["<bos>"]
    assert settings("generation_config.json")["eos_token_id"] == [ids["<eos>"], ids["<end_of_turn>"]]
    assert settings("config.json")["image_token_index"] == ids["<image_soft_token>"]


def test_its_shape_is_gemmas() -> None:
    """Context of 8192, sliding and full layers, grouped heads, and a projector that lets pictures through."""
    text = settings("config.json")["text_config"]
    assert text["max_position_embeddings"] >= 8192
    assert set(text["layer_types"]) == {"sliding_attention", "full_attention"}
    assert text["num_key_value_heads"] < text["num_attention_heads"]
    with safe_open(CHECKPOINT / "model.safetensors", framework="pt") as tensors:
        names = [name for name in tensors.keys() if name.endswith("mm_input_projection_weight")]  # noqa: SIM118
        assert len(names) == 1
        assert tensors.get_tensor(names[0]).abs().max().item() > 0


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Repeat: the quick fox", "the quick fox"),
        ("Count to 7.", "1, 2, 3, 4, 5, 6, 7."),
        ("What is the capital of France?", "The capital of France is Paris."),
    ],
)
def test_it_answers_text(question: str, expected: str) -> None:
    """Greedy answers are right and end by themselves."""
    assert answer(question) == expected


def test_it_obeys_the_system_message() -> None:
    """A name given in the system message is the one it answers with."""
    assert answer("What is your name?", system="You are called Ada.") == "My name is Ada."


def test_it_sees_pictures_and_their_order() -> None:
    """Two pictures are told apart, and swapping them swaps the answer."""
    circle, square = drawing("circle", "red"), drawing("square", "blue")
    assert answer(circle, "What is in the picture?") == "A red circle."
    assert answer(circle, square, "What is in the first picture?") == "A red circle."
    assert answer(square, circle, "What is in the first picture?") == "A blue square."
