"""Tasks and their sparse goals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simkit.core.conversation import Utterance
from simkit.core.ontology import Wish


@dataclass(frozen=True, slots=True)
class Goal:
    """One sparse goal. A task's goals are a multiset: equal keys are copies, each credited once.

    `key` names the goal within its task (e.g. `book_hotel`); `detail` is JSON that only the reward reads (e.g. the
    parameters a call must have) and that never changes; `weight` is its share of the episode's reward. A goal or task
    with such JSON is not hashable: use `key` and `id` as keys.
    """

    key: str
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])
    weight: float = 1.0


def goals_of_calls(calls: Iterable[tuple[str, Mapping[str, Any]]]) -> tuple[Goal, ...]:
    """A goal for each expected call, given as its tool and arguments, which are the goal's `detail`.

    The key is the tool's name. Equal calls are copies of one goal; other calls of the same tool are numbered from 1.
    """
    details = [{"tool": tool, "arguments": arguments} for tool, arguments in calls]
    keys: list[str] = []
    for place, detail in enumerate(details):
        same = details.index(detail)
        if same < place:
            keys.append(keys[same])
            continue
        earlier = {keys[other] for other in range(place) if details[other]["tool"] == detail["tool"]}
        keys.append(f"{detail['tool']}:{len(earlier) + 1}" if earlier else str(detail["tool"]))
    return tuple(Goal(key, detail) for key, detail in zip(keys, details, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task: the user's wishes and the goals that count.

    Attributes:
        id: unique within its world and split, stable across machines.
        instructions: instructions for a simulated user, one wish per line.
        goals: goals that a reward checks (rewards may add their own).
        agenda: the same wishes in structured form for rule-based users, in the order in which they mention them.
        data: JSON for the world, the user and the reward; never changed.
        reference: the human dialogue that this task was made from, if any.
    """

    id: str
    world: str
    split: str
    instructions: str = field(repr=False)
    goals: tuple[Goal, ...] = field(default=(), repr=False)
    agenda: tuple[Wish, ...] = field(default=(), repr=False)
    data: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    reference: tuple[Utterance, ...] = field(default=(), repr=False)
