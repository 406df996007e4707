"""How often a reviewer of failures (`simkit review`) names the party whose fault was planted.

    python -m benchmarks.review_faults                                   # not measured: there is no reviewer
    python -m benchmarks.review_faults --model openai/NAME --base-url URL
    python -m benchmarks.review_faults --model local/FILE.gguf,threads=1 --each 2

Plays `--each` conversations with a fault of the agent, of the user and of the tools (tests/support/planted_faults.py),
has the model review them, and prints how many of each kind it got right, with a 95% interval, and how often its
evidence was the line with the planted fault. Without a model nothing is known about accuracy, and nothing is claimed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import anyio

from simkit.errors import NothingJudged
from simkit.models.config import ModelConfig
from simkit.recipes.judging.review import review
from simkit.run.run import Run
from simkit.search.rollout import Rollout
from simkit.statistics.scores import mean_of_tasks

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.planted_faults import LABELS, Planted, Shop, shop_cast


async def measure(store: Path, planted: Planted, models: ModelConfig) -> None:
    """Play and review the conversations in a store, and print the table."""
    async with Run(store=store, name="shop") as played:
        world = Shop(planted)
        await played.play(Rollout(), shop_cast(played, world, planted), world.tasks("test"))
    run = Run(store=store, recipe="review", models=models)
    try:
        async with run:
            await review(run, of="shop")
    except NothingJudged as fault:
        print(fault)
    rows = run.store.query("select task_id, at_fault, quote from reviews").rows
    tasks = {task.id: task for task in world.tasks("test")}
    right = [[float(party == planted.of(tasks[name]))] for name, party, _ in rows]
    shown = sum(planted.evidence(tasks[name]) in (quote or "") for name, _, quote in rows)
    print(f"{'planted':8} " + " ".join(f"{name:>10}" for name in (*LABELS, "reward", "none")))
    for label in LABELS:
        named = Counter(party or "none" for name, party, _ in rows if planted.of(tasks[name]) == label)
        print(f"{label:8} " + " ".join(f"{named[name]:10}" for name in (*LABELS, "reward", "none")))
    problems = "select problem, count(*) from reviews where at_fault is null group by 1 order by 2 desc"
    for problem, count in run.store.query(problems).rows:
        print(f"{count} times no verdict: {problem}")
    print(f"right: {mean_of_tasks(right)} of {len(rows)}; the quote shows the planted fault in {shown}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="the reviewer: openai/NAME, anthropic/NAME, local/PATH")
    parser.add_argument("--base-url", help="its endpoint")
    parser.add_argument("--each", type=int, default=20, help="conversations with each kind of fault")
    parser.add_argument("--temperature", type=float, default=0.2, help="its sampling temperature")
    parser.add_argument("--store", type=Path, help="keep conversations and reviews in this new folder")
    parser.add_argument("--seed", type=int, default=0, help="order of the faults")
    given = parser.parse_args()
    if given.model is None:
        print("accuracy: not measured (give --model)")
        return
    endpoint = {"model": given.model, "base_url": given.base_url}
    models = ModelConfig.of({**endpoint, "max_tokens": 200, "temperature": given.temperature})
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(partial(measure, given.store or Path(folder), Planted(given.each, given.seed), models))


if __name__ == "__main__":
    main()
