"""The worlds of tau-bench: `tau:retail` and `tau:airline`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeAlias, cast, get_args

from simkit.components.results import RecordedRun
from simkit.components.tools import ToolServer
from simkit.components.world import DataProgress, Expected, World, unwatched
from simkit.core.limits import Limits
from simkit.core.messages import JsonObject
from simkit.core.ontology import Ontology
from simkit.core.tasks import Task, goals_of_calls
from simkit.errors import UsageError
from simkit.tools.tau import airline1, fixed1, retail1
from simkit.tools.tau.cache import DomainData, DomainName, open_domain, prepare
from simkit.tools.tau.call import TRANSFER, Toolset, run_call
from simkit.tools.tau.results import tau_bench_results
from simkit.tools.tau.rows import Rows, copied
from simkit.tools.tau.server import TauServer
from simkit.tools.tau.source import ReleaseName

Variant: TypeAlias = Literal["paper", "fixed"]

DECISIONS = 30
"""The release's limit: decisions of the agent in an episode, calls and replies together."""


class TauDomain(World):
    """What the domains of tau-bench have in common.

    Args:
        release: `josh` is the copy that the JOSH paper ran (tau-bench 5e203de), `2025` the last one (59a200c). They
            differ in tasks, in texts and in the reward, so never compare scores of the two.
        cache: folder of the cache; by default `$SIMKIT_CACHE/tau` or the user's own cache folder.
        variant: `paper` equals the release call for call. `fixed` corrects its errors: it checks arguments, books
            seats, compares numbers by their value, and judges both the state and the outputs. Never compare scores of
            the two.

    Raises:
        UsageError: the release or the variant does not exist.
    """

    default_agent: ClassVar[str] = "function_calling,calls=first,prompt=world"
    default_user: ClassVar[str] = "tau"
    default_reward: ClassVar[str] = "final_state"
    limits: ClassVar[Limits] = Limits(turns=DECISIONS, steps=DECISIONS, decisions=DECISIONS)
    domain: ClassVar[DomainName]
    toolset: ClassVar[Toolset]
    repaired: ClassVar[Toolset]

    def __init__(
        self, release: ReleaseName = "josh", cache: str | Path | None = None, variant: Variant = "paper"
    ) -> None:
        if release not in get_args(ReleaseName):
            raise UsageError(f"the world `{self.name}` has no release `{release}`; it has: josh, 2025")
        if variant not in get_args(Variant):
            raise UsageError(f"the world `{self.name}` has no variant `{variant}`; it has: paper, fixed")
        self.release: ReleaseName = release
        self.variant: Variant = variant
        self._cache = cache
        self._expected: dict[tuple[str, str], Expected] = {}
        self._tasks: dict[str, tuple[Task, ...]] = {}

    @classmethod
    def prepare(cls, source: str | Path | None = None, progress: DataProgress = unwatched) -> Path:
        """Build the cache of both domains, of `josh` by default or from a wheel or clone, and return its folder.

        Raises:
            DataMissing: the release cannot be fetched, or the source lacks a file.
            DataCorrupt: the files are damaged, or of no known release.
        """
        return prepare(source=source, progress=progress)

    @cached_property
    def _data(self) -> DomainData:
        return open_domain(self.domain, self.release, self._cache)

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of a split in the release's order; the ids are split and index there, `test-3`."""
        if self.check_split(split) not in self._tasks:
            found = self._data.tasks[split]
            self._tasks[split] = tuple(_task(self.name, split, index, raw) for index, raw in enumerate(found))
        return self._tasks[split]

    def tools(self) -> ToolServer[Rows]:
        """A tool server over the shared tables."""
        return TauServer(self._data, self._toolset)

    @cached_property
    def _toolset(self) -> Toolset:
        return self.toolset if self.variant == "paper" else self.repaired.checked(self._data.specs)

    @property
    def prompts(self) -> Mapping[str, str]:
        """The release's prompts of agents and users; the release `josh` has those of the plain user only."""
        return self._data.prompts

    @property
    def ontology(self) -> Ontology:
        """Empty: models play the agent and the user."""
        return Ontology(())

    def expected(self, task: Task) -> Expected:
        """The state after the gold actions, and the outputs. It is computed once for each task.

        The release `josh` compares the state only if no outputs are due; the variant `fixed` always does.
        """
        key = (task.split, task.id)
        if key not in self._expected:
            self._expected[key] = self._replayed(task)
        return self._expected[key]

    def _replayed(self, task: Task) -> Expected:
        rows, writes = Rows(self._data.base), list[str]()
        for goal in task.goals:
            name, arguments = goal.detail["tool"], goal.detail["arguments"]
            if name == TRANSFER:
                continue  # it ends an episode, and the release leaves it out
            called = run_call(self._toolset, rows, name, copied(dict(arguments)))
            rows = called.rows
            if called.writes:
                writes.append(goal.key)
        said = tuple(cast("list[str]", task.data.get("outputs", [])))
        words_alone = bool(said) and self.release == "josh" and self.variant == "paper"
        basis = ("said",) if words_alone else ("state", "said")
        return Expected(digest=self.digest(rows), said=said, basis=basis, writes=tuple(dict.fromkeys(writes)))

    def digest(self, state: Rows) -> str:
        """Digest of the tables; 25 and 25.0 are different, as in the release, but not in the variant `fixed`."""
        return state.digest(exact=self.variant == "paper")

    def results(self, run: RecordedRun) -> list[JsonObject]:
        """The run as tau-bench writes its results.

        Raises:
            UsageError: a task is not one of this release.
        """
        return tau_bench_results(run, {split: self.tasks(split) for split in {each.split for each in run.episodes}})


def _task(world: str, split: str, index: int, raw: Mapping[str, Any]) -> Task:
    return Task(
        id=f"{split}-{index}",
        world=world,
        split=split,
        instructions=raw["instruction"],
        goals=goals_of_calls((action["name"], action["kwargs"]) for action in raw["actions"]),
        data={"user_id": raw["user_id"], "outputs": raw["outputs"]},
    )


class RetailWorld(TauDomain):
    """A shop's customer service: cancel, change, return and exchange orders. Splits: train 500, dev 20, test 115."""

    name: ClassVar[str] = "tau:retail"
    splits: ClassVar[tuple[str, ...]] = ("train", "dev", "test")
    domain: ClassVar[DomainName] = "retail"
    toolset: ClassVar[Toolset] = retail1.TOOLS
    repaired: ClassVar[Toolset] = fixed1.RETAIL


class AirlineWorld(TauDomain):
    """An airline's customer service: book, change and cancel reservations. Split: test (50)."""

    name: ClassVar[str] = "tau:airline"
    splits: ClassVar[tuple[str, ...]] = ("test",)
    domain: ClassVar[DomainName] = "airline"
    toolset: ClassVar[Toolset] = airline1.TOOLS
    repaired: ClassVar[Toolset] = fixed1.AIRLINE


class TauWorld(World):
    """Customer service of a shop (tau:retail) and an airline (tau:airline), from tau-bench; tools change tables."""

    name: ClassVar[str] = "tau"
    domains: ClassVar[Mapping[str, type[World]]] = MappingProxyType({"retail": RetailWorld, "airline": AirlineWorld})

    @classmethod
    def prepare(cls, source: str | Path | None = None, progress: DataProgress = unwatched) -> Path:
        """Build the cache of both domains, of `josh` by default or from a wheel or clone, and return its folder.

        Raises:
            DataMissing: the release cannot be fetched, or the source lacks a file.
            DataCorrupt: the files are damaged, or of no known release.
        """
        return prepare(source=source, progress=progress)
