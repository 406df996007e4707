"""A search of ours retold in the terms of the golden recordings, step by step, so that equal means equal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from stub import DIED, REJECTED, RecordedReward, RecordedTools, StubAgent, StubUser, Trace

from simkit.actors.scope import open_scope
from simkit.components.cast import Cast
from simkit.components.reward import Reward
from simkit.components.tools import ToolServer
from simkit.core.events import BranchAdded, BranchEnded, BranchExtended, Episode, Event, TreeHarvested
from simkit.core.limits import Limits
from simkit.core.recorder import MemoryRecorder, Recorder
from simkit.core.records import MessageRow
from simkit.core.tasks import Task
from simkit.search.base import NoWatch, WorkUnit
from simkit.search.josh import BeamSearch, Josh

Json = dict[str, Any]
RETRIES = "Error: Agent ran out of retries."


@dataclass(frozen=True)
class Setting:
    """What a search is run with: the stub's own players where nothing else is said."""

    faults: bool = False
    tools: ToolServer | None = None
    reward: Reward | None = None
    task: Task | None = None


async def search(trace: Trace, setting: Setting | None = None) -> Retold:
    """Run one recorded search again, with our supervisor."""
    recorder = MemoryRecorder()
    episode = await record_search(trace, recorder, setting)
    return Retold(trace, episode, recorder.events)


async def record_search(trace: Trace, recorder: Recorder, setting: Setting | None = None) -> Episode:
    """The same, told to a recorder."""
    setting = setting or Setting()
    beam = BeamSearch(beam=trace.data["beam_size"], winner="earliest" if trace.style == "single" else "first")
    josh = Josh(beam, Limits(turns=15, steps=trace.decisions))
    async with open_scope() as scope:
        cast = Cast(
            agent=scope.spawn(StubAgent(trace, faults=setting.faults)),
            user=scope.spawn(StubUser(trace)),
            tools=scope.spawn(setting.tools or RecordedTools(trace)),
            reward=scope.spawn(setting.reward or RecordedReward(trace)),
        )
        return await josh.play(cast, WorkUnit(trace.name, 0, setting.task or trace.task()), recorder, NoWatch())


class Retold:
    """The events of one search, in the words of the recording."""

    def __init__(self, trace: Trace, episode: Episode, events: Sequence[Event]) -> None:
        self.trace = trace
        self.episode = episode
        self.branches = [event for event in events if isinstance(event, BranchAdded)]
        self.by_id = {branch.branch_id: branch for branch in self.branches}
        self.ends = {event.branch_id: event.outcome for event in events if isinstance(event, BranchEnded)}
        self.answers = {event.branch_id: event.messages for event in events if isinstance(event, BranchExtended)}
        self.harvests = {
            self.by_id[event.winner_id].turn: event for event in events if isinstance(event, TreeHarvested)
        }

    @cached_property
    def steps(self) -> list[Json]:
        """One entry per step, as `expected_steps` has it."""
        last = max(branch.turn for branch in self.branches)
        remaining = [goal["name"] for goal in self.trace.data["goals"]]
        steps: list[Json] = []
        for turn in range(1, last + 1):
            for goal in self.harvests[turn].goals if turn in self.harvests else ():
                remaining.remove(goal)
            steps.append(self._step(turn, sorted(remaining)))
        return steps

    def _step(self, turn: int, remaining: list[str]) -> Json:
        played = [branch for branch in self.branches if branch.turn == turn]
        total = len(self.trace.data["goals"])
        before = list(dict.fromkeys(self.by_id[branch.parent_id or ""].path for branch in played))
        live = [branch.path for branch in played]
        step: Json = {
            "live_before": before,
            "expanded": live != before,
            "live": live,
            "actions": {branch.path: actions_of(branch) for branch in played},
            "earned": {branch.path: sorted(row.goal for row in branch.rewards) for branch in played},
            "remaining": remaining,
            "reward": (total - len(remaining)) / total,
            "collapse": self._collapse(turn),
            "live_after_agents": self._live_after_agents(turn, played),
        }
        if remaining:
            spoken = [branch for branch in played if branch.branch_id in self.answers]
            step["users"] = {branch.path: self.ends.get(branch.branch_id) == "user_ended" for branch in spoken}
            step["live_after_users"] = [branch.path for branch in spoken if self._lives(branch)]
        return step

    def _lives(self, branch: BranchAdded) -> bool:
        return self.ends.get(branch.branch_id) in {None, "turn_limit"}

    def _live_after_agents(self, turn: int, played: Sequence[BranchAdded]) -> list[str]:
        return [branch.path for branch in played if branch.outcome in {None, "goals_done"}]

    def _collapse(self, turn: int) -> Json | None:
        harvest = self.harvests.get(turn)
        if harvest is None:
            return None
        winner = self.by_id[harvest.winner_id]
        return {
            "target": winner.path,
            "target_over": winner.outcome not in {None, "goals_done"},
            "deleted": sorted(harvest.goals),
            "golden_path": sorted({self.by_id[name].path for name in harvest.golden}),
            "successful": sorted({self.by_id[name].path for name in harvest.successful}),
            "tree": [branch.path for branch in self._tree(harvest)],
        }

    def _tree(self, harvest: TreeHarvested) -> list[BranchAdded]:
        """The nodes of the release's tree, preorder: the last branch of every path under the harvest's root."""
        root, turn = harvest.golden[0], self.by_id[harvest.winner_id].turn
        inside, last = {root}, {self.by_id[root].path: self.by_id[root]}
        for branch in self.branches:
            if branch.parent_id in inside and branch.turn <= turn:
                inside.add(branch.branch_id)
                last[branch.path] = branch
        return [last[path] for path in sorted(last)]

    @cached_property
    def examples(self) -> list[tuple[list[Json], bool, bool]]:
        """The release's training examples: all nodes of all harvested trees, without repeats."""
        found: list[tuple[list[Json], bool, bool]] = []
        for harvest in self.harvests.values():
            successful = {self.by_id[name].path for name in harvest.successful}
            golden = {self.by_id[name].path for name in harvest.golden}
            for branch in self._tree(harvest):
                answered = branch.branch_id != harvest.winner_id
                history = trimmed(self.history(branch, answered=answered))
                example = (history, branch.path in successful, branch.path in golden)
                if example not in found:
                    found.append(example)
        return found

    def history(self, branch: BranchAdded, *, answered: bool = True) -> list[Json]:
        """What the agent's model has seen at the end of a branch, the user's answer included if `answered`."""
        rows = list(branch.messages)
        if answered:
            rows.extend(self.answers.get(branch.branch_id, ()))
        before = [] if branch.parent_id is None else self.history(self.by_id[branch.parent_id])
        return before + [comparable(row.message) for row in kept(rows)]

    @cached_property
    def leaves(self) -> dict[str, list[Json]]:
        """The conversations of the leaves of the last tree, dead ones too, by path."""
        harvests = list(self.harvests.values())
        if not self.episode.goals or len(self.episode.achieved) == len(self.episode.goals):
            winner = self.by_id[harvests[-1].winner_id]
            return {winner.path: self.history(winner)}
        inside = {harvests[-1].winner_id if harvests else self.branches[0].branch_id}
        last: dict[str, BranchAdded] = {}
        for branch in self.branches:
            if branch.branch_id in inside or branch.parent_id in inside:
                inside.add(branch.branch_id)
                last[branch.path] = branch
        ends = [path for path in last if not any(other[:-1] == path and other for other in last)]
        return {path: self.history(last[path]) for path in ends}


