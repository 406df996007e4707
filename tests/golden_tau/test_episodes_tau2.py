"""Whole episodes of tau2-bench, played by scripted models: messages, what each model saw, ends, states and rewards.

Where the release's run raises, which it then repeats as a whole, the task is refused, or the episode ends in a fault,
or an agent that wrote nothing of use is asked again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import anyio
import pytest
from tau2_worlds import WORLDS, build_cache, recorded_prompts
from tau_deltas import expect_one_to_one
from tau_recordings import Recording, read_recordings

from simkit.actors.scope import open_scope
from simkit.agents.function_calling import FunctionCallingAgent
from simkit.components.cast import Cast
from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart
from simkit.core.events import BranchAdded, BranchExtended, Episode
from simkit.core.limits import Limits
from simkit.core.messages import AssistantMessage, Message, ToolCall, ToolMessage, parse_message, text_of
from simkit.core.recorder import MemoryRecorder
from simkit.core.records import CallRecord, MessageRow
from simkit.core.tasks import Task
from simkit.errors import DataCorrupt, ModelFault
from simkit.models import CallKey, ChatRequest, ChatResponse, ScriptedModel
from simkit.rewards.final_state import FinalState
from simkit.search.base import NoWatch, WorkUnit
from simkit.search.rollout import Rollout
from simkit.tools.tau.rows import Rows
from simkit.tools.tau2.layout import DomainName
from simkit.tools.tau2.start import state_digest
from simkit.tools.tau2.world import Tau2Domain, task_of
from simkit.users.tau2 import Tau2User

Names: TypeAlias = Mapping[str, str]

ENDS: Final = {
    "user_stop": "user_ended",
    "agent_stop": "agent_ended",
    "max_steps": "message_limit",
    "too_many_errors": "error_limit",
}
AFTER_A_RAISE: Final = frozenset({"refused", "asked again", "agent_fault", "user_fault", "model_fault"})
OPTIONS: Final = {"max_steps": "messages", "max_errors": "errors"}
"""The release's limits, and those of simkit. Others are not played: `timeout` may be 0 there, and
`validate_communication`, which is off by default, ends a run at a message with text and calls."""


@dataclass
class Script:
    """A model that gives recorded answers in order and keeps what it was asked."""

    answers: list[Any]
    asked: list[ChatRequest] = field(default_factory=list[ChatRequest])

    def __call__(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        if len(self.asked) == len(self.answers):
            raise ModelFault("the recording has no further answer")
        self.asked.append(request)
        return _response(self.answers[len(self.asked) - 1])

    @property
    def left(self) -> int:
        """Number of answers that were not asked for."""
        return len(self.answers) - len(self.asked)

    def view(self, names: Names) -> list[Any]:
        """The messages of the last request, if there was one, in the notation of the recordings."""
        return [[_seen(message, names) for message in request.messages] for request in self.asked[-1:]]


def _response(answer: Any) -> ChatResponse:
    """A response from its recording: a text, calls, both, or nothing."""
    parts: dict[str, Any] = {"text": answer} if isinstance(answer, str) else {"calls": answer}
    if isinstance(answer, dict):
        parts = cast("Recording", answer)
    calls: list[tuple[str, Any]] = parts.get("calls") or []
    made = tuple(ToolCall.of(f"r{number}", name, given) for number, (name, given) in enumerate(calls))
    return ChatResponse.of(AssistantMessage.of(parts.get("text"), made))


def _seen(message: Message, names: Names) -> list[Any]:
    if message.role == "system":
        return ["system", "<system>"]
    if isinstance(message, ToolMessage):
        return ["tool", text_of(message), names.get(message.tool_call_id, message.tool_call_id)]
    if isinstance(message, AssistantMessage) and message.tool_calls:
        return ["assistant", text_of(message) or None, _calls(message, names)]
    return [message.role, text_of(message)]


def _calls(message: AssistantMessage, names: Names) -> list[list[Any]]:
    return [[names.get(call.id, call.id), call.name, call.parse_arguments()] for call in message.tool_calls or ()]


class Watched(ToolServer[Rows]):
    """The world's tools; `state` is that of the episode's last call."""

    name = "watched"

    def __init__(self, tools: ToolServer[Rows]) -> None:
        self._tools = tools
        self.state: Rows | None = None

    def start(self, request: StartTools) -> ToolsStart[Rows]:
        start = self._tools.start(request)
        self.state = start.state
        return start

    async def call(self, request: CallTool[Rows]) -> ToolReturn[Rows]:
        reply = await self._tools.call(request)
        self.state = reply.state
        return reply


@dataclass(frozen=True)
class Played:
    """An episode with all that was recorded of it."""

    episode: Episode
    rows: tuple[MessageRow, ...]
    calls: tuple[CallRecord, ...]
    agent: Script
    user: Script
    state: Rows

    @property
    def names(self) -> Names:
        """The recording's ids of calls, which count them in order of creation."""
        return {call.call_id: f"k{number}" for number, call in enumerate(self.calls, 1)}

    def messages(self) -> Iterator[Recording]:
        """The messages in the notation of the recordings, without flags of errors before the episode began."""
        errors = {call.call_id: call.error for call in self.calls}
        for row in self.rows:
            message = parse_message(row.message)
            role = {"user_tool": "user", "agent": "assistant"}.get(row.author, row.author)
            if isinstance(message, ToolMessage):
                by, id = "assistant" if row.author == "tool" else "user", message.tool_call_id
                error = {"error": errors[id]} if id in errors else {}
                named = {"id": self.names.get(id, id), "requestor": by}
                yield {"role": "tool", "content": text_of(message), **named, **error}
            elif isinstance(message, AssistantMessage) and message.tool_calls:
                yield {"role": role, "calls": _calls(message, self.names)}
            elif row.author != "system":
                yield {"role": role, "content": text_of(message)}


