"""Faulted episodes of a resumed run: kept as they ended, or played again when that is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from simkit import FaultPolicy, Rollout, Run
from simkit.cli.app import app
from simkit.store import Store

AGENT = '''
from pathlib import Path

from simkit.agents.scripted import ScriptedAgent


class Waiting(ScriptedAgent):
    """Fails in every second task in its second turn, as long as there is no file `repaired` beside it."""

    async def act(self, request):
        broken = not Path(__file__).with_name("repaired").exists()
        if broken and request.key.turn == 2 and int(request.key.task_id[-1]) % 2:
            raise RuntimeError("the service is down")
        return await super().act(request)
'''
PARTS = ("episodes", "branches", "messages", "tool_calls", "rewards", "faults")


def simkit(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def last_line(done: Result) -> dict[str, Any]:
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def agent(tmp_path: Path) -> str:
    (tmp_path / "waiting.py").write_text(AGENT)
    return f"{tmp_path / 'waiting.py'}:Waiting"


def counts(store: Path) -> dict[str, int]:
    """Rows of each table, without what names a start."""
    return {table: Store(store).query(f"select count(*) from {table}").rows[0][0] for table in PARTS}


@pytest.mark.parametrize("recipe", ["rollout", "josh"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_faulted_episodes_are_played_again_only_if_asked_for(
    tmp_path: Path, agent: str, recipe: str, workers: str
) -> None:
    flags = ("--tasks", "4", "--agent", agent, "--json", "--workers", workers)
    store, fresh = tmp_path / "store", tmp_path / "fresh"
    failed = simkit("run", recipe, *flags, "--store", store)
    assert failed.exit_code == 1
    assert last_line(failed)["faulted"] == 2
    assert "--retry-faulted" in simkit("resume", "last", "--store", store).stdout
    (tmp_path / "repaired").touch()

    kept = last_line(simkit("resume", "last", "--store", store, "--json"))
    assert (kept["status"], kept["kept"], kept["faulted"]) == ("failed", 4, 2)
    again = simkit("resume", "last", "--store", store, "--retry-faulted", "--json")
    assert again.exit_code == 0, again.output
    found = last_line(again)
    assert (found["status"], found["planned"], found["kept"], found["done"], found["faulted"]) == ("done", 4, 2, 2, 0)

    assert simkit("run", recipe, *flags, "--store", fresh).exit_code == 0
    assert counts(store) == counts(fresh)
    scores = "select task_id, reward, outcome from episodes order by all"
    assert Store(store).query(scores).rows == Store(fresh).query(scores).rows
    assert simkit("doctor", "--verify", "--store", store).exit_code == 0
    (store / "simkit.duckdb").unlink()
    assert counts(store) == counts(fresh), "the same from the journals"


def test_a_retry_that_fails_again_is_a_fault_again(tmp_path: Path, agent: str) -> None:
    assert simkit("run", "rollout", "--tasks", "2", "--agent", agent, "--store", tmp_path / "store").exit_code == 1
    again = simkit("resume", "last", "--store", tmp_path / "store", "--retry-faulted", "--json")
    assert again.exit_code == 1
    found = last_line(again)
    assert (found["kept"], found["done"], found["faulted"]) == (1, 1, 1)
    assert counts(tmp_path / "store")["faults"] == 1


def test_a_new_run_does_not_take_the_flag(tmp_path: Path) -> None:
    refused = simkit("run", "rollout", "--tasks", "1", "--retry-faulted", "--store", tmp_path)
    assert refused.exit_code == 2
    assert "--retry-faulted" in refused.stderr


@pytest.mark.anyio
async def test_python_asks_by_the_policy_and_stages_inherit_it(tmp_path: Path, agent: str) -> None:
    async def staged(run: Run) -> tuple[int, int]:
        async with run, run.part("first") as part:
            world = part.world("builtin")
            episodes = await part.play(Rollout(), part.cast(world, agent=agent), part.tasks(world, "train", "2"))
        return len(episodes), sum(episode.outcome == "agent_fault" for episode in episodes)

    policy = FaultPolicy(max_share=1, retry=True)
    assert await staged(Run(store=tmp_path / "store", name="whole", policy=policy)) == (2, 1)
    (tmp_path / "repaired").touch()
    kept = Run.resume("whole", store=tmp_path / "store", policy=FaultPolicy(max_share=1))
    assert await staged(kept) == (2, 1)
    assert await staged(Run.resume("whole", store=tmp_path / "store", policy=policy)) == (2, 0)
