"""The agents that ask a model, in whole conversations on a real world with the real supervisors and store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simkit import Run
from simkit.agents.commands import CallCommand, SpeakCommand, render
from simkit.agents.function_calling import FunctionCallingAgent
from simkit.agents.json_replies import write_reply
from simkit.agents.react import ReactAgent
from simkit.components.agent import Agent
from simkit.components.world import World
from simkit.core.limits import Limits
from simkit.core.messages import AssistantMessage, ToolCall
from simkit.core.tasks import Task
from simkit.errors import UsageError
from simkit.models import Answer, CallKey, ChatRequest, Sampling, ScriptedModel
from simkit.models.base import SampledModel
from simkit.monitoring.doctor import diagnose
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout
from simkit.store import Store

pytestmark = pytest.mark.anyio

SEARCH = Josh(BeamSearch(beam=2), Limits(steps=12))


class Knows:
    """A model that was told the task: it makes the calls of the goals in the first turn, one a step, then talks.

    Only branches at paths that end with `L` make them. In branches whose path ends with a letter of `slips`, the first
    answer of every turn is one nobody can act on.
    """

    def __init__(self, tasks: tuple[Task, ...], *, react: bool, slips: str = "") -> None:
        self._goals = {task.id: [dict(goal.detail) for goal in task.goals] for task in tasks}
        self._react, self._slips = react, slips

    def script(self, request: ChatRequest, key: CallKey) -> Answer:
        goals = self._goals[key.turn.task_id]
        step = key.call - key.turn.path.endswith(tuple(self._slips))
        if step < 0:
            return "" if not self._react else "no command at all"
        lucky = key.turn.path.endswith("L")
        if key.turn.turn == 1 and step < len(goals) and lucky:
            return self._call(goals[step], step)
        return self._say("Anything else?")

    def _call(self, goal: dict[str, Any], step: int) -> Answer:
        name, parameters = str(goal["tool"]), dict(goal["parameters"])
        if self._react:
            return render([CallCommand(name, parameters)])
        return AssistantMessage.of(None, (ToolCall.of(f"random-{step}", name, parameters),))

    def _say(self, text: str) -> Answer:
        return render([SpeakCommand(text)]) if self._react else text


def agent_of(kind: str, world: World, count: int, *, slips: str = "", temperature: float = 1.0) -> Agent:
    tasks = tuple(world.tasks("test")[:count])
    model = ScriptedModel(Knows(tasks, react=kind == "react", slips=slips).script)
    sampled = SampledModel(model, Sampling(temperature=temperature))
    return ReactAgent(sampled) if kind == "react" else FunctionCallingAgent(sampled)


KINDS = pytest.mark.parametrize("kind", ["function_calling", "react"])


@KINDS
async def test_a_tree_is_searched_and_harvested(kind: str, tmp_path: Path) -> None:
    async with Run(store=tmp_path, seed=3) as run:
        world = run.world("builtin")
        cast = run.cast(world, agent=agent_of(kind, world, 2))
        episodes = await run.play(SEARCH, cast, run.tasks(world, "test", 2))
        sft = await run.query("FROM sft_examples SELECT messages")
        kto = await run.query("FROM kto_examples SELECT label, count(*) GROUP BY ALL ORDER BY ALL")
    assert [episode.reward for episode in episodes] == [1.0, 1.0]
    assert len(sft.rows) == 2
    assert {label for label, _ in kto.rows} == {False, True}
    assert ("APIRETURN" in str(sft.rows)) is (kind == "react")


@KINDS
async def test_an_answer_nobody_can_act_on_is_recorded_and_never_harvested(kind: str, tmp_path: Path) -> None:
    async with Run(store=tmp_path, seed=3) as run:
        world = run.world("builtin")
        cast = run.cast(world, agent=agent_of(kind, world, 1, slips="LR"))
        (episode,) = await run.play(SEARCH, cast, run.tasks(world, "test", 1))
        notes = await run.query(
            "FROM messages SELECT DISTINCT role, heard WHERE author = 'tool' AND content LIKE 'ERROR: y%'"
        )
        examples = await run.query("FROM sft_examples SELECT count(*)")
    assert episode.reward == 1.0
    assert notes.rows == [("user", None)]
    assert examples.rows == [(0,)]


@KINDS
async def test_an_empty_answer_of_a_losing_branch_is_no_example(kind: str, tmp_path: Path) -> None:
    async with Run(store=tmp_path, seed=3) as run:
        world = run.world("builtin")
        cast = run.cast(world, agent=agent_of(kind, world, 1, slips="R"))
        await run.play(SEARCH, cast, run.tasks(world, "test", 1))
        losing = await run.query("FROM kto_examples SELECT completion ->> '$[0].content' WHERE NOT label")
        winning = await run.query("FROM sft_examples SELECT count(*)")
    assert winning.rows == [(1,)]
    assert losing.rows == ([("no command at all",)] if kind == "react" else [])


@KINDS
async def test_one_seed_gives_one_record(kind: str, tmp_path: Path) -> None:
    rows: list[object] = []
    for folder in ("a", "b"):
        async with Run(store=tmp_path / folder, seed=3) as run:
            world = run.world("builtin")
            await run.play(Rollout(), run.cast(world, agent=agent_of(kind, world, 2)), run.tasks(world, "test", 2))
            found = await run.query(
                "FROM messages SELECT message, heard ORDER BY episode_id[-10:], branch_id[-5:], seq"
            )
            rows.append(found.rows)
    assert rows[0] == rows[1]


@KINDS
async def test_josh_refuses_an_agent_at_temperature_0(kind: str, tmp_path: Path) -> None:
    async with Run(store=tmp_path, seed=3) as run:
        world = run.world("builtin")
        cast = run.cast(world, agent=agent_of(kind, world, 1, temperature=0.0))
        with pytest.raises(UsageError, match="temperature"):
            await run.play(SEARCH, cast, run.tasks(world, "test", 1))


async def test_doctor_says_that_an_endpoint_ignored_the_schema(tmp_path: Path) -> None:
    """Half of the replies are plain text, as from a server that does not know `response_format`."""
    formed = write_reply("I ask.", SpeakCommand("Anything else?"))

    def script(request: ChatRequest, key: CallKey) -> Answer:
        assert request.response_format is not None
        return formed if key.call else "Anything else?"

    async with Run(store=tmp_path, seed=1, name="ignored") as run:
        world = run.world("builtin")
        cast = run.cast(world, agent=ReactAgent(ScriptedModel(script), constrained=True))
        await run.play(Rollout(Limits(turns=2)), cast, run.tasks(world, "test", 1))
    advice = diagnose(Store(tmp_path), "ignored").advice
    assert [line for line in advice if "the endpoint ignored `response_format`" in line]
