"""The user's side of dialogues: of people, of a file, or of an earlier run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from simkit.core.conversation import Conversation
from simkit.core.tasks import Task
from simkit.errors import UsageError
from simkit.recipes.judging.recorded import RecordedEpisodes
from simkit.rewards.pairwise import read_conversations


@dataclass(frozen=True, slots=True)
class Dialogue:
    """What the user said in one dialogue.

    Attributes:
        id: the task, or the name of the dialogue in a file; dialogues of one id are never in both the fitting and the
            testing part.
        turns: the user's turns that have any words.
        task: what the user wanted; None if it is unknown.
    """

    id: str
    turns: tuple[str, ...]
    task: Task | None = None

    @property
    def text(self) -> str:
        """All turns, one on a line."""
        return "\n".join(self.turns)


def of_people(tasks: Iterable[Task]) -> tuple[Dialogue, ...]:
    """The human sides of the dialogues that the tasks were made from; tasks without one are left out."""
    said = ((task, (each.text for each in task.reference if each.speaker == "user")) for task in tasks)
    return _spoken((task.id, turns, task) for task, turns in said)


def of_file(file: Path, tasks: Mapping[str, Task]) -> tuple[Dialogue, ...]:
    """The users' sides of the conversations in a file; see `read_conversations`.

    Raises:
        UsageError: it is not a file of conversations, or no user says anything in it.
    """
    read = read_conversations(file, speaker=None)
    found = _spoken((name, _users(conversation), tasks.get(name)) for name, conversation in read.items())
    if not found:
        raise UsageError(f"no user says anything in {file}; give conversations with messages of the role user")
    return found


def of_run(recorded: RecordedEpisodes, tasks: Mapping[str, Task]) -> tuple[Dialogue, ...]:
    """The users' sides of the first trial of each task of a run, without those that a component's fault ended."""
    whole = (
        each for each in recorded.episodes if not each.episode.trial and not each.episode.outcome.endswith("fault")
    )
    return _spoken((each.episode.task_id, _users(each.conversation), tasks.get(each.episode.task_id)) for each in whole)


def _users(conversation: Conversation) -> Iterable[str]:
    return (entry.heard for entry in conversation if entry.author == "user" and entry.heard is not None)


def _spoken(found: Iterable[tuple[str, Iterable[str], Task | None]]) -> tuple[Dialogue, ...]:
    dialogues = (Dialogue(name, tuple(" ".join(turn.split()) for turn in turns), task) for name, turns, task in found)
    kept = (Dialogue(each.id, tuple(filter(None, each.turns)), each.task) for each in dialogues)
    return tuple(each for each in kept if each.turns)


def only(dialogues: Sequence[Dialogue], names: frozenset[str]) -> tuple[Dialogue, ...]:
    """Those dialogues that have one of these ids."""
    return tuple(each for each in dialogues if each.id in names)
