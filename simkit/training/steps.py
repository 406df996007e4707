"""Steps of the training recipes: select examples, check them, train, and report the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import anyio
import anyio.to_thread

from simkit.data.checks import check
from simkit.data.examples import ExampleSet, Kind
from simkit.data.held_out import HeldOut, assert_clean_of, contamination
from simkit.data.reading import read_examples
from simkit.data.reasoning import with_reasoning_as
from simkit.data.selection import Selection, select_with_state
from simkit.errors import UsageError
from simkit.training import flags as training
from simkit.training.dev import DevChoice, DevGoals
from simkit.training.guard import Guard
from simkit.training.jobs import RECORDS, TrainingJob, TrainingMetrics, TrainingResult
from simkit.training.presets import Method, Preset, preset
from simkit.training.process import Job, describe, train_in_process

if TYPE_CHECKING:
    from simkit.run.run import Run
    from simkit.run.summary import Summary

NONE = "none"
NO_ENDPOINT = (
    *("user_model", "base_url", "user_base_url", "temperature", "user_temperature", "max_tokens", "user_max_tokens"),
    *("api_concurrency", "rpm", "tpm", "request_timeout", "max_retries", "max_cost", "max_tokens_total", "prices"),
    *("replay", "concurrency", "fail_fast", "max_faults", "ask_timeout"),
)
"""Run flags without effect in a training: it calls no endpoint, and dev goals are not episodes of the run."""

LOOKS = 10
"""Default number of a guard's measurements."""

