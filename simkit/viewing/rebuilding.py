"""Requests of model calls, built again by the component that built them, and checked against the recorded hash.

A component is asked as in the run, from the beginning of the conversation on: its model answers from the record, and
keeps each request. Messages and tools are thus made by the code that made them then; the settings are recorded. Only
installed components are asked: a store can come from anybody, so no code that it names is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import orjson

from simkit.components.agent import Act, StartAgent
from simkit.components.user import Speak
from simkit.components.world import World, load_world
from simkit.core.conversation import Conversation, Entry
from simkit.core.ids import TurnKey
from simkit.core.messages import ToolSpec, parse_message
from simkit.core.tasks import Goal, Task
from simkit.errors import ModelFault, NotRebuilt, SimkitError
from simkit.models.base import CallKey, ChatRequest, ChatResponse, request_hash, settings_json
from simkit.models.config import ModelConfig
from simkit.models.middleware.request_digest import difference
from simkit.plugins.component_paths import BaseFolders
from simkit.plugins.loading import available, parse_reference
from simkit.run.casting import CastRequest, ModelRequest, build_agent, build_user
from simkit.store import Reader
from simkit.viewing.values import parsed_list, parsed_object

Place: TypeAlias = tuple[str, int, str, int]
"""Where a call was made: path, turn, role, and its number within the turn."""

PATIENCE = 10.0
"""Seconds that components may take."""


@dataclass(frozen=True, slots=True)
class RebuiltRequest:
    """A request that was built again; `difference` says how it is not the recorded one, empty if it is.

    `request` is None where it differs and holds files, which may be others than those of the run.
    """

    request: Mapping[str, Any] | None
    difference: str


def rebuild(reader: Reader, episode: str, row: Mapping[str, Any]) -> RebuiltRequest:
    """Build the request of a model call again; `row` is its row in `model_calls`.

    Raises:
        NotRebuilt: it cannot be; the message says why.
    """
    recorded = parsed_object(row["request"])
    if "digest" not in recorded:
        raise NotRebuilt("this call was recorded without a digest of its request")
    if row["role"] == "judge":
        raise NotRebuilt("requests of judges are not built again; --record-requests stores them")
    talk = _Talk.read(reader, episode, row["branch_id"])
    settings = orjson.dumps(recorded["digest"].get("settings") or {}, option=orjson.OPT_SORT_KEYS)
    place = (talk.path, talk.turn, str(row["role"]), int(row["step"]))
    found = talk.request(place, str(row["model"]))
    request = orjson.loads(found.to_json(str(row["model"]), orjson.loads(settings)))
    if request_hash(str(row["model"]), found, settings) == row["request_hash"]:
        return RebuiltRequest(request, "")
    if "target" not in talk.config:
        raise NotRebuilt("the run was started by a program that chose its players; --record-requests stores requests")
    shown = None if talk.names_files(place) else request  # the files of somebody else's store are nobody's to show
    return RebuiltRequest(shown, _difference(recorded, found, str(row["model"])))


def _difference(recorded: Mapping[str, Any], found: ChatRequest, model: str) -> str:
    """How messages and tools differ; settings are taken from the record."""
    digest = {**recorded["digest"], "settings": orjson.loads(settings_json(found))}
    return difference({"digest": digest}, found, model)


@dataclass(slots=True)
class _RecordedAnswers:
    """A model that answers from the record and keeps every request."""

    name: str
    answers: Mapping[Place, ChatResponse | str]
    asked: dict[Place, ChatRequest] = field(default_factory=dict[Place, ChatRequest])

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        """The recorded answer.

        Raises:
            ModelFault: there is none.
        """
        place = (key.turn.path, key.turn.turn, key.role, key.call)
        self.asked.setdefault(place, request)
        answer = self.answers.get(place, "this call was not answered")
        if isinstance(answer, str):
            raise ModelFault(answer)
        return answer


@dataclass(frozen=True, kw_only=True)
class _Talk:
    """What was recorded of one branch, from the root on.

    Attributes:
        config: configuration of the run, with the agent that was chosen for its model.
        entries: its conversation, each entry with the path of the branch that added it.
    """

    config: Mapping[str, Any]
    seed: int
    task: Task
    trial: int
    path: str
    turn: int
    entries: Sequence[tuple[str, Entry]]
    tools: tuple[ToolSpec, ...]
    user_tools: tuple[ToolSpec, ...]
    answers: Mapping[Place, ChatResponse | str]

    @classmethod
    def read(cls, reader: Reader, episode: str, branch: str) -> _Talk:
        """Read everything about a branch."""
        (facts,) = reader.rows(_FACTS, {"episode": episode})
        config = dict(parsed_object(facts["config"]))
        if facts["agent"] is not None:
            config["agent"] = facts["agent"]
        path, _, turn = branch.removeprefix(f"{episode}/").rpartition(".")
        begin = f"{episode}/"
        return cls(
            config=config,
            seed=int(facts["seed"]),
            task=_task(facts),
            trial=facts["trial"],
            path=path,
            turn=int(turn),
            entries=[
                (row["branch_id"].removeprefix(begin).rpartition(".")[0], _entry(row))
                for row in reader.rows(_ENTRIES, [_upward(reader, branch)])
            ],
            tools=_specs(facts["tools"]),
            user_tools=_specs(facts["user_tools"]),
            answers=dict(_answers(reader, episode)),
        )

    @cached_property
    def folders(self) -> BaseFolders:
        """Where the run's relative file names begin."""
        return BaseFolders.recorded(self.config)

    def names_files(self, place: Place) -> bool:
        """Whether the component that made a call was given files."""
        name = self.config.get(_player(place))
        return name is not None and _check(_player(place), str(name), self.folders)

    def request(self, place: Place, model: str) -> ChatRequest:
        """The request at a place, from the component that made it.

        Raises:
            NotRebuilt: it cannot be built again.
        """
        asked = _RecordedAnswers(model, self.answers)
        try:
            anyio.run(self._ask, place, asked)
        except NotRebuilt:
            raise
        except (SimkitError, TimeoutError) as error:
            if place not in asked.asked:
                reason = str(error) or f"the component took longer than {PATIENCE:.0f} seconds"
                raise NotRebuilt(f"its component cannot be asked again: {reason}") from error
        except Exception as error:  # a component of somebody else: whatever it raises is a reason
            if place not in asked.asked:
                raise NotRebuilt(f"its component failed: {type(error).__name__}: {error}") from error
        if place not in asked.asked:
            raise NotRebuilt("its component did not make this call again")
        return asked.asked[place]

    async def _ask(self, place: Place, asked: _RecordedAnswers) -> None:
        if (name := self.config.get(_player(place))) is not None:
            _check(_player(place), str(name), self.folders)
        world, task = self._world()
        request = CastRequest(agent=self.config.get("agent"), user=self.config.get("user"), folders=self.folders)
        models = ModelRequest(
            config=ModelConfig.of(self.config), open=lambda spec, config: asked, agent=lambda agent, model: agent
        )
        with anyio.fail_after(PATIENCE):
            if _player(place) == "agent":
                await self._ask_agent(world, request, models, place, asked)
            else:
                await self._ask_user(world, task, request, models, place, asked)

    def _world(self) -> tuple[World, Task]:
        """The world, and the task as it has it: with what a record lacks."""
        name = str(self.config.get("world") or self.task.world)
        _check("world", name, self.folders)
        world = load_world(name, self.folders.of(name), variant=self.config.get("variant"))
        own = (task for task in world.tasks(self.task.split) if task.id == self.task.id)
        return world, next(own, self.task)

    async def _ask_agent(
        self, world: World, wanted: CastRequest, models: ModelRequest, place: Place, asked: _RecordedAnswers
    ) -> None:
        """Ask the agent for all its decisions up to the one in question: its state may come from them."""
        agent = build_agent(world, wanted, models)
        start = agent.start(StartAgent(self.tools, ""))
        state = start.state
        for decision in self._decisions(place):
            state = (await agent.act(self._act(*decision, state=state))).state

    def _act(self, path: str, turn: int, step: int, before: int, *, state: Any) -> Act[Any]:
        conversation = Conversation(entry for _, entry in self.entries[:before])
        return Act(self._key(path, turn), conversation, self.tools, state, step)

    def _decisions(self, place: Place) -> list[tuple[str, int, int, int]]:
        """The agent's decisions up to a place: path, turn, step, and the number of entries before it."""
        found: list[tuple[str, int, int, int]] = []
        for number, (path, entry) in enumerate(self.entries):
            if entry.author != "agent" or not entry.turn:
                continue
            if (entry.turn, entry.step) >= (place[1], place[3]):
                return [*found, (place[0], place[1], place[3], number)]
            found.append((path, entry.turn, entry.step, number))
        return [*found, (place[0], place[1], place[3], len(self.entries))]

    async def _ask_user(
        self,
        world: World,
        task: Task,
        wanted: CastRequest,
        models: ModelRequest,
        place: Place,
        asked: _RecordedAnswers,
    ) -> None:
        """Ask the user for all its utterances up to the one in question: its state comes from them."""
        if self.user_tools:
            raise NotRebuilt("requests of users with tools are not built again; --record-requests stores them")
        user = build_user(world, wanted, models)
        state: Any = None
        for path, turn, before in self._utterances(place):
            conversation = Conversation(entry for _, entry in self.entries[:before])
            said = await user.speak(Speak(self._key(path, turn), task, conversation, state))
            state = said.state

    def _utterances(self, place: Place) -> Iterator[tuple[str, int, int]]:
        """The user's utterances up to a place: path, turn, and the number of entries before each."""
        for number, (path, entry) in enumerate(self.entries):
            if entry.author == "user" and entry.turn <= place[1]:
                yield path, entry.turn, number
        if not any(entry.author == "user" and entry.turn == place[1] for _, entry in self.entries):
            yield place[0], place[1], len(self.entries)

    def _key(self, path: str, turn: int) -> TurnKey:
        return TurnKey(self.seed, self.task.id, self.trial, path, turn)


