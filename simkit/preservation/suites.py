"""Benchmarks of lm-evaluation-harness: its tasks by name, or task files of the user's own.

Every question's scores go into the store, so that two runs are compared question by question. A group (mmlu) is played
task by task, and a task that is done is not played again when its run is resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import anyio.to_thread

from simkit.errors import ModelFault, SimkitError, UsageError
from simkit.plugins.extras import require
from simkit.preservation.local_weights import quiet
from simkit.statistics.scores import Estimate, mean, mean_of_tasks

if TYPE_CHECKING:
    from simkit.run.run import Run

EXTRA = "preserve"
DONE = "suites"
"""The stage under which a run measures how many questions each finished task has."""

FAILED = "failed"
"""The name of the figure that counts failed answers."""

SHOWN = 300
"""Characters of an answer that are kept beside its scores."""

LIKELIHOODS = {"word_perplexity": "nll_per_word", "byte_perplexity": "nll_per_byte", "bits_per_byte": "nll_per_byte"}
"""Under which name a text's own share of a corpus perplexity is kept, in nats; less is better."""

OpenLM: TypeAlias = "Callable[[], Any]"
"""Gives the model in lm-eval's own form; called in a worker thread, once, and only when there is something to play."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmarks:
    """Which benchmarks are played and how.

    Attributes:
        names: tasks, groups or tags of lm-eval.
        files: a folder of the user's own task files (YAML); data files named in them are looked for beside them.
        limit: the first so many questions of each task; None for all.
        few_shot: solved examples before each question; None for the task's own number.
        chat: whether questions are put through the model's chat template.
    """

    names: tuple[str, ...]
    files: Path | None = None
    limit: int | None = None
    few_shot: int | None = None
    chat: bool = False


@dataclass(frozen=True, slots=True)
class ItemScore:
    """The scores of one question by metric; `id` is its place and the beginning of its content's hash."""

    id: str
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScore:
    """What a task came to when it was played.

    Attributes:
        answers: the beginning of what was answered, by the id of the question.
        totals: the task's own figures by metric, as lm-eval computes them.
        lower: the metrics of which less is better.
    """

    task: str
    items: Sequence[ItemScore]
    answers: Mapping[str, str]
    totals: Mapping[str, float]
    lower: frozenset[str]


@dataclass(frozen=True, slots=True)
class SuiteScore:
    """What a suite came to: the scores of its questions, and its own figures by metric."""

    name: str
    items: Sequence[ItemScore]
    totals: Mapping[str, float]

    @property
    def failed(self) -> int:
        """Answers that the model could not give."""
        return int(self.totals.get(FAILED, 0))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of its figures."""
        return tuple(name for name in self.totals if name != FAILED)

    def estimate(self, metric: str) -> Estimate | None:
        """The mean of a metric over the questions with its interval; None when the suite's own figure is no such mean.

        F1, correlations and corpus perplexities are figures of the whole task, not means of its questions.
        """
        values = [each.metrics[metric] for each in self.items if metric in each.metrics]
        if not values or abs(mean(values) - self.totals.get(metric, float("nan"))) > 1e-6:
            return None
        return mean_of_tasks([[value] for value in values])


@dataclass(frozen=True, slots=True)
class Loaded:
    """Tasks ready to be played by name, and which of them each name that was asked for stands for."""

    tasks: Mapping[str, Any]
    members: Mapping[str, tuple[str, ...]]


def load_tasks(benchmarks: Benchmarks) -> Loaded:
    """The tasks, groups and tags taken apart; slow (half a minute), because lm-eval reads thousands of files.

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
    return Loaded(tasks, {name: tuple(members) for name, members in found.items()})


async def play_suites(run: Run, benchmarks: Benchmarks, tasks: Mapping[str, Any], open_lm: OpenLM) -> None:
    """Play every task that this run has not finished, into the store.

    Raises:
        UsageError: a task cannot be played with this model.
        ModelFault: the model answers less than half of a task's questions.
        RunStopped: a budget is used up, or an endpoint is down.
    """
    found = await run.query("select name from metrics where run_id = ? and stage = ?", run.id, DONE, runs=(run.id,))
    done = {name for (name,) in found.rows}
    left = {name: task for name, task in tasks.items() if name not in done}
    if not left:
        return
    lm: Any = await anyio.to_thread.run_sync(_opened, open_lm)
    for number, (name, task) in enumerate(left.items(), 1):
        run.tally.note = f"{name}, task {number} of {len(left)}"
        score = await anyio.to_thread.run_sync(partial(play_task, lm, name, task, benchmarks))
        _check_answered(name, score, tuple(lm.faults))
        _keep(run, score, len(lm.faults))
        lm.faults.clear()


def _opened(open_lm: OpenLM) -> Any:
    with quiet():
        return open_lm()


async def suite_scores(run: Run, loaded: Loaded, *, allow_incomplete: bool = False) -> list[SuiteScore]:
    """What the suites came to, from the store: a group's questions count the same, whichever task they belong to.

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
            f"{len(faults)} answers to the {len(score.items)} questions of the suite `{name}` failed, so that its "
            f"score would say nothing; the first failure: {faults[0]}"
        ) from faults[0]


def play_task(lm: Any, name: str, task: Any, benchmarks: Benchmarks) -> TaskScore:
    """One task with a model of lm-eval's; blocks.

    Raises:
        UsageError: lm-eval fails on it; the message is its own.
    """
    evaluator = require("lm_eval.evaluator", EXTRA)
    try:
        with quiet():
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
    except Exception as error:  # whatever a task's own code raises
        raise UsageError(f"the suite `{name}` failed in lm-eval: {type(error).__name__}: {error}") from error
    return _score(name, results)


def _manager(benchmarks: Benchmarks) -> Any:
    """The task manager: over the user's files alone where they hold everything that is wanted."""
    manager: Any = require("lm_eval.tasks", EXTRA).TaskManager
    with quiet():
        if benchmarks.files is None:
            return manager()
        _check_files(benchmarks.files)
        own = manager(include_path=str(benchmarks.files), include_defaults=False)
        if not set(benchmarks.names) <= set(own.all_tasks):
            own = manager(include_path=str(benchmarks.files))
    _find_data(own, benchmarks.files)
    return own


