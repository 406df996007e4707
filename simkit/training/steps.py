"""Steps of the training recipes: select examples, check them, train, and report the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from simkit.data.checks import check
from simkit.data.examples import ExampleSet, Kind
from simkit.data.held_out import HeldOut, assert_clean_of, contamination
from simkit.data.reading import read_examples
from simkit.data.reasoning import with_reasoning_as
from simkit.data.selection import Selection, select_with_state
from simkit.errors import UsageError
from simkit.local.worker import parse_local
from simkit.training import flags as training
from simkit.training.config_files import Method, load_config
from simkit.training.dev import DevChoice, DevGoals
from simkit.training.guard import Guard
from simkit.training.jobs import TrainingJob, TrainingMetrics, TrainingResult
from simkit.training.launch import launched, train_in_process
from simkit.training.process import describe
from simkit.training.recorded import RecordedConversations

if TYPE_CHECKING:
    from simkit.run.run import Run
    from simkit.run.summary import Summary

NONE = "none"
LAST = """
    with played as (select distinct coalesce(r.config ->> 'part_of', r.run_id) as run_id
                    from runs r join episodes e using (run_id) where r.recipe not in ('guard', 'practice'))
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
    eval_data: training.EvalData = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SftExampleChoice(ExampleChoice):
    """Group of flags: the examples of a training on whole conversations."""

    source: training.SourceFlag = "golden"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessChoice:
    """Group of flags: settings, processes and output of a training.

    `trl` are flags of TRL's classes, as a command line has them.
    """

    config: training.Config = None
    out: training.Out = None
    launcher: training.Launcher = None
    threads: training.Threads = 0
    trl: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardChoice:
    """Group of flags: the guard of a training."""

    guard: training.Guard = "40"
    guard_split: training.GuardSplit = "val"
    guard_every: training.GuardEvery = None
    valid_floor: training.ValidFloor = 0.95
    success_floor: training.SuccessFloor = 0.75
    keep: training.Keep = "best"

    def of(self, dev: DevChoice, seed: int, user_model: str | None = None) -> Guard | None:
        """The guard of a training; None for no guard."""
        if self.guard == NONE:
            return None
        return Guard(
            goals=DevGoals(place=dev.place(self.guard_split, self.guard, user_model), seed=seed),
            every=self.guard_every,
            valid_floor=self.valid_floor,
            success_floor=self.success_floor,
            keep=self.keep,
        )


def model_of(run: Run, config: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The folder or name of the model to train, from `--model` or `model_name_or_path`, and values for its template.

    Raises:
        UsageError: no model was named, or one that cannot be trained here.
    """
    spec = str(run.models.model or config.get("model_name_or_path") or "")
    if not spec or spec.startswith(("openai/", "openai-responses/", "anthropic/", "scripted/")):
        raise UsageError(
            "there is no model to train; give --model FOLDER, or --model NAME of one at Hugging Face "
            "(models behind an endpoint are trained by their provider: `simkit run finetune`)"
        )
    name, options, _ = parse_local(spec.removeprefix("local/"))
    return name, dict(options.template_kwargs)


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
        raise UsageError(f"{chosen.data} holds {found.kind} examples; train them with `simkit train {found.kind}`")
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


async def train_on_examples(
    run: Run, method: Kind, chosen: ExampleChoice, dev: DevChoice, guard: GuardChoice, how: ProcessChoice
) -> Summary:
    """Select examples, check them, train on them in processes of their own, and summarize the result.

    Raises:
        UsageError: there is no model to train, the examples cannot be used, or the training fails.
    """
    make = job_of(run, method, dev, guard, how)
    examples = await chosen_examples(run, method, chosen, dev, guard)
    examples, evaluation = await _divided(run, examples, chosen, dev, guard)
    removed = ", ".join(f"{count} {reason}" for reason, count in examples.removed.items())
    trained = await carried_out(run, make(examples=examples, evaluation=evaluation))
    return summary_of(run, trained, data=chosen.data, removed_before=removed or "nothing")


def job_of(
    run: Run, method: Method, dev: DevChoice, guard: GuardChoice, how: ProcessChoice
) -> Callable[..., TrainingJob]:
    """The job of a run, to be completed with its examples or practice goals.

    Raises:
        UsageError: there is no model to train, the settings cannot be read, or the launcher is missing.
    """
    config = {} if how.config is None else load_config(how.config, method)
    model, values = model_of(run, config)
    if method == "grpo" or guard.guard != NONE:
        dev.place(guard.guard_split, guard.guard, run.models.user_model).check_user(run.folders)
    launcher, ranks = launched(how.launcher)
    return partial(
        TrainingJob,
        method=method,
        model=model,
        template_kwargs=values,
        config=config,
        flags=tuple(how.trl),
        out=folder_of(run, how.out),
        seed=run.seed,
        guard=guard.of(dev, run.seed, run.models.user_model),
        threads=how.threads,
        launcher=launcher,
        ranks=ranks,
    )


async def _divided(
    run: Run, examples: ExampleSet, chosen: ExampleChoice, dev: DevChoice, guard: GuardChoice
) -> tuple[ExampleSet, ExampleSet | None]:
    """The training examples, and those of the evaluation: of a file, or a random share of the first.

    Raises:
        UsageError: the share is not between 0 and 1, or leaves nothing.
    """
    if chosen.eval_data is None:
        return examples, None
    try:
        share = float(chosen.eval_data)
    except ValueError:
        other = replace(chosen, data=chosen.eval_data, eval_data=None)
        return examples, await chosen_examples(run, examples.kind, other, dev, guard)
    count = round(share * len(examples))
    if not (0 < share < 1 and count):
        raise UsageError(
            f"--eval-data {chosen.eval_data} of {len(examples)} examples leaves nothing to evaluate, or to train on; "
            "give a share such as 0.1, or a file"
        )
    drawn = set(Random(f"{run.seed}/evaluation").sample(range(len(examples)), count))
    kept = [example for place, example in enumerate(examples.examples) if place not in drawn]
    held = [example for place, example in enumerate(examples.examples) if place in drawn]
    return examples.keeping(kept, "evaluation"), replace(examples, examples=tuple(held))


async def carried_out(run: Run, job: TrainingJob) -> TrainingResult:
    """Train in processes of their own. Metrics go to the store and to the screen.

    Raises:
        UsageError: the training fails.
    """

    def report(metrics: TrainingMetrics) -> None:
        run.measure(metrics.stage, metrics.step, **metrics.values)
        run.progress.note = describe(metrics)

    run.progress.note = f"loading {job.model}"
    if job.guard is None and job.practice is None:
        trained = await train_in_process(job, report)
    else:
        async with RecordedConversations(run, job) as conversations:
            trained = await train_in_process(job, report, conversations.answer)
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
        rows=trained.form,
        steps=trained.steps,
        kept_step=trained.kept,
        **_change(trained),
        stopped=trained.stopped or "no",
        **guard,
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
