"""Where a conversation can be cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gemmad.api.openai.responses.conversation import conversation, cuts
from gemmad.api.openai.responses.items import FunctionCall, FunctionCallOutput, InputText, Item, Listed, Message

MAX_IMAGES = 0


@given(st.lists(st.tuples(st.sampled_from("mco"), st.integers(0, 3)), max_size=20))
def test_what_is_left_stands_on_its_own(steps: list[tuple[str, int]]) -> None:
    """From any of the places on, no result stands there without its call."""
    items: list[Item] = []
    called: set[str] = set()
    for kind, number in steps:
        call_id = f"c{number}"
        if kind == "m":
            items.append(Message("m", "user", (InputText("x"),)))
        elif kind == "c":
            called.add(call_id)
            items.append(FunctionCall("f", call_id, "look", "{}"))
        elif call_id in called:
            items.append(FunctionCallOutput("o", call_id, "y"))
    listed = [Listed(item, "input") for item in items]
    places = cuts(listed)
    assert not items or places[0] == 0
    for place in places:
        conversation(listed[place:], instructions="Be brief.", max_images=MAX_IMAGES)
