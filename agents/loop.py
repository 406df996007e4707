"""Agents with a loop of their own, as those of agent frameworks: `AgentLoop`.

    class Clerk(AgentLoop):
        async def converse(self, dialogue: Dialogue) -> None:
            said = dialogue.user
            while True:
                found = await dialogue.call("search_hotel", {"area": said})
                said = await dialogue.reply(f"I found {found}.")

The loop is suspended at each tool call and each reply, and goes on when the run has carried it out. A branch whose
suspended loop was used by a sibling runs it again. The loop then gets the recorded model answers and results, so that
nothing is asked or called twice, and has to repeat its steps. What it asks a model through the dialogue (`complete`, or
the OpenAI-compatible address `base_url` for clients of a framework) is seeded, recorded, limited and resumed as any
model call.
"""

from __future__ import annotations

import weakref
from abc import abstractmethod
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, ClassVar, Self

import anyio
from anyio.abc import TaskGroup

from simkit.agents.loop_endpoint import LoopEndpoint
from simkit.agents.loop_task import RunningLoop
from simkit.agents.loop_trail import Beginning, Called, Pause, Record, Replied, Trail, written
from simkit.components.agent import Act, Agent, AgentStart, Decision, StartAgent
from simkit.components.state import fork_state
from simkit.core.conversation import Entry
from simkit.core.messages import AssistantMessage, Message, ToolCall, ToolSpec, text_of
from simkit.errors import AgentFault, UsageError
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, Usage, is_deterministic
from simkit.plugins.extras import require

MOST_WAITING = 256
"""Suspended loops that an agent keeps. Those used least recently are ended, and run again when they are needed."""


class Dialogue:
    """One conversation, as the loop of an agent sees it.

    Attributes:
        user: what the user said last; empty if there is no user.
        policy: the world's rules for agents; empty if it has none.
        tools: the tools of the world.
        memory: what the last `reply` was given; None at the beginning of an episode.
        history: the messages before `user`, as a model sees them: a conversation may begin in its middle.
    """

    def __init__(
        self,
        beginning: Beginning,
        policy: str,
        tools: tuple[ToolSpec, ...],
        running: RunningLoop,
        endpoint: LoopEndpoint,
    ) -> None:
        entries = beginning.conversation.tail(0)
        self.user = next((entry.heard or "" for entry in reversed(entries) if entry.author == "user"), "")
        self.policy = policy
        self.tools = tools
        self.memory: Any = fork_state(beginning.memory)
        self.history: tuple[Message, ...] = beginning.conversation.messages()[: -1 if self.user else None]
        self._running = running
        self._endpoint = endpoint
        self._key = ""

    async def call(self, name: str, arguments: Mapping[str, Any] | str | None = None) -> str:
        """Call a tool, and return its result as text; a failed call returns its error.

        Args:
            name: name of the tool.
            arguments: by name, or as JSON text as a model has written it.
        """
        text = arguments if isinstance(arguments, str) else written(arguments or {})
        return await self._running.pause(Called(name, text))

    async def reply(self, text: str, *, end: bool = False, memory: Any = None) -> str:
        """Say something to the user, and return the user's answer.

        Args:
            text: what the user hears.
            end: the agent ends the conversation; there is no answer then, and the loop is ended.
            memory: an immutable value, or an object with `fork()`. A branch that has to run the loop again then begins
                here, with this `memory` and the answer as `user`, instead of at the beginning.
        """
        return await self._running.pause(Replied(_plain(text), end, memory))

    async def complete(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = (), **options: Any
    ) -> ChatResponse:
        """Ask the model; `options` are further fields of `ChatRequest`."""
        return await self._running.complete(ChatRequest(messages=messages, tools=tools, **options))

    @property
    def base_url(self) -> str:
        """Address of the model for OpenAI clients, on this machine; use it with `api_key`.

        Raises:
            UsageError: the run has no model, or the event loop is not asyncio's.
        """
        return self._endpoint.url

    @property
    def api_key(self) -> str:
        """The key of this branch for `base_url`, by which its calls are told from those of others."""
        self._key = self._key or self._endpoint.admit(self._running)
        return self._key

    @property
    def openai_client(self) -> Any:
        """The client `openai.AsyncOpenAI` for this conversation; its connections are shared with other conversations.

        Raises:
            UsageError: as `base_url`; or the package `openai` is not installed.
        """
        openai = require("openai", "finetune")
        shared = self._endpoint.client
        return openai.AsyncOpenAI(base_url=self.base_url, api_key=self.api_key, http_client=shared, max_retries=0)


