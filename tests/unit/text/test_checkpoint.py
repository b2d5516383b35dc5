"""What is read of a checkpoint, and how it is said that one cannot be used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gemmad.demo import CHECKPOINT
from gemmad.errors import CheckpointError
from gemmad.text.chat import encode_chat
from gemmad.text.checkpoint import GenerationDefaults, TextModel
from gemmad.text.messages import Message, TextPart
from tests.unit.text.conftest import Change, Edit, add_newline_tokens

HELLO = (Message("user", (TextPart("Hello"),)),)


def set_to(**values: Any) -> Edit:
    return lambda content: content.update(values)


def without(*keys: str) -> Edit:
    def remove(content: dict[str, Any]) -> None:
        for key in keys:
            del content[key]

    return remove


def test_reads_the_demo(demo: TextModel) -> None:
    """Numbers come from the checkpoint's files."""
    config = json.loads((CHECKPOINT / "config.json").read_text())
    generation = json.loads((CHECKPOINT / "generation_config.json").read_text())
    assert demo.context_length == config["text_config"]["max_position_embeddings"]
    assert demo.vocab_size == config["text_config"]["vocab_size"]
    assert demo.stop_token_ids == tuple(generation["eos_token_id"])
    assert demo.defaults == GenerationDefaults(
        temperature=generation["temperature"], top_k=generation["top_k"], top_p=generation["top_p"], min_p=0.0
    )
    image = demo.image_tokens
    assert image is not None
    assert (image.soft_token_id, image.count) == (config["image_token_index"], config["mm_tokens_per_image"])
    assert (image.begin_id, image.end_id) == (config["boi_token_index"], config["eoi_token_index"])
    assert (image.begin, image.soft, image.end) == ("<start_of_image>", "<image_soft_token>", "<end_of_image>")


NAMES = ("boi_token", "eoi_token", "image_token")
INDICES = ("boi_token_index", "eoi_token_index", "image_token_index")


@pytest.mark.parametrize("edits", [{"config": without(*INDICES)}, {"tokenizer_config": without(*NAMES)}])
def test_image_tokens_from_either_file(change: Change, demo: TextModel, edits: dict[str, Edit]) -> None:
    """Image tokens are found by the config's ids, or by the names that the tokenizer has for them."""
    model = TextModel.load(change(**edits))
    assert model.image_tokens == demo.image_tokens
    assert model.control.ids == demo.control.ids


def test_hub_defaults(change: Change) -> None:
    """A config as short as the hub's 12B has what transformers' class fills in."""

    def shorten(config: dict[str, Any]) -> None:
        config["text_config"] = {"model_type": "gemma3_text"}
        del config["mm_tokens_per_image"]

    model = TextModel.load(change(config=shorten))
    assert (model.context_length, model.vocab_size) == (131072, 262208)
    assert model.image_tokens is not None
    assert model.image_tokens.count == 256


def test_text_only(change: Change) -> None:
    """A gemma3_text checkpoint has its numbers at the top and takes no images."""
    folder = change(config=lambda config: config.update(config["text_config"], model_type="gemma3_text"))
    model = TextModel.load(folder)
    assert model.context_length == 8192
    assert model.image_tokens is None


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ({"eos_token_id": 6}, {}, (6,)),
        ({"eos_token_id": [6, 3, 6]}, {}, (6, 3)),
        ({"eos_token_id": None}, {"eos_token_id": [3, 6]}, (3, 6)),
        ({"eos_token_id": []}, {"eos_token_id": 6}, (6,)),
    ],
)
def test_stop_ids(
    change: Change, generation: dict[str, Any], config: dict[str, Any], expected: tuple[int, ...]
) -> None:
    """Stop ids are generation_config's, else the config's."""
    folder = change(generation_config=set_to(**generation), config=set_to(**config))
    assert TextModel.load(folder).stop_token_ids == expected


def test_stop_id_by_name(change: Change) -> None:
    """Where no file has stop ids, the tokenizer's end of sequence is one."""

    def forget(config: dict[str, Any]) -> None:
        del config["eos_token_id"], config["text_config"]["eos_token_id"]

    assert TextModel.load(change(generation_config=without("eos_token_id"), config=forget)).stop_token_ids == (3,)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda content: content.clear(), GenerationDefaults()),
        (set_to(do_sample=False), GenerationDefaults(temperature=0.0, top_k=64, top_p=0.95)),
        (set_to(top_k=None, min_p=0.1, temperature=1), GenerationDefaults(top_p=0.95, min_p=0.1)),
    ],
)
def test_sampling_defaults(change: Change, edit: Edit, expected: GenerationDefaults) -> None:
    """What generation_config does not say is neutral; no sampling is greedy."""
    assert TextModel.load(change(generation_config=edit)).defaults == expected


def test_no_generation_config(change: Change) -> None:
    """A checkpoint without generation_config.json is served with neutral defaults."""
    folder = change()
    (folder / "generation_config.json").unlink()
    assert TextModel.load(folder).defaults == GenerationDefaults()