async def play(world: Tau2Domain, task: Task, line: Recording) -> Played:
    """Play the episode of a recording."""
    agent, user, tools = Script(line["agent"]), Script(line.get("user", [])), Watched(world.tools())
    given = {OPTIONS[name]: value for name, value in line["options"].items() if value is not None}
    recorder = MemoryRecorder()
    async with open_scope() as scope:
        cast = Cast(
            agent=scope.spawn(
                FunctionCallingAgent(ScriptedModel(agent), "world", stop="done", world=world), name="agent"
            ),
            user=scope.spawn(Tau2User(ScriptedModel(user), world), name="user"),
            tools=scope.spawn(tools, name="tools"),
            reward=scope.spawn(FinalState(world), name="reward"),
            final=True,
            limits=world.limits,
            user_calls=True,
        )
        episode = await Rollout(Limits(**given)).play(cast, WorkUnit("run", 7, task), recorder, NoWatch())
    branches = [event for event in recorder.events if isinstance(event, BranchAdded | BranchExtended)]
    rows = sorted((row for branch in branches for row in branch.messages), key=lambda row: row.seq)
    calls = sorted((call for branch in branches for call in branch.tool_calls), key=lambda call: call.seq)
    assert tools.state is not None
    return Played(episode, tuple(rows), tuple(calls), agent, user, tools.state)


def differences(line: Recording, played: Played) -> Iterator[str]:
    """What differs from the recording."""
    if played.episode.outcome != ENDS[line["termination"]]:
        yield f"ended by {played.episode.outcome} ({played.episode.error}), not {line['termination']}"
    found, wanted = list(played.messages()), [_as_ours(message, played) for message in line["messages"]]
    if found != _without_stop(wanted, found):
        yield f"messages {found}, not {wanted}"
    for side, script in (("agent", played.agent), ("user", played.user)):
        if f"{side}_view" in line and script.view(played.names) != _silent(line[f"{side}_view"]):
            yield f"the {side}'s model saw {script.view(played.names)}, not {line[f'{side}_view']}"
    if "left" in line and line["left"] != [played.agent.left, played.user.left]:
        yield f"left {played.agent.left} and {played.user.left} answers, not {line['left']}"
    if "evaluate_raises" not in line and played.episode.reward != line["reward"]:
        yield f"reward {played.episode.reward}, not {line['reward']}: {played.episode.parts}"


def _silent(view: list[list[list[Any]]]) -> list[list[list[Any]]]:
    """A recorded view in which messages with calls and an empty text have none."""
    return [[[role, text or None, *calls] if calls else [role, text] for role, text, *calls in seen] for seen in view]