LAST = """
    with played as (select distinct coalesce(r.config ->> 'part_of', r.run_id) as run_id
                    from runs r join episodes e using (run_id))
    select run_id from played join runs using (run_id)
    where run_id <> $1
    and (coalesce(number, 0), started_at) <= (select (coalesce(number, 0), started_at) from runs where run_id = $1)
    order by number desc nulls last, started_at desc, run_id desc limit 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleChoice:
    """Group of flags: the examples of a training. `held_out` names a split, or is `none`.

    `allow_incomplete` also accepts the readable data of unfinished runs and of damaged journals. `reasoning` is the
    form of the reasoning in answers; None keeps it, and leaves a file as it is.
    """

    data: training.Data = "last"
    where: training.Where = None
    max_per_task: training.MaxPerTask = None
    limit: training.Limit = None
    held_out: training.HeldOut = "test"
    allow_incomplete: training.AllowIncomplete = False
    reasoning: training.ReasoningFlag = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SftExampleChoice(ExampleChoice):
    """Group of flags: the examples of a training on whole conversations."""

    source: training.SourceFlag = "golden"


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetChoice:
    """Group of flags: a preset, and settings that replace its own; None for the preset's."""

    preset: training.PresetFlag = "paper"
    learning_rate: training.LearningRate = None
    epochs: training.Epochs = None
    max_steps: training.MaxSteps = None
    batch: training.Batch = None
    micro_batch: training.MicroBatch = None
    max_length: training.MaxLength = None
    schedule: training.Schedule = None
    lora_rank: training.LoraRank = None
    lora_alpha: training.LoraAlpha = None

    def of(self, method: Method) -> Preset:
        """The settings of a training.

        Raises:
            UsageError: a value is invalid.
        """
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return preset(values.pop("preset"), method).overridden(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferencePreset(PresetChoice):
    """Group of flags: the settings of a training on preferences."""

    beta: training.Beta = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KtoPreset(PreferencePreset):
    """Group of flags: the settings of KTO."""

    desirable_weight: Annotated[float | None, "Weight of the desirable answers."] = None
    undesirable_weight: Annotated[float | None, "Weight of the undesirable ones."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardChoice:
    """Group of flags: the guard of a training."""

    guard: training.Guard = "40"
    guard_split: training.GuardSplit = "val"
    guard_every: training.GuardEvery = None
    valid_floor: training.ValidFloor = 0.95
    success_floor: training.SuccessFloor = 0.75
    keep: training.Keep = "best"

    def of(self, dev: DevChoice, steps: int, seed: int) -> Guard | None:
        """The guard of a training of `steps` optimizer steps; None for no guard."""
        if self.guard == NONE:
            return None
        return Guard(
            goals=DevGoals(place=dev.place(self.guard_split, self.guard), seed=seed),
            every=self.guard_every or max(1, steps // LOOKS),
            valid_floor=self.valid_floor,
            success_floor=self.success_floor,
            keep=self.keep,
        )


def model_of(run: Run) -> str:
    """The folder or name of the model to train, from `--model`.

    Raises:
        UsageError: no model was named, or one that cannot be trained here.
    """
    spec = (run.models.model or "").removeprefix("local/").partition(",")[0]
    if not spec or spec.startswith(("openai/", "openai-responses/", "anthropic/", "scripted/")):
        raise UsageError(
            "there is no model to train; give --model FOLDER, or --model NAME of one at Hugging Face "
            "(models behind an endpoint are trained by their provider: `simkit run finetune`)"
        )
    return spec


def folder_of(run: Run, out: Path | None) -> Path:
    """The folder for the trained model. It stays the same when the run is resumed."""
    return (out or run.store.path / "models" / run.id).absolute()


async def chosen_examples(
    run: Run, kind: Kind, chosen: ExampleChoice, dev: DevChoice, guard: GuardChoice
) -> ExampleSet:
    """The examples, decontaminated and checked.

    Raises:
        UsageError: there are no examples, some belong to held-out or dev tasks, or some are invalid; the message says
            which.
        StoreIncomplete: a run is not finished, or its journals hold unreadable lines.
    """
    found = await _found(run, kind, chosen)
    if found.kind != kind:
        raise UsageError(f"{chosen.data} holds {found.kind} examples; train them with `simkit run train_{found.kind}`")
    await anyio.to_thread.run_sync(_assert_clean, found, chosen.held_out, dev, guard)
    report = check(found)
    if not report.ok:
        raise UsageError(f"the examples cannot be trained on:\n{report.to_text()}")
    return found


async def _found(run: Run, kind: Kind, chosen: ExampleChoice) -> ExampleSet:
    if await anyio.Path(chosen.data).is_file():
        found = await anyio.to_thread.run_sync(read_examples, chosen.data)
        found = found if chosen.reasoning is None else with_reasoning_as(found, chosen.reasoning)
        return found if chosen.limit is None else found.keeping(found[: chosen.limit], "over_limit")
    runs = [await _last(run) if name == "last" else name for name in chosen.data.split(",")]
    selection = Selection(
        runs=tuple(runs),
        source=chosen.source if isinstance(chosen, SftExampleChoice) else "golden",
        where=chosen.where,
        max_per_task=chosen.max_per_task,
        limit=chosen.limit,
        seed=run.seed,
        reasoning=chosen.reasoning or "keep",
    )
    take = partial(
        select_with_state, run.store, kind, selection, allow_incomplete=chosen.allow_incomplete, finished=True
    )
    found, state = await anyio.to_thread.run_sync(take)
    run.note(*state.notes, *state.shortfalls)
    return found


async def _last(run: Run) -> str:
    """The last run before this one that played episodes. It stays the same when this run is resumed."""
    found = await run.query(LAST, run.id)
    if not found.rows:
        raise UsageError("no run in this store has played anything yet; harvest first: `simkit run josh`")
    return str(found.rows[0][0])


def _assert_clean(examples: ExampleSet, split: str, dev: DevChoice, guard: GuardChoice) -> None:
    """Check that no example belongs to a dev goal or a held-out task. Without a held-out split, unknown tasks pass."""
    place = dev.place(guard.guard_split, guard.guard)
    world = place.build()
    if split != NONE:
        assert_clean_of(examples, HeldOut.of(world.tasks(world.check_split(split)), f"{place.world}:{split}", world))
    if guard.guard != NONE:
        goals = HeldOut.of(place.chosen(), f"the dev goals ({place.world}:{place.split})", world)
        if split != NONE or contamination(examples, goals).overlaps:
            assert_clean_of(examples, goals)


def steps_of(examples: int, preset: Preset) -> int:
    """Number of optimizer steps of a training, if no example is too long."""
    return preset.max_steps or max(1, ceil(ceil(examples / preset.batch) * preset.epochs))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest:
    """Arguments of a recipe that learns from examples."""

    kind: Kind
    chosen: ExampleChoice
    dev: DevChoice
    guard: GuardChoice
    preset: Preset
    out: Path | None = None
    keep_adapter: bool = False
    threads: int = 0


async def train_on_examples(run: Run, request: TrainingRequest) -> Summary:
    """Select examples, check them, train on them in a child process, and summarize the result.

    Raises:
        UsageError: there is no model to train, the examples cannot be used, or the training fails.
    """
    model, out = model_of(run), folder_of(run, request.out)
    examples = await chosen_examples(run, request.kind, request.chosen, request.dev, request.guard)
    job = TrainingJob(
        method=request.kind,
        model=model,
        examples=examples,
        preset=request.preset,
        out=out,
        seed=run.seed,
        guard=request.guard.of(request.dev, steps_of(len(examples), request.preset), run.seed),
        keep_adapter=request.keep_adapter,
        threads=request.threads,
    )
    removed = ", ".join(f"{count} {reason}" for reason, count in examples.removed.items())
    return summary_of(run, await carried_out(run, job), data=request.chosen.data, removed_before=removed or "nothing")


async def carried_out(run: Run, job: Job) -> TrainingResult:
    """Train in a child process. Metrics go to the store and to the screen.

    Raises:
        UsageError: the training fails.
    """

    def report(metrics: TrainingMetrics) -> None:
        run.measure(metrics.stage, metrics.step, **metrics.values)
        run.progress.note = describe(metrics)

    run.progress.note = f"loading {job.model}"
    trained = await train_in_process(job, report)
    run.progress.note = "done"
    return trained


def summary_of(run: Run, trained: TrainingResult, **more: object) -> Summary:
    """Summary of a training, for the final report and the store."""
    guard = {f"guard_{step}": _said(values) for step, values in _ends(trained)}
    return run.summary(
        model=f"local/{trained.path}",
        **more,
        examples=trained.examples,
        left_out_too_long=trained.too_long,
        steps=trained.steps,
        kept_step=trained.kept,
        **_change(trained),
        stopped=trained.stopped or "no",
        **guard,
        curve=str(trained.path / RECORDS / "loss.png"),
    )


def _change(trained: TrainingResult) -> dict[str, float]:
    what = "reward" if trained.method == "grpo" else "loss"
    return {f"{what}_start": trained.loss_start, f"{what}_end": trained.loss_end}


def _ends(trained: TrainingResult) -> Sequence[tuple[str, dict[str, float]]]:
    """The guard's measurements of the model before training and of the kept one."""
    if not trained.guard:
        return ()
    return (("before", dict(trained.guard[0])), ("after", dict(trained.guard[trained.kept])))


def _said(values: dict[str, float]) -> str:
    return f"success {values['success']:.3f}, reward {values['reward']:.3f}, valid calls {values['valid_calls']:.3f}"
