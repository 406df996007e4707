"""However a run ends: what is printed, the exit code, the stored status and the stored units agree."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from simkit.cli.app import app
from simkit.store import Store

PLAYERS = '''
import asyncio, sys
import anyio
from simkit import Decision, Run, User, UserTurn
from simkit.errors import BudgetExhausted
from simkit.core.limits import Limits
from simkit.search.rollout import Rollout


class Odd(User):
    """Ends each conversation at once; the task whose number is `where` goes wrong in the way `how` says."""

    name = "odd"

    def __init__(self, how: str = "", where: str = "00002") -> None:
        self.how, self.where = how, where

    async def speak(self, request):
        if self.how and request.task.id.endswith(self.where):
            await WAYS[self.how]()
        return UserTurn("bye", end=True)


async def raises(): raise ValueError("wrong")
async def exits(): sys.exit(0)
async def strays(): raise asyncio.CancelledError
async def stops(): raise BudgetExhausted("used up")
async def hangs():
    REACHED.set()
    await asyncio.Event().wait()

async def cancels_its_task():
    asyncio.current_task().cancel()
    await asyncio.sleep(0)

async def exits_in_a_task():
    async def leave(): sys.exit(0)
    async with asyncio.TaskGroup() as group:
        group.create_task(leave())

async def fails_in_a_task():
    async with asyncio.TaskGroup() as group:
        group.create_task(raises())

async def recovers():
    try:
        await fails_in_a_task()
    except* ValueError:
        pass

WAYS = {each.__name__: each for each in (raises, exits, strays, stops, hangs, cancels_its_task, exits_in_a_task,
                                        fails_in_a_task, recovers)}


REACHED = asyncio.Event()


async def play(run, how, tasks="4"):
    world = run.world("builtin")
    cast = run.cast(world, user=Odd(how))
    return await run.play(Rollout(Limits(turns=1)), cast, run.tasks(world, "test", tasks))


async def plain(run: Run, how: str = ""):
    """Plays four tasks."""
    await play(run, how)

async def twice(run: Run, how: str = ""):
    """Plays four tasks, and then four trials more, two at a time."""
    await play(run, how)
    async with asyncio.TaskGroup() as group:
        group.create_task(play(run, how, "2"))
        group.create_task(play(run, how, "2"))

async def catching(run: Run, how: str = ""):
    """Goes on as if nothing had happened."""
    try:
        await play(run, how)
    except Exception:
        pass
    return run.summary(went_on=1)

async def impatient(run: Run, how: str = ""):
    """Gives up on its episodes when one hangs."""
    async with anyio.create_task_group() as group:
        group.start_soon(play, run, how)
        await REACHED.wait()
        group.cancel_scope.cancel()

async def stopping(run: Run, how: str = ""):
    """Ends itself when an episode hangs."""
    async with anyio.create_task_group() as group:
        group.start_soon(play, run, how)
        await REACHED.wait()
        run.stop()

async def leaving(run: Run, how: str = ""):
    """Calls sys.exit(0) after its episodes."""
    await play(run, "", "1")
    sys.exit(0)

async def straying(run: Run, how: str = ""):
    """Raises a cancellation of its own."""
    await play(run, "", "1")
    raise asyncio.CancelledError

async def parts(run: Run, how: str = ""):
    """Has a stage that goes wrong."""
    await play(run, "", "1")
    async with run.part("stage") as part:
        await play(part, how)
'''


@dataclass(frozen=True)
class End:
    """A way to end: what is played, and what has to come of it."""

    recipe: str
    how: str = ""
    flags: tuple[str, ...] = ()
    code: int = 1
    status: str = "failed"
    fates: dict[str | None, int] = field(default_factory=dict[str | None, int])
    says: str = ""


LENIENT = ("--max-faults", "1")
ENDS = {
    "everything is played": End("plain", code=0, status="done", fates={"done": 4}),
    "three plays, two of them at once": End("twice", code=0, status="done", fates={"done": 8}),
    "a fault within the policy": End("plain", "raises", LENIENT, 0, "done", {"done": 4}),
    "a fault beyond the policy": End("plain", "raises", fates={"done": 4}, says="1 of 4 episodes faulted"),
    "sys.exit in a component": End("plain", "exits", LENIENT, 0, "done", {"done": 4}),
    "sys.exit in a task of a component": End("plain", "exits_in_a_task", LENIENT, 0, "done", {"done": 4}),
    "a failed task of a component": End("plain", "fails_in_a_task", LENIENT, 0, "done", {"done": 4}),
    "a failed task of a component that goes on": End("plain", "recovers", (), 0, "done", {"done": 4}),
    "a stray cancellation": End("plain", "strays", LENIENT, 0, "done", {"done": 4}),
    "a hang": End("plain", "hangs", (*LENIENT, "--ask-timeout", "0.05"), 0, "done", {"done": 4}),
    "a component that cancels its task": End(
        "plain", "cancels_its_task", LENIENT, fates={"done": 3, "not_played": 1}, says="cancelled, and not by the run"
    ),
    "the first fault": End(
        "plain",
        "raises",
        ("--fail-fast", "--concurrency", "1"),
        fates={"done": 3, "not_played": 1},
        says="stopped at the first fault (--fail-fast)",
    ),
    "a budget": End(
        "plain", "stops", ("--concurrency", "1"), 1, "stopped", {"done": 2, "not_played": 2}, "the run was stopped"
    ),
    "a budget, and a recipe that goes on": End(
        "catching", "stops", ("--concurrency", "1"), 1, "stopped", {"done": 2, "not_played": 2}, "the run was stopped"
    ),
    "a recipe that gives up": End(
        "impatient",
        "hangs",
        ("--concurrency", "1"),
        fates={"done": 2, "not_played": 2},
        says="the recipe cancelled its play()",
    ),
    "run.stop()": End(
        "stopping",
        "hangs",
        ("--concurrency", "1"),
        130,
        "interrupted",
        {"done": 2, "not_played": 2},
        "the run was interrupted",
    ),
    "sys.exit in a recipe": End("leaving", fates={"done": 1}, says="sys.exit(0)"),
    "a stray cancellation in a recipe": End("straying", fates={"done": 1}, says="that was not requested"),
    "a part that is not done": End("parts", "cancels_its_task", LENIENT, fates={"done": 1}, says="its part"),
}


@pytest.mark.parametrize("what", ENDS)
def test_all_accounts_of_a_run_agree(what: str, tmp_path: Path) -> None:
    end = ENDS[what]
    (tmp_path / "odd.py").write_text(PLAYERS)
    target = f"{tmp_path / 'odd.py'}:{end.recipe}"
    flags = ["--how", end.how, "--store", str(tmp_path / "store"), "--json", *end.flags]
    done = CliRunner().invoke(app, ["run", target, *flags])

    assert done.exit_code == end.code, done.output
    assert end.says in done.output
    store = Store(tmp_path / "store")
    (row,) = store.query("select * from runs where config ->> 'part_of' is null").dicts()
    assert row["status"] == end.status
    assert (row["error"] is None) is (end.status == "done")
    account = stored(store, row["run_id"])
    assert account == end.fates
    summary = json.loads(row["summary"])
    assert summary["planned"] == sum(account.values())
    assert {name: summary[name] for name in ("done", "not_played")} == {
        name: account.get(name, 0) for name in ("done", "not_played")
    }
    assert sum(summary["not_played_because"].values()) == summary["not_played"]
    printed = last_json(done.stdout)
    if printed is not None:
        assert printed["status"] == end.status
        assert {name: printed[name] for name in ("planned", "done", "kept", "not_played")} == {
            name: summary[name] for name in ("planned", "done", "kept", "not_played")
        }
    assert (printed is None) is (end.recipe in ("leaving", "straying"))  # an error is all that is said of those


def stored(store: Store, run_id: str) -> dict[str | None, int]:
    found = store.query("select fate, count(*) from units where run_id = ? group by fate", [run_id]).rows
    return dict(found)


def last_json(text: str) -> dict[str, Any] | None:
    lines = [line for line in text.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else None


def test_a_run_that_is_gone_on_with_accounts_for_every_start(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(PLAYERS)
    flags = ["--how", "stops", "--store", str(tmp_path / "store"), "--json", "--concurrency", "1"]
    assert CliRunner().invoke(app, ["run", f"{tmp_path / 'odd.py'}:plain", *flags]).exit_code == 1
    listed = CliRunner().invoke(app, ["ls", "--store", str(tmp_path / "store")])
    assert "2/4" in listed.output
    shown = CliRunner().invoke(app, ["show", "last", "--store", str(tmp_path / "store")])
    assert "2 of 4 planned episodes not played: the run was stopped: used up" in shown.output

    again = CliRunner().invoke(app, ["resume", "last", "--store", str(tmp_path / "store"), "--json"])
    assert again.exit_code == 1
    store = Store(tmp_path / "store")
    rows = store.query("select attempt, fate, count(*) from units group by all order by all").rows
    assert rows == [(0, "done", 2), (0, "not_played", 2), (1, "kept", 2), (1, "not_played", 2)]
    assert last_json(again.stdout)["kept"] == 2  # type: ignore[index]