def _as_ours(message: Recording, played: Played) -> Recording:
    """A recorded message without what is recorded elsewhere or by nobody."""
    kept = {name: value for name, value in message.items() if value is not None}
    if "calls" in kept:
        kept.pop("content", None)  # text beside calls, which nobody hears
    if message["role"] == "tool" and message["id"] not in played.names.values():
        kept.pop("error")
    return kept


def _without_stop(wanted: list[Recording], found: list[Recording]) -> list[Recording]:
    """Recorded messages with the call `done` of an agent alone, in whose place the release records a text."""
    if found and found[-1].get("role") == "tool" and found[-1]["content"] == "###STOP###":
        return [*wanted[:-1], *found[-2:]]
    return wanted


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache, built from the raw data, with the greeting of the recordings."""
    greeted = (line for line in episodes() if line["domain"] == "telecom" and "user" in line and "messages" in line)
    return build_cache(tmp_path_factory.mktemp("tau2"), next(greeted)["messages"][0]["content"])


def episodes() -> list[Recording]:
    """The recorded episodes that can be played here."""
    return [line for line in read_recordings("tau2_episodes.jsonl.gz") if set(line["options"]) <= set(OPTIONS)]


def world_of(line: Recording, cache: Path) -> Tau2Domain:
    """The world of an episode; an agent that plays alone has no user's answers."""
    domain: DomainName = line["domain"]
    return WORLDS[domain](cache=cache, solo="user" not in line)


def task_in(world: Tau2Domain, line: Recording) -> Task | None:
    """The task of an episode, which may be an edited one; None if the world refuses it."""
    if isinstance(line["task"], dict):
        return task_of(world.name, world.splits[-1], cast("Recording", line["task"]))
    found = (task for split in world.splits for task in world.tasks(split))
    return next((task for task in found if task.id == line["task"]), None)


@pytest.mark.parametrize("domain", WORLDS)
def test_users_have_the_release_s_prompt(domain: DomainName, cache: Path) -> None:
    world = WORLDS[domain](cache=cache)
    user = Tau2User(ScriptedModel(Script([])), world)
    tasks = {task.id: task for split in world.splits for task in world.tasks(split)}
    prompts = recorded_prompts()[domain]["user_system"]
    for name, prompt in prompts.items():
        specs = world.tools().start(StartTools(tasks[name])).user_specs
        assert user.prompt(bool(specs)).fill(instruction=tasks[name].instructions) == prompt
    assert prompts


def test_episodes_are_those_of_the_release(cache: Path) -> None:
    wrong = anyio.run(_all_differences, cache)
    assert not wrong, f"{len(wrong)} differences; the first of them:\n" + "\n".join(wrong[:50])


async def _all_differences(cache: Path) -> list[str]:
    wrong: list[str] = []
    states: set[tuple[str, str]] = set()
    for line in episodes():
        if "raises" in line:
            continue
        world = world_of(line, cache)
        task, place = task_in(world, line), f"{line['episode']} ({line['scenario']})"
        assert task is not None, f"no task of {place}"
        if line["steps"] == 0 and not world.solo:  # the earlier messages end the conversation
            with pytest.raises(DataCorrupt, match="the user has ended the conversation"):
                await play(world, task, line)
            continue
        played = await play(world, task, line)
        wrong += [f"{place}: {what}" for what in differences(line, played)]
        hash = " ".join([line["domain"], *filter(None, line["db_hash"])])
        states.add((hash, f"{line['domain']} {state_digest(played.state)}"))
    if not wrong:
        expect_one_to_one(states)
    return wrong


def test_where_the_release_raises_nothing_is_scored_as_if_it_had_been_played(cache: Path) -> None:
    anyio.run(_after_raises, cache)


async def _after_raises(cache: Path) -> None:
    for line in episodes():
        if "raises" in line:
            found = await _after_a_raise(world_of(line, cache), line)
            assert found in AFTER_A_RAISE, f"{line['episode']} ({line['scenario']}): {found} after {line['raises']}"


async def _after_a_raise(world: Tau2Domain, line: Recording) -> str:
    task = task_in(world, line)
    if task is None:
        return "refused"
    try:
        played = await play(world, task, line)
    except DataCorrupt:
        return "refused"
    noted = any(row.author == "tool" and parse_message(row.message).role == "user" for row in played.rows)
    return "asked again" if noted else played.episode.outcome
