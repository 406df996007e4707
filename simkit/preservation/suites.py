"""Benchmarks of lm-evaluation-harness: its tasks by name, or the user's own task files.

The scores of every question are stored, so that runs can be compared question by question. A group (mmlu) is played
task by task, and a finished task is not played again when its run is resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import anyio.to_thread

from simkit.errors import ModelFault, SimkitError, UsageError, reason
from simkit.plugins.extras import require
from simkit.preservation.local_weights import suppress_progress_bars
from simkit.statistics.scores import Estimate, mean, mean_of_tasks

if TYPE_CHECKING:
    from simkit.run.run import Run

EXTRA = "preserve"
DONE = "suites"
"""Stage of the metrics that record the number of questions of each finished task."""

FAILED = "failed"
"""Metric that counts failed answers."""

MAX_ANSWER_CHARS = 300
"""Characters of an answer that are stored with its scores."""

LIKELIHOODS = {"word_perplexity": "nll_per_word", "byte_perplexity": "nll_per_byte", "bits_per_byte": "nll_per_byte"}
"""Metric of a single text, in nats, for each corpus perplexity; lower is better."""

OpenLM: TypeAlias = "Callable[[], Any]"
"""Factory of the model for lm-eval; called in a worker thread, at most once, if a task has to be played."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmarks:
    """Selection and options of benchmarks.

    Attributes:
        names: tasks, groups or tags of lm-eval.
        files: folder of the user's own task files (YAML); data files in it may be named relative to them.
        limit: maximum number of questions per task, from its beginning; None for all.
        few_shot: solved examples before each question; None for the task's default.
        chat: apply the model's chat template to the questions.
    """

    names: tuple[str, ...]
    files: Path | None = None
    limit: int | None = None
    few_shot: int | None = None
    chat: bool = False


@dataclass(frozen=True, slots=True)
class ItemScore:
    """Scores of one question by metric; its id is its index and the first digits of its content's hash."""

    id: str
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScore:
    """Scores of a task that was played.

    Attributes:
        answers: first characters of the answer, by the id of the question.
        totals: figures of the whole task by metric, as lm-eval computes them.
        lower: metrics whose lower values are better.
    """

    task: str
    items: Sequence[ItemScore]
    answers: Mapping[str, str]
    totals: Mapping[str, float]
    lower: frozenset[str]


