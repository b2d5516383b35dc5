"""A text to token ids without any template, as transformers' tokenizer has it: control tokens in it are control tokens.

For clients that lay out their prompts themselves. In a conversation nobody can type a control token (`chat.py`).
"""

from __future__ import annotations

from gemmad.generation import Prompt
from gemmad.text.checkpoint import TextModel
from gemmad.text.turns import check_text


def encode_text(model: TextModel, text: str, *, param: str, begin: bool = True) -> Prompt:
    """With `begin` the beginning-of-text token stands first, once even where the text has it too.

    Takes time in proportion to the text. Raises InvalidRequestError for what is no text, and ContextLengthError if it
    is so long that no counting is needed.
    """
    check_text(text, param)
    model.require_fitting(len(text), what="The text has", param=param)
    pieces = model.control.split(text)
    runs = iter(model.encode_plain([piece for piece in pieces[::2] if piece]))
    token_ids: list[int] = []
    for at, piece in enumerate(pieces):
        if at % 2:
            token_ids.append(model.control.ids[piece])
        elif piece:
            token_ids += next(runs)
    if begin and token_ids[:1] != [model.bos_id]:
        token_ids.insert(0, model.bos_id)
    return Prompt(tuple(token_ids))