def _check(role: str, name: str, folders: BaseFolders) -> bool:
    """Refuse what is not an installed component; returns whether its options name files, which must be plain ones.

    Raises:
        NotRebuilt: it is not installed, or a file is gone or is not a plain one.
    """
    group = {"world": "simkit.worlds", "agent": "simkit.agents", "user": "simkit.users"}[role]
    reference = parse_reference(name)
    if reference.target.partition(":")[0] not in available(group):
        raise NotRebuilt(
            f"the {role} `{name}` is not installed here, and the viewer runs no code that a store names; "
            "--record-requests stores requests"
        )
    files = {option: value for option, value in reference.options.items() if _FILE.search(value)}
    for option, value in files.items():
        path = (folders.of(name) or Path()) / value
        if not path.is_file() or path.stat().st_size > LARGEST:
            raise NotRebuilt(f"the {role}'s {option} is the file `{value}`, which is not here, or not a plain file")
    return bool(files)


_FILE = re.compile(r"[/\\]|[^0-9.+-]\.|\.[^0-9]")
"""What only a file's name has among the options of a component."""

LARGEST = 64 << 20
"""Bytes of a file of prompts or examples that is read."""


def _player(place: Place) -> str:
    return "agent" if place[2] == "agent" else "user"


def _task(facts: Mapping[str, Any]) -> Task:
    goals = parsed_list(facts["goals"])
    return Task(
        id=facts["task_id"],
        world=facts["world"] or "",
        split=facts["split"] or "",
        instructions=facts["instructions"] or "",
        goals=tuple(Goal(goal["key"], goal.get("detail") or {}, goal.get("weight", 1.0)) for goal in goals),
    )


