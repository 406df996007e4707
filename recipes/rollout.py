"""Evaluate an agent: play every task from start to end and report how often the agent succeeds."""

from __future__ import annotations

from simkit.plugins.recipe import shardable
from simkit.run.choices import CastChoice, TaskChoice
from simkit.run.run import Run
from simkit.run.summary import Summary
from simkit.search.rollout import Rollout


@shardable
async def rollout(
    run: Run,
    *,
    tasks: TaskChoice = TaskChoice(),
    cast: CastChoice = CastChoice(),
) -> Summary:
    """Evaluate an agent: average reward, success rate and pass^k, each with its 95% interval.

    Every task is one conversation between the agent and a simulated user, played to its end without branching.
    Episodes that end in a fault (an exception) are excluded from the averages and counted.

    Examples:

        simkit run rollout --tasks 50
        simkit run rollout --world toolwoz --split test --agent scripted,error_rate=0
        simkit run rollout --tasks 20 --trials 4 --agent my_agent.py:MyAgent
    """
    await tasks.play(run, Rollout(tasks.limits), cast, default_split="test")
    return run.summary()
