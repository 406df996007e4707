"""Telecom's tables and tasks from the raw data of tau2-bench, and the environment that its calls run in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from tau_recordings import Recording, raw_tau2, read_recordings

from simkit.tools.tau.rows import Base, Draft, Rows
from simkit.tools.tau2 import coupling, phone, phone_setup, telecom, telecom_setup
from simkit.tools.tau2.call import Environment

ENVIRONMENT: Final = Environment(telecom.TOOLS, phone.USER_TOOLS, coupling.sync)
ACTIONS: Final = {"assistant": telecom_setup.ACTIONS, "user": phone_setup.ACTIONS}
ASSERTIONS: Final = {"assistant": telecom_setup.ASSERTIONS, "user": phone_setup.ASSERTIONS}


@cache
def base_of_telecom() -> Base:
    """The tables of both sides; skips the test if there is no recording."""
    (bases,) = read_recordings("tau2_bases.json.gz")
    agent = {
        table: {next(iter(row.values())): row for row in rows}  # keyed by the first field
        for table, rows in bases["telecom"].items()
    }
    user = {f"user.{table}": {"": row} for table, row in bases["telecom_user"].items()}
    return Base({**agent, **user, **coupling.hidden_tables()})


@cache
def tasks_of_telecom() -> Mapping[str, Recording]:
    """The tasks by id; skips the test if there are no raw data."""
    tasks = json.loads(raw_tau2()["tau2/domains/telecom/tasks.json"])
    return {task["id"]: task for task in tasks}


def recordings_of_telecom(name: str) -> list[Recording]:
    """The lines of a file that are telecom's."""
    return [line for line in read_recordings(name) if line["domain"] == "telecom"]


def start_of(task: str) -> Rows:
    """The rows after the initialization of a task."""
    draft = Draft(Rows(base_of_telecom()))
    for action in tasks_of_telecom()[task]["initial_state"]["initialization_actions"]:
        ACTIONS[action["env_type"]][action["func_name"]](draft, **action["arguments"])
        coupling.sync(draft)
    return draft.done()[0]


def checks_of(task: str) -> list[Recording]:
    """The assertions of a task."""
    return tasks_of_telecom()[task]["evaluation_criteria"]["env_assertions"] or []


def holds(check: Mapping[str, Any], rows: Rows) -> bool:
    """Whether an assertion of a task holds."""
    found = ASSERTIONS[check["env_type"]][check["func_name"]](Draft(rows), **check["arguments"])
    return found is check["assert_value"]
