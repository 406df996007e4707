"""A user that replays the human side of a recorded dialogue."""

from __future__ import annotations

from typing import ClassVar

from simkit.components import Speak, User, UserTurn
from simkit.errors import UserFault


class ScriptUser(User):
    """Says the user turns of `task.reference` in their order, whatever the agent says, then says goodbye and hangs up.

    Its state is the number of turns said.
    """

    name: ClassVar[str] = "script"

    async def speak(self, request: Speak) -> UserTurn:
        """The next recorded turn.

        Raises:
            UserFault: the task has no recorded dialogue.
        """
        task = request.task
        lines = [turn.text for turn in task.reference if turn.speaker == "user"]
        if not lines:
            raise UserFault(
                f"task {task.id} of {task.world} has no recorded dialogue to replay; choose another user (agenda) or a"
                " world whose tasks have one (toolwoz)"
            )
        said = request.state if isinstance(request.state, int) else 0
        if said >= len(lines):
            return UserTurn("Goodbye.", end=True, state=said)
        return UserTurn(lines[said], state=said + 1)
