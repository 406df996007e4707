"""A run that commit 14d0738 recorded, before models had one configuration, is resumed and replayed.

`recorded_at_14d0738.jsonl` is its journal: two trees by JOSH, agent and user at an endpoint, and sampling given in both
ways of that commit (`ModelChoices`, and `ModelOptions(sampling=...)` of the cast).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from simkit.core.limits import Limits
from simkit.errors import ReplayMiss, UsageError
from simkit.models.config import ModelConfig
from simkit.run.run import Run
from simkit.search.josh import BeamSearch, Josh

pytestmark = pytest.mark.anyio

JOURNAL = Path(__file__).parent / "recorded_at_14d0738.jsonl"
RUN = "python-20261127-180328-2661"
NOBODY = ModelConfig(base_url="http://127.0.0.1:9/v1", max_retries=0)
SEARCH = Josh(BeamSearch(beam=2), Limits(turns=2))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    journal = tmp_path / "journals" / RUN / "main.jsonl"
    journal.parent.mkdir(parents=True)
    journal.write_bytes(b"".join(_unfinished()))
    return tmp_path


def _unfinished() -> list[bytes]:
    """The journal of a run that was killed before its episodes were finished, with all of its model calls."""
    ends = (b'{"e":"EpisodeFinished"', b'{"e":"RunFinished"')
    return [line for line in JOURNAL.read_bytes().splitlines(keepends=True) if not line.startswith(ends)]


async def play(run: Run, **cast: float) -> Run:
    async with run:
        world = run.world("builtin")
        options = ModelConfig(**{"top_p": 0.9, "stop": ("END",), **cast})  # pyright: ignore[reportArgumentType]
        players = run.cast(world, agent="function_calling", user="goal", options=options)
        await run.play(SEARCH, players, run.tasks(world, "train", 2))
    return run


async def test_it_is_resumed_without_asking_any_call_again(store: Path) -> None:
    run = await play(Run(store=store, resume=RUN, models=NOBODY))
    assert run.status == "done"
    assert run.progress.metrics is not None
    assert (run.progress.metrics.replayed, run.progress.metrics.calls, run.progress.metrics.failed) == (18, 0, 0)


async def test_it_is_replayed_with_requests_of_the_same_hashes(store: Path) -> None:
    run = await play(Run(store=store, replay=RUN))
    sql = """
        select branch_id[-14:], role, step, request_hash, response ->> '$.message' from model_calls
        where episode_id like ? order by all
    """
    assert run.status == "done"
    before, again = (run.store.query(sql, (f"{each}/%",)).rows for each in (RUN, run.id))
    assert len(again) == 18
    assert again == before


async def test_another_sampling_is_another_request(store: Path) -> None:
    with pytest.raises(ReplayMiss, match=r"`top_p` was 0\.9 and is 0\.8"):
        await play(Run(store=store, replay=RUN), top_p=0.8)
    with pytest.raises(UsageError, match=r"--temperature was 1\.0 and is 0\.5"):
        await play(Run(store=store, resume=RUN, models=ModelConfig(temperature=0.5)))
    with pytest.raises(UsageError, match=r"--extra-body was not given and is \{'top_k': 3\}"):
        await play(Run(store=store, resume=RUN, models=ModelConfig(extra_body={"top_k": 3})))
