"""The requested settings of a run, and the final ones once its origin is known."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from simkit.models.config import ModelConfig
from simkit.plugins.component_paths import FILES, NAMED_IN, STARTED_IN, BaseFolders
from simkit.run.contract import Engine
from simkit.run.engine import FaultPolicy, ProgressDisplay
from simkit.run.engine_names import PROCESSES
from simkit.run.observers import Tap
from simkit.run.processes import Workers
from simkit.run.resume import RunSource
from simkit.run.sharding import SHARD, Shard
from simkit.run.stages import PartOf

if TYPE_CHECKING:
    from simkit.models.middleware.budget import Allowances
    from simkit.store import Store


class RunOptions(TypedDict, total=False):
    """Options of `Run` that resumed and replayed runs accept."""

    store: Store | Path | str | None
    name: str
    seed: int | None
    concurrency: int | None
    policy: FaultPolicy | None
    config: Mapping[str, Any] | None
    progress: ProgressDisplay | None
    models: ModelConfig | None
    allowances: Allowances | None
    durable: bool
    taps: Sequence[Tap]
    ask_timeout: float | None
    grace: float
    workers: Workers | None
    engine: Engine | str | None


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """Final identity of a run: id, name, recipe, seed, models and folders."""

    id: str
    name: str
    recipe: str
    seed: int
    models: ModelConfig
    folders: BaseFolders


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """Requested settings of a run."""

    store: Store | Path | str
    name: str
    recipe: str
    seed: int | None
    default_seed: int
    models: ModelConfig | None
    config: Mapping[str, Any] | None
    resume: str | None
    replay: str | None
    part_of: PartOf | None
    folders: BaseFolders | None
    shard: Shard | None = None

    @property
    def elsewhere(self) -> bool:
        """Whether the run is resumed, replayed, a stage or a shard, so that journals may determine its settings."""
        return not (self.resume is self.replay is self.part_of is self.shard is None)

    def identity(self, origin: RunSource) -> RunIdentity:
        """The final identity of the run, given its origin.

        Raises:
            UsageError: the URL of an endpoint contained a secret, which is not stored, and was not given again.
        """
        return RunIdentity(
            id=origin.resumed or (self.part_of.id if self.part_of else new_run_id(self.recipe)),
            name=self.name or origin.name,
            recipe=self.recipe if origin.resumed is None else origin.recipe,
            seed=next(each for each in (self.seed, origin.seed, self.default_seed) if each is not None),
            models=origin.models(self.models),
            folders=BaseFolders.recorded(origin.config) if self.folders is None else self.folders,
        )

    def configured(
        self, run: RunIdentity, concurrency: int, workers: Workers, engine: str, origin: RunSource
    ) -> dict[str, Any]:
        """Configuration of the run: enough to start it again, without secrets. Reads the files that it names."""
        own = dict(origin.config if self.config is None else self.config)
        own |= {**run.models.to_json(), "seed": run.seed, "concurrency": concurrency}
        if origin.replayed is not None:
            own["replay"] = origin.replayed
        shard = str(self.shard) if self.shard is not None else origin.config.get(SHARD)
        for name in (FILES, STARTED_IN, NAMED_IN, "workers", "engine", SHARD):
            own.pop(name, None)
        own |= ({} if workers == 1 else {"workers": workers}) | ({} if engine == PROCESSES else {"engine": engine})
        own |= {} if shard is None else {SHARD: shard}
        files = run.folders.digests(own)
        before = {name: origin.config[name] for name in (STARTED_IN, NAMED_IN) if name in origin.config}
        return {**own, **(before or run.folders.to_json(own)), **({FILES: files} if files else {})}


def new_run_id(recipe: str) -> str:
    """A new id for a run of a recipe."""
    label = re.sub(r"[^a-z0-9]+", "-", recipe.lower()).strip("-") or "run"
    return f"{label}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def open_store(store: Store | Path | str) -> Store:
    """The store at a path; a store is returned unchanged."""
    from simkit.store import Store

    return Store(Path(store)) if isinstance(store, (str, Path)) else store
