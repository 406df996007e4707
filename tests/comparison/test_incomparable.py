"""Arms that are shown side by side without a claim: trees and single conversations, worlds built with other options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from comparing import RecordedRuns, drawn

from simkit.comparison import Arm, compare
from simkit.errors import UsageError
from simkit.statistics.scores import Estimate

ALL = {f"t{n:03}": [1.0] for n in range(60)}


@pytest.mark.parametrize(("first", "second"), [("rollout", "josh"), ("josh", "rollout"), ("best_of_n", "rollout")])
def test_nothing_is_claimed_between_a_search_and_single_conversations(
    recorded: RecordedRuns, first: str, second: str
) -> None:
    recorded.run("one", drawn(0.3, 1), supervisor=first)
    recorded.run("other", ALL, supervisor=second)
    found = recorded.compare("one", "other")
    assert {(each.claimed, each.significant) for each in (*found.differences, *found.places)} == {(False, False)}
    success = found.difference("success", "other")
    assert (success.after, success.before) == (1.0, pytest.approx(0.3, abs=0.15))
    assert f"`one` was played by {first}, `other` was played by {second}" in success.incomparable
    said = " ".join(found.claims)
    assert "Nothing may be claimed about the success rate: it is 100.0 points for `other`" in said
    assert "a tree tries many times and keeps the best" in said
    assert "It may be claimed" not in said + found.to_markdown()
    as_json = found.to_json()["differences"]
    assert not any(each["claimed"] or each["significant"] for each in as_json)
    assert all(each["incomparable"] for each in as_json)


def test_neither_is_anything_with_an_arm_of_both(recorded: RecordedRuns) -> None:
    recorded.run("tree", ALL, supervisor="josh")
    recorded.run("single", drawn(0.2, 3))
    recorded.run("before1", drawn(0.2, 1))
    recorded.run("before2", drawn(0.2, 2))
    arms = [Arm("before", ("before1", "before2")), Arm("mixed", ("single", "tree"))]
    success = compare(recorded.store, arms, resamples=500).difference("success", "mixed")
    assert success.incomparable
    assert not success.claimed


def test_trees_are_compared_with_trees_and_their_search_is_noted(recorded: RecordedRuns) -> None:
    recorded.run("one", drawn(0.2, 1), supervisor="josh", beam=8)
    recorded.run("other", drawn(0.9, 2), supervisor="josh", beam=16)
    found = recorded.compare("one", "other")
    assert found.difference("success", "other").claimed
    assert any("differ in beam (16, 8)" in note for note in found.notes)


def test_what_is_not_compared_costs_no_correction(recorded: RecordedRuns) -> None:
    recorded.run("one", drawn(0.4, 1))
    recorded.run("other", drawn(0.7, 2))
    recorded.run("tree", ALL, supervisor="josh")
    alone = recorded.compare("one", "other").difference("success", "other")
    beside = recorded.compare("one", "other", "tree").difference("success", "other")
    assert (beside.family, beside.corrected) == (alone.family, alone.corrected)


@pytest.mark.parametrize("options", [",seed=2", ",restaurants=30", ",most_goals=2"])
def test_worlds_with_other_options_allow_no_claim(recorded: RecordedRuns, options: str) -> None:
    recorded.run("one", drawn(0.2, 1))
    recorded.run("other", drawn(0.9, 2), options=options)
    success = recorded.compare("one", "other").difference("success", "other")
    assert not success.claimed
    assert options.strip(",").split("=")[0] in success.incomparable


def test_options_that_are_the_defaults_are_no_other_ones(recorded: RecordedRuns) -> None:
    recorded.run("one", drawn(0.2, 1))
    recorded.run("other", drawn(0.9, 2), options=",seed=0")
    assert recorded.compare("one", "other").difference("success", "other").claimed


def test_tasks_of_one_name_that_differ_are_never_paired(recorded: RecordedRuns) -> None:
    recorded.run("one", drawn(0.2, 1), goals=("search_hotel",))
    recorded.run("other", drawn(0.9, 2), goals=("book_train",), options=",seed=2")
    with pytest.raises(UsageError, match=r"differ .*other goals or instructions"):
        recorded.compare("one", "other")


def test_the_noise_of_trees_is_not_that_of_single_conversations(recorded: RecordedRuns) -> None:
    recorded.run("one", drawn(0.2, 1))
    recorded.run("other", drawn(0.9, 2))
    for seed in (1, 2):
        recorded.run(f"tree{seed}", ALL, seed=seed, supervisor="josh")
    with pytest.raises(UsageError, match="runs of --noise do not measure the same thing as `one`"):
        recorded.compare("one", "other", noise=("tree1", "tree2"))


def test_an_interval_that_holds_nothing_allows_no_claim_whatever_the_p_value(recorded: RecordedRuns) -> None:
    recorded.run("one", drawn(0.2, 1))
    recorded.run("other", drawn(0.9, 2))
    found = recorded.compare("one", "other").difference("success", "other")
    assert found.claimed
    for low, high in ((-0.01, 0.6), (0.0, 0.6), (-0.6, 0.0), (-0.6, 0.01)):
        assert not replace(found, estimate=Estimate(0.3, low, high)).claimed
    assert replace(found, estimate=Estimate(-0.3, -0.6, -0.01)).claimed
    assert not replace(found, corrected=0.051).claimed


def test_pictures_draw_no_interval_between_what_cannot_be_compared(recorded: RecordedRuns, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    recorded.run("one", drawn(0.3, 1))
    recorded.run("tree", ALL, supervisor="josh")
    assert all(path.stat().st_size for path in recorded.compare("one", "tree").save_pictures(tmp_path / "p"))
