"""The user of worlds in which the agent works alone: nobody."""

from __future__ import annotations

from typing import ClassVar, NoReturn

from simkit.components.user import Speak, User
from simkit.components.world import World
from simkit.errors import UsageError, UserFault


class NobodyUser(User):
    """Is never asked: the default user of worlds in which the agent works alone (`World.solo`).

    Raises:
        UsageError: the world has conversations with a user.
    """

    name: ClassVar[str] = "none"

    def __init__(self, world: World | None = None) -> None:
        if world is not None and not world.solo:
            raise UsageError(
                f"the user `none` is for worlds in which the agent works alone, and in `{world.name}` it talks with a "
                f"user; leave --user out (`{world.default_user}` is the default), or choose another"
            )

    async def speak(self, request: Speak) -> NoReturn:
        """Refuse to speak.

        Raises:
            UserFault: always.
        """
        raise UserFault(f"the user `none` was asked to speak in {request.task.id}, although the agent works alone")