def _check_files(folder: Path) -> None:
    """Raise for what lm-eval would pass over in silence."""
    files = sorted(folder.rglob("*.yaml"))
    if not files:
        raise UsageError(f"{folder} holds no task files; --task-files is a folder with one .yaml file a task")
    for file in files:
        try:
            _read(file)
        except Exception as error:  # YAML and lm-eval's own reading have no common error
            raise UsageError(f"the task file {file} cannot be read: {error}") from error


def _find_data(manager: Any, folder: Path) -> None:
    """Make data files that stand beside their task file be found from anywhere."""
    for entry in manager.task_index.values():
        file: Path | None = entry.yaml_path
        if file is None or not file.is_relative_to(folder):
            continue
        config = _read(file)
        options = cast("dict[str, Any]", config.get("dataset_kwargs") or {})
        if "data_files" in options and isinstance(config.get("task"), str):
            config["dataset_kwargs"] = {**options, "data_files": _beside(file.resolve().parent, options["data_files"])}
            entry.cfg, entry.yaml_path = config, None


def _beside(folder: Path, files: Any) -> Any:
    match files:
        case str():
            found = folder / files
            return str(found) if found.exists() else files
        case list():
            return [_beside(folder, each) for each in cast("list[Any]", files)]
        case dict():
            return {split: _beside(folder, each) for split, each in cast("dict[str, Any]", files).items()}
        case _:
            return files


def _read(file: Path) -> dict[str, Any]:
    return require("lm_eval.tasks._yaml_loader", EXTRA).load_yaml(file)


def _unknown(name: str, known: Sequence[str], benchmarks: Benchmarks) -> UsageError:
    near = get_close_matches(name, known, n=5, cutoff=0.5)
    meant = f"; did you mean {', '.join(near)}?" if near else ""
    where = f"nor has {benchmarks.files} one" if benchmarks.files else "--task-files adds your own"
    return UsageError(f"lm-eval knows no task, group or tag `{name}` ({where}; {len(known)} names are known){meant}")


def _loaded(manager: Any, name: str) -> dict[str, Any]:
    try:
        with quiet():
            return manager.load([name])["tasks"]
    except Exception as error:  # the hub, the file system, and whatever a task's own code raises
        raise UsageError(
            f"the suite `{name}` cannot be loaded: {type(error).__name__}: {error}. Data sets of lm-eval's own tasks "
            "come from the Hugging Face hub; without a network play your own with --task-files"
        ) from error


def _prepare(task: Any, benchmarks: Benchmarks) -> None:
    own: int | None = task.get_config("num_fewshot")
    wanted = own if benchmarks.few_shot is None or own == 0 else benchmarks.few_shot  # 0 is a task's own decision
    task.set_config(key="num_fewshot", value=wanted or 0)
    task.set_fewshot_seed(seed=1234)  # lm-eval's own, so that its published figures can be met


def _score(name: str, results: Mapping[str, Any]) -> TaskScore:
    better: Mapping[str, bool | None] = results.get("higher_is_better", {}).get(name, {})
    samples: Sequence[Mapping[str, Any]] = results["samples"][name]
    items: dict[str, dict[str, float]] = {}
    answers: dict[str, str] = {}
    for sample in samples:  # one for each filter
        item = f"{sample['doc_id']}-{sample['doc_hash'][:8]}"
        items.setdefault(item, {}).update(_metrics(sample))
        answers.setdefault(item, str(sample["filtered_resps"])[:SHOWN])
    totals = {
        _metric(*key.split(",", 1)): float(value)
        for key, value in results["results"][name].items()
        if "," in key and "_stderr" not in key and isinstance(value, (int, float))
    }
    lower = {metric for metric in totals if better.get(metric.split(",")[0]) is False} | set(LIKELIHOODS.values())
    scores = [ItemScore(item, metrics) for item, metrics in items.items()]
    return TaskScore(task=name, items=scores, answers=answers, totals=totals, lower=frozenset(lower))


def _metrics(sample: Mapping[str, Any]) -> dict[str, float]:
    """A sample's own scores; what only the whole task has (the pairs that make an F1) is left out."""
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
    """A metric's name, with the filter it was read through where there is a choice."""
    return name if how == "none" else f"{name},{how}"


def _keep(run: Run, score: TaskScore, failed: int) -> None:
    for item in score.items:
        lower = {metric: "lower" for metric in item.metrics if metric in score.lower}
        detail = {"answer": score.answers[item.id], **({"better": lower} if lower else {})}
        run.score_item(score.task, item.id, trial=0, detail=detail, **item.metrics)
    run.measure(f"{DONE}/{score.task}", 0, **score.totals, **{FAILED: failed})
    run.measure(DONE, 0, **{score.task: len(score.items)})


def suite_figures(suites: Sequence[SuiteScore]) -> dict[str, Any]:
    """Each figure of each suite, with its interval over questions where it is a mean of theirs."""
    found: dict[str, Any] = {}
    for suite in suites:
        for metric in suite.metrics:
            estimate = suite.estimate(metric)
            found[f"{suite.name} {metric}"] = suite.totals[metric] if estimate is None else estimate.to_json()
        found[f"{suite.name} questions"] = len(suite.items)
        if suite.failed:
            found[f"{suite.name} answers that failed"] = suite.failed
    return found
