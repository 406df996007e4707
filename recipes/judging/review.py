"""Review the failures of a run: whose fault each was."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from simkit.core.events import succeeded
from simkit.errors import UsageError
from simkit.plugins.prompts import shipped_prompt
from simkit.plugins.recipe import without_flags
from simkit.recipes.judging.recorded import Problem, Recorded, RecordedEpisodes, first, judge_all, require_verdicts
from simkit.rewards.judge import Form, Judge
from simkit.rewards.reviewer import PARTIES, Failure, Party, Review, Reviewer
from simkit.run.run import Run
from simkit.run.summary import Summary
from simkit.statistics.scores import mean_of_tasks

SUITE = "review"
NO_VERDICT = "no verdict"

KNOWN: Mapping[str, Party] = {
    "agent_fault": "agent",
    "context_limit": "agent",
    "user_fault": "user",
    "tool_fault": "tool",
    "reward_fault": "reward",
}
"""Outcomes that say themselves whose fault they are."""


@without_flags("workers", "engine", "shard", "fail_fast", "max_faults", "ask_timeout")
async def review(
    run: Run,
    *,
    of: Annotated[str, "Run whose failures are reviewed."],
    votes: Annotated[int, "Verdicts on each failure; an odd number, above 1 with a --temperature above 0."] = 1,
    form: Annotated[Form, "Ask for JSON by response_format too (schema), or in words alone (text)."] = "schema",
    limit: Annotated[int | None, "Maximum number of failures, from the first."] = None,
    allow_incomplete: Annotated[bool, "Review even if lines of a journal cannot be read."] = False,
) -> Summary:
    """Review the failures of a run: say of each whether the agent, the user, the tools or the reward was at fault.

    The reviewer is --model. It has to quote the line of the conversation that shows the fault; a quote that is not
    there counts as no verdict. Faults of components are known without it. Verdicts, reasons and quotes are stored
    (`from reviews`), and so are answers that are no verdict; a resumed run repeats none. Without any verdict the run
    fails.

    Examples:

        simkit review last --model openai/NAME
        simkit run review --of last --model openai/NAME --votes 3 --temperature 0.7
        simkit sql "select at_fault, count(*) from reviews group by all"
    """
    if run.models.model is None:
        raise UsageError("no reviewer is named; give --model openai/NAME (and --base-url for its endpoint)")
    model = await run.open_chat_model(run.models.model)
    reviewer = Reviewer(Judge(model, votes, form), shipped_prompt("simkit.rewards", "review-1.txt"))
    recorded = await RecordedEpisodes.of(run, of, allow_incomplete=allow_incomplete)
    failures = first([each for each in recorded.episodes if failed(each)], limit)
    if not failures:
        raise UsageError(
            f"the run {of} has no failed episode among {len(recorded.episodes)}; there is nothing to review"
        )

    async def verdict(each: Recorded) -> Review:
        known = KNOWN.get(each.episode.outcome)
        if known is not None:
            return Review(known, f"the run recorded it: {each.episode.outcome}", each.episode.error or "")
        return await reviewer.ask(failure_of(each), each.key(run.seed))

    found, problems = await judge_all(run, failures, verdict)
    for each in failures:
        outcome = found[each.name] if each.name in found else problems[each.name]
        _record(run, recorded.run_id, each, outcome, model.name)
    require_verdicts(found, problems, f"select task_id, problem, answer from reviews where run_id = '{run.id}'")
    return run.summary(**_figures(recorded, failures, found))


def failed(recorded: Recorded) -> bool:
    """Whether an episode is to be reviewed: it has less than the full reward, or a component failed in it."""
    reward = recorded.episode.reward
    if reward is None:
        return recorded.episode.outcome in KNOWN
    return not succeeded(reward, recorded.full_reward)


def failure_of(recorded: Recorded) -> Failure:
    """What a reviewer is told about an episode, beside its conversation."""
    details = {str(goal.get("key")): goal.get("detail") for goal in recorded.goals}
    missed = [
        f"{key} {json.dumps(details[key], ensure_ascii=False)}" if details.get(key) else key for key in recorded.missed
    ]
    short = [part for part in recorded.episode.parts if part.weight and part.value < 1 and part.name not in details]
    parts = [f"{part.name} is {part.value:g}" + (f" ({part.evidence})" if part.evidence else "") for part in short]
    episode = recorded.episode
    return Failure(episode.instructions, recorded.conversation, episode.outcome, missed, parts)


def _record(run: Run, source: str, each: Recorded, outcome: Review | Problem, judge: str) -> None:
    detail: dict[str, Any] = {"run": source, "episode": each.episode.episode_id, "judge": judge}
    if isinstance(outcome, Problem):
        detail |= {"problem": outcome.why, "answer": outcome.answer}
    else:
        line = None if outcome.line is None else outcome.line.number
        detail |= {"at_fault": outcome.at_fault, "reason": outcome.reason, "quote": outcome.quote, "line": line}
        detail |= {"problem": "", "answer": ""}
    reviewed = float(isinstance(outcome, Review))
    run.score_item(SUITE, each.episode.task_id, trial=each.episode.trial, detail=detail, reviewed=reviewed)


def _figures(recorded: RecordedEpisodes, failures: Sequence[Recorded], found: Mapping[str, Review]) -> dict[str, Any]:
    """Counts, and the share of each party among the failures with a verdict, with intervals over tasks."""
    counts = Counter(each.at_fault for each in found.values())
    figures: dict[str, Any] = {
        "reviewed run": recorded.run_id,
        "episodes": len(recorded.episodes),
        "failed": len(failures),
    }
    for party in PARTIES:
        groups: dict[str, list[float]] = {}
        for each in failures:
            if each.name in found:
                groups.setdefault(each.episode.task_id, []).append(float(found[each.name].at_fault == party))
        share = mean_of_tasks(list(groups.values()))
        figures[f"fault of the {party}"] = f"{counts[party]}, share {share}"
    figures[NO_VERDICT] = len(failures) - len(found)
    return figures
