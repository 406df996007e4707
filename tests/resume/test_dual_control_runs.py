"""Runs of a world whose user has tools: recorded, resumed, replayed, judged; and of one without a user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from phone_world import Phone

from simkit.core.limits import Limits
from simkit.errors import UsageError
from simkit.models.config import ModelConfig
from simkit.run.choices import CastChoice, TaskChoice
from simkit.run.run import Run
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout
from simkit.store import Store
from simkit.testing import fixed_agent
from simkit.testing.behaviour import Behaviour
from simkit.testing.server import serve
from support.killing import CountingReplies, contents

pytestmark = pytest.mark.anyio

FILE = Path(__file__).parent / "phone_world.py"
WORLD, AGENT, USER = f"{FILE}:Phone", f"{FILE}:PhoneAgent", f"{FILE}:PhoneUser"
JOSH = Josh(BeamSearch(beam=4), Limits(turns=5))


async def play(run: Run, search: Any = JOSH) -> None:
    async with run:
        world = run.world(WORLD)
        await run.play(search, run.cast(world, agent=AGENT, user=USER), run.tasks(world, "test"))


def at(url: str) -> ModelConfig:
    return ModelConfig.of({"model": "openai/load", "base_url": url})


SIDES = """
    select author, side, count(*) > 3 from messages m join tool_calls c using (branch_id, seq) group by all order by all
"""


async def test_a_run_that_lost_its_end_goes_on_in_the_middle_of_an_answer(tmp_path: Path) -> None:
    """The journal ends between two decisions of a user; no recorded call is made again, and the result is the same."""
    replies, whole = CountingReplies(), tmp_path / "whole"
    async with serve(Behaviour(reply=replies)) as server:
        run = Run(store=whole, models=at(server.base_url), seed=3)
        await play(run)
        calls, expected = replies.counts.total(), contents(whole, run.id)
        lines = (whole / "journals" / run.id / "main.jsonl").read_bytes().splitlines(keepends=True)
        middle = [n for n, line in enumerate(lines) if b'"role":"user","step":1,' in line]
        for end in (middle[0], middle[len(middle) // 2], middle[-1], middle[len(middle) // 3] + 1):
            half = tmp_path / f"half{end}"
            journal = half / "journals" / run.id / "main.jsonl"
            journal.parent.mkdir(parents=True)
            journal.write_bytes(b"".join(lines[:end]))
            replies.counts.clear()
            await play(Run(store=half, resume=run.id))
            recorded = sum(line.startswith(b'{"e":"ModelCall"') for line in lines[:end])
            assert replies.counts.total() == calls - recorded
            assert contents(half, run.id) == expected
    assert Store(whole).query(SIDES).rows == [("tool", "agent", True), ("user_tool", "user", True)]
    assert len(middle) > 4


async def test_a_replay_asks_nothing_and_tells_the_same(tmp_path: Path) -> None:
    replies = CountingReplies()
    async with serve(Behaviour(reply=replies)) as server:
        run = Run(store=tmp_path, models=at(server.base_url), seed=3, name="first")
        await play(run, Rollout(Limits(turns=4)))
    asked = replies.counts.total()
    again = Run.replay("first", store=tmp_path, name="again")
    await play(again, Rollout(Limits(turns=4)))
    assert replies.counts.total() == asked
    query = """
        select author, message, flags from messages where starts_with(episode_id, ?) order by episode_id, seq
    """
    store = Store(tmp_path)
    assert store.query(query, [again.id]).rows == store.query(query, [run.id]).rows


async def test_the_harvest_of_a_tree_has_nothing_of_the_users_calls(tmp_path: Path) -> None:
    async with serve(Behaviour(reply=CountingReplies())) as server:
        run = Run(store=tmp_path, models=at(server.base_url), seed=3)
        await play(run)
    store = Store(tmp_path)
    hits = store.query("select distinct author from rewards r join messages m on m.branch_id = r.branch_id").rows
    assert ("user_tool",) in hits
    golden = store.query("select messages, tools from sft_examples").rows
    assert golden
    for messages, tools in golden:
        assert "press" not in str(messages).replace("Please press a button.", "")
        assert "press" not in str(tools)
        assert "Hi!" in str(messages)
    learned = store.query("select completion from kto_examples union all select chosen from dpo_pairs").rows
    assert learned
    assert all("Hi!" not in str(row) and "press" not in str(row).replace("Please press", "") for row in learned)


# --- the judge --------------------------------------------------------------------------------------------------------


@dataclass
class Verdicts:
    """Answers for the judge's model, and what it was asked."""

    answer: str
    asked: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])

    def __call__(self, body: Mapping[str, Any]) -> str:
        self.asked.append(body)
        return self.answer


@pytest.mark.parametrize(("answer", "reward"), [("yes, very", 1.0), ("no, it shouts", 0.0)])
async def test_a_judge_is_named_by_its_flag(tmp_path: Path, answer: str, reward: float) -> None:
    verdicts = Verdicts(answer)
    async with serve(Behaviour(reply=verdicts)) as server, Run(store=tmp_path) as run:
        cast = CastChoice(agent=f"{FILE}:PressingAgent", judge_model="openai/judge", judge_base_url=server.base_url)
        (episode,) = await TaskChoice(world=f"{WORLD},solo=true", tasks="1").play(run, Rollout(), cast)
    assert episode.reward == reward
    (asked,) = verdicts.asked
    assert (asked["model"], asked["temperature"]) == ("judge", 0.0)
    role = (
        Store(tmp_path)
        .query("select role, branch_id = final_branch_id from model_calls join episodes using (episode_id)")
        .rows
    )
    assert role == [("judge", True)]
    parts = Store(tmp_path).query("select parts from episodes").rows[0][0]
    assert answer.partition(", ")[2] in str(parts)


async def test_a_judge_that_no_reward_asks_is_refused(tmp_path: Path) -> None:
    async with Run(store=tmp_path) as run:
        cast = CastChoice(judge_model="scripted/yes")
        with pytest.raises(UsageError, match=r"--judge-model scripted/yes would not be asked: the reward `goal_calls`"):
            await TaskChoice(tasks="1").play(run, Rollout(), cast)


# --- nobody -----------------------------------------------------------------------------------------------------------


async def test_a_world_without_a_user_is_played_by_nobody(tmp_path: Path) -> None:
    async with Run(store=tmp_path) as run:
        cast = run.cast(Phone(solo=True), agent=fixed_agent([("unlock", {}), ("press", {"button": "a"}), "Done."]))
        assert cast.user.name == "none"
        (episode, _) = await run.play(Rollout(Limits(steps=4)), cast, Phone(solo=True).tasks("test"))
    assert (episode.outcome, episode.calls) == ("decision_limit", 2)


def test_nobody_plays_no_world_with_a_user(tmp_path: Path) -> None:
    from simkit.users.nobody import NobodyUser

    with pytest.raises(UsageError, match="the user `none` is for worlds in which the agent works alone"):
        NobodyUser(Phone())
