"""Evaluate an agent: play every task from start to end and report how often it does what the user wanted."""

from __future__ import annotations

from simkit.core.limits import Limits
from simkit.plugins import flags
from simkit.run.run import Run
from simkit.run.summary import Summary
from simkit.search.rollout import Rollout


async def rollout(
    run: Run,
    *,
    world: flags.World = "builtin",
    variant: flags.Variant = None,
    split: flags.Split = "test",
    tasks: flags.Tasks = "all",
    trials: flags.Trials = 1,
    agent: flags.Agent = None,
    user: flags.User = None,
    reward: flags.Reward = None,
    max_turns: flags.MaxTurns = 15,
) -> Summary:
    """Evaluate an agent: average reward, success rate and pass^k, each with its 95% interval.

    Every task is one conversation between the agent and a simulated user, played to its end; nothing is branched.
    Episodes that end in a fault (something raised) are left out of the averages and counted.

    Examples:

        simkit run rollout --tasks 50
        simkit run rollout --world toolwoz --split test --agent scripted,error_rate=0
        simkit run rollout --tasks 20 --trials 4 --agent my_agent.py:MyAgent
    """
    place = run.world(world, variant=variant)
    cast = run.cast(place, agent=agent, user=user, reward=reward)
    await run.play(Rollout(Limits(turns=max_turns)), cast, run.tasks(place, split, tasks), trials=trials)
    return run.summary()
