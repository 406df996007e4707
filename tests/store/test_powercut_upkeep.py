"""Power cuts while a run is packed or deleted: the store is whole at every point, and the command finishes later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from store_events import josh_episode, numbered, run_finished, run_started, write_lines

from simkit.store import Store, archive, packs, pruning
from support.disk import Disk, Moment
from support.upkeep_cuts import after_pack, after_prune, answers, watched_store


def filled(folder: Path) -> Store:
    """A store with two runs, of which one has results and a trained model."""
    store = Store(folder, patience=0.0)
    for run in ("a", "b"):
        events = [run_started(run), *josh_episode(run, "MUL1").events, run_finished(run)]
        write_lines(store.path, numbered(events, run=run), run)
    store.load()
    for place in (store.path / "a", store.path / "models" / "a"):
        place.mkdir(parents=True)
        (place / "file").write_text("text")
    return store


def packed(store: Store) -> None:
    store.pack(["a"])


def pruned(store: Store) -> None:
    store.prune(["a"], models=True)


def followed(folder: Path, work: Callable[[Store], Any], *, packed_before: bool = False) -> tuple[Disk, Any]:
    """The disk under a store in which something is done, and what the store said before."""
    store = filled(folder)
    if packed_before:
        store.pack(["a"])
    before = answers(store)
    with watched_store(store) as disk:
        work(store)
    return disk, before


def outcomes(disk: Disk, scratch: Path, kinds: tuple[Callable[[Moment, Path], None], ...]) -> Iterator[Path]:
    """What power cuts may leave, each outcome once."""
    seen = set[tuple[Any, ...]]()
    for place, moment in enumerate(disk.moments):
        for number, write in enumerate(kinds):
            target = scratch / f"cut-{place}-{number}"
            write(moment, target)
            files = sorted(path for path in target.rglob("*"))
            found = tuple((path.relative_to(target), path.is_file() and path.read_bytes()) for path in files)
            if found not in seen:
                seen.add(found)
                yield target


CUTS: tuple[Callable[[Moment, Path], None], ...] = (Moment.least, Moment.newest, Moment.names_only, Moment.whole)
Examine: TypeAlias = Callable[..., list[str]]


def problems(folder: Path, work: Callable[[Store], Any], examine: Examine, **how: bool) -> dict[str, list[str]]:
    """What is wrong after each second cut; each eighth store also finishes the command, and is built anew."""
    disk, before = followed(folder / "store", work, **how)
    cuts = [*outcomes(disk, folder, CUTS)][::-2]
    assert len(cuts) > 10
    wrong = {cut.name: examine(cut, before, "a", finish=place % 4 == 0) for place, cut in enumerate(cuts)}
    return {name: found for name, found in wrong.items() if found}


def test_a_power_cut_while_a_run_is_packed_loses_nothing(tmp_path: Path) -> None:
    assert problems(tmp_path, packed, after_pack) == {}


def test_a_power_cut_while_a_run_is_pruned_leaves_it_whole_or_gone(tmp_path: Path) -> None:
    assert problems(tmp_path, pruned, after_prune, packed_before=True) == {}


def nothing(path: Path) -> None:
    """Sync nothing."""


@pytest.mark.parametrize(
    ("module", "name", "work", "examine", "found"),
    [
        (packs, "_sync", packed, after_pack, "it was made again from the journals"),
        (archive, "sync_folders", packed, after_pack, "damage gone of w0.jsonl"),
        (pruning, "sync_folders", pruned, after_prune, "left of the deleted run"),
    ],
)
def test_a_step_that_is_not_synced_would_be_found(
    module: Any, name: str, work: Any, examine: Examine, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(module, name, nothing)
        disk, before = followed(tmp_path / "store", work)
    cuts = reversed([*outcomes(disk, tmp_path, (Moment.newest,))])
    assert any(found in problem for cut in cuts for problem in examine(cut, before, "a", finish=False))
