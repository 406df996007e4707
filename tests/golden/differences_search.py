"""Where our search differs from the release on purpose: one row each, with the number of the recordings' quirk.

`applies` is computed from the trace alone; `shown` asserts what ours does there. A row without a number is item 6 or 8
of the list of fixes in the design of the search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from retold import RETRIES, Retold, Setting
from stub import RecordedReward, Trace

from simkit.search.turn import OUT_OF_STEPS


def plain(trace: Trace) -> Setting:
    """Faults are mapped to what the release makes of them."""
    return Setting()


def faulty(trace: Trace) -> Setting:
    """The agent raises for real."""
    return Setting(faults=True)


def all_rounds(trace: Trace) -> Setting:
    """Every round of a turn counts."""
    return Setting(reward=RecordedReward(trace, first_round_only=False))


@dataclass(frozen=True)
class Difference:
    """One deliberate difference."""

    quirk: str
    release: str
    ours: str
    applies: Callable[[Trace], bool]
    shown: Callable[[Trace, Retold], None]
    setting: Callable[[Trace], Setting] = plain


# --- quirk 4: a leaf that died can win ------------------------------------------------------------------------------


def faulted_and_rewarded(trace: Trace) -> Iterator[tuple[int, str]]:
    """Step and path of every leaf that died in a step in which it had earned a reward."""
    for index, step in enumerate(trace.steps):
        rewarded = {call["path"] for call in step["agent_calls"] if call["reward"]}
        for call in step["agent_calls"]:
            dead = "raised" in call or call["pass"] is None
            if dead and call["path"] in rewarded:
                yield index, call["path"]


def faults_never_win(trace: Trace, ours: Retold) -> None:
    first = min(index for index, _ in faulted_and_rewarded(trace))
    dead = {path for index, path in faulted_and_rewarded(trace) if index == first}
    branches = [branch for branch in ours.branches if branch.turn == first + 1]
    assert [(b.outcome, b.rewards) for b in branches if b.path in dead] == [("agent_fault", ())] * len(dead)
    harvest = ours.harvests.get(first + 1)
    rewarded = [branch for branch in branches if branch.rewards]
    assert (harvest is not None) == bool(rewarded)
    if harvest is not None:
        assert ours.by_id[harvest.winner_id].path not in dead
        assert not dead & {ours.by_id[name].path for name in harvest.successful if ours.by_id[name].turn == first + 1}


# --- quirk 12: a user that raises ends everything -------------------------------------------------------------------


def first_user_exception(trace: Trace) -> int | None:
    """The step in which a user raised first."""
    raised = (i for i, step in enumerate(trace.steps) if any(call["raised"] for call in step.get("user_calls", ())))
    return next(raised, None)


def user_faults_end_one_leaf(trace: Trace, ours: Retold) -> None:
    index = first_user_exception(trace)
    assert index is not None
    step = trace.steps[index]
    ends = {branch.path: ours.ends.get(branch.branch_id) for branch in ours.branches if branch.turn == index + 1}
    for call in step["user_calls"]:
        assert ends[call["path"]] == ("user_fault" if call["raised"] else "user_ended" if call["end"] else None)
    going = [path for path in ours.steps[index]["live_after_agents"] if ends[path] is None]
    assert len(ours.steps) > index + 1 or not going
    assert ours.episode.reward is not None
    assert ours.episode.reward >= max(step["reward"], trace.data["final_reward"])


# --- quirk 13: the golden agent is not set when the last goals come together ----------------------------------------


def golden_agent_missing(trace: Trace) -> bool:
    return trace.data["final_reward"] == 1 and trace.data["golden_agent_path"] is None


def final_branch_is_known(trace: Trace, ours: Retold) -> None:
    assert ours.episode.final_branch_id is not None
    last = [step["collapse"] for step in trace.steps if "collapse" in step][-1]
    assert ours.by_id[ours.episode.final_branch_id].path == last["target"]


# --- quirk 14: "ran out of retries" is written into turns that did not ----------------------------------------------


def retries_written(trace: Trace) -> bool:
    return any(message.get("content") == RETRIES for message in trace.messages)


def runtime_speaks_only_for_the_silent(trace: Trace, ours: Retold) -> None:
    for branch in ours.branches[1:]:
        spoke = any(row.author == "agent" and row.heard is not None for row in branch.messages)
        runtime = [row for row in branch.messages if row.author == "runtime"]
        silent = not spoke and branch.outcome != "agent_ended"
        assert [row.heard for row in runtime] == [OUT_OF_STEPS] * silent


# --- quirk 15: examples without a word of the agent -----------------------------------------------------------------


def example_without_agent(trace: Trace) -> bool:
    examples: list[list[int]] = [indices for indices, _, _ in trace.data["training_examples"]]
    return any(all(trace.messages[index]["role"] == "user" for index in indices) for indices in examples)


def opening_is_nobodys_example(trace: Trace, ours: Retold) -> None:
    root = ours.branches[0]
    assert [row.author for row in root.messages] == ["user"]
    assert all(row.author != "user" for branch in ours.branches[1:] for row in branch.messages)


# --- quirk 17: only the first rewarded round of a turn is credited --------------------------------------------------


def later_round_rewarded(trace: Trace) -> int | None:
    """The first step whose winner earned another goal in a later round."""
    for index, step in enumerate(trace.steps):
        target = step.get("collapse", {}).get("target")
        earned = [call["reward"] for call in step["agent_calls"] if call["path"] == target and call["reward"]]
        if len({goal for goals in earned for goal in goals}) > len(set(earned[0] if earned else ())):
            return index
    return None


def all_rounds_are_credited(trace: Trace, ours: Retold) -> None:
    index = later_round_rewarded(trace)
    assert index is not None
    step = trace.steps[index]
    target = step["collapse"]["target"]
    earned = {goal for call in step["agent_calls"] if call["path"] == target for goal in call["reward"]}
    taken = ours.harvests[index + 1].goals
    assert set(taken) == earned
    assert len(taken) > len(step["collapse"]["deleted"])


# --- the design's own list ------------------------------------------------------------------------------------------


def nodes_reused(trace: Trace) -> bool:
    return any(not step["expanded"] for step in trace.steps)


def every_turn_is_a_node(trace: Trace, ours: Retold) -> None:
    for index, step in enumerate(trace.steps):
        branches = [branch for branch in ours.branches if branch.turn == index + 1]
        assert [branch.path for branch in branches] == step["live"]
        parents = [ours.by_id[branch.parent_id or ""] for branch in branches]
        assert {parent.turn for parent in parents} == {index}
        if not step["expanded"]:
            assert [parent.path for parent in parents] == step["live"]
    assert len(ours.by_id) == len(ours.branches)


def ends_without_collapse(trace: Trace) -> bool:
    return bool(trace.steps) and "collapse" not in trace.steps[-1]


def later_trees_are_kept(trace: Trace, ours: Retold) -> None:
    last = max([0, *ours.harvests])
    assert sum(branch.turn > last for branch in ours.branches) == sum(len(step["live"]) for step in trace.steps[last:])


DIFFERENCES = (
    Difference(
        quirk="4",
        release="a leaf whose agent raised keeps what it had earned in that turn, and can be the winner",
        ours="a fault is never rewarded and never harvested",
        applies=lambda trace: any(faulted_and_rewarded(trace)),
        shown=faults_never_win,
        setting=faulty,
    ),
    Difference(
        quirk="12",
        release="a user that raises ends the whole search, and the step's reward is lost",
        ours="it ends its own leaf, and what was achieved counts",
        applies=lambda trace: first_user_exception(trace) is not None,
        shown=user_faults_end_one_leaf,
    ),
    Difference(
        quirk="13",
        release="the golden agent is unknown when the last two goals come together",
        ours="the final branch is always the last winner",
        applies=golden_agent_missing,
        shown=final_branch_is_known,
    ),
    Difference(
        quirk="14",
        release="'ran out of retries' is written into every leaf of the last round, and only into one of two histories",
        ours="only into a turn that really ran out, as the runtime's words",
        applies=retries_written,
        shown=runtime_speaks_only_for_the_silent,
    ),
    Difference(
        quirk="15",
        release="the opening alone, without a word of the agent, is a training example",
        ours="the opening is a branch of its own with nothing of the agent in it",
        applies=example_without_agent,
        shown=opening_is_nobodys_example,
    ),
    Difference(
        quirk="17",
        release="a turn of several rounds is credited with the goals of its first rewarded round alone",
        ours="with all of them",
        applies=lambda trace: later_round_rewarded(trace) is not None,
        shown=all_rounds_are_credited,
        setting=all_rounds,
    ),
    Difference(
        quirk="fix 6",
        release="a node is reused for turn after turn when the beam is full",
        ours="every turn is a node",
        applies=lambda trace: nodes_reused(trace) and first_user_exception(trace) is None,
        shown=every_turn_is_a_node,
    ),
    Difference(
        quirk="fix 8",
        release="trees after the last reward are thrown away",
        ours="they are recorded like all others",
        applies=lambda trace: ends_without_collapse(trace) and first_user_exception(trace) is None,
        shown=later_trees_are_kept,
    ),
)


# --- the harvest: what the release's scripts make of the examples -----------------------------------------------------


@dataclass(frozen=True)
class HarvestDifference:
    """A deliberate difference in the examples for training."""

    quirk: str
    release: str
    ours: str
    applies: Callable[[Trace], bool]


def longest_golden(trace: Trace) -> list[str]:
    """Texts of the longest golden conversation."""
    golden: list[list[int]] = [indices for indices, _, marked in trace.data["training_examples"] if marked]
    longest = max(golden, key=len) if golden else []
    return [str(trace.messages[index].get("content")) for index in longest]


def dropped_for_the_runtimes_words(trace: Trace) -> bool:
    return RETRIES in longest_golden(trace)


def dropped_for_an_error(trace: Trace) -> bool:
    texts = [text for text in longest_golden(trace) if text != RETRIES]
    return any(mark in text for text in texts for mark in ("ERROR:", "Error:", "FAILURE", "I got APIRETURN"))


RETRIES_DROP = HarvestDifference(
    quirk="14",
    release="its own 'ran out of retries' is taken for the agent's error, or for a desirable message",
    ours="the runtime's words are left out, and the conversation stays",
    applies=dropped_for_the_runtimes_words,
)
NO_ERROR_FILTER = HarvestDifference(
    quirk="20",
    release="the tau-bench KTO script has no filter for errors",
    ours="one filter for all kinds of examples",
    applies=dropped_for_an_error,
)
CONTRADICTIONS = HarvestDifference(
    quirk="16",
    release="one (prompt, completion) can be desirable and undesirable",
    ours="then it is desirable only",
    applies=lambda trace: True,
)
