"""What was said before an episode of tau2-bench begins."""

from __future__ import annotations

from typing import Any

import pytest

from simkit.core.conversation import Entry
from simkit.errors import DataCorrupt
from simkit.tools.tau2.opening import opening_of


def said(*texts: str) -> dict[str, Any]:
    """A task whose earlier messages are the agent's and the user's in turn."""
    messages = [
        {"role": role, "content": text} for role, text in zip(("assistant", "user", "assistant"), texts, strict=False)
    ]
    return {"initial_state": {"message_history": messages}}


@pytest.mark.parametrize("marker", ["###STOP###", "Bye. ###TRANSFER###", "###OUT-OF-SCOPE###!"])
def test_a_task_that_begins_after_the_user_has_ended_the_conversation_is_refused(marker: str) -> None:
    with pytest.raises(DataCorrupt, match="begins after the user has ended the conversation; leave it out"):
        opening_of(said("Hello?", marker), "Hi.")
    assert len(opening_of(said("Hello?", marker, "Go on."), "Hi.")) == 3
    assert len(opening_of(said(marker), "Hi.")) == 1


def test_without_earlier_messages_the_agent_greets() -> None:
    assert opening_of({}, "Hi.") == (Entry.agent("Hi.", 0),)
