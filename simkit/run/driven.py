"""A play of a run with workers: what they are told, and what the driver needs of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from simkit.actors.deadlines import AskLimits
from simkit.core.events import EndpointAdjusted, Episode, ModelCall
from simkit.core.recorder import LineRecorder
from simkit.models.adjustments import Adjustment
from simkit.models.base import ChatModel
from simkit.models.middleware.budget import Allowances
from simkit.models.middleware.replay import Recording
from simkit.run.cast_spec import CastOrigin, CastSpec, packed_search
from simkit.run.contract import Engine, PlaySpec
from simkit.run.dispatch import DriverContext, play_with_workers
from simkit.run.engine import PlayContext
from simkit.run.resume import RecordedRun
from simkit.search.base import WorkUnit

if TYPE_CHECKING:
    from simkit.models.run_models import RecordedCalls, RunModels


@dataclass(frozen=True, slots=True, kw_only=True)
class DrivenPlay:
    """A play for workers.

    Attributes:
        context: search, cast, progress and policy.
        origin: what the cast was told.
        run_id, store: the run, and the folder of its store.
        models: the run's models; None if it has none.
        allowances: its budgets.
        ask_limits: time limits of components.
        recorder: its recorder.
        recorded: model calls that were answered before.
    """

    context: PlayContext
    origin: CastOrigin
    run_id: str
    store: Path
    models: RunModels | None
    allowances: Allowances
    ask_limits: AskLimits
    recorder: LineRecorder
    recorded: RecordedCalls | None


async def play_elsewhere(
    play: DrivenPlay, engine: Engine, units: Sequence[WorkUnit], concurrency: int
) -> tuple[Episode, ...]:
    """Play units with the workers of an engine; see `play_with_workers`.

    Raises:
        UsageError: the cast or the search cannot be sent to workers; and what `play_with_workers` raises.
    """
    context, models = play.context, play.models
    cast, search = play.origin.spec(), packed_search(context.search)
    past = _PastCalls(play)
    async with engine.serving(_served_models(play, cast)) as served:
        spec = PlaySpec(
            run_id=play.run_id,
            cast=cast,
            search=search,
            ask_limits=play.ask_limits,
            allowances=play.allowances,
            strict=play.recorded is not None and play.recorded.strict,
            recorded=0 if play.recorded is None else len(play.recorded.recording),
            adjustments={} if models is None else models.adjustments,
            keeps_faults=context.progress.keeps_faults,
            served=served,
        )
        driver = DriverContext(
            spec=spec,
            search=context.search.name,
            full_reward=context.cast.reward_range[1],
            recorder=play.recorder,
            progress=context.progress,
            policy=context.policy,
            past=past,
            lender=None if models is None else models.lender(),
            adjusted=lambda event: _adjusted(play, event),
        )
        return await play_with_workers(driver, engine, units, concurrency)


def _adjusted(play: DrivenPlay, event: EndpointAdjusted) -> None:
    """Record what a worker has learned about an endpoint, unless another one has already."""
    if play.models is None:
        play.recorder.record(event)
        return
    learned = Adjustment(event.adjustment, event.setting, event.sent_as)
    play.models.learned.add((event.endpoint, event.model), learned, event.reason)


def _served_models(play: DrivenPlay, cast: CastSpec) -> Mapping[str, ChatModel]:
    """The models that this process serves to its workers, by name."""
    models = play.models
    if models is None or (play.recorded is not None and play.recorded.strict):
        return {}
    asked = cast.asked(models.model)
    wanted = [(player.spec, player.config) for player in (asked.agents(), asked.users()) if player.spec is not None]
    judge = asked.judges()
    found: dict[str, ChatModel] = {}
    for name, config in (*wanted, *(() if judge is None else (judge,))):
        spec = cast.folders.absolute(name)
        model = models.shared_model(spec, config)
        if model is not None:
            found[spec] = model
    return found


class _PastCalls:
    """Recorded answers of units: those of the run that is resumed or replayed, and after a loss those of this one."""

    def __init__(self, play: DrivenPlay) -> None:
        self._play = play
        self._recording = None if play.recorded is None else play.recorded.recording
        self._strict = play.recorded is not None and play.recorded.strict

    def of(self, unit: WorkUnit) -> bytes:
        """Recorded answers of a unit's episode."""
        return b"" if self._recording is None else self._recording.of_unit(unit.task.id, unit.trial)

    async def renew(self) -> None:
        """Read what this run has recorded so far; a replay has all answers already."""
        if self._strict or self._play.models is None:
            return
        await self._play.recorder.commit()
        self._recording = await anyio.to_thread.run_sync(self._read)

    def _read(self) -> Recording:
        return RecordedRun.read(self._play.store, self._play.run_id, (ModelCall,)).recording