class AgentLoop(Agent[Trail]):
    """Base class of agents with a loop of their own; implement `converse`.

    Args:
        model: the model that loops ask through their dialogue; None if they ask none.
        most_waiting: suspended loops that are kept, for all conversations together.
    """

    name: ClassVar[str] = "loop"

    def __init__(self, model: ChatModel | None = None, most_waiting: int = MOST_WAITING) -> None:
        if most_waiting < 1:
            raise UsageError(f"most_waiting is {most_waiting}; at least one loop has to wait for its next turn")
        self._model = model
        self._most_waiting = most_waiting
        self.deterministic = model is not None and is_deterministic(model)
        self._endpoint = LoopEndpoint("" if model is None else model.name)
        self._tasks: TaskGroup | None = None
        self._stack = AsyncExitStack()
        self._waiting: OrderedDict[RunningLoop, None] = OrderedDict()
        self._unused: deque[tuple[RunningLoop, int]] = deque()

    @abstractmethod
    async def converse(self, dialogue: Dialogue) -> str | None:
        """Hold one conversation, from what the user said (`dialogue.user`) to its end.

        It is ended with its branch, at any `await`. What it returns is its last reply; the agent then ends the
        conversation. None ends it without a word.
        """

    async def __aenter__(self) -> Self:
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        self._stack.callback(self._tasks.cancel_scope.cancel)
        await self._stack.enter_async_context(self._endpoint)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for running in self._waiting:
            running.close()
        await self._stack.aclose()

    def start(self, request: StartAgent) -> AgentStart[Trail]:
        """The world's rules as system prompt."""
        return AgentStart(request.policy or None, Trail(policy=request.policy))

    async def act(self, request: Act[Trail]) -> Decision[Trail]:
        """Let the loop go on until it calls a tool, replies or returns.

        Raises:
            Exception: what the loop or a model call raised.
            AgentFault: a loop that was run again did not repeat its steps.
        """
        self._end_unused()
        trail, result = _continued(request)
        running = self._resumed(request.state)
        if running is None:
            running, result = self._started(request, trail), None
        calls = _Calls(self._model, request, trail.calls if request.key.turn == trail.turn else 0)
        pause = await running.proceed(result, calls.complete)
        decided = replace(
            trail,
            steps=(*trail.steps, *running.taken()),
            pause=pause,
            seen=len(request.conversation),
            turn=request.key.turn,
            calls=calls.count,
            held=self._held(running),
        )
        return self._decision(request, running, decided, calls.usage)

    def _decision(self, request: Act[Trail], running: RunningLoop, trail: Trail, usage: Usage) -> Decision[Trail]:
        key, pause, last = request.key, trail.pause, running.last
        if pause is None or running.ends:
            running.close()
        else:
            self._wait(running)
        match pause:
            case Called(name, arguments):
                call = ToolCall.of(f"t{key.turn:02}s{request.step:02}c00", name, arguments)
                decision = Decision.call(call, state=trail)
            case Replied(text, end):
                decision = Decision.speak(text, state=trail, end=end)
            case None if last:
                decision = Decision.speak(_plain(last), state=trail, end=True)
            case None:
                decision = Decision(AssistantMessage.of(None), end=True, state=trail)
        return replace(decision, tokens=usage.tokens, cost=usage.cost)

    def _resumed(self, trail: Trail) -> RunningLoop | None:
        """The loop that waits at this state, if no other branch has used it."""
        held = trail.held
        if not isinstance(held, _Held) or held.running not in self._waiting or held.mark != held.running.mark:
            return None
        del self._waiting[held.running]
        return held.running

    def _started(self, request: Act[Trail], trail: Trail) -> RunningLoop:
        """Begin a loop, which has to repeat its steps."""
        if self._tasks is None:
            raise UsageError(f"`{self.name}` is not open: spawn it in a scope, or use it in `async with`")
        assert trail.beginning is not None
        running = RunningLoop(self.name, Record(trail.steps))
        dialogue = Dialogue(trail.beginning, trail.policy, request.tools, running, self._endpoint)
        self._tasks.start_soon(running.run, self.converse, dialogue, name=f"loop of {self.name}")
        return running

    def _held(self, running: RunningLoop) -> _Held:
        held = _Held(running, running.mark)
        weakref.finalize(held, self._unused.append, (running, running.mark)).atexit = False
        return held

    def _wait(self, running: RunningLoop) -> None:
        self._waiting[running] = None
        while len(self._waiting) > self._most_waiting:
            self._waiting.popitem(last=False)[0].close()

    def _end_unused(self) -> None:
        """End the loops whose branches are gone."""
        while self._unused:
            running, mark = self._unused.popleft()
            if running in self._waiting and running.mark == mark:
                del self._waiting[running]
                running.close()


