from __future__ import annotations

from pathlib import Path

import pytest

from simkit.core.limits import Limits
from simkit.models.config import ModelConfig
from simkit.run.run import Run
from simkit.search.rollout import Rollout
from simkit.testing.behaviour import Behaviour
from simkit.testing.server import serve
from simkit.tools.builtin import BuiltinWorld
from support.dialogue import Dialogue


@pytest.mark.anyio
@pytest.mark.parametrize(("accuracy", "reward"), [(1.0, 1.0), (0.0, 0.0)])
async def test_the_reward_follows_from_the_accuracy(tmp_path: Path, accuracy: float, reward: float) -> None:
    tasks = BuiltinWorld().tasks("train")[:3]
    async with serve(Behaviour(reply=Dialogue(tasks, accuracy=accuracy))) as server, Run(store=tmp_path) as run:
        world = run.world("builtin")
        options = ModelConfig(base_url=server.base_url)
        cast = run.cast(world, agent="function_calling", user="goal", model="openai/load", options=options)
        turns = max(len(task.goals) for task in tasks)
        episodes = await run.play(Rollout(Limits(turns=turns)), cast, run.tasks(world, "train", len(tasks)))
        assert [episode.reward for episode in episodes] == [reward] * len(tasks)


def test_the_answer_follows_from_the_request() -> None:
    task = BuiltinWorld().tasks("train")[0]
    talk = Dialogue([task], accuracy=0.5)
    said = [{"role": "system", "content": f"You want:\n\n{task.instructions}\n\nSay it."}]
    wish = talk({"messages": said, "seed": 1})
    assert wish == f"{task.id}, wish 0: {task.instructions.splitlines()[0]}"
    asked = [{"role": "system", "content": "You help."}, {"role": "user", "content": wish}]
    assert talk({"messages": asked, "seed": 7}) == talk({"messages": asked, "seed": 7})
    assert len({str(talk({"messages": asked, "seed": seed})) for seed in range(20)}) == 2
    assert talk({"messages": [*asked[:1], {"role": "user", "content": "Hello"}]}) == "What would you like?"
