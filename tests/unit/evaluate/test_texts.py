from __future__ import annotations

from pathlib import Path

import pytest

from gemmad.demo import CHECKPOINT
from gemmad.errors import ConfigError
from gemmad.evaluate.texts import encode, in_replies, made_up, read_texts
from gemmad.text.checkpoint import TextModel

CHATS = Path(__file__).with_name("chats.txt")


def test_control_tokens_in_a_file_count_as_such() -> None:
    """A file of chats is read as the chat template lays them out, and nothing of it is lost."""
    model = TextModel.load(CHECKPOINT)
    text = read_texts([CHATS])
    ids = encode(model, text)
    assert ids[:2] == [model.bos_id, model.control.ids["<start_of_turn>"]]
    assert model.decode(ids, control_tokens=True) == text


def test_replies_are_found() -> None:
    """What the model says counts, with the end of its turn, and nothing that anybody else says."""
    model = TextModel.load(CHECKPOINT)
    turns = "<bos><start_of_turn>user\nSay model\n<end_of_turn>\n<start_of_turn>model\nYes.<end_of_turn>\n"
    ids = encode(model, turns * 2)
    said = [token for token, counts in zip(ids, in_replies(model, ids), strict=True) if counts]
    assert model.decode(said, control_tokens=True) == "Yes.<end_of_turn>" * 2


def test_files_are_one_text(tmp_path: Path) -> None:
    """One behind the other."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("grün, ", "utf-8")
    other.write_text("blau", "utf-8")
    assert read_texts([one, other]) == "grün, blau"


def test_files_that_are_no_text_are_named(tmp_path: Path) -> None:
    """One that is missing, and one in another encoding."""
    with pytest.raises(ConfigError, match="gone cannot be read: No such file"):
        read_texts([tmp_path / "gone"])
    (tmp_path / "latin").write_bytes(b"gr\xfcn")
    with pytest.raises(ConfigError, match="latin is not in UTF-8"):
        read_texts([tmp_path / "latin"])


def test_made_up_text_is_always_the_same() -> None:
    """So that runs can be compared."""
    assert made_up(100, tokens=5) == made_up(100, tokens=50)[:5]
