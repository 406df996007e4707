"""The world can be played, and its judge tells a kind clerk from a plain one: `pytest` here."""

from pathlib import Path

from players import KindClerk, WordJudge

from simkit.agents.solution import SolutionAgent
from simkit.components.world import WORLD
from simkit.plugins.loading import load
from simkit.rewards.task_goals import TaskGoals
from simkit.testing.worlds import check_world_folder

FOLDER = Path(__file__).parent


def test_the_tasks_can_be_solved() -> None:
    """Every task can be solved but for what a judge says, and the tools keep branches apart."""
    check_world_folder(FOLDER)


def test_who_does_the_right_thing_without_an_apology_gets_less(simkit_play) -> None:
    """The plain clerk loses the weight of the apology: one of three, and one of three."""
    world = load(WORLD, str(FOLDER))
    reward = TaskGoals(world, WordJudge())
    plain = simkit_play(SolutionAgent(world, error_rate=0.0), world=world, reward=reward, tasks=2)
    kind = simkit_play(KindClerk(world, error_rate=0.0), world=world, reward=reward, tasks=2)
    assert [round(value, 3) for value in plain.rewards] == [0.667, 0.667]
    assert kind.rewards == [1.0, 1.0]
