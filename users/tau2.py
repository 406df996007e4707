"""The simulated user of tau2-bench, which can call tools of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Literal, TypeAlias, get_args

from simkit.components.model_view import with_valid_calls
from simkit.components.tools import StartTools
from simkit.components.user import Speak, User, UserTurn
from simkit.components.world import World
from simkit.core.conversation import Conversation, Entry
from simkit.core.messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
    text_of,
)
from simkit.core.ontology import Ontology
from simkit.core.persistent_list import JsonList, json_list
from simkit.core.reasoning import leaks_reasoning, without_reasoning
from simkit.core.tasks import Task
from simkit.core.text_calls import UNPARSED, TextCall, find_calls
from simkit.errors import UsageError, UserFault
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, Usage, lacks_for_tools
from simkit.plugins.prompts import Prompt, shipped_prompt
from simkit.users.goal import CUE, ModelHistory
from simkit.users.reply_formats import GOODBYE, UserReply
from simkit.users.selfcheck import SelfCheck

Variant: TypeAlias = Literal["paper", "fixed"]
Verbosity: TypeAlias = Literal["standard", "minimal"]

MARKERS: Final = {"###STOP###": "", "###TRANSFER###": "transfer", "###OUT-OF-SCOPE###": "out_of_scope"}
"""The markers that end a conversation, each with the flag that its message gets."""

_OWN_PROMPTS: Final = {"user": "tau2-1.txt", "user_tools": "tau2-tools-1.txt"}
_MINIMAL: Final = "tau2-minimal-1.txt"
_SCENARIO: Final = "<scenario>"
_MARKER: Final = "|".join(map(re.escape, MARKERS))
_ENDS: Final = re.compile(rf"^[^\w\n]*(?:{_MARKER})[^\w\n]*$|(?:{_MARKER})\W*\Z", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Reply:
    """What the user's model decided: calls, or a text and whether it ends the conversation."""

    message: AssistantMessage
    text: str = ""
    end: bool = False
    calls: tuple[ToolCall, ...] = ()
    flags: tuple[str, ...] = ()


