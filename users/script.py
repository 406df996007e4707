"""A user that replays the human side of a recorded dialogue."""

from __future__ import annotations

from typing import ClassVar

from simkit.components.user import Speak, User, UserTurn
from simkit.core.tasks import Task
from simkit.errors import UsageError


class ScriptUser(User[int]):
    """Says the user turns of `task.reference` in their order, whatever the agent says, then says goodbye and hangs up.

    Its state is the number of turns spoken.
    """

    name: ClassVar[str] = "script"

    def check_task(self, task: Task) -> None:
        """Require a recorded dialogue.

        Raises:
            UsageError: the task has no recorded dialogue.
        """
        _lines(task)

    async def speak(self, request: Speak[int]) -> UserTurn[int]:
        """The next recorded turn.

        Raises:
            UsageError: the task has no recorded dialogue.
        """
        lines = _lines(request.task)
        said = request.state or 0
        if said >= len(lines):
            return UserTurn("Goodbye.", end=True, state=said)
        return UserTurn(lines[said], state=said + 1)


def _lines(task: Task) -> list[str]:
    lines = [turn.text for turn in task.reference if turn.speaker == "user"]
    if not lines:
        raise UsageError(
            f"task {task.id} of {task.world} has no recorded dialogue to replay; choose another user (agenda) or a"
            " world whose tasks have one (toolwoz)"
        )
    return lines
