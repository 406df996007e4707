"""Stages of runs: each stage of a long recipe is a separate run in the same store, and is done only once.

    async with run.part("round1/after", models=run.models.model_copy(update={"temperature": 0.0})) as part:
        await part.play(...)

A finished stage is not repeated when its run is resumed (`await run.finished("round1/after")`); a stage that was killed
continues where it stopped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simkit.errors import StoreUnreadable, UsageError

if TYPE_CHECKING:
    from simkit.store import Store

_STAGE = re.compile(r"[a-z0-9]+([_./-][a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class PartOf:
    """Position of a stage: the id of the whole run, and the name of the stage within it (`seed0/round1/after`).

    Raises:
        UsageError: the stage is not made of lower-case words and numbers, joined by `/`, `-`, `_` or `.`.
    """

    run_id: str
    stage: str

    def __post_init__(self) -> None:
        if not _STAGE.fullmatch(self.stage):
            raise UsageError(
                f"`{self.stage}` cannot name a stage; use lower-case words and numbers joined by / - _ or ., "
                "e.g. seed0/round1/after"
            )

    @property
    def id(self) -> str:
        """Id of the stage's run, the same whenever the run is resumed."""
        return f"{self.run_id}.{self.stage.replace('/', '.')}"

    def begun(self, store: Store) -> str | None:
        """Id of the stage's run if an earlier attempt recorded its start, otherwise None."""
        from simkit.run.resume import read_start

        try:
            read_start(store.path, self.id)
        except StoreUnreadable:
            return None
        return self.id

    def config(self) -> Mapping[str, Any]:
        """The position as entries of the stage's configuration."""
        return {"part_of": self.run_id, "stage": self.stage}
