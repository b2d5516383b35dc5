"""What the model is asked, in which words, and what its probabilities mean for the client. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from msgspec import Struct

from gemmad.api.openai.decisions import wire
from gemmad.api.openai.decisions.evidence import Pictures, parts
from gemmad.api.openai.decisions.labels import YES_NO, level_labels, option_labels
from gemmad.api.openai.decisions.schema import (
    ChoiceOption,
    ChoiceQuestion,
    PredicateQuestion,
    Question,
    ScoreQuestion,
)
from gemmad.errors import InvalidRequestError
from gemmad.text.messages import ImagePart, TextPart

_PREDICATE = "Judge by all of the above whether this is true:\n\n", "\n\nAnswer with one word: Yes or No."
_CHOICE = "Judge by all of the above, and choose the option that fits best:\n\n", "\n\nAnswer with its {label} only."
_SCORE = "Judge by all of the above, and choose the level that fits best:\n\n", "\n\nAnswer with its number only."


class Worded(Struct, frozen=True):
    """A question as the model gets it."""

    words: tuple[TextPart | ImagePart, ...]
    labels: tuple[str, ...]
    """What it may answer, one for each option."""
    param: str


def word(question: Question, path: str, pictures: Pictures) -> Worded:
    """Raises InvalidRequestError for options that are not unique, and parts that have no place in a question."""
    instructions = tuple(parts(question.instructions, f"{path}.instructions", pictures, speaker="question"))
    match question:
        case PredicateQuestion():
            (before, behind), options = _PREDICATE, ""
            labels: tuple[str, ...] = YES_NO
        case ChoiceQuestion():
            _require_unique(question.choices, path)
            before, behind = _CHOICE
            labels = option_labels(len(question.choices))
            behind = behind.format(label="letter" if len(labels[0]) == 1 else "number")
            options = _list(labels, zip(_shown(question.choices), _descriptions(question.choices), strict=True))
        case ScoreQuestion():
            before, behind = _SCORE
            labels = level_labels(len(question.levels))
            names = ((level.label, level.description) for level in question.levels)
            options = _list(labels, names)
    words = (TextPart(before), *instructions, TextPart(f"{options}{behind}"))
    return Worded(words, labels, f"{path}.instructions")


def answer(question: Question, probabilities: Sequence[float]) -> wire.Answer:
    """In the client's words; `probabilities` are those of the labels."""
    best = max(range(len(probabilities)), key=probabilities.__getitem__)
    match question:
        case PredicateQuestion():
            return wire.Predicate(name=question.name, probability=probabilities[0])
        case ChoiceQuestion():
            values = [option.value for option in question.choices]
            return wire.Choice(
                name=question.name,
                choice=values[best],
                confidence=probabilities[best],
                probabilities=tuple(map(wire.ChoiceProbability, values, probabilities)),
            )
        case ScoreQuestion():
            labels = [level.label for level in question.levels]
            return wire.Score(
                name=question.name,
                score=sum(value * probability for value, probability in enumerate(probabilities)),
                confidence=probabilities[best],
                probabilities=tuple(map(wire.ScoreProbability, range(len(labels)), labels, probabilities)),
            )


def _require_unique(choices: Sequence[ChoiceOption], path: str) -> None:
    seen: set[tuple[type, str | bool]] = set()
    for index, option in enumerate(choices):
        key = type(option.value), option.value
        if key in seen:
            param = f"{path}.choices[{index}].value"
            raise InvalidRequestError(
                f"Invalid value for '{param}': each choice must be unique.", param=param, code="invalid_value"
            )
        seen.add(key)


def _shown(choices: Sequence[ChoiceOption]) -> list[str]:
    """Values as the model reads them: as JSON where a string could be taken for a boolean."""
    if any(isinstance(option.value, bool) for option in choices):
        return [json.dumps(option.value, ensure_ascii=False) for option in choices]
    return [option.value for option in choices]


def _descriptions(choices: Iterable[ChoiceOption]) -> list[str | None]:
    return [option.description for option in choices]


def _list(labels: Iterable[str], options: Iterable[tuple[str, str | None]]) -> str:
    lines = (
        f"{label}: {name} ({description})" if description else f"{label}: {name}"
        for label, (name, description) in zip(labels, options, strict=True)
    )
    return "\n\n" + "\n".join(lines)
