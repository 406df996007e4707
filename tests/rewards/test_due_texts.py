"""Due texts in replies: as parts of a reply, and as whole words and numbers."""

from __future__ import annotations

import pytest

from simkit.rewards.due_texts import contains, contains_tokens


@pytest.mark.parametrize(
    ("reply", "text", "within", "whole"),
    [
        ("You pay $1,000.00.", "1000", True, True),
        ("You pay 1000.", "1000.00", False, True),
        ("You pay 210.", "10", True, False),
        ("There are 10.", "10", True, True),
        ("It costs 10.5", "10", True, False),
        ("10,5 and 3", "105", True, False),
        ("One of 64 GB", "64GB", False, False),
        ("The 64gb one", "64GB", True, True),
        ("the cameras", "camera", True, False),
        ("A Camera!", "camera", True, True),
        ("943 maple drive, Suite 356", "943 Maple Drive", True, True),
        ("943, Maple Drive", "943 Maple Drive", True, True),
        ("943 Old Maple Drive", "943 Maple Drive", False, False),
        ("Chicago, IL", "IL", True, True),
        ("I will", "IL", True, False),
        ("It took 120 hours", "20 hours", True, False),
        ("...", "...", True, True),
        ("", "10", False, False),
    ],
)
def test_a_due_text_is_found(reply: str, text: str, within: bool, whole: bool) -> None:
    assert (contains(reply, text), contains_tokens(reply, text)) == (within, whole)
