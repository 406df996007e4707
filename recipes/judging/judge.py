"""Judge the conversations of an earlier run, by a rubric or against another run, and compare with human labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from simkit.errors import UsageError
from simkit.plugins.prompts import shipped_prompt
from simkit.plugins.recipe import without_flags
from simkit.recipes.judging.recorded import Problem, Recorded, RecordedEpisodes, first, judge_all, require_verdicts
from simkit.rewards.calibration import Calibration, Label, Rating, calibrate, read_labels
from simkit.rewards.criteria import Rubric
from simkit.rewards.judge import Form, Judge
from simkit.rewards.pairs import PairJudge, PairVerdict
from simkit.rewards.rubric import Judged, RubricJudge
from simkit.run.run import Run
from simkit.run.summary import Summary
from simkit.statistics.scores import mean_of_tasks

SUITE, PAIRS = "rubric", "pairs"

UNJUDGED = (
    "select item, trial, detail ->> 'problem' as problem, detail ->> 'answer' as answer from item_scores "
    "where metric = 'judged' and value = 0"
)
"""Query for the conversations without a verdict."""


@without_flags("workers", "engine", "shard", "fail_fast", "max_faults", "ask_timeout")
async def judge(
    run: Run,
    *,
    of: Annotated[str, "Run whose conversations are judged."],
    rubric: Annotated[Path | None, "File with a criterion on each line: `polite: The agent was polite.`"] = None,
    against: Annotated[str | None, "Run to compare with instead, conversation by conversation."] = None,
    labels: Annotated[
        Path | None, "Human labels: JSON lines with task_id, trial and labels. Reports agreement, kappa and bias."
    ] = None,
    votes: Annotated[int, "Verdicts on each question; an odd number, above 1 with a --temperature above 0."] = 1,
    form: Annotated[Form, "Ask for JSON by response_format too (schema), or in words alone (text)."] = "schema",
    limit: Annotated[int | None, "Maximum number of conversations, from the first."] = None,
    allow_incomplete: Annotated[bool, "Judge even if lines of a journal cannot be read."] = False,
) -> Summary:
    """Judge the conversations of an earlier run, by a rubric or against another run.

    The judge is --model, with its endpoint and limits. Verdicts and reasons are stored (`from item_scores`), and so are
    answers that are no verdict (metric `judged`); a resumed run repeats none. Without any verdict the run fails. With
    --labels the judge is compared with people: agreement, Cohen's kappa and bias of each criterion, with 95% intervals
    over tasks.

    Examples:

        simkit run judge --of last --rubric rubric.txt --model openai/NAME
        simkit run judge --of last --rubric rubric.txt --labels labels.jsonl --model openai/NAME --name calibrated
        simkit run judge --of after --against before --model openai/NAME
    """
    if (rubric is None) == (against is None):
        raise UsageError("give --rubric FILE to judge each conversation, or --against RUN to compare two runs")
    if labels is not None and rubric is None:
        raise UsageError("--labels are those of a rubric's criteria; give --rubric FILE with them")
    if run.models.model is None:
        raise UsageError("no judge is named; give --model openai/NAME (and --base-url for its endpoint)")
    criteria = None if rubric is None else Rubric.read(rubric)
    known = () if labels is None or criteria is None else read_labels(labels, criteria)
    model = await run.open_chat_model(run.models.model)
    ours = await RecordedEpisodes.of(run, of, allow_incomplete=allow_incomplete)
    asked = Judge(model, votes, form)
    if criteria is not None:
        _check_run(known, ours.run_id)
        return await _by_rubric(run, first(ours.episodes, limit), criteria, asked, known)
    assert against is not None
    theirs = await RecordedEpisodes.of(run, against, allow_incomplete=allow_incomplete)
    return await _in_pairs(run, ours, theirs, asked, limit)


def _check_run(labels: Sequence[Label], judged: str) -> None:
    other = next((each.run for each in labels if each.run not in (None, judged)), None)
    if other is not None:
        raise UsageError(
            f"the labels are of conversations of the run {other}, and those of {judged} are judged; judge the run that "
            "was labelled"
        )


async def _by_rubric(
    run: Run, episodes: Sequence[Recorded], rubric: Rubric, asked: Judge, labels: Sequence[Label]
) -> Summary:
    judging = RubricJudge(asked, shipped_prompt("simkit.rewards", "rubric-1.txt"))
    labelled = {(label.task, label.trial) for label in labels}
    missing = labelled - {(each.episode.task_id, each.episode.trial) for each in episodes}
    if missing:
        task, trial = min(missing)
        raise UsageError(f"the labels name {len(missing)} conversations that are not judged, such as {task}/{trial}")

    async def verdict(each: Recorded) -> tuple[Judged, ...]:
        found = await judging.ask(rubric, each.episode.instructions, each.conversation, each.key(run.seed))
        for judged in found:
            detail = {
                "reason": judged.evidence,
                "votes": [vote.value for vote in judged.votes],
                "judge": asked.model.name,
            }
            metric = {judged.criterion.name: judged.value}
            run.score_item(SUITE, each.episode.task_id, trial=each.episode.trial, detail=detail, **metric)
        return found

    found, problems = await judge_all(run, episodes, verdict)
    _record_problems(run, SUITE, episodes, problems, asked.model.name)
    require_verdicts(found, problems, _unjudged(run))
    figures: dict[str, Any] = {"conversations": len(found), "without a verdict": len(problems)}
    for number, criterion in enumerate(rubric):
        groups = _groups(episodes, {name: verdicts[number].value for name, verdicts in found.items()})
        figures[criterion.name] = mean_of_tasks(groups).to_json()
    for name, each in _calibrated(rubric, found, labels).items():
        figures[f"{name}, beside people"] = str(each)
        run.measure(f"calibration/{name}", 0, **_numbers(each))
    return run.summary(**figures)


def _numbers(found: Calibration) -> dict[str, float]:
    named = {"agreement": found.agreement, "kappa": found.kappa, "bias": found.bias}
    ends = {
        f"{name}{suffix}": value
        for name, each in named.items()
        if each is not None
        for suffix, value in (("", each.value), ("_low", each.low), ("_high", each.high))
    }
    return {"labels": float(found.labels), **ends}


def _calibrated(
    rubric: Rubric, found: Mapping[str, tuple[Judged, ...]], labels: Sequence[Label]
) -> dict[str, Calibration]:
    """The calibration of each criterion that has labels."""
    places = {each.name: number for number, each in enumerate(rubric)}
    ratings: dict[str, list[Rating]] = {}
    for label in labels:
        verdicts = found.get(f"{label.task}/{label.trial}")
        if verdicts is not None:
            for name, value in label.values.items():
                ratings.setdefault(name, []).append(Rating(label.task, verdicts[places[name]].value, value))
    return {name: calibrate(ratings[name]) for name in places if name in ratings}


async def _in_pairs(
    run: Run, ours: RecordedEpisodes, theirs: RecordedEpisodes, asked: Judge, limit: int | None
) -> Summary:
    others = {each.name: each for each in theirs.episodes}
    both = first([each for each in ours.episodes if each.name in others], limit)
    if not both:
        raise UsageError(f"{ours.run_id} and {theirs.run_id} have no task and trial in common; compare runs that do")
    for each in both:
        if each.episode.instructions != others[each.name].episode.instructions:
            raise UsageError(
                f"{ours.run_id} and {theirs.run_id} have other tasks under the same names ({each.episode.task_id}); "
                "compare runs of the same world, with the same options"
            )
    judging = PairJudge(asked, shipped_prompt("simkit.rewards", "pair-1.txt"))

    async def verdict(each: Recorded) -> PairVerdict:
        other = others[each.name].conversation
        found = await judging.ask(each.episode.instructions, each.conversation, other, each.key(run.seed))
        detail = {"better": found.better, "reason": found.reason, "judge": asked.model.name, "against": theirs.run_id}
        scores = {"win": found.value, "consistent": found.consistent}
        run.score_item(PAIRS, each.episode.task_id, trial=each.episode.trial, detail=detail, **scores)
        return found

    found, problems = await judge_all(run, both, verdict)
    _record_problems(run, PAIRS, both, problems, asked.model.name)
    require_verdicts(found, problems, _unjudged(run))
    shown = [share for each in found.values() if (share := each.shown_first) is not None]
    consistent = _groups(both, {name: each.consistent for name, each in found.items()})
    return run.summary(
        **{
            "pairs": len(found),
            "without a partner": len({each.name for each in ours.episodes} ^ set(others)),
            "without a verdict": len(problems),
            "win rate": mean_of_tasks(_groups(both, {name: each.value for name, each in found.items()})).to_json(),
            "same winner in both orders": mean_of_tasks(consistent).to_json(),
            "preferred what was shown first": sum(shown) / len(shown) if shown else None,
        }
    )


def _record_problems(
    run: Run, suite: str, episodes: Sequence[Recorded], problems: Mapping[str, Problem], judge: str
) -> None:
    """Record why conversations have no verdict."""
    for each in episodes:
        if (problem := problems.get(each.name)) is not None:
            detail = {"problem": problem.why, "answer": problem.answer, "judge": judge}
            run.score_item(suite, each.episode.task_id, trial=each.episode.trial, detail=detail, judged=0.0)


def _unjudged(run: Run) -> str:
    """The query for the conversations that this run has no verdict on."""
    return f"{UNJUDGED} and run_id = '{run.id}'"


def _groups(episodes: Sequence[Recorded], values: Mapping[str, float]) -> list[list[float]]:
    """Values by episode, grouped by task."""
    groups: dict[str, list[float]] = {}
    for each in episodes:
        if each.name in values:
            groups.setdefault(each.episode.task_id, []).append(values[each.name])
    return list(groups.values())
