"""All prompts of a request: what they share, what is each question's own, and what is asked of the network. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from msgspec import Struct

from gemmad.api.asks import Conversation
from gemmad.api.openai.decisions.asking import Probe
from gemmad.api.openai.decisions.labels import LabelTree
from gemmad.api.openai.decisions.questions import Worded
from gemmad.errors import ContextLengthError, InvalidRequestError
from gemmad.generation import Prompt, ToolChoice
from gemmad.media.pixels import Pixels
from gemmad.text.checkpoint import TextModel
from gemmad.text.messages import ImagePart
from gemmad.text.stem import Stem, encode_endings, encode_stem
from gemmad.text.tools import render_tools


class Plan(Struct, frozen=True):
    """All prompts of a request, before any is asked."""

    stem: Stem
    endings: tuple[Prompt, ...]
    """One for each question."""
    trees: tuple[LabelTree, ...]
    shown: tuple[tuple[int, ...], ...]
    """Which of the request's images each question shows."""
    params: tuple[str, ...]
    """What is to blame for a question that is too long."""

    def check(self, max_context: int) -> None:
        """Raises ContextLengthError for the first prompt that has no room for its answer."""
        fixed = len(self.stem.before.token_ids) + len(self.stem.after)
        for ending, tree, param in zip(self.endings, self.trees, self.params, strict=True):
            tokens = fixed + len(ending.token_ids) + max(len(branching.path) for branching in tree.branchings) + 1
            if tokens > max_context:
                raise ContextLengthError(
                    f"This model's maximum context length is {max_context} tokens. However, the input has {fixed} "
                    f"tokens, and {tokens} with this question and its answer. Please reduce the length of either.",
                    param="input" if fixed >= max_context else param,
                )

    def prompt(self, question: int, path: tuple[int, ...]) -> Prompt:
        """Of one question, with the part of the answer that is given."""
        prompt = self.stem.prompt(self.endings[question])
        return Prompt((*prompt.token_ids, *path), prompt.images) if path else prompt

    def probes(self, pixels: Sequence[Pixels]) -> Iterator[Probe]:
        """Each question's branchings, one question after another; `pixels` are all of the request's."""
        shared = tuple(pixels[: len(self.stem.before.images)])
        for index, (tree, shown) in enumerate(zip(self.trees, self.shown, strict=True)):
            own = (*shared, *(pixels[at] for at in shown))
            for branching in tree.branchings:
                yield Probe(partial(self.prompt, index, branching.path), branching.ids, own)

    def probabilities(self, told: Iterable[Mapping[int, float]]) -> Iterator[tuple[float, ...]]:
        """Of each question's options; `told` answers `probes`, in their order."""
        rest = iter(told)
        for tree in self.trees:
            yield tree.probabilities({branching.path: next(rest) for branching in tree.branchings})


def make_plan(text: TextModel, talk: Conversation, worded: Sequence[Worded], *, digests: Sequence[str]) -> Plan:
    """Encode everything once. `digests` are those of all images, the input's first.

    Takes time in proportion to the text. Raises InvalidRequestError and ContextLengthError as the text room does.
    """
    stem = _blaming_input(lambda: _encode_stem(text, talk, digests[: len(talk.images)]))
    shown = [tuple(part.index for part in question.words if isinstance(part, ImagePart)) for question in worded]
    endings = encode_endings(
        text,
        [question.words for question in worded],
        image_digests=[[digests[index] for index in own] for own in shown],
        params=[question.param for question in worded],
    )
    trees = {labels: LabelTree.of(text.encode_plain(labels)) for labels in {question.labels for question in worded}}
    return Plan(
        stem,
        tuple(endings),
        tuple(trees[question.labels] for question in worded),
        tuple(shown),
        tuple(question.param for question in worded),
    )


def _encode_stem(text: TextModel, talk: Conversation, digests: Sequence[str]) -> Stem:
    return encode_stem(text, render_tools(talk.messages, (), ToolChoice()), image_digests=digests)


def _blaming_input(encode: Callable[[], Stem]) -> Stem:
    """The text room counts messages, and the client has items."""
    try:
        return encode()
    except InvalidRequestError as error:
        error.param = "input"
        raise
