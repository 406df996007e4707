"""Steps of the training recipes: select examples, check them, train, and report the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import anyio
import anyio.to_thread

from simkit.data.checks import check
from simkit.data.examples import ExampleSet, Kind
from simkit.data.held_out import HeldOut, assert_clean_of, contamination
from simkit.data.reading import read_examples
from simkit.data.reasoning import Reasoning, with_reasoning_as
from simkit.data.selection import Selection, Source, select_with_state
from simkit.errors import UsageError
from simkit.local.worker import parse_local
from simkit.plugins.extras import check_installed
from simkit.training.config_files import Method, load_config
from simkit.training.dev import ConversationSetup, DevChoice
from simkit.training.guard import Guard
from simkit.training.jobs import TrainingJob, TrainingMetrics, TrainingResult
from simkit.training.launch import LIBRARIES, launched, train_in_process
from simkit.training.play import WithPolicy
from simkit.training.recorded import recorded_conversations
from simkit.training.settings_names import check_names

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


AllowIncomplete: TypeAlias = Annotated[bool, "Train on unfinished runs and on runs with unreadable lines."]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleChoice:
    """Group of flags: the examples of a training."""

    data: Annotated[
        str,
        "Training data: runs (ids or names, separated by commas; `last` for the last one that played), or a file: an "
        "export of `simkit export`, a TRL data set in .jsonl or .parquet, or the authors' .zip.",
    ] = "last"
    where: Annotated[
        str | None, "Filter for episodes, in SQL: reward >= 1 and turns < 10 (columns: from episode_facts)."
    ] = None
    max_per_task: Annotated[int | None, "Maximum number of examples per task."] = None
    limit: Annotated[int | None, "Maximum number of examples, chosen at random."] = None
    held_out: Annotated[
        str,
        "Split of the world whose tasks may not be in the training data. `none` for data whose tasks are unknown; "
        "examples of dev goals are always refused.",
    ] = "test"
    allow_incomplete: AllowIncomplete = False
    reasoning: Annotated[
        Reasoning | None,
        "Reasoning of answers: `keep` it as the field reasoning_content, write it `inline` in tags before the text, or "
        "`drop` it. Default: keep; a file is used as it is.",
    ] = None
    eval_data: Annotated[
        str | None,
        "Examples for an evaluation loss: a file, or a share of the training data such as 0.1. TRL's --eval_strategy "
        "says when; default: at the end of each epoch.",
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SftExampleChoice(ExampleChoice):
    """Group of flags: the examples of a training on whole conversations."""

    source: Annotated[
        Source,
        "Of runs: the golden conversations of trees, or the final conversation of any episode (filter with --where).",
    ] = "golden"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingChoice(DevChoice):
    """Group of flags: settings, processes, conversations and guard of a training; `trl` are flags of TRL's classes."""

    config: Annotated[
        str | None,
        "Settings: a preset (tiny-cpu, smollm2-135m, qwen3-8b-lora, paper-llama3-8b-kto), or a YAML file with fields "
        "of TRL's classes. Flags override them.",
    ] = None
    out: Annotated[Path | None, "Folder for the trained model. Default: models/<run> in the store."] = None
    launcher: Annotated[
        str | None,
        "Command that starts several processes, such as `accelerate launch --num_processes 8` or `torchrun "
        "--nproc_per_node 2`.",
    ] = None
    threads: Annotated[int, "CPU threads; 0 uses one thread on a machine without a GPU."] = 0
    trl: list[str] = field(default_factory=list[str])
    guard: Annotated[
        str, "Dev goals that the guard plays during training: a number, a slice, or `none` for no guard."
    ] = "40"
    guard_split: Annotated[str, "Split of the world that the dev goals are taken from."] = "val"
    guard_every: Annotated[
        int | None, "Optimiser steps between two measurements by the guard. Default: ten measurements."
    ] = None
    valid_floor: Annotated[
        float,
        "Minimum rate of valid tool calls, as a share of the initial rate; below it, training stops and rolls back.",
    ] = 0.95
    success_floor: Annotated[float, "The same for the success rate of greedy decoding."] = 0.75
    keep: Annotated[
        Literal["best", "last"],
        "Weights to keep if the guard did not stop the training: those of the best measurement, or the last ones.",
    ] = "best"

    def goals(self, user_model: str | None = None) -> ConversationSetup:
        """The dev goals."""
        return self.place(self.guard_split, self.guard, user_model)

    def guard_for(self, user_model: str | None) -> Guard | None:
        """The guard of a training; None for no guard."""
        if self.guard == NONE:
            return None
        return Guard(
            place=self.goals(user_model),
            every=self.guard_every,
            valid_floor=self.valid_floor,
            success_floor=self.success_floor,
            keep=self.keep,
        )


def model_of(spec: str | None) -> tuple[str, Mapping[str, Any]]:
    """The folder or name of a model to train, and values for its chat template.

    Raises:
        UsageError: no model is named, or one that cannot be trained here.
    """
    if not spec or spec.startswith(("openai/", "openai-responses/", "anthropic/", "scripted/")):
        raise UsageError(
            "there is no model to train; give --model FOLDER, or --model NAME of one at Hugging Face "
            "(models behind an endpoint are trained by their provider: `simkit run finetune`)"
        )
    name, options, _ = parse_local(spec.removeprefix("local/"))
    return name, dict(options.template_kwargs)


