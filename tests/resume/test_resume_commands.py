from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio.from_thread
import pytest
from typer.testing import CliRunner, Result

from simkit.cli.app import app
from simkit.store import Store
from simkit.testing.behaviour import Behaviour, Faults
from simkit.testing.server import LoadServer, serve

AGENT = f"{Path(__file__).parent / 'asking.py'}:AskingAgent"


@pytest.fixture
def server() -> Iterator[LoadServer]:
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve(Behaviour(faults=Faults(rate_limited=0.2)))) as server,
    ):
        yield server


def simkit(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def run(store: Path, server: LoadServer, *more: str) -> Result:
    flags = ["--agent", AGENT, "--model", "openai/load", "--base-url", server.base_url, "--store", str(store)]
    return simkit("run", "josh", "--tasks", "2", "--beam", "2", "--max-turns", "4", *flags, *more)


def last_line(done: Result) -> dict[str, Any]:
    return json.loads(done.stdout.splitlines()[-1])


def test_a_stopped_run_is_summed_up_says_why_and_how_to_go_on(tmp_path: Path, server: LoadServer) -> None:
    done = run(tmp_path, server, "--max-tokens-total", "300")
    assert done.exit_code == 1
    assert "stopped" in done.stdout
    assert "simkit resume josh-" in done.stdout
    assert "--max-tokens-total" in done.stderr
    (row,) = Store(tmp_path).query("select status, error from runs").dicts()
    assert row["status"] == "stopped"
    why, _, left = row["error"].rpartition("; ")
    assert why in done.stderr
    assert left == "2 of 2 planned episodes were not played"
    assert "2 of 2: the run was stopped: " in done.stdout
    done = simkit("resume", "last", "--max-tokens-total", "1000000", "--store", tmp_path, "--json")
    assert done.exit_code == 0, done.output
    found = last_line(done)
    assert (found["status"], found["episodes"]) == ("done", 2)
    assert found["models"]["replayed"] > 0
    assert f"{found['models']['calls']:,} answered, {found['models']['replayed']} from a recording" in done.stderr
    assert Store(tmp_path).query("select status, error from runs").rows == [("done", None)]


def test_flags_of_the_run_are_taken_when_equal_and_refused_when_not(tmp_path: Path, server: LoadServer) -> None:
    assert run(tmp_path, server, "--seed", "5").exit_code == 0
    assert simkit("resume", "last", "--store", tmp_path, "--beam", "2", "--api-concurrency", "7").exit_code == 0
    refused = simkit("resume", "last", "--store", tmp_path, "--beam", "4", "--seed", "6", "--model", "openai/x")
    assert refused.exit_code == 2
    for told in ("--beam was 2 and is 4", "--seed was 5 and is 6", "--model was openai/load and is openai/x"):
        assert told in refused.stderr
    unknown = simkit("resume", "last", "--store", tmp_path, "--colour", "red")
    assert unknown.exit_code == 2
    assert "--colour" in unknown.stderr


def test_what_cannot_be_resumed_says_so(tmp_path: Path, server: LoadServer) -> None:
    assert "there is no run 'nobody'" in _error(run_and(tmp_path, server, "resume", "nobody"))


def run_and(store: Path, server: LoadServer, *arguments: str) -> Result:
    assert run(store, server).exit_code == 0
    return simkit(*arguments, "--store", store)


def _error(done: Result) -> str:
    assert done.exit_code == 2, done.output
    return done.stderr


def test_replay_from_the_command_line_asks_nobody(tmp_path: Path, server: LoadServer) -> None:
    first = last_line(run(tmp_path, server, "--json", "--seed", "5"))
    done = simkit(
        *("run", "josh", "--tasks", "2", "--beam", "2", "--max-turns", "4", "--agent", AGENT, "--replay", "last"),
        *("--base-url", "http://127.0.0.1:9/v1", "--json", "--store", tmp_path),
    )
    assert done.exit_code == 0, done.output
    again = last_line(done)
    assert again["models"]["replayed"] == first["models"]["calls"]
    other: dict[str, Any] = {"run_id": "", "seconds": 0, "models": {}}
    assert {**again, **other} == {**first, **other}
    costs = Store(tmp_path).query(
        "select sum(m.cost) from model_calls m join episodes using (episode_id) group by run_id"
    )
    assert 0.0 in [cost for (cost,) in costs.rows]


def test_dotenv_is_read_by_the_command_line_and_loses_against_the_environment(
    tmp_path: Path, server: LoadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SIMKIT_MODEL", "SIMKIT_BASE_URL", "SIMKIT_SEED"):
        monkeypatch.setenv(name, "to be restored")
        monkeypatch.delenv(name)
    monkeypatch.setenv("SIMKIT_SEED", "8")
    (tmp_path / ".env").write_text(f"SIMKIT_MODEL=openai/mine\nSIMKIT_BASE_URL={server.base_url}\nSIMKIT_SEED=3\n")
    done = simkit("run", "rollout", "--tasks", "1", "--max-turns", "1", "--agent", AGENT, "--store", "store")
    assert done.exit_code == 0, done.output
    (row,) = Store(tmp_path / "store").query("select seed, config ->> 'model' as model from runs").dicts()
    assert row == {"seed": 8, "model": "openai/mine"}
    assert os.environ["SIMKIT_MODEL"] == "openai/mine"


def test_doctor_says_who_waits_for_whom_and_how_to_go_on(tmp_path: Path, server: LoadServer) -> None:
    assert run(tmp_path, server, "--max-tokens-total", "300", "--name", "ill").exit_code == 1
    done = simkit("doctor", "ill", "--store", tmp_path)
    assert done.exit_code == 0, done.output
    for told in ("stopped, no process plays it", "waiting", "agent", "model calls", "slowest attempts"):
        assert told in done.stdout
    assert "→ it was stopped" in done.stdout
    found = json.loads(simkit("doctor", "ill", "--store", tmp_path, "--json").stdout)
    assert found["alive"] is False
    assert found["episodes"] == {"started": 2, "finished": 0, "faulted": 0}
    assert sum(row["branches"] for row in found["waiting"]) >= 2


def test_doctor_says_why_attempts_failed_and_what_to_do(tmp_path: Path, server: LoadServer) -> None:
    assert run(tmp_path, server).exit_code == 0
    found = json.loads(simkit("doctor", "last", "--store", tmp_path, "--json").stdout)
    (failed,) = found["retries"]
    assert failed["error"] == "RateLimited"
    assert failed["attempts"] == sum(row["failed"] for row in found["calls"]) > 0
    assert any("attempts met a rate limit: lower --api-concurrency" in line for line in found["advice"])


def test_doctor_tells_a_killed_run_from_a_living_one(tmp_path: Path, server: LoadServer) -> None:
    assert run(tmp_path, server).exit_code == 0
    (journal,) = (tmp_path / "journals").glob("*/main.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))  # as if it had been killed before its last line
    (tmp_path / "simkit.duckdb").unlink()
    found = json.loads(simkit("doctor", "last", "--store", tmp_path, "--json").stdout)
    assert found["run"]["status"] == "running"
    assert found["alive"] is False
    assert found["advice"][0].startswith("its process is gone: continue with `simkit resume")
    assert simkit("resume", "last", "--store", tmp_path).exit_code == 0


def test_help_of_resume_lists_the_flags_that_may_be_given_again() -> None:
    done = CliRunner().invoke(app, ["resume", "--help"], env={"COLUMNS": "160"})
    assert done.exit_code == 0
    for flag in ("--max-cost", "--max-wall", "--api-concurrency", "--base-url", "--json"):
        assert flag in done.stdout
    assert "--beam" not in done.stdout


# --- what a mistake leaves, and what a simulator doubts ---------------------------------------------------------------

LATE = """
from simkit import Run, UsageError


async def late(run: Run, played: int = 0) -> None:
    \"\"\"Makes a mistake after so many tasks.\"\"\"
    world = run.world("builtin")
    if played:
        await run.play(simkit.Rollout(), run.cast(world), run.tasks(world, "test", played))
    raise UsageError("that cannot be")


import simkit
"""


@pytest.mark.parametrize("user", ["guide", "script"])
def test_a_user_that_needs_a_human_dialogue_says_so_before_any_call(
    tmp_path: Path, server: LoadServer, user: str
) -> None:
    model = ("--user-model", "openai/load", "--base-url", server.base_url) if user == "guide" else ()
    done = simkit("run", "rollout", "--tasks", "2", "--user", user, *model, "--store", tmp_path)
    assert done.exit_code == 2, done.output
    assert "toolwoz" in done.stderr
    assert asyncio.run(server.stats()).requests == 0
    assert list((tmp_path / "journals").iterdir()) == []
    assert simkit("ls", "--store", tmp_path, "--json").stdout == "[]\n"


def test_a_mistake_leaves_a_run_behind_only_when_something_was_played(tmp_path: Path) -> None:
    recipe, store = tmp_path / "late.py", tmp_path / "store"
    recipe.write_text(LATE)
    assert simkit("run", recipe, "--store", store).exit_code == 2
    assert Store(store).runs() == ()
    assert simkit("run", recipe, "--played", "1", "--store", store).exit_code == 2
    (run,) = Store(store).runs()
    assert (run.status, run.episodes) == ("failed", 1)


def test_show_has_the_doubts_of_the_user_simulator(tmp_path: Path) -> None:
    model = ("--user", "goal,ending=line", "--user-model", "scripted/Hello.|Hello.|Hello.")
    done = simkit("run", "rollout", "--tasks", "1", "--max-turns", "2", *model, "--store", tmp_path)
    assert done.exit_code == 0, done.output
    found = json.loads(simkit("show", "last", "--store", tmp_path, "--json").stdout)
    (episode,) = found["episode_scores"]
    assert episode["flags"] == 2
    assert re.search(r"flags\s+error|flags$", simkit("show", "last", "--store", tmp_path).stdout, re.MULTILINE)
    branch = (episode["task_id"], "--branch", ".2", "--store", tmp_path)
    shown = simkit("show", "last", *branch).stdout
    assert shown.count("⚑ repeated") == 2
    lines = json.loads(simkit("show", "last", *branch, "--json").stdout)["lines"]
    assert [line["flags"] for line in lines if line["author"] == "user"] == [[], ["repeated"], ["repeated"]]


def refusing(body: Mapping[str, Any]) -> str | dict[str, Any]:
    """Nothing, a refusal or a question, by the seed of the request."""
    told: list[str | dict[str, Any]] = ["", {"role": "assistant", "content": None, "refusal": "No."}, "Which day?"]
    return told[int(body["seed"]) % 3]


def test_doctor_counts_answers_nobody_could_act_on(tmp_path: Path) -> None:
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve(Behaviour(reply=refusing))) as server,
    ):
        model = ("--model", "openai/load", "--base-url", server.base_url)
        done = simkit("run", "rollout", "--tasks", "4", "--max-turns", "3", *model, "--store", tmp_path)
    assert done.exit_code == 0, done.output
    found = json.loads(simkit("doctor", "last", "--store", tmp_path, "--json").stdout)
    assert {row["finish"] for row in found["odd"]} == {"empty", "refusal"}
    (calls,) = found["calls"]
    assert {row["of"] for row in found["odd"]} == {calls["attempts"]}
    assert any("answers ended with `refusal`: look at its prompt" in line for line in found["advice"])
    assert "unusable answers" in simkit("doctor", "last", "--store", tmp_path).stdout


@pytest.mark.parametrize(("flag", "told"), [("pace: int = 1", "has changed"), ("pace: int", "needs --pace now")])
def test_a_recipe_that_gained_a_flag_says_so(tmp_path: Path, flag: str, told: str) -> None:
    recipe = tmp_path / "plain.py"
    text = """
from simkit import Rollout, Run

async def plain(run: Run, *, tasks: int = 2) -> None:
    world = run.world()
    await run.play(Rollout(), run.cast(world), run.tasks(world, "test", tasks))
"""
    recipe.write_text(text)
    assert simkit("run", recipe, "--store", tmp_path / "store").exit_code == 0
    recipe.write_text(text.replace("tasks: int = 2", f"tasks: int = 2, {flag}"))
    done = simkit("resume", "last", "--store", tmp_path / "store")
    assert done.exit_code == 2
    assert told in done.stderr
