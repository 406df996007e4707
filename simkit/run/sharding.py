"""Shards: equal shares of a run's tasks, played by programs that know nothing of each other and merged afterwards.

The id of a sharded run follows from its settings, so that all shards name their episodes alike. Each shard records the
whole plan; `simkit.run.merging` compares the plans before it joins the shards.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson

from simkit.core.events import ShardPlanned
from simkit.core.tasks import Task
from simkit.errors import StoreUnreadable, UsageError
from simkit.run.accounting import A_LINE, task_seen
from simkit.run.resume import MAY_CHANGE, read_start

if TYPE_CHECKING:
    from simkit.store import Store

SHARD = "shard"
"""Entry of a run's configuration that names its shard."""

_SHARD = re.compile(r"(\d{1,6})/(\d{1,6})")


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several equal shares of a run's tasks: number `index` of `count`, counted from 1; written `3/16`.

    Raises:
        UsageError: there is no such share.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise UsageError(
                f"there is no shard {self}: shards are counted from 1, so 1/{max(1, self.count)} is the first"
            )

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A shard from text such as `3/16`.

        Raises:
            UsageError: it is written in another way.
        """
        found = _SHARD.fullmatch(text.strip())
        if found is None:
            raise UsageError(f"--shard is `{text}`; give a number and the number of shards, e.g. 3/16")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shard | None:
        """The shard that a configuration names; None for a whole run."""
        text = config.get(SHARD)
        return cls.parse(text) if isinstance(text, str) else None

    def run_id(self, recipe: str, name: str, seed: int, config: Mapping[str, Any]) -> str:
        """Id of the sharded run with these settings, the same for all of its shards."""
        settings = {key: value for key, value in config.items() if key not in MAY_CHANGE and key != SHARD}
        whole = {"recipe": recipe, "name": name, "seed": str(seed), "shards": self.count, "config": settings}
        label = re.sub(r"[^a-z0-9]+", "-", recipe.lower()).strip("-") or "run"
        return f"{label}-{_digest(whole)[:12]}"

    def begun(self, store: Store, run_id: str) -> bool:
        """Whether an earlier start of this shard is in a store, so that it is to be continued.

        Raises:
            UsageError: the store has another shard of the run, or the merged run.
        """
        try:
            config = read_start(store.path, run_id).config
        except StoreUnreadable:
            return False
        other = config.get(SHARD)
        if other != str(self):
            what = f"shard {other} of this plan" if other else "the merged run of this plan"
            raise UsageError(
                f"{store.path} holds {what} ({run_id}); give each shard a --store of its own, and join them with "
                "`simkit store merge`. Another --name plays the plan again"
            )
        return True


class Sharing:
    """The share of one shard in the plays of its run: every `count`-th task, in the order in which they first occur."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._places: dict[str, int] = {}
        self._plays = 0

    def share(self, tasks: Sequence[Task]) -> tuple[Task, ...]:
        """The tasks of a play that this shard plays."""
        return tuple(task for task in tasks if owner(self._places, task.id, self._shard.count) == self._shard.index)

    def plan(self, run_id: str, attempt: int, tasks: Sequence[Task], trials: int) -> list[ShardPlanned]:
        """The events that record the whole plan of a play."""
        shard, digest = self._shard, tasks_digest(tasks)
        play, self._plays = self._plays, self._plays + 1
        ids = [task.id for task in tasks]
        return [
            ShardPlanned(
                run_id=run_id,
                attempt=attempt,
                play=play,
                shard=shard.index,
                shards=shard.count,
                trials=trials,
                digest=digest,
                tasks=tuple(ids[start : start + A_LINE]),
                at=time.time(),
            )
            for start in range(0, max(1, len(ids)), A_LINE)
        ]


def owner(places: dict[str, int], task: str, shards: int) -> int:
    """Number of the shard that plays a task, counted from 1; `places` has the place of each task met so far."""
    return places.setdefault(task, len(places)) % shards + 1


def tasks_digest(tasks: Sequence[Task]) -> str:
    """Digest of tasks with their contents, in their order."""
    found = sha256()
    for task in tasks:
        found.update(orjson.dumps(task_seen("", task), default=str, option=orjson.OPT_SORT_KEYS))
    return found.hexdigest()


def _digest(value: object) -> str:
    return sha256(orjson.dumps(value, default=str, option=orjson.OPT_SORT_KEYS)).hexdigest()