@dataclass(frozen=True, slots=True)
class SuiteScore:
    """Scores of a suite: those of its questions, and figures of the whole suite by metric."""

    name: str
    items: Sequence[ItemScore]
    totals: Mapping[str, float]

    @property
    def failed(self) -> int:
        """Number of answers that failed."""
        return int(self.totals.get(FAILED, 0))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the figures of the whole suite."""
        return tuple(name for name in self.totals if name != FAILED)

    def estimate(self, metric: str) -> Estimate | None:
        """The mean of a metric over the questions with its interval; None if the suite's figure is not such a mean.

        F1, correlations and corpus perplexities are figures of the whole task, not means of its questions.
        """
        values = [each.metrics[metric] for each in self.items if metric in each.metrics]
        if not values or abs(mean(values) - self.totals.get(metric, float("nan"))) > 1e-6:
            return None
        return mean_of_tasks([[value] for value in values])


@dataclass(frozen=True, slots=True)
class LoadedTasks:
    """Tasks by name, ready to be played, and the members of each task, group or tag that was selected."""

    tasks: Mapping[str, Any]
    members: Mapping[str, tuple[str, ...]]


def load_tasks(benchmarks: Benchmarks) -> LoadedTasks:
    """Load the tasks of all selected groups and tags; takes half a minute, because lm-eval reads thousands of files.

    Raises:
        UsageError: lm-eval is missing, a name is unknown, or a task or its data cannot be loaded.
    """
    require("lm_eval", EXTRA)
    manager = _manager(benchmarks)
    for name in benchmarks.names:
        if name not in manager.all_tasks:
            raise _unknown(name, manager.all_tasks, benchmarks)
    found = {name: _loaded(manager, name) for name in benchmarks.names}
    tasks = {name: task for members in found.values() for name, task in members.items()}
    for task in tasks.values():
        _prepare(task, benchmarks)
    return LoadedTasks(tasks, {name: tuple(members) for name, members in found.items()})


async def play_suites(run: Run, benchmarks: Benchmarks, tasks: Mapping[str, Any], open_lm: OpenLM) -> None:
    """Play every task that this run has not finished, and store the scores.

    Raises:
        UsageError: a task cannot be played with this model.
        ModelFault: more than half of the answers to a task failed.
        RunStopped: a budget is used up, or an endpoint is unavailable.
    """
    found = await run.query("select name from metrics where run_id = ? and stage = ?", run.id, DONE, runs=(run.id,))
    done = {name for (name,) in found.rows}
    left = {name: task for name, task in tasks.items() if name not in done}
    if not left:
        return
    lm: Any = await anyio.to_thread.run_sync(_open, open_lm)
    for number, (name, task) in enumerate(left.items(), 1):
        run.progress.note = f"{name}, task {number} of {len(left)}"
        score = await anyio.to_thread.run_sync(partial(play_task, lm, name, task, benchmarks))
        _check_answered(name, score, tuple(lm.faults))
        _record(run, score, len(lm.faults))
        lm.faults.clear()


def _open(open_lm: OpenLM) -> Any:
    with suppress_progress_bars():
        return open_lm()


async def suite_scores(run: Run, loaded: LoadedTasks, *, allow_incomplete: bool = False) -> list[SuiteScore]:
    """Scores of the suites, read from the store; all questions of a group have the same weight.

    Raises:
        StoreIncomplete: the run's journals hold lines that could not be read.
    """
    found = await run.query(
        "select suite, item, map_from_entries(list((metric, value))) from item_scores where run_id = ? "
        "group by suite, item order by suite, item",
        run.id,
        runs=(run.id,),
    )
    found.state.require_complete("the score of a suite", allow_incomplete=allow_incomplete)
    items: dict[str, list[ItemScore]] = {}
    for suite, item, metrics in found.rows:
        items.setdefault(suite, []).append(ItemScore(item, metrics))
    found = await run.query(
        "select stage, name, value from metrics where run_id = ? order by all", run.id, runs=(run.id,)
    )
    totals: dict[str, dict[str, float]] = {}
    for stage, name, value in found.rows:
        totals.setdefault(stage, {})[name] = value
    return [
        _joined(name, [SuiteScore(each, items.get(each, []), totals.get(f"{DONE}/{each}", {})) for each in members])
        for name, members in loaded.members.items()
    ]


def _joined(name: str, members: Sequence[SuiteScore]) -> SuiteScore:
    if len(members) == 1:
        return SuiteScore(name, members[0].items, members[0].totals)
    items = [item for member in members for item in member.items]
    failed = sum(member.failed for member in members)
    means = {
        metric: mean([each.metrics[metric] for each in items if metric in each.metrics]) for metric in _names(items)
    }
    own = {metric for member in members for metric in member.totals if member.estimate(metric) is None}
    return SuiteScore(name, items, {**{key: means[key] for key in means if key not in own}, FAILED: failed})


def _names(items: Sequence[ItemScore]) -> list[str]:
    return sorted({metric for item in items for metric in item.metrics})


def _check_answered(name: str, score: TaskScore, faults: Sequence[ModelFault]) -> None:
    if 2 * len(faults) > len(score.items):
        raise ModelFault(
            f"{len(faults)} answers to the {len(score.items)} questions of the suite `{name}` failed, so its "
            f"score would be meaningless; fix the first failure and resume the run: {faults[0]}"
        ) from faults[0]


def play_task(lm: Any, name: str, task: Any, benchmarks: Benchmarks) -> TaskScore:
    """Play one task with a model of lm-eval; blocks.

    Raises:
        UsageError: lm-eval fails; the message includes its error.
    """
    evaluator = require("lm_eval.evaluator", EXTRA)
    try:
        with suppress_progress_bars():
            results: dict[str, Any] = evaluator.evaluate(
                lm=lm,
                task_dict={"tasks": {name: task}},
                limit=benchmarks.limit,
                bootstrap_iters=0,
                log_samples=True,
                apply_chat_template=benchmarks.chat,
                fewshot_as_multiturn=benchmarks.chat,
            )
    except SimkitError:
        raise
    except Exception as error:  # a task's own code may raise anything
        raise UsageError(f"the suite `{name}` failed in lm-eval: {type(error).__name__}: {error}") from error
    return _score(name, results)


def _manager(benchmarks: Benchmarks) -> Any:
    """The task manager, which reads only the user's files if they define all selected names."""
    manager: Any = require("lm_eval.tasks", EXTRA).TaskManager
    with suppress_progress_bars():
        if benchmarks.files is None:
            return manager()
        _check_files(benchmarks.files)
        own = manager(include_path=str(benchmarks.files), include_defaults=False)
        if not set(benchmarks.names) <= set(own.all_tasks):
            own = manager(include_path=str(benchmarks.files))
    _find_data(own, benchmarks.files)
    return own


def _check_files(folder: Path) -> None:
    """Refuse missing or unreadable task files, which lm-eval would ignore silently."""
    files = sorted(folder.rglob("*.yaml"))
    if not files:
        raise UsageError(f"{folder} holds no task files; --task-files takes a folder with one .yaml file per task")
    for file in files:
        try:
            _read(file)
        except Exception as error:  # the errors of YAML and lm-eval have no common base class
            raise UsageError(f"the task file {file} cannot be read: {reason(error)}") from error


def _find_data(manager: Any, folder: Path) -> None:
    """Make the paths of data files relative to their task file absolute."""
    for entry in manager.task_index.values():
        file: Path | None = entry.yaml_path
        if file is None or not file.is_relative_to(folder):
            continue
        config = _read(file)
        options = cast("dict[str, Any]", config.get("dataset_kwargs") or {})
        if "data_files" in options and isinstance(config.get("task"), str):
            config["dataset_kwargs"] = {
                **options,
                "data_files": _absolute(file.resolve().parent, options["data_files"]),
            }
            entry.cfg, entry.yaml_path = config, None


