"""Shards become one run that is done when all are there; runs of other stores are copied; nothing is half merged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
from shard_playing import TASKS, journal, play, play_shards, play_until, scores
from typer.testing import CliRunner

from simkit.agents.scripted import ScriptedAgent
from simkit.cli.app import app
from simkit.components.agent import Act, Decision
from simkit.core.tasks import Task
from simkit.errors import StoreBusy, StoreError, UsageError
from simkit.run.engine import FaultPolicy
from simkit.run.joining import MergedRun
from simkit.run.merging import merge
from simkit.run.run import Run
from simkit.run.sharding import tasks_digest
from simkit.run.summary import harvest_summary
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout
from simkit.store import Store, merging
from simkit.store.merging import INCOMING
from simkit.store.notes import Note, NoteFile
from simkit.store.source import file_of
from support.memory_engine import InMemory

pytestmark = pytest.mark.anyio

ACCOUNT = "select reason, count(*) from units where fate = 'not_played' group by all order by all"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def summary(store: Path) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(Store(store).query("select summary from runs").rows[0][0])
    return found


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """The store of a whole run, and those of its three shards."""
    folder = tmp_path_factory.mktemp("shards")

    async def played() -> list[Path]:
        await play(folder / "whole")
        return await play_shards(folder, (1, 2, 3), 3)

    return folder / "whole", anyio.run(played)


def test_the_merged_run_is_as_if_it_had_been_played_at_once(tmp_path: Path, shards: tuple[Path, list[Path]]) -> None:
    whole, stores = shards
    (run,) = merge(stores, tmp_path / "all")
    assert (run.outcome, run.shards, run.merged, run.missing) == ("merged", 3, (1, 2, 3), ())
    assert (run.status, run.problem) == ("done", None)
    assert scores(tmp_path / "all") == scores(whole)
    assert summary(tmp_path / "all") == summary(whole)
    merged, original = Store(tmp_path / "all").resolve(), Store(whole).resolve()
    assert (merged.status, merged.planned, merged.finished) == ("done", 2 * TASKS, 2 * TASKS)
    assert (merged.average_reward, merged.supervisor) == (pytest.approx(original.average_reward), "rollout")
    assert not Store(tmp_path / "all").damage()
    for table in ("messages", "tool_calls", "rewards", "branches"):
        counts = [Store(store).query(f"select count(*) from {table}").rows for store in (whole, tmp_path / "all")]
        assert counts[0] == counts[1]


async def test_the_harvest_is_counted_over_all_shards(tmp_path: Path) -> None:
    stores: list[Path] = []
    for name, shard in (("whole", None), ("one", "1/2"), ("two", "2/2")):
        async with Run(store=tmp_path / name, recipe="josh", shard=shard, seed=5) as run:
            world = run.world()
            cast = run.cast(world, agent="scripted,error_rate=0.3")
            await run.play(Josh(BeamSearch(beam=4)), cast, run.tasks(world, "train", "6"))
            await harvest_summary(run)
        stores.append(tmp_path / name)
    merge(stores[1:], tmp_path / "all")
    assert summary(tmp_path / "all") == summary(stores[0])
    assert summary(stores[0])["kto_desirable"]


def test_a_missing_shard_is_named_and_can_be_added(tmp_path: Path, shards: tuple[Path, list[Path]]) -> None:
    whole, stores = shards
    (run,) = merge([stores[0], stores[2]], tmp_path / "all")
    assert (run.status, run.merged, run.missing) == ("failed", (1, 3), (2,))
    assert run.problem == "4 of 14 planned episodes were not played: shard 2/3 was not merged"
    assert Store(tmp_path / "all").query(ACCOUNT).rows == [("shard 2/3 was not merged", 4)]
    assert summary(tmp_path / "all")["reward"]["value"] != summary(whole)["reward"]["value"]
    (run,) = merge([stores[1]], tmp_path / "all")
    assert (run.status, run.merged, run.missing) == ("done", (1, 2, 3), ())
    assert scores(tmp_path / "all") == scores(whole)
    assert summary(tmp_path / "all") == {**summary(whole), "done": 4, "kept": 10}
    assert Store(tmp_path / "all").resolve().counted == f"{2 * TASKS}"


def test_merging_again_changes_nothing(tmp_path: Path, shards: tuple[Path, list[Path]]) -> None:
    _, stores = shards
    before = [files(store) for store in stores]
    merge(stores, tmp_path / "all")
    held = journal(tmp_path / "all").read_bytes()
    (run,) = merge([*stores, stores[0]], tmp_path / "all")
    assert (run.outcome, run.status, run.merged) == ("unchanged", "done", (1, 2, 3))
    assert journal(tmp_path / "all").read_bytes() == held
    assert [files(store) for store in stores] == before


def test_notes_about_merged_runs_come_along_once(tmp_path: Path, shards: tuple[Path, list[Path]]) -> None:
    stores = [Path(shutil.copytree(store, tmp_path / store.name)) for store in shards[1]]
    run = journal(stores[0]).parent.name
    for number, store in enumerate(stores):
        for note_id, about in ((f"a{number}", run), (f"b{number}", "another run")):
            NoteFile(store).append(
                Note(
                    id=note_id,
                    run_id=about,
                    task_id="t",
                    trial=0,
                    path="",
                    turn=0,
                    seq=0,
                    label="good",
                    text="",
                    author="ann",
                    digest="",
                    at=1_800_000_000.0 + number,
                )
            )
    for _ in range(2):
        merge(stores, tmp_path / "all")
        found = Store(tmp_path / "all").query("select note_id from notes order by noted_at").rows
        assert found == [("a0",), ("a1",), ("a2",)]


async def test_a_shard_that_had_not_ended_goes_on_and_is_merged_again(tmp_path: Path) -> None:
    await play_until(tmp_path / "one", "1/2", 2)
    ended = journal(tmp_path / "one").read_bytes()
    journal(tmp_path / "one").write_bytes(ended[: ended.index(b'{"e":"UnitsNotPlayed"')] + b'{"e":"torn')  # as killed
    await play(tmp_path / "two", "2/2")
    stores = [tmp_path / "one", tmp_path / "two"]
    (run,) = merge(stores, tmp_path / "all")
    assert run.problem == "6 of 14 planned episodes were not played: shard 1/2 had not ended when it was merged"
    await play(tmp_path / "one", "1/2")
    (run,) = merge(stores, tmp_path / "all")
    assert (run.outcome, run.status) == ("merged", "done")
    await play(tmp_path / "whole")
    assert scores(tmp_path / "all") == scores(tmp_path / "whole")
    counted = Store(tmp_path / "all").query("select count(*), count(distinct episode_id) from episodes").rows
    assert counted == [(14, 14)]


async def test_the_reasons_of_a_stopped_shard_are_those_of_the_run(tmp_path: Path) -> None:
    await play_until(tmp_path / "one", "1/2", 2)
    await play(tmp_path / "two", "2/2")
    (run,) = merge([tmp_path / "one", tmp_path / "two"], tmp_path / "all")
    assert run.status == "failed"
    assert Store(tmp_path / "all").query(ACCOUNT).rows == [("shard 1/2: the run was interrupted", 6)]


async def test_a_merged_run_can_be_resumed_but_then_takes_no_more_shards(
    tmp_path: Path, shards: tuple[Path, list[Path]]
) -> None:
    whole, stores = shards
    (merged,) = merge(stores[:2], tmp_path / "all")
    async with Run.resume(merged.run_id, store=tmp_path / "all") as run:
        world = run.world()
        cast = run.cast(world, agent="scripted,error_rate=0.3")
        await run.play(Rollout(), cast, run.tasks(world, "test", f"{TASKS}"), trials=2)
    assert (run.status, run.account.kept, run.account.done) == ("done", 10, 4)
    assert scores(tmp_path / "all") == scores(whole)
    with pytest.raises(UsageError, match="was resumed after it was merged"):
        merge(stores, tmp_path / "all")


async def test_shards_that_planned_other_tasks_are_refused(
    tmp_path: Path, shards: tuple[Path, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(tasks: list[Task]) -> str:
        return tasks_digest(tasks)[::-1]

    monkeypatch.setattr("simkit.run.sharding.tasks_digest", other)
    (odd,) = await play_shards(tmp_path, (2,), 3)
    for stores in ([shards[1][0], odd], [odd, shards[1][2]]):
        with pytest.raises(UsageError, match="the tasks that they planned differ"):
            merge(stores, tmp_path / "all")
        assert not (tmp_path / "all" / "journals").exists()
    merge(shards[1][:1], tmp_path / "all")
    with pytest.raises(UsageError, match=r"shard 1/3, which was merged before, are shards"):
        merge([odd], tmp_path / "all")


async def test_another_copy_of_a_shard_is_refused_and_nothing_is_merged(
    tmp_path: Path, shards: tuple[Path, list[Path]]
) -> None:
    (twice,) = await play_shards(tmp_path, (2,), 3)
    await play(tmp_path / "plain")
    with pytest.raises(UsageError, match="have the same name and differ, so nothing was merged"):
        merge([*shards[1], twice, tmp_path / "plain"], tmp_path / "all")
    merge(shards[1], tmp_path / "all")
    held = files(tmp_path / "all" / "journals")
    with pytest.raises(UsageError, match="another copy of it was merged before that differs"):
        merge([twice, tmp_path / "plain"], tmp_path / "all")
    assert files(tmp_path / "all" / "journals") == held


def test_stores_that_cannot_be_merged_are_named(tmp_path: Path, shards: tuple[Path, list[Path]]) -> None:
    _, stores = shards
    with pytest.raises(UsageError, match="nowhere holds no runs"):
        merge([tmp_path / "nowhere"], tmp_path / "all")
    assert not (tmp_path / "all").exists()
    with pytest.raises(UsageError, match="is the store that --into names"):
        merge(stores, stores[0])
    copy = tmp_path / "copy"
    shutil.copytree(stores[0], copy)
    with pytest.raises(UsageError, match="merge into a store of its own"):
        merge(stores[1:], copy)


def test_a_damaged_shard_is_merged_and_its_damage_shows(tmp_path: Path, shards: tuple[Path, list[Path]]) -> None:
    _, stores = shards
    for place in ("middle", "end"):
        copy, target = tmp_path / place, tmp_path / f"all {place}"
        shutil.copytree(stores[1] / "journals", copy / "journals")
        lines = journal(copy).read_bytes().splitlines(keepends=True)
        number = 40 if place == "middle" else len(lines) - 1
        lines[number] = lines[number].replace(b'"', b"'", 1)
        journal(copy).write_bytes(b"".join(lines))
        merge([stores[0], copy, stores[2]], target)
        assert {line.kind for line in Store(target).damage()} == {"lost"}


class Cut(Exception):
    """The process ends here."""


def test_a_merge_that_is_cut_off_leaves_what_was_there(
    tmp_path: Path, shards: tuple[Path, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stores = shards
    shard_run = Store(stores[0]).resolve().run_id
    merge(stores[:1], tmp_path / "before")
    before = scores(tmp_path / "before"), summary(tmp_path / "before")
    step = 0
    while True:
        target = tmp_path / f"{step}"
        shutil.copytree(tmp_path / "before", target)
        with monkeypatch.context() as patched:
            _cut_at(patched, step)
            try:
                merge([*stores, whole], target)
                break
            except Cut:
                step += 1
        assert not Store(target).damage()
        if Store(target).resolve(shard_run).status == "failed":
            assert (scores(target, shard_run), _summary_of(target, shard_run)) == before
        else:
            assert scores(target, shard_run) == scores(whole)
        merge([*stores, whole], target)
        assert {run.status for run in Store(target).runs()} == {"done"}
        assert [scores(target, run.run_id) for run in Store(target).runs()] == [scores(whole)] * 2
        assert not (target / INCOMING).exists()
    assert step == 10


def _summary_of(store: Path, run: str) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(
        Store(store).query("select summary from runs where run_id = ?", [run]).rows[0][0]
    )
    return found


def _cut_at(patched: pytest.MonkeyPatch, step: int) -> None:
    """End the process at a step: before it syncs or renames something."""
    calls: list[str] = []

    def cut(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def called(*given: Any, **more: Any) -> Any:
            calls.append(name)
            if len(calls) > step:
                raise Cut
            return real(*given, **more)

        return called

    patched.setattr(Path, "rename", cut("rename", Path.rename))
    for name in ("_sync", "locked_journals", "sync_folders"):
        patched.setattr(merging, name, cut(name, getattr(merging, name)))


def test_a_full_disk_is_reported_and_what_was_there_stays(
    tmp_path: Path, shards: tuple[Path, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, stores = shards
    merge(stores[:2], tmp_path / "all")
    held = files(tmp_path / "all" / "journals")

    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("simkit.store.merging.os.fsync", full)
        with pytest.raises(StoreError, match=r"cannot be merged into .*No space left"):
            merge(stores, tmp_path / "all")
    assert files(tmp_path / "all" / "journals") == held


def test_one_merge_at_a_time(tmp_path: Path, shards: tuple[Path, list[Path]]) -> None:
    from simkit.store.merging import incoming

    Store(tmp_path)
    with incoming(tmp_path), pytest.raises(StoreBusy, match="another process merges into"):
        merge(shards[1], tmp_path)


def test_packed_stores_give_and_take_shards(tmp_path: Path, shards: tuple[Path, list[Path]]) -> None:
    whole, stores = shards
    shutil.copytree(stores[0], tmp_path / "packed")
    Store(tmp_path / "packed").pack()
    merge([tmp_path / "packed", stores[1]], tmp_path / "all")
    merge(stores[:2], tmp_path / "other")
    Store(tmp_path / "all").pack()
    merge(stores, tmp_path / "all")
    assert scores(tmp_path / "all") == scores(whole)
    found = journal(tmp_path / "all")
    assert file_of(found) == found
    assert [path.name for path in found.parent.iterdir()] == ["main.jsonl"]


async def test_whole_runs_are_copied_and_go_on(tmp_path: Path) -> None:
    one, two, into = tmp_path / "one", tmp_path / "two", tmp_path / "into"
    first = await play(one, name="first")
    await play(two, name="early", tasks="1", trials=1)
    last = await play(two, name="second", tasks="1", trials=1)
    done = merge([one, two], into)
    assert {each.outcome for each in done} == {"copied"}
    assert scores(into, "first") == scores(one)
    assert Store(into).resolve("last").run_id == last.id
    assert {each.outcome for each in merge([one, two], into)} == {"unchanged"}
    async with Run.resume(first.id, store=one) as run:
        world = run.world()
        cast = run.cast(world, agent="scripted,error_rate=0.3")
        await run.play(Rollout(), cast, run.tasks(world, "test", f"{TASKS}"), trials=3)
    outcomes = {each.run_id: each.outcome for each in merge([one, two], into)}
    assert outcomes[first.id] == "extended"
    assert {*outcomes.values()} == {"extended", "unchanged"}
    assert scores(into, "first") == scores(one)
    assert merge([one], into) == (MergedRun(run_id=first.id, outcome="unchanged"),)
    newer = await play(into, tasks="1", trials=1)
    assert Store(into).resolve("last").run_id == newer.id


async def test_runs_of_one_id_that_differ_are_refused(tmp_path: Path) -> None:
    await play(tmp_path / "one", tasks="1", trials=1)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    lines = journal(tmp_path / "two").read_bytes()
    journal(tmp_path / "two").write_bytes(lines.replace(b"test-00000", b"test-00001"))
    with pytest.raises(UsageError, match="nothing was merged"):
        merge([tmp_path / "one", tmp_path / "two"], tmp_path / "all")
    assert not (tmp_path / "all" / "journals").exists()


def test_the_command_says_what_was_merged_and_what_is_missing(tmp_path: Path, shards: tuple[Path, list[Path]]) -> None:
    names = [str(store) for store in shards[1]]
    into = ["--into", str(tmp_path / "all")]
    result = CliRunner().invoke(app, ["store", "merge", *names[:2], *into])
    assert result.exit_code == 1
    assert "2 of 3 shards, without 3; failed: 4 of 14 planned episodes were not played" in result.output
    result = CliRunner().invoke(app, ["store", "merge", *names, *into, "--json"])
    assert result.exit_code == 0
    (told,) = orjson.loads(result.output)["merged"]
    assert (told["outcome"], told["shards"], told["missing"], told["status"]) == ("merged", 3, [], "done")
    result = CliRunner().invoke(app, ["store", "merge", *names, *into])
    assert "3 of 3 shards (nothing new); done" in result.output


class FaultyAgent(ScriptedAgent):
    """Fails in one task."""

    async def act(self, request: Act[Any]) -> Decision[Any]:
        """The decision of the rule-based agent, or an error."""
        if request.key.task_id == "test-00001":
            raise RuntimeError("not this one")
        return await super().act(request)


@pytest.mark.parametrize(("most", "status"), [(0.2, "done"), (0.1, "failed")])
async def test_faults_are_judged_over_all_shards(tmp_path: Path, most: float, status: str) -> None:
    stores = [tmp_path / "one", tmp_path / "two"]
    for number, store in enumerate(stores, 1):
        policy, config = FaultPolicy(max_share=most), {"max_faults": most}
        async with Run(store=store, shard=f"{number}/2", seed=3, policy=policy, config=config) as run:
            world = run.world()
            cast = run.cast(world, agent=FaultyAgent(world, 0.3))
            await run.play(Rollout(), cast, run.tasks(world, "test", f"{TASKS}"))
    assert [Store(store).resolve().status for store in stores] == ["done", "failed"]
    (run,) = merge(stores, tmp_path / "all")
    assert run.status == status
    told = "1 of 7 episodes faulted, more than the share of 0.1 that is allowed (--max-faults)"
    assert run.problem == (None if status == "done" else told)


def test_a_merged_run_is_resumed_by_the_command_and_shards_may_be_empty(tmp_path: Path) -> None:
    def simkit(*words: str) -> int:
        return CliRunner().invoke(app, [*words, "--quiet"] if words[0] != "store" else list(words)).exit_code

    flags = ["run", "rollout", "--tasks", "2", "--name", "few"]
    for number in (1, 2, 3):
        assert simkit(*flags, "--shard", f"{number}/3", "--store", str(tmp_path / f"{number}")) == 0
    into = ["--into", str(tmp_path / "all")]
    assert simkit("store", "merge", str(tmp_path / "3"), str(tmp_path / "1"), *into) == 1
    assert simkit("resume", "few", "--store", str(tmp_path / "all")) == 0
    assert Store(tmp_path / "all").resolve("few").status == "done"
    names = [str(tmp_path / f"{number}") for number in (1, 2, 3)]
    assert simkit("store", "merge", *names, "--into", str(tmp_path / "other")) == 0
    assert scores(tmp_path / "all") == scores(tmp_path / "other")


async def test_a_shard_plays_with_workers(tmp_path: Path) -> None:
    for number in (1, 2):
        await play(tmp_path / f"{number}", f"{number}/2", engine=InMemory(2))
    await play(tmp_path / "whole")
    merge([tmp_path / "1", tmp_path / "2"], tmp_path / "all")
    assert scores(tmp_path / "all") == scores(tmp_path / "whole")