def test_template_as_string_in_tokenizer_config(change: Change) -> None:
    """A template in tokenizer_config.json is found."""
    folder = change(tokenizer_config=set_to(chat_template=(CHECKPOINT / "chat_template.jinja").read_text()))
    (folder / "chat_template.jinja").unlink()
    assert TextModel.load(folder).template.source == (CHECKPOINT / "chat_template.jinja").read_text()


def test_template_as_list(change: Change) -> None:
    """Of several templates the one called default is used."""
    named = [
        {"name": "tool_use", "template": "{{ raise_exception('no') }}"},
        {"name": "default", "template": "{{ messages[0].content }}"},
    ]
    folder = change(tokenizer_config=set_to(chat_template=named))
    (folder / "chat_template.jinja").unlink()
    assert TextModel.load(folder).template.source == "{{ messages[0].content }}"


def test_template_in_chat_template_json(change: Change) -> None:
    """chat_template.json, which older processors wrote, comes before tokenizer_config.json."""
    folder = change(
        chat_template=set_to(chat_template="{{ messages[0].content }}"), tokenizer_config=set_to(chat_template="x")
    )
    (folder / "chat_template.jinja").unlink()
    assert TextModel.load(folder).template.source == "{{ messages[0].content }}"


def test_template_override(tmp_path: Path) -> None:
    """A Jinja file that is named is used instead of the checkpoint's."""
    path = tmp_path / "mine.jinja"
    path.write_text("{{ messages[0].content }}!")
    model = TextModel.load(CHECKPOINT, chat_template=path)
    assert model.tokenizer.decode(encode_chat(model, HELLO).token_ids) == "Hello!"


def test_template_of_parts(tmp_path: Path) -> None:
    """A template that takes only lists of parts gets those."""
    path = tmp_path / "parts.jinja"
    path.write_text("{% for m in messages %}{% for part in m.content %}({{ part.text }}){% endfor %}{% endfor %}")
    model = TextModel.load(CHECKPOINT, chat_template=path)
    assert model.tokenizer.decode(encode_chat(model, HELLO).token_ids) == "(Hello)"


def test_flags_that_are_missing(change: Change) -> None:
    """Tokens that steer are control tokens even where tokenizer.json does not flag them; newlines are not."""

    def unflag(tokenizer: dict[str, Any]) -> None:
        add_newline_tokens(tokenizer)
        for token in tokenizer["added_tokens"]:
            token["special"] = False

    flagged = TextModel.load(CHECKPOINT)
    unflagged = TextModel.load(change(tokenizer=unflag))
    assert unflagged.control.ids == flagged.control.ids
    assert unflagged.tokenizer.decode([6, 7], skip_special_tokens=True) == ""


def test_turn_tokens_without_names(change: Change) -> None:
    """Turn tokens that have neither flag nor name are control tokens because the template writes them."""

    def unflag(tokenizer: dict[str, Any]) -> None:
        for token in tokenizer["added_tokens"]:
            token["special"] = token["special"] and "turn" not in token["content"]

    model = TextModel.load(change(tokenizer=unflag, tokenizer_config=without("sot_token", "eot_token")))
    assert {"<start_of_turn>", "<end_of_turn>"} <= set(model.control.ids)


def test_baked_in_truncation(change: Change) -> None:
    """Truncation and padding that were saved into tokenizer.json have no effect."""

    def bake(tokenizer: dict[str, Any]) -> None:
        tokenizer["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
        tokenizer["padding"] = {
            "strategy": {"Fixed": 64}, "direction": "Left", "pad_to_multiple_of": None,
            "pad_id": 2, "pad_type_id": 0, "pad_token": "<pad>",
        }  # fmt: skip

    model = TextModel.load(change(tokenizer=bake))
    assert encode_chat(model, HELLO) == encode_chat(TextModel.load(CHECKPOINT), HELLO)


def test_named_by_objects(change: Change) -> None:
    """Token names written as objects, in nested tables or in special_tokens_map.json are understood."""

    def rewrite(content: dict[str, Any]) -> None:
        content["bos_token"] = {"content": content["bos_token"], "special": True}
        content["extra_special_tokens"] = {"boi_token": content.pop("boi_token")}
        content["additional_special_tokens"] = ["<mask>", "<nowhere>"]
        del content["pad_token"]

    model = TextModel.load(change(tokenizer_config=rewrite, special_tokens_map=set_to(pad_token="<pad>")))
    expected = TextModel.load(CHECKPOINT)
    assert model.bos_id == expected.bos_id
    assert model.image_tokens == expected.image_tokens
    assert model.template_variables["pad_token"] == "<pad>"


MISSING = [
    ("config.json", "config.json: cannot be read"),
    ("tokenizer.json", "tokenizer.json: missing"),
    ("tokenizer_config.json", "tokenizer_config.json: cannot be read"),
    ("chat_template.jinja", "no chat template in .*; name a Jinja file with model.chat_template"),
]


@pytest.mark.parametrize(("name", "message"), MISSING)
def test_missing_file(change: Change, name: str, message: str) -> None:
    """A file that is missing is named."""
    folder = change()
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=message):
        TextModel.load(folder)