def actions_of(branch: BranchAdded) -> list[Any]:
    return [[call.name, json.loads(call.arguments)] for call in branch.tool_calls if call.name != REJECTED]


def kept(rows: Iterable[MessageRow]) -> list[MessageRow]:
    """Rows without the runtime's own words (quirk 14) and without the mark of a leaf that died."""
    return [row for row in rows if row.author != "runtime" and row.message.get("content") != DIED]


def comparable(message: Mapping[str, Any]) -> Json:
    """A message in the terms of the recording, which knows no ids of calls in `single`; returns are read as JSON."""
    told = {key: value for key, value in message.items() if not (key == "tool_call_id" and "|" in str(value))}
    text = str(message.get("content"))
    if message["role"] == "tool" or text.startswith("APIRETURN "):
        told["content"] = as_json(text.removeprefix("APIRETURN "))
    return told


def as_json(text: str) -> object:
    """A return as JSON; the release writes a missing field as NaN, we as null."""
    return json.loads(text, parse_constant=lambda name: None)


def trimmed(messages: list[Json]) -> list[Json]:
    """The release's trim: without the user messages at the end, and never without the first message (quirk 15)."""
    end = len(messages)
    while end > 1 and messages[end - 1]["role"] == "user":
        end -= 1
    return messages[:end]


def expected_steps(trace: Trace) -> list[Json]:
    """The recording's steps, in the same words."""
    return [_expected(step, trace) for step in trace.steps]


def _expected(step: Json, trace: Trace) -> Json:
    calls: list[Json] = step["agent_calls"]
    told: Json = {
        "live_before": step["live_before"],
        "expanded": step["expanded"],
        "live": step["live"],
        "actions": {path: [] for path in step["live"]},
        "earned": {path: [] for path in step["live"]},
        "remaining": sorted(step["remaining"]),
        "reward": step["reward"],
        "collapse": None,
        "live_after_agents": step["live_after_agents"],
    }
    for call in calls:
        told["actions"][call["path"]] += [action for action in call["actions"] if action is not None]
        told["earned"][call["path"]] = told["earned"][call["path"]] or sorted(call["reward"])
    if "collapse" in step:
        collapse = step["collapse"]
        names = ("target", "target_over", "tree")
        told["collapse"] = {name: collapse[name] for name in names} | {
            name: sorted(collapse[name]) for name in ("deleted", "golden_path", "successful")
        }
    if step["remaining"]:
        asked = step.get("user_calls", [])
        told["users"] = {call["path"]: call["end"] for call in asked}
        told["live_after_users"] = step.get("live_after_users", [])
    return told


def expected_messages(trace: Trace, indices: Iterable[int]) -> list[Json]:
    """Recorded messages without the words of the release's runtime (quirk 14)."""
    found = [trace.messages[index] for index in indices]
    return [comparable(message) for message in found if message.get("content") != RETRIES]
