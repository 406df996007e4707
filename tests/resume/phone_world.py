"""A world whose user has tools, played by models: what they do follows from the text that a model answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from simkit.components.agent import Act, Agent, Decision
from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart
from simkit.components.user import Speak, User, UserTurn
from simkit.components.world import Check, Expected, World
from simkit.core.conversation import Entry
from simkit.core.messages import AssistantMessage, ToolCall, UserMessage, text_of
from simkit.core.ontology import Ontology
from simkit.core.tasks import Goal, Task
from simkit.models.base import CallKey, ChatModel, ChatRequest
from simkit.tools.functions import Changed, FunctionTools

Switches = frozenset[str]


def press(state: Switches, button: str) -> Changed:
    """Press a button of the phone."""
    return Changed("pressed", state | {button}, writes=({"button": button},))


def unlock(state: Switches) -> Changed:
    """Unlock the line."""
    return Changed("unlocked", state | {"line"})


class PhoneTools(ToolServer[Switches]):
    name = "phone"

    def __init__(self, solo: bool) -> None:
        self._agent, self._user = FunctionTools(unlock, state=frozenset()), FunctionTools(press, state=frozenset())
        self._solo = solo

    def start(self, request: StartTools) -> ToolsStart[Switches]:
        start, own = self._agent.start(request), self._user.start(request).specs
        if self._solo:
            return replace(start, specs=start.specs + own, solo=True)
        return replace(start, user_specs=own, opening=(Entry.agent("Hi!", 0),))

    async def call(self, request: CallTool[Switches]) -> ToolReturn[Switches]:
        user = request.by == "user" or (self._solo and request.call.name == "press")
        return await (self._user if user else self._agent).call(request)


class Phone(World):
    """Phones with three buttons."""

    name = "phone"
    splits = ("test",)
    default_reward = "final_state"

    def __init__(self, solo: bool = False) -> None:
        self.solo = solo

    def tasks(self, split: str) -> Sequence[Task]:
        self.check_split(split)
        goals = tuple(Goal(button, {"tool": "press", "arguments": {"button": button}, "by": "user"}) for button in "ab")
        return [Task(id=f"t{n}", world=self.name, split=split, instructions="Press.", goals=goals) for n in range(2)]

    def tools(self) -> ToolServer[Switches]:
        return PhoneTools(self.solo)

    @property
    def ontology(self) -> Ontology:
        return Ontology(())

    def expected(self, task: Task) -> Expected:
        return Expected("", basis=("checks", "judged"), checks=(Check("pressed"),), judged=("The agent is polite.",))

    def holds(self, check: Check, state: Switches) -> bool:
        return "a" in state


class PhoneAgent(Agent):
    """Unlocks the line or speaks."""

    name = "phone"

    def __init__(self, model: ChatModel) -> None:
        self._model = model

    async def act(self, request: Act) -> Decision:
        key = CallKey(request.key, "agent", request.step)
        heard = tuple(request.conversation.messages())
        answer = await self._model.complete(ChatRequest(messages=heard, seed=key.seed), key)
        if text_of(answer.message)[-2:-1] in "0123" and not request.step:
            call = ToolCall.of(f"a{request.key.path}{request.key.turn}", "unlock", {})
            return Decision(AssistantMessage.of(None, (call,)), calls=(call,))
        return Decision.speak("Please press a button.")


class PressingAgent(Agent):
    """Presses a button and ends."""

    name = "pressing"

    async def act(self, request: Act) -> Decision:
        call = ToolCall.of("p1", "press", {"button": "a"})
        return Decision(AssistantMessage.of(None, (call,)), calls=(call,), end=True)


class PhoneUser(User[int]):
    """Presses buttons until the model's answer says otherwise; the state counts its decisions."""

    name = "phone"
    calls_tools = True

    def __init__(self, model: ChatModel) -> None:
        self._model = model

    async def speak(self, request: Speak[int]) -> UserTurn[int]:
        key = CallKey(request.key, "user", request.step)
        seen = f"{len(request.conversation.heard())} heard, {[each.result.text for each in request.results]}"
        asked = ChatRequest(messages=(UserMessage.of(seen),), seed=key.seed)
        drawn = text_of((await self._model.complete(asked, key)).message)[-2:-1]
        state = (request.state or 0) + 1
        if request.key.turn and request.step < 4 and drawn in "0123456789":
            button = "abcdefghij"[int(drawn)]
            return UserTurn[int].call(
                ToolCall.of(f"u{request.key.turn}.{request.step}", "press", {"button": button}), state=state
            )
        return UserTurn(f"I have decided {state} times.", state=state, end=state > 12)