def _absolute(folder: Path, files: Any) -> Any:
    match files:
        case str():
            found = folder / files
            return str(found) if found.exists() else files
        case list():
            return [_absolute(folder, each) for each in cast("list[Any]", files)]
        case dict():
            return {split: _absolute(folder, each) for split, each in cast("dict[str, Any]", files).items()}
        case _:
            return files


def _read(file: Path) -> dict[str, Any]:
    return require("lm_eval.tasks._yaml_loader", EXTRA).load_yaml(file)


def _unknown(name: str, known: Sequence[str], benchmarks: Benchmarks) -> UsageError:
    near = get_close_matches(name, known, n=5, cutoff=0.5)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    where = f"{benchmarks.files} does not define it either" if benchmarks.files else "--task-files adds your own"
    return UsageError(f"lm-eval has no task, group or tag `{name}` ({where}; {len(known)} names are known){hint}")


def _loaded(manager: Any, name: str) -> dict[str, Any]:
    try:
        with suppress_progress_bars():
            return manager.load([name])["tasks"]
    except Exception as error:  # of the hub, the file system, or a task's own code
        raise UsageError(
            f"the suite `{name}` cannot be loaded: {type(error).__name__}: {error}. The data of lm-eval's tasks "
            "come from the Hugging Face hub; without a network, use your own tasks with --task-files"
        ) from error


def _prepare(task: Any, benchmarks: Benchmarks) -> None:
    own: int | None = task.get_config("num_fewshot")
    wanted = own if benchmarks.few_shot is None or own == 0 else benchmarks.few_shot  # a task's own 0 is not overridden
    task.set_config(key="num_fewshot", value=wanted or 0)
    task.set_fewshot_seed(seed=1234)  # the seed of lm-eval, so that its published figures are reproduced


def _score(name: str, results: Mapping[str, Any]) -> TaskScore:
    better: Mapping[str, bool | None] = results.get("higher_is_better", {}).get(name, {})
    samples: Sequence[Mapping[str, Any]] = results["samples"][name]
    items: dict[str, dict[str, float]] = {}
    answers: dict[str, str] = {}
    for sample in samples:  # one for each filter
        item = f"{sample['doc_id']}-{sample['doc_hash'][:8]}"
        items.setdefault(item, {}).update(_metrics(sample))
        answers.setdefault(item, str(sample["filtered_resps"])[:MAX_ANSWER_CHARS])
    totals = {
        _metric(*key.split(",", 1)): float(value)
        for key, value in results["results"][name].items()
        if "," in key and "_stderr" not in key and isinstance(value, (int, float))
    }
    lower = {metric for metric in totals if better.get(metric.split(",")[0]) is False} | set(LIKELIHOODS.values())
    scores = [ItemScore(item, metrics) for item, metrics in items.items()]
    return TaskScore(task=name, items=scores, answers=answers, totals=totals, lower=frozenset(lower))


def _metrics(sample: Mapping[str, Any]) -> dict[str, float]:
    """Scores of one sample; metrics of the whole task (the pairs of an F1) are left out."""
    found: dict[str, float] = {}
    for metric in sample["metrics"]:
        match sample[metric]:
            case bool() | int() | float() as value:
                found[_metric(metric, sample["filter"])] = float(value)
            case (float() | int() as logged, float() | int() as weight) if metric in LIKELIHOODS and weight:
                found[LIKELIHOODS[metric]] = -logged / weight
            case _:
                pass
    return found


def _metric(name: str, how: str) -> str:
    """A metric's name, with the filter if the task has one."""
    return name if how == "none" else f"{name},{how}"


def _record(run: Run, score: TaskScore, failed: int) -> None:
    for item in score.items:
        lower = {metric: "lower" for metric in item.metrics if metric in score.lower}
        primary = {"primary": next(iter(item.metrics))} if item.metrics else {}  # the first of the task's own list
        detail = {"answer": score.answers[item.id], **primary, **({"better": lower} if lower else {})}
        run.score_item(score.task, item.id, trial=0, detail=detail, **item.metrics)
    run.measure(f"{DONE}/{score.task}", 0, **score.totals, **{FAILED: failed})
    run.measure(DONE, 0, **{score.task: len(score.items)})


def suite_figures(suites: Sequence[SuiteScore]) -> dict[str, Any]:
    """Summary figures of the suites; a mean over questions has an interval."""
    found: dict[str, Any] = {}
    for suite in suites:
        for metric in suite.metrics:
            estimate = suite.estimate(metric)
            found[f"{suite.name} {metric}"] = suite.totals[metric] if estimate is None else estimate.to_json()
        found[f"{suite.name} questions"] = len(suite.items)
        if suite.failed:
            found[f"{suite.name} answers that failed"] = suite.failed
    return found
