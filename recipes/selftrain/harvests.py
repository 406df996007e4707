"""Harvests that cost equally many tokens, and conversations of a control on the tasks of a harvest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from simkit.components.cast import Cast
from simkit.core.tasks import Task
from simkit.data.examples import ExampleSet
from simkit.run.run import Run
from simkit.search.base import Search
from simkit.search.rollout import Rollout

TOKENS = """
    select episode_id, sum(coalesce(prompt_tokens, 0) + coalesce(completion_tokens, 0))
    from model_calls join episodes using (episode_id)
    where run_id = ? and role in ('agent', 'user') group by 1
"""
"""Tokens of each episode: prompts and completions of all calls of the agent's and the user's models."""

FIRST, CAUTION = 0.125, 0.9
"""Share of the goals that are played before their tokens are counted, and of those that seem to be left afterwards."""


async def tokens_by_episode(run: Run) -> Mapping[str, int]:
    """The tokens of each episode of a run."""
    return {episode: int(tokens) for episode, tokens in (await run.query(TOKENS, run.id)).rows}


async def play_for(run: Run, search: Search, cast: Cast, goals: Sequence[Task], budget: int) -> int:
    """Play goals in order until they have cost `budget` tokens, and return what they cost.

    An eighth of the goals come first. What they cost tells how many are left; nine tenths of these follow, and so on,
    so the end is about half a goal away from the budget, unless there are too few goals.
    """
    played = spent = 0
    count = max(1, round(FIRST * len(goals)))
    while count and played < len(goals):
        episodes = await run.play(search, cast, goals[played : played + count])
        cost = await tokens_by_episode(run)
        played += count
        spent += sum(cost.get(episode.episode_id, 0) for episode in episodes)
        left = (budget - spent) * played / max(1, spent)
        count = max(0, int(CAUTION * left) or round(left))
    return spent


async def play_tasks_of(run: Run, cast: Cast, rollout: Rollout, goals: Sequence[Task], golden: ExampleSet) -> None:
    """Play one conversation for each golden example, on the example's task."""
    wanted = Counter(example.task_id for example in golden.examples)
    for trial in range(max(wanted.values(), default=0)):
        await run.play(rollout, cast, [goal for goal in goals if wanted[goal.id] > trial])
