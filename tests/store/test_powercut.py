"""Power cuts at a few points; `python -m benchmarks.powercut` tries a thousand."""

from __future__ import annotations

from pathlib import Path
from random import Random

import anyio
import pytest

from support.powercut import Moment, Recorded, WatchedSource, examine


class SourceThatDoesNotSync(WatchedSource):
    """A journal of which nothing is brought to the disk before a loader commits."""

    def sync(self) -> None:
        """Leave it where it is."""


def recorded(folder: Path, *, durable: bool, source: type[WatchedSource] = WatchedSource) -> Recorded:
    run = Recorded(folder, Random(5), durable, source, chance=0.3)
    anyio.run(run.play, 2, 4)
    return run


@pytest.fixture(scope="module")
def unsynced(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A run whose loader syncs nothing."""
    return recorded(tmp_path_factory.mktemp("unsynced"), durable=False, source=SourceThatDoesNotSync)


def least_synced(run: Recorded) -> Moment:
    """The moment at which most of the journal was not on the disk yet."""
    moment = max(run.moments, key=lambda one: len(one.journal) - one.synced)
    assert moment.synced < len(moment.journal)
    return moment


def shortest(moment: Moment) -> bytes:
    return moment.journal[: moment.synced]


@pytest.mark.parametrize("durable", [False, True])
def test_a_store_opens_after_a_power_cut_and_has_lost_nothing_that_was_synced(tmp_path: Path, durable: bool) -> None:
    run = recorded(tmp_path, durable=durable)
    moment = least_synced(run)
    torn = moment.journal[: (moment.synced + len(moment.journal)) // 2]
    for number, cut in enumerate((shortest(moment), torn, next(run.cuts(moment)))):
        assert examine(moment, cut, tmp_path / f"cut-{number}", durable=durable) == []


def test_a_loader_that_commits_before_the_journal_is_synced_would_be_found(unsynced: Recorded, tmp_path: Path) -> None:
    moments = sorted(unsynced.moments, key=lambda one: one.synced - len(one.journal))
    cuts = (examine(one, shortest(one), tmp_path / f"cut-{n}", durable=False) for n, one in enumerate(moments))
    assert any("the database knew more than the journal" in problem for wrong in cuts for problem in wrong)


def test_an_acknowledged_answer_that_was_not_synced_would_be_found(unsynced: Recorded, tmp_path: Path) -> None:
    moment = next(one for one in unsynced.moments if one.acknowledged)
    (tmp_path / "empty").mkdir()
    wrong = examine(Moment(tmp_path / "empty", b"", 0, moment.acknowledged), b"", tmp_path / "cut", durable=True)
    assert any("acknowledged and lost" in problem for problem in wrong), wrong
