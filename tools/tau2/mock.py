"""The tools of both sides of tau2-bench's mock domain: tasks of users, and the user's notifications."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from simkit.tools.tau.rows import USER_TABLES, Draft, Row
from simkit.tools.tau2.call import Toolset
from simkit.tools.tau2.common import found, transfer_to_human_agents
from simkit.tools.tau2.records import Notification, Task
from simkit.tools.tau2.text import Record

_NOTIFICATIONS: Final = "user.notifications"
SHARED: Final = ("defaults.shared", "")
"""The row that names the side whose tables the tools of both sides were given; there is none if each has its own."""


def get_users(db: Draft) -> object:
    """The rows of all users."""
    return [Record(user) for _, user in _items(db, "users")]


def create_task(db: Draft, user_id: str, title: str, description: Any = None) -> object:
    """Give a user a new task."""
    _found(db, "users", user_id, f"User {user_id} not found")
    id = f"task_{sum(1 for _ in db.items('tasks')) + 1}"
    task = Task(task_id=id, title=title, description=description, status="pending").model_dump()
    db.put("tasks", id, task)
    db.edit("users", user_id)["tasks"].append(id)
    return Record(task)


def update_task_status(db: Draft, task_id: str, status: str) -> object:
    """Set the status of a task, to anything."""
    _found(db, "tasks", task_id, f"Task {task_id} not found")
    task = db.edit("tasks", task_id)
    task["status"] = status
    return Record(task)


def check_notifications(db: Draft) -> object:
    """The user's notifications."""
    return [Record(notification) for _, notification in _items(db, _NOTIFICATIONS)]


def dismiss_notification(db: Draft, notification_id: str) -> object:
    """Mark a notification as read."""
    _found(db, _NOTIFICATIONS, notification_id, f"Notification {notification_id} not found")
    db.edit(_NOTIFICATIONS, notification_id)["status"] = "read"
    return f"Notification {notification_id} dismissed"


def add_notification(db: Draft, notification_id: str, message: str, task_id: str | None = None) -> None:
    """Set up: give the user a notification."""
    made = Notification(notification_id=notification_id, message=message, task_id=task_id)
    db.put(_NOTIFICATIONS, notification_id, made.model_dump())


def _check_side(db: Draft, table: str) -> None:
    """Fail like the release's tools where a task has given them the tables of the other side."""
    given = db.get(*SHARED)["side"] if db.has(*SHARED) else ""
    owner = "user" if table.startswith(USER_TABLES) else "agent"
    if given and given != owner:
        tables = "MockDB" if given == "agent" else "MockUserDB"
        raise AttributeError(f"'{tables}' object has no attribute '{table.removeprefix(USER_TABLES)}'")


def _found(db: Draft, table: str, id: str, refusal: str) -> Row:
    _check_side(db, table)
    return found(db, table, id, refusal)


def _items(db: Draft, table: str) -> Iterator[tuple[str, Row]]:
    _check_side(db, table)
    return db.items(table)


def assert_number_of_tasks(db: Draft, user_id: str, expected_number: int) -> bool:
    """Check: how many tasks a user has."""
    return len(_found(db, "users", user_id, f"User {user_id} not found")["tasks"]) == expected_number


def assert_task_status(db: Draft, task_id: str, expected_status: str) -> bool:
    """Check: the status of a task."""
    return _found(db, "tasks", task_id, f"Task {task_id} not found")["status"] == expected_status


def assert_notification_status(db: Draft, notification_id: str, expected_status: str) -> bool:
    """Check: the status of a notification."""
    refusal = f"Notification {notification_id} not found"
    return _found(db, _NOTIFICATIONS, notification_id, refusal)["status"] == expected_status


TOOLS: Final = Toolset.of(
    "MockTools", read=[get_users], write=[create_task, update_task_status], generic=[transfer_to_human_agents]
)
USER_TOOLS: Final = Toolset.of("MockUserTools", read=[check_notifications], write=[dismiss_notification])
ASSERTIONS: Final[Mapping[str, Callable[..., bool]]] = {
    "assert_number_of_tasks": assert_number_of_tasks,
    "assert_task_status": assert_task_status,
}
USER_ASSERTIONS: Final[Mapping[str, Callable[..., bool]]] = {"assert_notification_status": assert_notification_status}
USER_ACTIONS: Final[Mapping[str, Callable[..., object]]] = {"add_notification": add_notification}
