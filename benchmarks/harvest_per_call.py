"""JOSH trees against independent rollouts at an equal number of model calls: which harvests more?

python benchmarks/harvest_per_call.py --model <store>/selftrain-.../base
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import anyio

from simkit.core.limits import Limits
from simkit.models.config import ModelConfig
from simkit.run.run import Run
from simkit.search.base import Search
from simkit.search.josh import BeamSearch, Josh
from simkit.search.rollout import Rollout
from simkit.training.scratch import TOWN

RESAMPLES = 4000
MOST_TRIALS = 60

CALLS = """
    select task_id, count(*) from model_calls join episodes using (episode_id)
    where run_id = ? and role = 'agent' and attempt = 0 group by task_id
"""
JOSH: Mapping[str, str] = {
    "successful conversations": "select task_id, count(*) from episode_scores where run_id = ? and success group by 1",
    "tasks solved": "select distinct task_id, 1 from episode_scores where run_id = ? and success",
    "SFT examples": "select task_id, count(*) from sft_examples where run_id = ? group by 1",
    "desirable answers": "select task_id, count(*) from kto_rows where run_id = ? and label group by 1",
    "undesirable answers": "select task_id, count(*) from kto_rows where run_id = ? and not label group by 1",
    "pairs": "select task_id, count(*) from dpo_pairs where run_id = ? group by 1",
}
"""What trees give, by task. Conversations with an error marker of the agent's own making are not among the examples."""

ANSWERS = """
    with judged as (
        select episode_id, task_id, reward >= 1 - 1e-9 as success,
               bool_or(author in ('agent', 'tool') and regexp_matches(content, 'ERROR:|Error:|FAILURE')) as erroneous
        from episodes join messages using (episode_id) where run_id = ? group by all
    ),
    said as (
        select task_id, success and not coalesce(erroneous, false) as good, success, prompt,
               cast(message as varchar) as message
        from judged join messages using (episode_id) where author = 'agent'
    ),
    good as (select distinct task_id, prompt, message from said where good),
    bad as (
        select distinct task_id, prompt, message from said
        where not success and prompt in (select prompt from good)
        and (prompt, message) not in (select (prompt, message) from good)
    )
"""
ROLLOUTS: Mapping[str, str] = {
    "successful conversations": JOSH["successful conversations"],
    "tasks solved": JOSH["tasks solved"],
    "SFT examples": ANSWERS + "select task_id, count(*) from judged where success and not coalesce(erroneous, false) "
    "group by 1",
    "desirable answers": ANSWERS + "select task_id, count(*) from good group by 1",
    "undesirable answers": ANSWERS + "select task_id, count(*) from bad group by 1",
    "pairs": ANSWERS + "select bad.task_id, count(*) from bad join good using (prompt) group by 1",
}
"""The same of single conversations: an answer is undesirable where a successful conversation had the same prompt."""


@dataclass(frozen=True)
class Yield:
    """Model calls and what they brought, by task."""

    name: str
    calls: Mapping[str, int]
    brought: Mapping[str, Mapping[str, int]]

    @property
    def total(self) -> int:
        """Model calls altogether."""
        return sum(self.calls.values())

    def per_thousand(self, what: str, tasks: Sequence[str]) -> float:
        """What a thousand calls brought on these tasks; a task may be among them several times."""
        calls = sum(self.calls.get(task, 0) for task in tasks)
        return 1000 * sum(self.brought[what].get(task, 0) for task in tasks) / max(1, calls)


def interval(values: Sequence[float]) -> str:
    ordered = sorted(values)
    low, high = ordered[int(0.025 * len(ordered))], ordered[int(0.975 * len(ordered))]
    return f"{low:.1f} to {high:.1f}"


async def play(given: argparse.Namespace, name: str, search: Search, calls: int | None) -> Yield:
    """Play every goal once with the search, or, given a number of calls, so often that it is reached."""
    models = ModelConfig(model=f"local/{given.model.absolute()}", temperature=given.temperature)
    run = Run(store=given.store, name=f"harvest per call: {name}", recipe=name, seed=given.seed, models=models)
    async with run:
        world = run.world(given.world)
        options = ModelConfig(max_tokens=160)
        cast = run.cast(world, agent="function_calling", options=options)
        goals = run.tasks(world, "train", f"{given.first}-{given.first + given.tasks}")
        for _ in range(1 if calls is None else MOST_TRIALS):
            await run.play(search, cast, goals, concurrency=256)
            if calls is not None and run.progress.metrics is not None and run.progress.metrics.calls >= calls:
                break
        by_task = dict((await run.query(CALLS, run.id)).rows)
        queries = JOSH if calls is None else ROLLOUTS
        brought = {what: dict((await run.query(sql, run.id)).rows) for what, sql in queries.items()}
    return Yield(name, by_task, brought)


def show(trees: Yield, rollouts: Yield, seed: int) -> None:
    tasks, rng = sorted(trees.calls), Random(seed)
    draws = [rng.choices(tasks, k=len(tasks)) for _ in range(RESAMPLES)]
    print(f"{len(tasks)} train goals; {trees.total} model calls in trees, {rollouts.total} in rollouts\n")
    print("| per 1,000 model calls | JOSH trees | independent rollouts | JOSH minus rollouts |")
    print("| --- | --: | --: | --: |")
    for what in JOSH:
        cells = [
            f"{each.per_thousand(what, tasks):.1f} ({interval([each.per_thousand(what, draw) for draw in draws])})"
            for each in (trees, rollouts)
        ]
        gaps = [trees.per_thousand(what, draw) - rollouts.per_thousand(what, draw) for draw in draws]
        gap = trees.per_thousand(what, tasks) - rollouts.per_thousand(what, tasks)
        print(f"| {what} | {cells[0]} | {cells[1]} | {gap:+.1f} ({interval(gaps)}) |")
    solved = [sum(each.brought["tasks solved"].values()) for each in (trees, rollouts)]
    print(f"\nDistinct goals solved of {len(tasks)}: {solved[0]} by trees, {solved[1]} by rollouts.")


async def main(given: argparse.Namespace) -> None:
    limits = Limits(turns=15)
    trees = await play(given, "josh", Josh(BeamSearch(beam=given.beam), limits), None)
    rollouts = await play(given, "rollout", Rollout(limits), trees.total)
    show(trees, rollouts, given.seed)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of the model that plays")
    parser.add_argument("--store", type=Path, default=Path("harvest-per-call"))
    parser.add_argument("--world", default=TOWN)
    parser.add_argument("--tasks", type=int, default=100, help="train goals")
    parser.add_argument("--first", type=int, default=3000, help="the first of them: behind those of the lessons")
    parser.add_argument("--beam", type=int, default=8)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    anyio.run(main, arguments())
