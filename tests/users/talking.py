"""What the tests of users share: a task, a world that is nothing but its words, and a model that answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from simkit.components.state import State
from simkit.components.tools import ToolServer
from simkit.components.user import Speak, UserTurn
from simkit.components.world import World
from simkit.core.conversation import Conversation, Entry, Utterance
from simkit.core.ids import TurnKey
from simkit.core.ontology import Domain, Ontology, Slot, Wish
from simkit.core.tasks import Task
from simkit.models import Answer, CallKey, ChatRequest, ScriptedModel
from simkit.users.goal import GoalUser

AREAS = ("north", "south", "centre")
HOTEL = Domain(
    "hotel",
    ("hotel", "place to stay"),
    "name",
    search=(
        Slot("area", "category", ("area", "part of town"), AREAS),
        Slot("parking", "flag", ("parking",)),
        Slot("name", "name", ("name",), ("acorn house", "the lensfield", "the place")),
    ),
    book=(Slot("day", "day", ("day",)), Slot("people", "number", ("people", "guests"))),
)
TRAIN = Domain(
    "train",
    ("train",),
    "id",
    search=(
        Slot("destination", "category", ("destination",), ("ely", "london")),
        Slot("leaveAt", "time", ("departure time",)),
    ),
)
ONTOLOGY = Ontology((HOTEL, TRAIN))
TASK = Task(
    id="T1",
    world="words",
    split="test",
    instructions="You want a hotel in the north with parking.\nIf there is none, the centre will do.\nBook it for 3"
    " people on tuesday.\nYou also want a train to ely that leaves after 9:15.",
    agenda=(
        Wish(
            domain="hotel",
            inform={"area": "north", "parking": "yes"},
            book={"day": "tuesday", "people": "3"},
        ),
        Wish(domain="train", inform={"destination": "ely", "leaveAt": "09:15"}),
    ),
    reference=(
        Utterance("user", "I need a hotel up north."),
        Utterance("agent", "Any price range?"),
        Utterance("user", "No, but with parking."),
    ),
)


class WordsWorld(World):
    """A world with words and nothing else."""

    name = "words"
    splits = ("test",)

    def tasks(self, split: str) -> Sequence[Task]:
        return (TASK,)

    def tools(self) -> ToolServer:
        raise AssertionError("users call no tools")

    @property
    def ontology(self) -> Ontology:
        return ONTOLOGY


@dataclass
class Player:
    """A model that gives its answers in order and keeps what it was asked."""

    answers: list[Answer]
    requests: list[ChatRequest] = field(default_factory=list[ChatRequest])
    keys: list[CallKey] = field(default_factory=list[CallKey])

    def script(self, request: ChatRequest, key: CallKey) -> Answer:
        self.requests.append(request)
        self.keys.append(key)
        return self.answers[len(self.keys) - 1]

    @property
    def model(self) -> ScriptedModel:
        return ScriptedModel(self.script)


def player(*answers: Answer) -> Player:
    return Player(list(answers))


@dataclass
class Talk:
    """A conversation with a user under test."""

    user: GoalUser
    task: Task = TASK
    conversation: Conversation = field(default_factory=lambda: Conversation([Entry.system("agents only")]))
    state: State = None
    turn: int = 0

    async def next(self, agent: str | None = None) -> UserTurn:
        """What the user says, at the opening or to something the agent said."""
        if agent is not None:
            self.turn += 1
            self.conversation = self.conversation.append(Entry.agent(agent, self.turn))
        key = TurnKey(7, self.task.id, 0, "L", self.turn)
        said = await self.user.speak(Speak(key, self.task, self.conversation, self.state))
        self.conversation = self.conversation.append(Entry.user(said.text, self.turn))
        self.state = said.state
        return said
