"""Conversations of a model in training are those of the run that trains it: recorded, with its models and budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from simkit.core.messages import AssistantMessage
from simkit.errors import BudgetExhausted, UsageError
from simkit.models.base import CallKey, ChatRequest, ChatResponse, Tokens, Usage
from simkit.models.config import ModelConfig
from simkit.store import Store
from simkit.training.dev import POLICY, ConversationSetup, DevScore
from simkit.training.guard import Guard
from simkit.training.play import LookRequest, PracticeRequest
from support.training_runs import conversations, job

pytestmark = pytest.mark.anyio

PLACE = ConversationSetup(split="val", tasks="2", max_turns=2)
GUARD = Guard(place=PLACE)


class Talker:
    """A model in training that says which branch it is in."""

    name = "talker"

    def __init__(self) -> None:
        self.asked: list[ChatRequest] = []

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        self.asked.append(request)
        message = AssistantMessage.of(f"I am {key.turn.path}.")
        return ChatResponse(message=message, tokens=Tokens((1,), (2, 3)), logprobs=(-1.0, -2.0), usage=Usage(10, 2))


def practice(step: int, *tasks: str) -> PracticeRequest:
    return PracticeRequest(step=step, rank=0, tasks=tasks, size=2, temperature=0.5)


async def test_the_guards_conversations_are_in_the_store_with_their_step(tmp_path: Path) -> None:
    async with conversations(tmp_path, job(guard=GUARD), Talker()) as ask:
        scores = [await ask(LookRequest(step)) for step in (0, 5)]
    assert all(isinstance(each, DevScore) and each.turns == 2 for each in scores)
    found = Store(tmp_path).query("select role, step, reward from training_conversations order by all")
    assert found.rows == [("guard", 0, 0.0)] * 2 + [("guard", 5, 0.0)] * 2
    calls = Store(tmp_path).query("select role, model, count(*), sum(completion_tokens) from model_calls group by all")
    assert calls.rows == [("agent", "local/in-training", 8, 16)]
    stages = Store(tmp_path).query("select stage, status from run_summary where part_of is not null order by all")
    assert stages.rows == [("guard/step-0", "done"), ("guard/step-5", "done")]


async def test_what_grpo_practises_is_in_the_store_with_its_step_and_reward(tmp_path: Path) -> None:
    tasks = [task.id for task in PLACE.chosen()]
    talker = Talker()
    async with conversations(tmp_path, job(practice=PLACE), talker) as ask:
        first = await ask(practice(0, *tasks, tasks[0]))
        second = await ask(practice(1, tasks[1]))
    assert [len(branch.replies) for branch in first] == [2] * 6
    assert [branch.reward for branch in (*first, *second)] == [0.0] * 8
    assert len({branch.branch_id for branch in (*first, *second)}) == 8
    assert all(request.sampling.temperature == 0.5 for request in talker.asked)
    found = Store(tmp_path).query("select role, step, count(*), sum(reward) from training_conversations group by all")
    assert sorted(found.rows) == [("practice", 0, 6, 0.0), ("practice", 1, 2, 0.0)]


async def test_the_users_model_is_opened_as_in_every_run(tmp_path: Path) -> None:
    place = replace(PLACE, user="goal", user_model="scripted/I want a hotel.|Thank you.")
    models = ModelConfig(user_model=place.user_model)
    async with conversations(tmp_path, job(guard=Guard(place=place)), Talker(), models) as ask:
        await ask(LookRequest(0))
    calls = Store(tmp_path).query("select distinct role, model from model_calls order by all").rows
    assert [role for role, _ in calls] == ["agent", "user"]
    assert calls[0][1] == "local/in-training"
    assert "scripted" in calls[1][1]


async def test_the_model_in_training_is_its_own_user_if_that_is_asked_for(tmp_path: Path) -> None:
    asked = job(guard=Guard(place=replace(PLACE, user="goal", user_model=POLICY)))
    async with conversations(tmp_path, asked, Talker(), ModelConfig(user_model=POLICY)) as ask:
        await ask(LookRequest(0))
    calls = Store(tmp_path).query("select distinct role, model from model_calls order by all").rows
    assert calls == [("agent", "local/in-training"), ("user", "local/in-training")]


def test_a_user_who_is_played_by_a_model_needs_one() -> None:
    with pytest.raises(UsageError, match=r"the user `goal` is played by a model.*--user-model policy"):
        replace(PLACE, user="goal").check_user()
    replace(PLACE, user="goal", user_model=POLICY).check_user()
    PLACE.check_user()


async def measured_twice(store: Path, tokens: int) -> None:
    async with conversations(store, job(guard=GUARD), Talker(), ModelConfig(max_tokens_total=tokens)) as ask:
        for step in (0, 1):
            await ask(LookRequest(step))


async def test_all_measurements_share_the_budget_of_the_run(tmp_path: Path) -> None:
    await measured_twice(tmp_path / "enough", 100_000)
    with pytest.raises(BudgetExhausted):
        await measured_twice(tmp_path / "short", 70)