@pytest.mark.parametrize(
    "name",
    ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "special_tokens_map.json"],
)
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"3", b"[" * 100_000])
def test_broken_file(change: Change, name: str, content: bytes) -> None:
    """A file that is no JSON object is named."""
    folder = change()
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        TextModel.load(folder)


BROKEN: list[tuple[dict[str, Edit], str]] = [
    ({"config": set_to(model_type="llama")}, r"config.json: model_type is 'llama', not 'gemma3' or 'gemma3_text'"),
    ({"config": without("model_type")}, r"config.json: model_type is None"),
    ({"config": set_to(mm_tokens_per_image=0)}, r"config.json: .*mm_tokens_per_image"),
    ({"config": set_to(text_config={"vocab_size": "many"})}, r"config.json: .*text_config.vocab_size"),
    ({"config": set_to(text_config={"vocab_size": 100})}, r"tokenizer.json: 2040 tokens, more than .* 100"),
    ({"config": set_to(image_token_index=2047)}, r"config.json: image_token_index is 2047, which tokenizer.json"),
    ({"config": set_to(image_token_index=9999)}, r"config.json: image_token_index 9999 is outside"),
    (
        {"config": set_to(boi_token_index=2047), "tokenizer_config": without("boi_token")},
        r"config.json: boi_token_index is 2047, which tokenizer.json does not have",
    ),
    ({"tokenizer_config": without("bos_token")}, r"tokenizer_config.json: bos_token is missing"),
    ({"tokenizer_config": set_to(bos_token="<s>")}, r"tokenizer_config.json: bos_token is '<s>', which"),
    ({"tokenizer_config": set_to(eoi_token="<eoi>")}, r"tokenizer_config.json: eoi_token is '<eoi>', which"),
    ({"generation_config": set_to(top_p=7)}, r"generation_config.json: .*top_p"),
    ({"generation_config": set_to(eos_token_id=[1, 2047])}, r"eos_token_id is 2047, which tokenizer.json"),
    ({"tokenizer": set_to(decoder=None)}, r"tokenizer.json: the decoder"),
    ({"tokenizer": set_to(model={"type": "BPE"})}, r"tokenizer.json: "),
]


@pytest.mark.parametrize(("edits", "message"), BROKEN)
def test_nonsense(change: Change, edits: dict[str, Edit], message: str) -> None:
    """A value that cannot be meant is named, with its file."""
    with pytest.raises(CheckpointError, match=message):
        TextModel.load(change(**edits))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% if %}", r"mine.jinja: line 1"),
        ("{{ raise_exception('never') }}", r"mine.jinja: does not render a user's message: .*never"),
        ("nothing of it", r"mine.jinja: does not render a user's message"),
    ],
)
def test_unusable_template(tmp_path: Path, source: str, message: str) -> None:
    """A template that cannot render a conversation is found when it is loaded."""
    path = tmp_path / "mine.jinja"
    path.write_text(source)
    with pytest.raises(CheckpointError, match=message):
        TextModel.load(CHECKPOINT, chat_template=path)


def test_missing_template_override(tmp_path: Path) -> None:
    """A Jinja file that is named and missing is an error."""
    with pytest.raises(CheckpointError, match=r"mine.jinja: cannot be read"):
        TextModel.load(CHECKPOINT, chat_template=tmp_path / "mine.jinja")


def test_several_templates_without_default(change: Change) -> None:
    """Several templates, none of them called default, leave no choice."""
    named = [{"name": name, "template": "{{ messages[0].content }}"} for name in "ab"]
    folder = change(tokenizer_config=set_to(chat_template=named))
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointError, match=r"none of \['a', 'b'\] is called 'default'"):
        TextModel.load(folder)


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_no_folder(tmp_path: Path, name: str) -> None:
    """A path that is no folder is named."""
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=f"{name}: no such folder"):
        TextModel.load(tmp_path / name)


def test_longest_token_is_unknown_where_text_can_vanish(change: Change) -> None:
    """Without a token for each byte no length in characters bounds the number of tokens."""
    assert TextModel.load(CHECKPOINT).longest_token_chars is not None

    def forget(tokenizer: dict[str, Any]) -> None:
        tokenizer["model"]["byte_fallback"] = False

    assert TextModel.load(change(tokenizer=forget)).longest_token_chars is None


def test_no_heavy_imports() -> None:
    """Loading and using the text room imports neither torch nor transformers."""
    program = (
        "import sys; from pathlib import Path; import gemmad.text.chat, gemmad.text.reply;"
        "from gemmad.text.checkpoint import TextModel; TextModel.load(Path(sys.argv[1]));"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", program, str(CHECKPOINT)], check=False).returncode == 0
