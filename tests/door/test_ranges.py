"""Rewards that declare a range of their own: what is refused, what counts as success, in numbers and in SQL."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hostile import Oddity, PlainReward, Ran, players, run

from simkit.actors.scope import open_scope
from simkit.components.reward import EpisodeReward, ScoreEpisode
from simkit.errors import UsageError
from simkit.rewards.composite import Weighted, WeightedRewards
from simkit.run.casting import Players
from simkit.run.summary import summarise
from simkit.search.rollout import Rollout

pytestmark = pytest.mark.anyio

VALUES = {"t0": 10.0, "t1": -10.0, "t2": 1.0, "t3": 10.0 - 1e-9, "t4": 0.0}


class Wide(PlainReward):
    """From -10 to 10."""

    range = (-10.0, 10.0)

    def __init__(self, values: dict[str, float]) -> None:
        super().__init__(Oddity())
        self.values = values

    async def score_episode(self, request: ScoreEpisode) -> EpisodeReward:
        return EpisodeReward(self.values[request.task.id])


def cast(reward: Any) -> Players:
    plain = players(Oddity())
    return Players(agent=plain.agent, user=plain.user, tools=plain.tools, reward=reward)


async def played(folder: Path, values: dict[str, float]) -> Ran:
    return await run(folder, Rollout(), cast(Wide(values)), list(VALUES))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_success_is_the_upper_end_of_the_range_everywhere(tmp_path: Path) -> None:
    ran = await played(tmp_path, VALUES)
    assert [episode.success for episode in ran.episodes] == [True, False, False, True, False]
    summary = summarise(ran.episodes)
    assert summary.success_rate is not None
    assert summary.success_rate.value == pytest.approx(0.4)
    assert summary.reward is not None
    assert summary.reward.value == pytest.approx(11 / 5)
    for view in ("episode_scores", "episode_facts"):
        rows = ran.query(f"SELECT task_id, success FROM {view} ORDER BY task_id")
        assert [row["success"] for row in rows] == [True, False, False, True, False]
    (row,) = ran.query("SELECT success_rate, average_reward FROM run_summary UNION ALL SELECT NULL, NULL LIMIT 1") or [
        {}
    ]
    assert row["success_rate"] is None or row["success_rate"] == pytest.approx(0.4)
    (passed,) = ran.query("SELECT pass_hat_k FROM pass_hat_k")
    assert passed["pass_hat_k"] == pytest.approx(0.4)


@pytest.mark.parametrize("value", [10.1, -10.1, math.nan, math.inf])
async def test_a_declared_range_is_a_range(value: float, tmp_path: Path) -> None:
    ran = await played(tmp_path, {**VALUES, "t2": value})
    assert ran.odd.outcome == "reward_fault"
    assert "from -10 to 10" in str(ran.odd.error)
    assert "range" in str(ran.odd.error)


@pytest.mark.parametrize(("value", "taken"), [(1.0 + 1e-12, 1.0), (-1e-12, 0.0), (sum([0.1] * 3) / 0.3, 1.0)])
async def test_a_rounding_error_is_the_bound_itself(value: float, taken: float, tmp_path: Path) -> None:
    ran = await run(tmp_path, Rollout(), players(Oddity("score_episode", lambda: EpisodeReward(value))))
    assert ran.odd.reward == taken


@pytest.mark.parametrize(
    "declared", [(1.0, 0.0), (0.0, 0.0), (0.0, math.inf), (math.nan, 1.0), (0.0,), "01", None, ("0", "1"), (0.0, 1e-12)]
)
async def test_a_range_that_is_none_is_refused_before_any_work(declared: Any) -> None:
    reward = PlainReward(Oddity())
    reward.range = declared
    async with open_scope() as scope:
        with pytest.raises(UsageError, match="the reward `plain_reward` declares the range"):
            cast(reward).cast(scope)


async def test_a_composition_has_the_mean_of_its_parts_ranges(tmp_path: Path) -> None:
    parts = (Weighted("wide", Wide(VALUES), 1.0), Weighted("plain", PlainReward(Oddity()), 3.0))
    reward = WeightedRewards(*parts)
    assert reward.range == pytest.approx((-2.5, 3.25))
    ran = await run(tmp_path, Rollout(), cast(reward), list(VALUES))
    assert [episode.reward for episode in ran.episodes] == pytest.approx([3.25, -1.75, 1.0, 3.25, 0.75])
    assert [episode.success for episode in ran.episodes] == [True, False, False, True, False]


@pytest.mark.parametrize("weights", [[0.1] * 10, [0.7, 0.1, 0.2], [1 / 3] * 3, [1e-9, 1e9]])
async def test_a_composition_of_full_rewards_is_a_success_whatever_the_weights(
    weights: list[float], tmp_path: Path
) -> None:
    parts = [Weighted(str(number), PlainReward(Oddity()), weight) for number, weight in enumerate(weights)]
    ran = await run(tmp_path, Rollout(), cast(WeightedRewards(*parts)))
    assert all(episode.success for episode in ran.episodes)


@pytest.mark.parametrize("question", ["goals", "score_turn", "score_episode"])
async def test_a_part_that_answers_oddly_is_named(question: str, tmp_path: Path) -> None:
    odd = PlainReward(Oddity(question, lambda: "odd"))
    reward = WeightedRewards(Weighted("fine", PlainReward(Oddity())), Weighted("strange", odd))
    ran = await run(tmp_path, Rollout(), cast(reward))
    assert ran.odd.outcome == "reward_fault"
    assert "the part `strange`" in str(ran.odd.error)
    assert [episode.outcome for episode in ran.others] == ["agent_ended"] * 2
