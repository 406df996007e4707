"""Tasks that were cancelled before their first step leave no result, and a task group says nothing about it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from simkit.core.cancellation import require_results
from simkit.errors import StrayCancellation
from simkit.search.tree import together

UNSTARTED = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")


async def two() -> int:
    await anyio.lowlevel.checkpoint()
    return 2


def cancelling(others: Callable[[], Any]) -> Callable[[], Any]:
    async def first() -> int:
        others()
        return 1

    return first


def cancel_other_tasks() -> None:
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        if "together" in task.get_name():
            task.cancel()


@UNSTARTED
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_branches_that_a_component_cancels_before_they_begin_are_an_error_of_its_own() -> None:
    with pytest.raises(StrayCancellation, match=r"2 of 3 branches were cancelled before they began"):
        await together([cancelling(cancel_other_tasks), two, two])
    gc.collect()


@UNSTARTED
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_the_runs_own_cancellation_wins_over_that_of_a_component() -> None:
    def cancel_all() -> None:
        scope.cancel()
        cancel_other_tasks()

    with anyio.CancelScope() as scope:
        await together([cancelling(cancel_all), two, two])
    assert scope.cancelled_caught
    gc.collect()


@UNSTARTED
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_results_of_which_none_is_enough_excuse_no_branch_that_was_cancelled() -> None:
    with pytest.raises(StrayCancellation, match="2 of 3 branches"):
        await together([cancelling(cancel_other_tasks), two, two], lambda result: result > 2)
    gc.collect()


@pytest.mark.anyio
async def test_a_first_result_that_is_enough_needs_no_others() -> None:
    assert await together([cancelling(lambda: None), two, anyio.sleep_forever], lambda result: result == 2) == [1, 2]
    assert await together([cancelling(lambda: None), anyio.sleep_forever], lambda result: result == 1) == [1]
    assert await together([two, two]) == [2, 2]


@pytest.mark.anyio
async def test_missing_results_of_a_cancelled_task_are_its_cancellation() -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await require_results(1, 2, "requests")
    assert scope.cancelled_caught
    with pytest.raises(StrayCancellation, match="1 of 2 requests"):
        await require_results(1, 2, "requests")
    await require_results(2, 2, "requests")
