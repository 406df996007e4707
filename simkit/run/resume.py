"""The contents of a run's journals, for resuming the run or replaying it without model calls.

To resume is to run again: finished episodes are kept, all others are played from their beginning, and a model call
whose key and request are in the journal is answered from it. A killed run thus continues in the middle of its trees.

The intact lines of a damaged journal are used. An episode is kept if nothing is missing between its start and its end;
all others are played again, and model calls whose lines are lost are made again.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from simkit.core.events import (
    IMPORTED,
    EndpointAdjusted,
    Episode,
    EpisodeStarted,
    Event,
    ModelCall,
    RunStarted,
    TaskSeen,
)
from simkit.errors import StoreUnreadable, UsageError
from simkit.models.config import ModelConfig, variable_of
from simkit.models.options import flag_of
from simkit.models.transport.url import HIDDEN, shown_header, shown_url
from simkit.plugins.component_paths import FILES, NAMED_IN, STARTED_IN
from simkit.search.base import WorkUnit
from simkit.store.damage import BadLine, describe
from simkit.store.encoding import JournalEvents
from simkit.store.source import journal_files

if TYPE_CHECKING:
    from simkit.models.middleware.replay import Recording
    from simkit.models.run_models import RecordedCalls
    from simkit.store import Store

MAY_CHANGE = frozenset(
    {*(name for name, _, flag in ModelConfig.flags() if flag.on_resume)}
    | {
        "concurrency",
        "workers",
        "engine",
        "seeds_at_once",
        "fail_fast",
        "max_faults",
        "ask_timeout",
        "allow_incomplete",
        "durable",
    }
    | {STARTED_IN, NAMED_IN}
)
"""Settings that affect how a run is played, but not its results."""

TASK = ("world", "split", "instructions", "goals")


@dataclass(frozen=True, slots=True)
class RunStart:
    """Settings of the latest start of a run."""

    name: str
    recipe: str
    seed: int
    config: Mapping[str, Any]
    version: str

    @classmethod
    def of(cls, event: RunStarted) -> RunStart:
        """Create from an event."""
        return cls(event.name, event.recipe, event.seed, event.config, event.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSource:
    """Origin of a run: none, a run that it resumes, or a run whose recorded model calls it replays.

    Attributes:
        resumed, replayed: ids of those runs.
        start: settings of the latest start of the resumed or replayed run.
    """

    resumed: str | None = None
    replayed: str | None = None
    start: RunStart | None = None

    @classmethod
    def find(cls, store: Store, resume: str | None, replay: str | None) -> RunSource:
        """Look up the runs of these names in a store.

        Raises:
            UsageError: there is no such run, or both are given.
            StoreUnreadable: its journal is missing, or does not contain the start of the run.
        """
        if resume is not None:
            if replay is not None:
                raise UsageError("a run is resumed or replayed, not both; leave one out")
            run = store.resolve(resume).run_id
            start = read_start(store.path, run)
            return cls(resumed=run, replayed=start.config.get("replay"), start=start)
        if replay is not None:
            run = store.resolve(replay).run_id
            return cls(replayed=run, start=read_start(store.path, run))
        return cls()

    @property
    def name(self) -> str:
        """The name of the resumed run."""
        return self.start.name if self.start and self.resumed else ""

    @property
    def recipe(self) -> str:
        """The recipe of the run."""
        return self.start.recipe if self.start else ""

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration of the resumed run."""
        return self.start.config if self.start and self.resumed else {}

    @property
    def seed(self) -> int | None:
        """The seed of the run."""
        return self.start.seed if self.start else None

    def models(self, given: ModelConfig | None) -> ModelConfig:
        """Configuration of the models: as given, with defaults from the original run or else from the environment.

        Raises:
            UsageError: the URL of an endpoint contained a secret, which is not stored, and was not given again.
        """
        before = ModelConfig.from_environment() if self.start is None else ModelConfig.of(self.start.config)
        chosen = before if given is None else given.over(before)
        if self.replayed is not None or self.start is None:
            return chosen
        return chosen.model_copy(update={name: _recovered(name, chosen) for name in chosen.hidden()})

    def checked(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the configuration if a resumed run may continue with it.

        Raises:
            UsageError: it differs in a setting that affects results.
        """
        if self.resumed is not None and self.start is not None:
            check_unchanged(self.resumed, self.start.config, config)
        return config

    def recorded_calls(self, earlier: RecordedRun | None, replayed: RecordedRun | None) -> RecordedCalls | None:
        """Recorded model calls that need not be made: those of the run itself, or of the run that it replays."""
        from simkit.models.run_models import RecordedCalls

        if replayed is not None:
            return RecordedCalls(replayed.recording, strict=True)
        return None if earlier is None else RecordedCalls(earlier.recording)


RESUME_EVENTS = (RunStarted, TaskSeen, EpisodeStarted, Episode, ModelCall, EndpointAdjusted)
"""Events that resuming a run requires."""

_Place: TypeAlias = tuple[str, int]
"""A position in the journals: file name, and number of gaps before it."""

_Began: TypeAlias = tuple[_Place, tuple[str, ...]]
"""Start of an episode: its position and its goals."""


@dataclass(slots=True)
class RecordedRun:
    """Contents of the journals of a run.

    Attributes:
        run_id: the run.
        recording: its model calls.
        start: settings of its latest start; None if no start has been recorded.
        attempt: number of that start, from 0.
        finished: finished episodes, by id.
        tasks: recorded tasks, by id.
        supervisors: name of the search that plays each episode, by episode id.
        attempts: number of the latest start of each episode, by episode id.
        damage: damage in the journals.
    """

    run_id: str
    recording: Recording
    start: RunStart | None = None
    attempt: int = -1
    finished: dict[str, Episode] = field(default_factory=dict[str, Episode])
    tasks: dict[str, TaskSeen] = field(default_factory=dict[str, TaskSeen])
    supervisors: dict[str, str] = field(default_factory=dict[str, str])
    attempts: dict[str, int] = field(default_factory=dict[str, int])
    damage: tuple[BadLine, ...] = ()
    _latest: dict[str, _Began] = field(default_factory=dict[str, "_Began"])

    @classmethod
    def read(cls, folder: Path, run_id: str, kinds: Collection[type[Event]] = RESUME_EVENTS) -> RecordedRun:
        """Read events of these kinds from the journals of a run; `folder` is the store's.

        Torn last lines are ignored.

        Raises:
            StoreUnreadable: there is no journal, or it cannot be read.
        """
        from simkit.models.middleware.replay import Recording

        earlier = cls(run_id, Recording(run_id))
        for path in journals(folder, run_id):
            earlier._add(JournalEvents(path, kinds))
        return earlier

    def next_start(self, episode: str) -> int:
        """Number of the next start of an episode."""
        return self.attempts.get(episode, -1) + 1

    def kept(self, unit: WorkUnit, supervisor: str) -> Episode | None:
        """The finished episode of a unit; None if it still has to be played.

        Raises:
            UsageError: it was played by another search.
        """
        was = self.supervisors.get(unit.episode_id)
        if was is not None and was != supervisor:
            raise _changed(self.run_id, [f"the search of {unit.task.id} was `{was}` and is `{supervisor}`"])
        return self.finished.get(unit.episode_id)

    def check_task(self, seen: TaskSeen) -> None:
        """Compare a task with the one that the run recorded.

        Raises:
            UsageError: the task has changed.
        """
        was = self.tasks.get(seen.task_id)
        if was is None:
            return
        fields = [name for name in TASK if _canonical(getattr(was, name)) != _canonical(getattr(seen, name))]
        if fields:
            raise _changed(self.run_id, [f"the task {seen.task_id} has another {' and '.join(fields)}"])

    def _add(self, journal: JournalEvents) -> None:
        """Add the events of a journal."""
        starts = -1
        for event, losses in journal:
            match event:
                case RunStarted():
                    starts = starts + 1 if event.attempt is None else event.attempt
                    if self.start is None or starts >= self.attempt:
                        self.start, self.attempt = RunStart.of(event), starts
                case TaskSeen():
                    self.tasks[event.task_id] = event
                case EpisodeStarted():
                    self._started(event, (journal.path.name, losses))
                case Episode():
                    self._finished(event, (journal.path.name, losses))
                case ModelCall():
                    self.recording.add(event)
                case EndpointAdjusted():
                    self.recording.adjusted(event)
                case _:
                    pass
        self.damage += journal.bad

    def _started(self, event: EpisodeStarted, place: _Place) -> None:
        before = self.attempts.get(event.episode_id, -1)
        attempt = before + 1 if event.attempt is None else event.attempt
        if attempt < before:
            return  # another worker has restarted it since
        self.attempts[event.episode_id] = attempt
        self.finished.pop(event.episode_id, None)
        self.supervisors[event.episode_id] = event.supervisor
        self._latest[event.episode_id] = (place, event.goals)

    def _finished(self, episode: Episode, place: _Place) -> None:
        started, goals = self._latest.get(episode.episode_id, (None, ()))
        if started == place:  # otherwise it ends an earlier start, or lines are missing
            self.finished[episode.episode_id] = replace(episode, goals=goals)


def read_start(folder: Path, run_id: str) -> RunStart:
    """Settings of the latest start of a run, for resuming or replaying it.

    Raises:
        UsageError: the run was imported from another program.
        StoreUnreadable: its journals are missing, unreadable, or contain no start.
    """
    earlier = RecordedRun.read(folder, run_id, (RunStarted,))
    if earlier.start is not None:
        if earlier.start.recipe == IMPORTED:
            raise UsageError(
                f"{run_id} was imported from another program; it has no model calls and no settings, so it cannot be "
                "resumed or replayed. Start a new run"
            )
        return earlier.start
    why = f": {describe(earlier.damage)}" if earlier.damage else ""
    raise StoreUnreadable(f"the journals of {run_id} in {folder} do not say how it was started{why}; start a new run")


def _recovered(name: str, chosen: ModelConfig) -> str | tuple[str, ...]:
    """Complete value from the environment for an option that the run stored without its secrets."""
    if name == "header":
        return _recovered_headers(chosen)
    stored = getattr(chosen, name)
    variables = (os.environ.get("OPENAI_BASE_URL"), os.environ.get("ANTHROPIC_BASE_URL"))
    for url in (getattr(ModelConfig.from_environment(), name), *variables):
        if url and shown_url(url) == stored:
            return url
    raise UsageError(
        f"the run's {flag_of(name)} {stored} had a secret in it, which is not stored; give it again, or set "
        f"{variable_of(name)}"
    )


def _recovered_headers(chosen: ModelConfig) -> tuple[str, ...]:
    known = {shown_header(each): each for each in ModelConfig.from_environment().header}
    missing = [each for each in chosen.header if each.endswith(f"={HIDDEN}") and each not in known]
    if missing:
        raise UsageError(
            f"the run's header {missing[0].partition('=')[0]} had a secret in it, which is not stored; give all "
            f"headers again with --header, or set {variable_of('header')}"
        )
    return tuple(known.get(each, each) for each in chosen.header)


def check_unchanged(run_id: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Compare the configuration that a run had with the one that it is resumed with.

    Raises:
        UsageError: they differ in a setting that affects results; the message lists the differences.
    """
    names = [name for name in dict.fromkeys([*was, *now]) if name not in MAY_CHANGE and name != FILES]
    changes = [
        f"{flag_of(name)} was {_shown(was.get(name))} and is {_shown(now.get(name))}"
        for name in names
        if _canonical(was.get(name)) != _canonical(now.get(name))
    ]
    changes += _changed_files(was.get(FILES) or {}, now.get(FILES) or {})
    if changes:
        raise _changed(run_id, changes)


def journals(folder: Path, run_id: str) -> list[Path]:
    """Journals of a run, one per worker.

    Raises:
        StoreUnreadable: the run has no journal.
    """
    found = journal_files(folder, (run_id,))
    if not found:
        raise StoreUnreadable(f"{folder} has no journal of the run {run_id}; name another --store, or start a new run")
    return found


def _changed_files(was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [f"the file {path} has changed" for path in was if now.get(path) != was[path]]


def _changed(run_id: str, changes: list[str]) -> UsageError:
    return UsageError(
        f"{run_id} cannot be resumed with other settings: {'; '.join(changes)}. Undo the change, or start a new run"
    )


def _canonical(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=str)


def _shown(value: object) -> str:
    return "not given" if value is None else f"{value}"