async def chosen_examples(run: Run, kind: Kind, chosen: ExampleChoice, how: TrainingChoice) -> ExampleSet:
    """The examples, decontaminated and checked.

    Raises:
        UsageError: there are no examples, some belong to held-out or dev tasks, or some are invalid; the message says
            which.
        StoreIncomplete: a run is not finished, or its journals hold unreadable lines.
    """
    found = await _found(run, kind, chosen)
    await anyio.to_thread.run_sync(_assert_clean, found, chosen.held_out, how)
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


def _assert_clean(examples: ExampleSet, split: str, how: TrainingChoice) -> None:
    """Check that no example belongs to a dev goal or a held-out task. Without a held-out split, unknown tasks pass."""
    place = how.goals()
    world = place.build()
    if split != NONE:
        assert_clean_of(examples, HeldOut.of(world.tasks(world.check_split(split)), f"{place.world}:{split}", world))
    if how.guard != NONE:
        goals = HeldOut.of(place.chosen(), f"the dev goals ({place.world}:{place.split})", world)
        if split != NONE or contamination(examples, goals).overlaps:
            assert_clean_of(examples, goals)


async def train_on_examples(run: Run, method: Kind, chosen: ExampleChoice, how: TrainingChoice) -> Summary:
    """Select examples, check them, train on them in processes of their own, and summarize the result.

    Raises:
        UsageError: there is no model to train, the examples cannot be used, or the training fails.
    """
    make = job_of(run, method, how)
    examples = await chosen_examples(run, method, chosen, how)
    examples, evaluation = await _divided(run, examples, chosen, how)
    removed = ", ".join(f"{count} {reason}" for reason, count in examples.removed.items())
    trained = await carried_out(run, make(examples=examples, evaluation=evaluation))
    return summary_of(run, trained, data=chosen.data, removed_before=removed or "nothing")


def job_of(run: Run, method: Method, how: TrainingChoice) -> Callable[..., TrainingJob]:
    """The job of a run, to be completed with its examples or practice goals.

    Raises:
        UsageError: there is no model to train, a setting does not exist, or a library or the launcher is missing.
    """
    config = {} if how.config is None else load_config(how.config, method)
    model, values = model_of(run.models.model or config.get("model_name_or_path"))
    check_installed("train", *LIBRARIES)
    check_names(method, config, how.trl)
    if method == "grpo" or how.guard != NONE:
        how.goals(run.models.user_model).check_user(run.folders)
    launcher, ranks = launched(how.launcher)
    return partial(
        TrainingJob,
        method=method,
        model=model,
        template_kwargs=values,
        config=config,
        flags=tuple(how.trl),
        out=(how.out or run.store.path / "models" / run.id).absolute(),  # the same when the run is resumed
        seed=run.seed,
        guard=how.guard_for(run.models.user_model),
        threads=how.threads,
        launcher=launcher,
        ranks=ranks,
    )


async def _divided(
    run: Run, examples: ExampleSet, chosen: ExampleChoice, how: TrainingChoice
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
        return examples, await chosen_examples(run, examples.kind, other, how)
    count = round(share * len(examples)) if 0 < share < 1 else 0
    if not 0 < count < len(examples):
        raise UsageError(
            f"--eval-data {chosen.eval_data} of {len(examples)} examples leaves nothing to evaluate, or to train on; "
            "give a share such as 0.1, or a file"
        )
    drawn = set(Random(f"{run.seed}/evaluation").sample(range(len(examples)), count))
    kept = [example for place, example in enumerate(examples.examples) if place not in drawn]
    held = [example for place, example in enumerate(examples.examples) if place in drawn]
    return examples.keeping(kept, "evaluation"), replace(examples, examples=tuple(held))


async def carried_out(run: Run, job: TrainingJob) -> TrainingResult:
    """Train in processes of their own. The run plays their conversations, and records these and the metrics.

    Raises:
        UsageError: the training fails.
    """
    run.progress.note = f"loading {job.model}"
    async with recorded_conversations(run, job) as conversations:

        async def answer(message: TrainingMetrics | WithPolicy) -> Any:
            if isinstance(message, WithPolicy):
                return await conversations(message)
            run.measure(message.stage, message.step, **message.values)
            run.progress.note = str(message)
            return None

        trained = await train_in_process(job, answer)
    run.progress.note = "done"
    return trained


def summary_of(run: Run, trained: TrainingResult, **more: object) -> Summary:
    """Summary of a training, for the final report and the store."""
    what = "reward" if trained.method == "grpo" else "loss"
    ends = {"before": trained.guard[0], "after": trained.guard[trained.kept]} if trained.guard else {}
    return run.summary(
        model=f"local/{trained.path}",
        **more,
        examples=trained.examples,
        left_out_too_long=trained.too_long,
        rows=trained.form,
        steps=trained.steps,
        kept_step=trained.kept,
        **{f"{what}_start": trained.loss_start, f"{what}_end": trained.loss_end},
        stopped=trained.stopped or "no",
        **{f"guard_{name}": str(score) for name, score in ends.items()},
    )
