from __future__ import annotations

import pytest

from simkit.errors import UsageError
from simkit.training.dev import ConversationSetup, DevScore
from simkit.training.guard import Guard, GuardHistory, Keep


def score(success: float, valid: float = 1.0) -> DevScore:
    return DevScore(success=success, reward=success, valid_calls=valid, calls=2.0, turns=3.0)


def watched(*scores: DevScore, keep: Keep = "best", every: int = 10) -> GuardHistory:
    found = GuardHistory(Guard(place=ConversationSetup(), every=every, keep=keep))
    for number, each in enumerate(scores):
        found = found.after(number * every, each)
    return found


def test_nothing_is_lost_while_both_stay_above_their_floors() -> None:
    assert watched(score(0.8), score(0.61, valid=0.96)).broken(10) is None


def test_success_below_its_floor_is_a_loss_in_words() -> None:
    assert watched(score(0.8), score(0.5)).broken(10) == (
        "step 10: success fell from 0.80 to 0.50, below the floor of 0.60"
    )


@pytest.mark.parametrize(
    ("success", "valid", "lost"),
    [(0.6, 0.95, False), (0.599, 1.0, True), (0.8, 0.949, True), (0.601, 0.951, False)],
)
def test_the_floors_are_exact(success: float, valid: float, lost: bool) -> None:
    assert (watched(score(0.8), score(success, valid=valid)).broken(10) is not None) is lost


def test_success_ranks_before_reward_and_reward_before_valid_calls() -> None:
    def seen(success: float, reward: float, valid: float) -> DevScore:
        return DevScore(success=success, reward=reward, valid_calls=valid, calls=2.0, turns=3.0)

    assert watched(seen(0.5, 0.5, 0.96), seen(0.5, 0.6, 0.96), seen(0.5, 0.5, 1.0)).kept == 10
    assert watched(seen(0.5, 0.5, 1.0), seen(0.6, 0.4, 0.96), seen(0.5, 0.9, 1.0)).kept == 10
    assert watched(seen(0.5, 0.5, 0.96), seen(0.5, 0.5, 1.0), seen(0.5, 0.5, 0.98)).kept == 10


def test_tool_calls_that_become_invalid_are_a_loss_though_success_stays() -> None:
    found = watched(score(0.8), score(0.8, valid=0.9)).broken(10)
    assert found is not None
    assert "the share of valid tool calls fell from 1.00 to 0.90" in found


def test_floors_are_shares_of_the_start_not_of_the_best() -> None:
    assert watched(score(0.4), score(0.9), score(0.35)).broken(20) is None


def test_after_a_loss_the_best_sound_weights_are_kept() -> None:
    assert watched(score(0.5), score(0.7), score(0.1, valid=0.0)).kept == 10
    assert watched(score(0.5), score(0.1, valid=0.0)).kept == 0


def test_a_loss_of_call_syntax_is_never_kept_however_good_the_rest() -> None:
    assert watched(score(0.5), score(0.9, valid=0.2)).kept == 0


@pytest.mark.parametrize(("keep", "step"), [("best", 10), ("last", 20)])
def test_without_a_loss_the_best_or_the_last_are_kept(keep: Keep, step: int) -> None:
    assert watched(score(0.5), score(0.7), score(0.6), keep=keep).kept == step


def test_the_last_is_not_kept_when_it_lost_something() -> None:
    assert watched(score(0.5), score(0.7), score(0.1), keep="last").kept == 10


def test_of_equally_good_looks_the_later_is_kept() -> None:
    assert watched(score(0.5), score(0.7), score(0.7)).kept == 20


@pytest.mark.parametrize(("steps", "interval"), [(3, 1), (10, 1), (18, 2), (1000, 100)])
def test_a_guard_measures_ten_times_unless_it_is_told_otherwise(steps: int, interval: int) -> None:
    place = ConversationSetup()
    assert Guard(place=place).interval(steps) == interval
    assert Guard(place=place, every=7).interval(steps) == 7


@pytest.mark.parametrize(("values", "said"), [({"every": 0}, "at least 1"), ({"valid_floor": 1.5}, "0 to 1")])
def test_a_guard_that_cannot_be_is_refused(values: dict[str, float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Guard(place=ConversationSetup(), **values)  # pyright: ignore[reportArgumentType]
