"""The users of tau-bench: every recorded strategy asks its model the same and says the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import anyio
import pytest
from tau_recordings import Recording
from tau_worlds import read_users, recorded_prompts

from simkit.components.tools import ToolServer
from simkit.components.user import Speak
from simkit.components.world import World
from simkit.core.conversation import Conversation, Entry
from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, Message, text_of
from simkit.core.ontology import Ontology
from simkit.core.persistent_list import JsonList
from simkit.core.tasks import Task
from simkit.errors import UserFault
from simkit.models import CallKey, ChatRequest, ChatResponse, ScriptedModel, Usage
from simkit.users.goal import ModelHistory
from simkit.users.tau import TauUser
from simkit.users.tau_replies import PaperReplies

STRATEGIES = ("llm", "react", "verify", "reflection")
COST = 0.25


class PromptsWorld(World):
    """A world that has prompts and nothing else."""

    name = "prompts"
    splits = ("test",)

    def tasks(self, split: str) -> Sequence[Task]:
        return ()

    def tools(self) -> ToolServer:
        raise AssertionError("users call no tools")

    @property
    def prompts(self) -> Mapping[str, str]:
        return recorded_prompts()

    @property
    def ontology(self) -> Ontology:
        return Ontology(())


@dataclass
class Played:
    """A user over the recorded answers of its model, and what it asked."""

    answers: list[str]
    asked: list[tuple[ChatRequest, CallKey]] = field(default_factory=list[tuple[ChatRequest, CallKey]])

    def script(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        self.asked.append((request, key))
        answer = self.answers[len(self.asked) - 1]
        return ChatResponse(message=AssistantMessage.of(answer), finish="stop", usage=Usage(cost=COST))

    def calls(self, since: int) -> list[list[list[str]]]:
        """The messages of each request, in which the recorder's notation of a message replaces ours."""
        return [
            [[message.role, self._as_recorded(text_of(message))] for message in request.messages]
            for request, _ in self.asked[since:]
        ]

    def _as_recorded(self, text: str) -> str:
        for answer in self.answers:
            text = text.replace(PaperReplies().shown(answer), f"<message {answer!r}>")
        return text


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_user_asks_and_says_what_the_release_does(strategy: str) -> None:
    recorded = [line for line in read_users() if line["strategy"] == strategy]
    if not recorded:
        pytest.skip(f"no recording of the strategy {strategy} here")
    for line in recorded:
        anyio.run(_replay, line)


async def _replay(line: Recording) -> None:
    played = Played(line["script"])
    user = TauUser(ScriptedModel(played.script), PromptsWorld(), line["strategy"])
    instruction = line["steps"][0]["in"]
    task = Task(id="T", world="prompts", split="test", instructions=instruction)
    conversation, state = Conversation(), None
    for turn, step in enumerate(line["steps"]):
        if turn:
            conversation = conversation.append(Entry.agent(step["in"], turn))
        since = len(played.asked)
        request = Speak(TurnKey(7, "T", 0, "L", turn), task, conversation, state)
        if isinstance(step["out"], dict):  # the release's run dies; the recorder went on with what the model remembers
            with pytest.raises(UserFault, match="gave a reply without"):
                await user.speak(request)
            messages = JsonList[Message](tuple(played.asked[since][0].messages))
            state = ModelHistory(messages.append(AssistantMessage.of(played.answers[since])), len(conversation))
            assert played.calls(since) == step["calls"]
            continue
        said = await user.speak(request)
        assert (said.text, said.end) == (step["out"], "###STOP###" in step["out"])
        assert played.calls(since) == step["calls"]
        assert [key.call for _, key in played.asked[since:]] == list(range(len(step["calls"])))
        assert said.cost == COST * len(step["calls"]), "unlike the release, all calls of a turn are counted"
        state = said.state
        conversation = conversation.append(Entry.user(said.text, turn))
    assert state is not None
    assert [[message.role, text_of(message)] for message in state.messages] == line["messages"]
