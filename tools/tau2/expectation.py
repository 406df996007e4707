"""What a good end of a task of tau2-bench is, and whether states and calls meet it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from simkit.components.world import Check, EndPart, Expected, ExpectedCall
from simkit.core.records import CallRecord
from simkit.core.tasks import Goal
from simkit.data.tau2_tasks import side_of
from simkit.tools.tau.rows import Draft, Rows, copied
from simkit.tools.tau2.call import Environment, run_call
from simkit.tools.tau2.start import parts_of, run_function, state_digest

Json = Mapping[str, Any]

PARTS: Final[Mapping[str, EndPart]] = {
    "DB": "state",
    "ENV_ASSERTION": "checks",
    "COMMUNICATE": "said",
    "ACTION": "actions",
    "NL_ASSERTION": "judged",
}
"""The parts of a good end by the release's names in a task's reward basis."""


def expected_of(data: Json, goals: Sequence[Goal], environment: Environment, start: Rows) -> Expected:
    """What a good end is: the state after the gold actions, and the task's other criteria.

    The release synchronizes no gold action, so that its gold state in telecom often is no state that can be reached;
    checked tools are synchronized. Without gold actions and checks, any state is good.

    Args:
        data: the data of the task.
        goals: its goals, one for each gold action.
        environment: the tools.
        start: the rows with which the task begins.
    """
    actions = parts_of(data, "actions")
    rows, writes = _after_gold(actions, goals, environment, start)
    basis: list[EndPart] = [PARTS[name] for name in data.get("reward_basis") or ()]
    if data.get("actions") is None and data.get("env_assertions") is None:
        basis = [part for part in basis if part != "state"]
    return Expected(
        digest=state_digest(rows, exact=environment.schemas is None),
        said=tuple(data.get("communicate_info") or ()),
        basis=tuple(basis),
        writes=writes,
        checks=tuple(_checks(parts_of(data, "env_assertions"))),
        actions=tuple(map(_call, actions)),
        judged=tuple(data.get("nl_assertions") or ()),
        calls_count_once=environment.schemas is not None,
    )


def _after_gold(
    actions: Sequence[Json], goals: Sequence[Goal], environment: Environment, rows: Rows
) -> tuple[Rows, tuple[str, ...]]:
    """The rows after the gold actions, and the keys of the goals whose calls changed them."""
    gold = replace(environment, solo=False, sync=environment.sync if environment.schemas is not None else None)
    writes: dict[str, None] = {}
    for action, goal in zip(actions, goals, strict=True):
        called = run_call(gold, rows, action["name"], copied(dict(action["arguments"])), side_of(action))
        rows = called.rows
        if called.writes:
            writes[goal.key] = None
    return rows, tuple(writes)


def _checks(assertions: Sequence[Json]) -> Iterator[Check]:
    for place, assertion in enumerate(assertions):
        name = assertion["func_name"]
        same = sum(other["func_name"] == name for other in assertions[:place])
        yield Check(f"{name}:{same + 1}" if same else name, dict(assertion))


def _call(action: Json) -> ExpectedCall:
    compare = action.get("compare_args")
    return ExpectedCall(
        action["name"], action["arguments"], None if compare is None else tuple(compare), side_of(action)
    )


def digest_of(environment: Environment, state: Rows) -> str:
    """Digest of a state as the release compares it, which is after a last synchronization."""
    return state_digest(synchronized(environment, state), exact=environment.schemas is None)


def synchronized(environment: Environment, state: Rows) -> Rows:
    """The rows after synchronization; those before it if it fails."""
    if environment.sync is None:
        return state
    draft = Draft(state)
    try:
        environment.sync(draft)
    except Exception:
        return state  # the tables contradict each other, which is a wrong end as they are
    return draft.done()[0]


def holds(environment: Environment, check: Check, state: Rows) -> bool:
    """Whether a check of a task holds in a state. One that fails does not: it names a row that is not there."""
    draft = Draft(synchronized(environment, state))
    try:
        return run_function(environment, draft, check.detail) == check.detail.get("assert_value", True)
    except Exception:
        return False


def matches(expected: ExpectedCall, call: CallRecord) -> bool:
    """Whether a call counts as an expected one, as in the release: whoever made it, and with any arguments left out."""
    given = call.parameters
    if given is None or call.name != expected.name:
        return False
    names = given.keys() if expected.compare is None else expected.compare
    return {name: given[name] for name in names if name in given} == {
        name: expected.arguments[name] for name in names if name in expected.arguments
    }
