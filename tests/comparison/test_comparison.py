"""What is claimed of runs, what is not, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from comparing import ItemRow, RecordedRuns, Rewards, drawn

from simkit.comparison import Arm, PairedOutcomes, compare
from simkit.comparison.tables import ENDS, tables
from simkit.errors import UsageError
from simkit.statistics.scores import pass_hat
from simkit.store import Store


def test_a_strong_difference_may_be_claimed(recorded: RecordedRuns) -> None:
    recorded.run("before", drawn(0.3, 1))
    recorded.run("after", drawn(0.8, 2))
    found = recorded.compare("before", "after")
    success = found.difference("success", "after")
    assert success.claimed
    assert success.estimate.value == pytest.approx(success.after - success.before)
    assert 0 < success.estimate.low < success.estimate.value < success.estimate.high
    assert success.outcomes is not None
    assert success.p == pytest.approx(success.outcomes.p)
    assert found.claims[1].startswith("It may be claimed: the success rate of `after` is higher than that of `before`")
    assert (
        f"95% interval {100 * success.estimate.low:+.1f} to {100 * success.estimate.high:+.1f} points"
        in found.claims[1]
    )


def test_identical_runs_allow_no_claim(recorded: RecordedRuns) -> None:
    recorded.run("one", drawn(0.5, 1))
    recorded.run("other", drawn(0.5, 1), seed=1)
    found = recorded.compare("one", "other")
    assert not any(each.claimed for each in found.differences)
    assert found.difference("reward", "other").p == 1.0
    assert found.claims[0].startswith(
        "No difference in the average reward between `other` and `one` may be claimed: +0.0"
    )
    assert found.difference("success", "other").estimate.high > 0.02, "60 equal pairs leave room for a difference"


def test_few_tasks_promise_to_detect_nothing_impossible(recorded: RecordedRuns) -> None:
    recorded.run("plain", {"a": [1 / 3], "b": [1 / 3]})
    recorded.run("kind", {"a": [2 / 3], "b": [1.0]})
    recorded.run("same", {"a": [2 / 3], "b": [1 - 1 / 3]})
    found = recorded.compare("plain", "kind")
    assert found.difference("success", "kind").detectable is None  # 677 points
    assert not any("would have been detected" in claim for claim in found.claims)
    assert recorded.compare("plain", "same").difference("reward", "same").detectable is None  # rounding is no spread


def test_chance_is_claimed_no_more_often_than_the_level_says(recorded: RecordedRuns) -> None:
    runs = [recorded.run(f"r{seed}", drawn(0.5, seed, tasks=30), seed=seed) for seed in range(13)]
    arms = [Arm(run, (run,)) for run in runs]
    found = compare(recorded.store, arms, metrics=("success",), all_pairs=True, resamples=100)
    assert found.differences[0].family == len(found.differences) == 78
    assert sum(each.p <= 0.05 for each in found.differences) <= 8, "about 4 of 78 by chance"
    assert not any(each.claimed for each in found.differences), "corrected for 78 comparisons"


def test_equal_arguments_give_equal_numbers(recorded: RecordedRuns) -> None:
    recorded.run("one", drawn(0.4, 1, trials=2))
    recorded.run("other", drawn(0.5, 2, trials=2))
    first, again = recorded.compare("one", "other"), recorded.compare("one", "other")
    assert first == again
    assert recorded.compare("one", "other", seed=1) == first  # rewards and successes have no use for chance
    assert json.loads(json.dumps(first.to_json(), allow_nan=False))["differences"][0]["name"] == "reward"


def test_runs_of_an_arm_are_paired_by_their_place(recorded: RecordedRuns) -> None:
    shares = (0.2, 0.4, 0.6)
    for place, share in enumerate(shares):
        recorded.run(f"a{place}", drawn(share, place), seed=place)
        recorded.run(f"b{place}", drawn(share + 0.3, 10 + place), seed=place)
    arms = [Arm("a", ("a0", "a1", "a2")), Arm("b", ("b0", "b1", "b2"))]
    success = compare(recorded.store, arms).difference("success", "b")
    assert (success.tasks, success.pairs) == (60, 180)
    singles = [recorded.compare(f"a{place}", f"b{place}").difference("success", f"b{place}") for place in range(3)]
    assert success.by_run == pytest.approx([each.estimate.value for each in singles])
    assert success.estimate.value == pytest.approx(sum(success.by_run) / 3)
    assert success.claimed


def test_arms_of_unequal_length_are_taken_together(recorded: RecordedRuns) -> None:
    recorded.run("base", drawn(0.3, 1))
    for seed in (1, 2):
        recorded.run(f"tuned{seed}", drawn(0.7, 10 + seed), seed=seed)
    found = compare(recorded.store, [Arm("base", ("base",)), Arm("tuned", ("tuned1", "tuned2"))])
    success = found.difference("success", "tuned")
    assert success.by_run == ()
    assert success.outcomes is None
    assert success.claimed
    assert any("a different number of runs from the reference" in note for note in found.notes)


def test_what_is_not_scored_is_left_out_with_its_partner(recorded: RecordedRuns) -> None:
    here: Rewards = {"t1": [1.0, None], "t2": [0.0, 0.0], "t3": [1.0, 0.0], "t4": [None, None]}
    there: Rewards = {"t1": [0.0, 1.0], "t2": [1.0, 1.0], "t3": [1.0, 0.0], "t4": [1.0, 1.0]}
    recorded.run("one", here)
    recorded.run("other", there)
    found = recorded.compare("one", "other")
    reward = found.difference("reward", "other")
    assert (reward.tasks, reward.pairs, reward.left_out) == (3, 5, 6)
    assert reward.before == pytest.approx((1 + 0 + 0.5) / 3)
    assert reward.after == pytest.approx((0 + 1 + 0.5) / 3)
    outcomes = found.difference("success", "other").outcomes
    assert outcomes == PairedOutcomes(both=1, lost=1, won=2, neither=1)
    assert found.arms[0].faulted == 3
    assert any(note.startswith("6 episodes of `one` and `other` are left out") for note in found.notes)


def test_other_numbers_of_trials_are_averaged(recorded: RecordedRuns) -> None:
    recorded.run("once", {"t1": [0.0], "t2": [1.0], "t3": [0.5]})
    recorded.run("often", {"t1": [0.0, 1.0], "t2": [1.0, 1.0], "t3": [None, 1.0]})
    reward = recorded.compare("once", "often").difference("reward", "often")
    assert (reward.before, reward.after) == pytest.approx((0.5, (0.5 + 1 + 1) / 3))
    assert reward.left_out == 1


def test_tasks_that_not_all_have_are_left_out_and_counted(recorded: RecordedRuns) -> None:
    recorded.run("short", drawn(0.5, 1, tasks=20))
    recorded.run("long", drawn(0.5, 2, tasks=30))
    found = recorded.compare("short", "long")
    assert found.tasks == 20
    assert [arm.elsewhere for arm in found.arms] == [0, 10]
    assert "compared on 20 common tasks: 10 other tasks of `long` are left out" in found.notes


def test_pass_k_is_that_of_each_run(recorded: RecordedRuns) -> None:
    rewards = drawn(0.7, 1, trials=3)
    recorded.run("one", rewards)
    recorded.run("other", drawn(0.2, 2, trials=3))
    found = recorded.compare("one", "other", metrics=("pass^2",))
    expected = pass_hat([[value == 1 for value in trials] for trials in rewards.values()], 2)
    assert found.difference("pass^2", "other").before == pytest.approx(expected)
    assert [score.name for score in found.arms[0].scores] == ["pass^2", "pass^3"]
    assert found.arms[0].scores[0].estimate.value == pytest.approx(expected)
    assert found.claims[0].startswith("It may be claimed: the pass^2 of `other` is lower")


def test_a_metric_that_cannot_be_had_is_said_to_be_missing(recorded: RecordedRuns) -> None:
    recorded.run("one", drawn(0.5, 1))
    recorded.run("other", drawn(0.5, 2))
    found = recorded.compare("one", "other", metrics=("reward", "pass^2"))
    assert [each.name for each in found.differences] == ["reward"]
    assert any(note.startswith("not compared: pass^2") for note in found.notes)


# --- noise ------------------------------------------------------------------------------------------------------------


def test_a_difference_within_the_noise_of_repeated_runs_may_not_be_claimed(recorded: RecordedRuns) -> None:
    recorded.run("before", drawn(0.35, 1, tasks=100), seed=1)
    recorded.run("after", drawn(0.65, 2, tasks=100), seed=1)
    assert recorded.compare("before", "after").difference("success", "after").claimed
    for seed, share in enumerate((0.2, 0.8, 0.5)):
        recorded.run(f"same{seed}", drawn(share, 50 + seed, tasks=100), seed=seed)
    found = recorded.compare("before", "after", noise=("same0", "same1", "same2"))
    success = found.difference("success", "after")
    assert success.significant
    assert not success.claimed
    assert success.noise is not None
    assert success.noise > abs(success.estimate.value)
    assert "no larger than the noise of repeated runs" in found.claims[1]
    (noise,) = [each for each in found.noise if each.name == "success"]
    assert noise.furthest == pytest.approx(0.6, abs=0.15)
    assert noise.between > 0.04


def test_the_floor_of_repeats_without_more_than_chance_is_the_binomial_one(recorded: RecordedRuns) -> None:
    for seed in range(6):
        recorded.run(f"same{seed}", drawn(0.5, seed, tasks=400), seed=seed)
    found = recorded.compare("same0", "same1", noise=[f"same{seed}" for seed in range(2, 6)])
    noise = found.difference("success", "same1").noise
    assert noise == pytest.approx(1.96 * (2 * 0.25 / 400) ** 0.5, rel=0.35)


def test_trials_show_the_noise_where_no_run_is_repeated(recorded: RecordedRuns) -> None:
    recorded.run("one", drawn(0.5, 1, trials=4))
    recorded.run("other", drawn(0.5, 2, trials=4), seed=1)
    found = recorded.compare("one", "other")
    success = found.difference("success", "other")
    assert success.noise == pytest.approx(1.96 * (2 * 0.25 / 60 / 4) ** 0.5, rel=0.15)
    assert not success.guarded, "the test knows how trials differ"
    assert found.noise[0].source == "repeated trials"
    assert any("Repeats of the same configuration differ in the success rate by" in claim for claim in found.claims)


def test_unknown_noise_is_said_to_be_unknown(recorded: RecordedRuns) -> None:
    recorded.run("one", drawn(0.5, 1))
    recorded.run("other", drawn(0.5, 2))
    assert recorded.compare("one", "other").claims[-1].startswith("The noise between identical runs was not measured")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("same",), "two runs of one configuration"),
        (("same", "else"), "they differ in agent"),
        (("same", "no"), "no run 'no'"),
    ],
)
def test_noise_takes_runs_of_one_configuration(recorded: RecordedRuns, names: tuple[str, ...], reason: str) -> None:
    for seed, name in enumerate(("one", "other", "same")):
        recorded.run(name, drawn(0.5, seed), seed=seed)
    recorded.run("else", drawn(0.5, 9), seed=9, agent="scripted,error_rate=0")
    with pytest.raises(UsageError, match=reason):
        recorded.compare("one", "other", noise=names)


def test_what_a_reward_measures_beside_its_value_is_shown_where_it_exists(recorded: RecordedRuns) -> None:
    recorded.run("one", drawn(0.5, 1), measures={"floor": 0.25, "writes_made": 0.5})
    recorded.run("other", drawn(0.5, 2), measures={"floor": 0.25, "writes_made": 1.0})
    recorded.run("plain", drawn(0.5, 3))
    found = recorded.compare("one", "other")
    values = {arm.name: {score.name: score.estimate.value for score in arm.scores} for arm in found.arms}
    assert (values["one"]["floor"], values["one"]["writes_made"], values["other"]["writes_made"]) == (0.25, 0.5, 1.0)
    assert "reads_made" not in values["one"]
    assert {difference.name for difference in found.differences} == {"reward", "success"}
    assert {score.name for score in recorded.compare("plain", "one").arms[0].scores} == {"reward", "success"}
    chosen = recorded.compare("one", "other", metrics=("writes_made",))
    assert [(each.name, each.estimate.value) for each in chosen.differences] == [("writes_made", 0.5)]


def test_the_ends_of_episodes_are_counted(recorded: RecordedRuns) -> None:
    recorded.run("one", {"a": [1.0, None], "b": [0.0, 1.0]})
    recorded.run("other", {"a": [1.0, 1.0], "b": [0.0, 1.0]})
    found = recorded.compare("one", "other")
    assert [dict(arm.outcomes) for arm in found.arms] == [{"agent_fault": 1, "user_ended": 3}, {"user_ended": 4}]
    shown = dict(tables(found))[ENDS]
    assert [column.name for column in shown.columns] == ["arm", "agent_fault", "user_ended"]
    assert shown.rows == (("one", "1", "3"), ("other", "0", "4"))
    recorded.run("third", {"a": [1.0, 1.0], "b": [0.0, 1.0]})
    assert ENDS not in dict(tables(recorded.compare("other", "third")))


# --- what may not be compared -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", ["toolwoz", "tau:retail"])
def test_the_variants_of_a_world_are_never_compared(recorded: RecordedRuns, world: str) -> None:
    recorded.run("paper", drawn(0.5, 1), world=world)
    recorded.run("fixed", drawn(0.5, 2), world=world, variant="fixed")
    recorded.run("explicit", drawn(0.5, 3), world=world, variant="paper")
    with pytest.raises(UsageError, match="the variant of the world is paper in one and fixed in the other"):
        recorded.compare("paper", "fixed")
    assert recorded.compare("paper", "explicit").tasks == 60, "paper is what a run has that names no variant"


def test_other_measures_are_refused(recorded: RecordedRuns) -> None:
    recorded.run("one", drawn(0.5, 1))
    recorded.run("elsewhere", drawn(0.5, 1), world="toolwoz")
    recorded.run("judged", drawn(0.5, 1), reward="mine.py:Reward")
    recorded.run("changed", drawn(0.5, 1), goals=("search_train",))
    for name, reason in (("elsewhere", "the world is"), ("judged", "the reward is"), ("changed", "60 of the 60 tasks")):
        with pytest.raises(UsageError, match=reason):
            recorded.compare("one", name)


def test_a_comparison_takes_two_different_runs_with_something_in_common(recorded: RecordedRuns) -> None:
    recorded.run("one", drawn(0.5, 1))
    recorded.run("apart", {"x1": [1.0], "x2": [0.0]})
    recorded.run("broken", {task: [None] for task in drawn(0.5, 1)})
    with pytest.raises(UsageError, match="at least two runs or arms"):
        recorded.compare("one")
    with pytest.raises(UsageError, match="twice; name each run once"):
        compare(recorded.store, [Arm("one", ("one",)), Arm("again", ("one",))])
    with pytest.raises(UsageError, match="have the same name"):
        compare(recorded.store, [Arm("one", ("one",)), Arm("one", ("apart",))])
    with pytest.raises(UsageError, match="no tasks and no scored items in common"):
        recorded.compare("one", "apart")
    with pytest.raises(UsageError, match="fewer than two with scores in all of them"):
        recorded.compare("one", "broken")
    with pytest.raises(UsageError, match="unknown metric `fun`"):
        recorded.compare("one", "apart", metrics=("fun",))
    with pytest.raises(UsageError, match="an arm needs a name and runs"):
        Arm("nothing", ())


def test_a_harder_test_is_pointed_out(recorded: RecordedRuns) -> None:
    recorded.run("one", drawn(0.5, 1))
    recorded.run("other", drawn(0.5, 2), user="goal", user_model="openai/x", status="running")
    notes = recorded.compare("one", "other", allow_incomplete=True).notes
    assert any(note.startswith("the runs differ in user (goal, the default)") for note in notes)
    assert any(note.startswith("the runs differ in user_model") for note in notes)
    assert any(note.startswith("`other` is running") for note in notes)


# --- suites -----------------------------------------------------------------------------------------------------------


def test_scored_items_are_compared_question_by_question(recorded: RecordedRuns) -> None:
    def items(shift: float) -> list[ItemRow]:
        scores = [
            ItemRow("mt", f"q{n}", "score", 5 + n % 3 + (shift if n % 4 else 0), trial)
            for n in range(40)
            for trial in (0, 1)
        ]
        accuracy = [ItemRow("arc", f"q{n}", "accuracy", float(n % 2)) for n in range(30)]
        return [*scores, *accuracy, *(ItemRow("arc", f"q{n}", "words", 10 - shift) for n in range(30))]

    recorded.run("base", {}, items=items(0))
    recorded.run("tuned", {}, items=items(-1.5))
    found = recorded.compare("base", "tuned")
    assert [each.name for each in found.differences] == ["arc/accuracy", "mt/score"], "words are no score"
    score = found.difference("mt/score", "tuned")
    assert (score.tasks, score.pairs, score.unit) == (40, 80, "")
    assert score.estimate.value == pytest.approx(-1.5 * 0.75)
    assert score.claimed
    assert found.difference("arc/accuracy", "tuned").unit == "points"
    assert not found.difference("arc/accuracy", "tuned").claimed
    assert found.arms[0].episodes == 0
    assert "40 items, 80 pairs" in found.claims[1]


def test_of_perplexity_less_is_better(recorded: RecordedRuns) -> None:
    for name, shift in (("base", 0.0), ("tuned", 0.2)):
        rows = [
            ItemRow("prose/perplexity", f"d{n}", "nll_per_token", 2 + n / 10 + shift, better="lower") for n in range(12)
        ]
        recorded.run(name, {}, items=rows)
    found = recorded.compare("base", "tuned")
    assert found.differences[0].less_is_better
    assert found.claims[0].endswith("12 items, lower is better).")


def test_an_item_without_a_verdict_is_left_out_with_its_partner(recorded: RecordedRuns) -> None:
    recorded.run("base", {}, items=[ItemRow("s", f"q{n}", "score", float(n)) for n in range(7)])
    recorded.run(
        "tuned", {}, items=[ItemRow("s", f"q{n}", "score", float("nan") if n == 2 else n + 1.0) for n in range(6)]
    )
    found = recorded.compare("base", "tuned")
    score = found.difference("s/score", "tuned")
    assert (score.tasks, score.left_out) == (5, 4), "q2 is no number, q6 was not asked"
    assert "4 scores of s/score are left out: they or their counterparts are missing" in found.notes
    assert score.estimate.value == 1.0


# --- of real runs -----------------------------------------------------------------------------------------------------


def test_domains_goals_and_turns_agree_with_the_store(played: Path) -> None:
    store = Store(played)
    found = compare(store, [Arm("poor", ("poor",)), Arm("good", ("good",))])
    rewards = dict(store.query("select run, avg(reward) from episode_scores group by run").rows)
    for arm, curve in zip(found.arms, found.curves, strict=True):
        assert arm.scores[0].estimate.value == pytest.approx(rewards[arm.name])
        assert curve.points[-1].value == pytest.approx(rewards[arm.name])
        assert sorted(point.value for point in curve.points) == [point.value for point in curve.points]
    by_goal = """
        select goal, run, avg(share) from (
            select s.run, s.task_id, goal, avg(list_contains(achieved, goal)::int) as share
            from (select run_id, task_id, unnest(goals) as goal, achieved from episodes) e
            join (select distinct run_id, run, task_id from episode_scores) s using (run_id, task_id) group by all
        ) group by all
    """
    expected = {(goal, run): share for goal, run, share in store.query(by_goal).rows}
    groups = {(each.name, each.arm): each.value for each in found.groups if each.kind == "goal type"}
    assert groups == pytest.approx(expected)
    assert {each.name for each in found.groups if each.kind == "domain"} == {
        "attraction",
        "hotel",
        "restaurant",
        "train",
    }
    assert all(each.family == len(found.places) for each in found.places)
    assert found.difference("reward", "good").claimed
    assert any("runs that share their seeds" in claim for claim in found.claims)