class _Held:
    """Refers to a loop that waits at a pause. It is gone when no branch can go on from there any more."""

    def __init__(self, running: RunningLoop, mark: int) -> None:
        self.running = running
        self.mark = mark


class _Calls:
    """The model calls of one decision."""

    def __init__(self, model: ChatModel | None, request: Act[Trail], count: int) -> None:
        self._model = model
        self._request = request
        self.count = count
        self.usage = Usage()

    async def complete(self, asked: ChatRequest) -> ChatResponse:
        """The model's answer to a request, seeded by its place in the turn."""
        if self._model is None:
            raise AgentFault("the loop asks a model, but the run has none; choose one with --model")
        key = CallKey(self._request.key, "agent", self.count)
        self.count += 1
        response = await self._model.complete(replace(asked, seed=key.seed), key)
        self.usage = self.usage.plus(response.usage)
        return response


def _plain(text: object) -> str:
    """A text without what a framework has added to it.

    Raises:
        AgentFault: it is no text.
    """
    if not isinstance(text, str):
        raise AgentFault(f"the loop replied with a {type(text).__name__}; reply with a text")
    return str.__str__(text)


def _continued(request: Act[Trail]) -> tuple[Trail, str | None]:
    """The state with what happened since its pause, and the result for which its loop waits; None at the beginning.

    A reply with a memory is a new beginning.
    """
    trail = request.state
    if trail.beginning is None or trail.pause is None:
        return replace(trail, beginning=Beginning(request.conversation)), None
    result = _result(trail.pause, request.conversation.tail(trail.seen))
    if isinstance(trail.pause, Replied) and trail.pause.memory is not None:
        return replace(trail, steps=(), beginning=Beginning(request.conversation, trail.pause.memory)), result
    return replace(trail, steps=(*trail.steps, replace(trail.pause, result=result))), result


def _result(pause: Pause, new: Sequence[Entry]) -> str:
    """The result of a pause in the entries that followed it."""
    answers = [entry.heard for entry in new if entry.author == "user" and entry.heard is not None]
    results = [text_of(entry.message) for entry in new if entry.author == "tool"]
    if isinstance(pause, Replied):
        return "\n".join(answers or results)
    said = f"\n\n(Meanwhile the user said: {' '.join(answers)})" if answers else ""
    return f"{results[0] if results else ''}{said}"
