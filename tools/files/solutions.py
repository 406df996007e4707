"""Solutions that are played ahead, without an event loop."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from simkit.components.state import State
from simkit.core.messages import ToolResult
from simkit.core.records import CallRecord
from simkit.errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Solved:
    """A solution that was played: its calls with their results, and the state at the end."""

    calls: tuple[CallRecord, ...]
    state: State

    @property
    def texts(self) -> list[str]:
        """The results as agents read them."""
        return [ToolResult(value=call.result, error=call.error).text for call in self.calls]


def at_once(answer: Coroutine[Any, Any, T], whose: str) -> T:
    """The answer of something that waits for nothing.

    Raises:
        UsageError: it waits.
    """
    try:
        answer.send(None)
    except StopIteration as done:
        return done.value
    answer.close()
    raise UsageError(
        f"{whose} waits for something, so solutions cannot be played ahead; write it without `await`, or use goals "
        "with `call` and `told` alone"
    )
