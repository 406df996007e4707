"""A goal user with a temperament and a writing style: an example of a simulator built on `GoalUser`."""

from __future__ import annotations

from typing import ClassVar

from simkit import ChatModel, Speak, World
from simkit.core.ids import derive_seed
from simkit.plugins.prompts import PromptChoice
from simkit.users.goal import GoalUser
from simkit.users.reply_formats import Ending

TEMPERAMENTS = (
    "You are in a hurry and short of patience; you want answers, not small talk.",
    "You are friendly and chatty, and mention what the trip is about before you come to the point.",
    "You are unsure of yourself, and ask whether you understood rightly before you agree to anything.",
    "You are exact and a little suspicious; you have been given wrong information before.",
)
STYLES = (
    "all in lower case, hardly any punctuation, a few words at a time.",
    "in complete, polite sentences.",
    "like somebody typing on a phone: short, with abbreviations and now and then a typing slip, never in a value.",
)


class PersonaUser(GoalUser):
    """A goal user with a temperament and a writing style.

    Args:
        temperament, style: character and writing style of the user, in words to the model (`you are ...`). An empty one
            is drawn per episode, and is the same in all branches and in a rerun. The rest: see `GoalUser`.
    """

    name: ClassVar[str] = "persona"
    prompt_file: ClassVar[str] = "persona-1.txt"

    def __init__(
        self,
        model: ChatModel,
        world: World | None = None,
        prompt: PromptChoice = None,
        ending: Ending = "tool",
        temperament: str = "",
        style: str = "",
        attempts: int = 3,
    ) -> None:
        super().__init__(model, world, prompt, ending, attempts)
        self._temperaments = (temperament,) if temperament else TEMPERAMENTS
        self._styles = (style,) if style else STYLES

    def places(self, request: Speak) -> dict[str, str]:
        """The goal list, and the character of the user."""
        key = request.key
        seed = derive_seed(key.run_seed, key.task_id, key.trial, "persona")
        who = self._temperaments[seed % len(self._temperaments)]
        how = self._styles[seed // len(self._temperaments) % len(self._styles)]
        return {**super().places(request), "temperament": who, "style": how}