def _specs(text: str | None) -> tuple[ToolSpec, ...]:
    return tuple(ToolSpec.model_validate(each) for each in parsed_list(text))


def _entry(row: Mapping[str, Any]) -> Entry:
    message = parse_message(parsed_object(row["message"]))
    return Entry(message, row["author"], row["turn"], row["step"], row["heard"])


def _upward(reader: Reader, branch: str) -> str:
    """The branch, or the one that its conversation had reached if nothing of it was recorded (a fault)."""
    if reader.rows("SELECT 1 AS there FROM branches WHERE branch_id = ?", [branch]):
        return branch
    raise NotRebuilt("the branch of this call was not recorded")


def _answers(reader: Reader, episode: str) -> Iterator[tuple[Place, ChatResponse | str]]:
    """The last answer at each place of an episode, or the error that was all there was."""
    for row in reader.rows(_ANSWERS, {"episode": episode}):
        path, _, turn = row["branch_id"].removeprefix(f"{episode}/").rpartition(".")
        place = (path, int(turn), row["role"], row["step"])
        if row["response"] is None:
            yield place, row["error"] or "this call was not answered"
        else:
            yield place, ChatResponse.from_json(orjson.loads(row["response"]))


_FACTS = """
SELECT
    r.config, r.seed, e.task_id, e.trial, t.world, t.split, t.instructions, CAST(t.goals AS VARCHAR) AS goals,
    CAST(s.tools AS VARCHAR) AS tools, CAST(u.tools AS VARCHAR) AS user_tools,
    (
        SELECT any_value(sent_as) FROM endpoint_adjustments a
        WHERE a.run_id = e.run_id AND a.adjustment = 'agent'
    ) AS agent
FROM episodes e
JOIN runs r USING (run_id)
LEFT JOIN tasks t ON t.run_id = e.run_id AND t.task_id = e.task_id
LEFT JOIN toolsets s ON s.toolset_id = e.toolset_id
LEFT JOIN toolsets u ON u.toolset_id = e.user_toolset_id
WHERE e.episode_id = $episode
"""

_ENTRIES = """
SELECT branch_id, turn, step, author, heard, CAST(message AS VARCHAR) AS message FROM conversation(?) ORDER BY seq
"""

_ANSWERS = """
SELECT branch_id, role, step, CAST(response AS VARCHAR) AS response, error
FROM model_calls WHERE episode_id = $episode AND branch_id IS NOT NULL
ORDER BY response IS NOT NULL, called_at, attempt
"""
