"""Plain replies that hold code, JSON, angle brackets and quoted marks are neither reasoning nor calls."""

from __future__ import annotations

from simkit.core.reasoning import leaks_reasoning, split_reasoning
from simkit.core.text_calls import find_calls
from support.made_texts import TOOLS, plain_replies


def is_flagged(text: str) -> bool:
    """Whether an agent would take a part of the text for reasoning or for a call."""
    return split_reasoning(text) != (None, text) or leaks_reasoning(text) or find_calls(text, TOOLS) is not None


def test_at_most_one_in_two_hundred_plain_replies_is_flagged() -> None:
    texts = plain_replies(1000)
    flagged = [text for text in texts if is_flagged(text)]
    assert len({*texts}) > 900
    assert len(flagged) <= 5, flagged


def test_the_same_marks_are_flagged_where_they_are_not_quoted() -> None:
    assert is_flagged("<think>\nHm.\n</think>\nHello.")
    assert is_flagged('<tool_call>\n{"name": "book", "arguments": {}}\n</tool_call>')
    assert is_flagged('{"name": "book", "arguments": {"hotel": "Alma"}}')
    assert is_flagged('Hello.\nbook(hotel="Alma")')