class Tau2User(User[ModelHistory]):
    """A customer played by a model as in tau2-bench: it has the task's scenario, and tools if the world gives it some.

    The words of each turn are checked by rules (`simkit.users.selfcheck`), and doubts are recorded as flags.

    The guidelines are those of the world's data, word for word. A world without them is played with simkit's own, and
    the first message has the flag `own_prompt`. The markers `###STOP###`, `###TRANSFER###` and `###OUT-OF-SCOPE###` end
    the conversation; a message with one of the last two has the flag `transfer` or `out_of_scope`. A message with calls
    says nothing, whatever text it has: the agent does not hear it, and markers in it are not read.

    Variants: `paper` does what the release does. `fixed` repairs its defects:

    - a marker ends the conversation only alone on its line or at the end of a message, and it is not heard;
    - a reply without words and calls is asked for again, three times in all; the release repeats the whole run;
    - a call that the model writes as text is made, and not said to the agent.

    Args:
        model: the model that plays the user.
        world: the world, which may bring guidelines; None for simkit's own.
        verbosity: `minimal` adds guidelines for a person of few words; `standard` adds nothing.
        variant: `paper` or `fixed`; by default that of the world.

    Raises:
        UsageError: an option has another value.
    """

    name: ClassVar[str] = "tau2"
    calls_tools: ClassVar[bool] = True

    def __init__(
        self,
        model: ChatModel,
        world: World | None = None,
        verbosity: Verbosity = "standard",
        variant: Variant | None = None,
    ) -> None:
        if verbosity not in get_args(Verbosity):
            raise UsageError(f"the user `tau2` has no verbosity `{verbosity}`; choose standard or minimal")
        if variant is not None and variant not in get_args(Variant):
            raise UsageError(f"the user `tau2` has no variant `{variant}`; choose paper or fixed")
        self._model = model
        self._world = world
        self._verbosity: Verbosity = verbosity
        self._check = SelfCheck(Ontology(()))
        self._repaired = (variant or getattr(world, "variant", "paper")) == "fixed"
        self._attempts = 3 if self._repaired else 1

    def check_task(self, task: Task) -> None:
        """Require a model that can be given tools if the task gives the user some.

        Raises:
            UsageError: the model cannot.
        """
        lacks = lacks_for_tools(self._model)
        if lacks is None or self._world is None:
            return
        if self._world.tools().start(StartTools(task)).user_specs:
            raise UsageError(
                f"task {task.id} of {task.world} gives its user tools, and `{self._model.name}` cannot take them: "
                f"{lacks}; choose another --user-model"
            )

    def prompt(self, tools: bool) -> Prompt:
        """The guidelines of a user with or without tools, with the place `{{instruction}}` for the scenario."""
        name = "user_tools" if tools else "user"
        text = None if self._world is None else self._world.prompts.get(name)
        prompt = shipped_prompt("simkit.users", _OWN_PROMPTS[name]) if text is None else Prompt(name, text, exact=True)
        persona = shipped_prompt("simkit.users", _MINIMAL).text.strip() if self._verbosity == "minimal" else ""
        return replace(prompt, text=_with_persona(prompt.text, persona))

    async def speak(self, request: Speak[ModelHistory]) -> UserTurn[ModelHistory]:
        """The next message, or calls of the user's tools.

        Raises:
            ModelFault: a model call failed.
            UserFault: the model's reply has neither words nor calls.
        """
        opening = request.state is None
        history = self._open(request) if request.state is None else _continued(request.state, request)
        reply, used = await self._reply(history, request)
        flags = (*self._own_prompt(opening, request), *reply.flags)
        memory = history.memory
        if reply.text:
            checked = UserReply(reply.text, end=reply.end, flags=flags)
            flags, memory = self._check.check(request.task, (), checked, memory)
        state = replace(history, messages=history.messages.append(with_valid_calls(reply.message)), memory=memory)
        return UserTurn(
            reply.text,
            end=reply.end,
            state=state,
            flags=flags,
            tokens=used.tokens,
            cost=used.cost,
            calls=reply.calls,
        )

    def _open(self, request: Speak[ModelHistory]) -> ModelHistory:
        rules = self.prompt(bool(request.tools)).fill(instruction=request.task.instructions)
        earlier = tuple(_earlier(request.conversation)) or (UserMessage.of(CUE),)
        return ModelHistory(JsonList[Message]((SystemMessage.of(rules), *earlier)), len(request.conversation))

    def _own_prompt(self, opening: bool, request: Speak[ModelHistory]) -> tuple[str, ...]:
        name = "user_tools" if request.tools else "user"
        if not opening or self._world is None or name in self._world.prompts:
            return ()
        return (f"own_prompt: {_OWN_PROMPTS[name]}",)

    async def _reply(self, history: ModelHistory, request: Speak[ModelHistory]) -> tuple[_Reply, Usage]:
        """The first reply with words or calls, and what all of them used."""
        used = Usage()
        for attempt in range(self._attempts):
            key = CallKey(request.key, "user", request.step * self._attempts + attempt)
            asked = ChatRequest(messages=history.messages, tools=json_list(request.tools), seed=key.seed)
            response = await self._model.complete(asked, key)
            used = used.plus(response.usage)
            reply = self._read(response, request)
            if reply is not None:
                return reply, used
        times = f"{self._attempts} replies" if self._attempts > 1 else "a reply"
        raise UserFault(
            f"the user `{self.name}`, played by {self._model.name}, gave {times} without words or calls (empty, "
            "withheld or cut off); choose another model, or variant=fixed, which asks again"
        )

    def _read(self, response: ChatResponse, request: Speak[ModelHistory]) -> _Reply | None:
        """The decision of a response; None if it has neither calls nor words."""
        if response.finish in ("content_filter", "refusal"):
            return None
        flags = ("cut_off",) if response.finish == "length" else ()
        message = response.message.without_calls() if flags else response.message
        if message.tool_calls and request.tools:
            calls = _named(message.tool_calls, request)
            return _Reply(AssistantMessage.of(text_of(message) or None, calls), calls=calls)
        text = text_of(message)
        written = find_calls(text, request.tools) if request.tools else None
        if written is not None:
            flags = (*flags, f"call_as_text: {written.notation}")
            if self._repaired:
                named = _named(written.calls, request)
                said = AssistantMessage.of(written.rest or None, named)
                return _Reply(said, calls=named, flags=flags) if named else None
        if response.unparsed is not None:
            flags = (*flags, f"{UNPARSED}: {response.unparsed}")
            if self._repaired:
                return None
        if leaks_reasoning(text):
            flags = (*flags, "leaked_reasoning")
        return self._said(text, flags)

    def _said(self, text: str, flags: tuple[str, ...]) -> _Reply | None:
        """The text as it is; repaired, without markers, which count only at the end of it or of a line of their own."""
        said = without_reasoning(text).strip() if self._repaired else text
        ends = _ENDS.findall(said) if self._repaired else re.findall(_MARKER, said)
        flags = (*flags, *(flag for marker, flag in MARKERS.items() if flag and any(marker in end for end in ends)))
        if self._repaired:
            said = re.sub(_MARKER, "", said).strip()
            if not ends and said != without_reasoning(text).strip():
                flags = (*flags, "marker_inside")
            elif ends and not said:
                said, flags = GOODBYE, (*flags, "silent_end")
        if not said.strip():
            return None
        return _Reply(AssistantMessage.of(text), said, bool(ends), flags=flags)


def _with_persona(text: str, persona: str) -> str:
    """Guidelines with those of a persona in front of the scenario."""
    before, scenario, after = text.rpartition(_SCENARIO)
    return f"{before}{persona}\n\n{scenario}{after}" if persona else text


def _earlier(conversation: Conversation) -> Iterator[Message]:
    """What the user has said, heard and done before it is asked for the first time."""
    for entry in conversation.tail(0):
        if entry.author == "user_tool":
            yield entry.message
        elif entry.heard is not None:
            yield _heard(entry)


def _heard(entry: Entry) -> Message:
    text = entry.heard or ""
    return AssistantMessage.of(text) if entry.author == "user" else UserMessage.of(text)


def _continued(history: ModelHistory, request: Speak[ModelHistory]) -> ModelHistory:
    """The history with the results of the last calls, and with what the agent has said since."""
    messages = history.messages
    for made in request.results:
        messages = messages.append(ToolMessage.of(made.call.id, made.result.text))
    return replace(history, messages=messages).hear(request.conversation)


def _named(calls: Sequence[ToolCall | TextCall], request: Speak[ModelHistory]) -> tuple[ToolCall, ...]:
    """Calls under ids made from their position, as those of agents are."""
    place = f"u{request.key.turn:02d}s{request.step:02d}"
    return tuple(ToolCall.of(f"{place}c{index:02d}", call.name, call.arguments) for index, call in enumerate(calls))
