"""A model for load servers that plays both sides of a conversation about tasks whose goals are tool calls.

    async with serve(Behaviour(reply=Dialogue(world.tasks("train"), accuracy=0.4))) as server: ...

An answer is a function of the request, so a run against the server can be repeated, whatever faults occur.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, cast

import orjson

from simkit.core.tasks import Task

_WISH = re.compile(r"(\S+), wish (\d+):")
_DONE = "That has been looked up, and this is what came of it. What is next on your list?"


class Dialogue:
    """The replies of a load server.

    As the user (its system prompt holds the instructions of a task in a separate paragraph) it says one line of them
    per turn, preceded by the task and the number of the wish. As the agent it answers a wish with one tool call for the
    goal of that number, and a tool's result with words. It never hangs up.

    Args:
        tasks: tasks whose goals name a `tool` and its `parameters` in their details.
        accuracy: share of correct tool calls, from 0 to 1; the others search for something else. Drawn from the
            request's seed.
    """

    def __init__(self, tasks: Sequence[Task], *, accuracy: float) -> None:
        self._by_words = {task.instructions: task for task in tasks}
        self._by_id = {task.id: task for task in tasks}
        self._accuracy = accuracy

    def __call__(self, body: Mapping[str, Any]) -> str | dict[str, Any]:
        """The answer to a request."""
        messages = cast("list[dict[str, Any]]", body["messages"])
        last = messages[-1]
        if last["role"] == "tool":
            return _DONE
        task = self._wanted(str(messages[0]["content"]))
        if task is not None:
            return _wish(task, sum(message["role"] == "assistant" for message in messages))
        return self._call(str(last["content"]), int(body.get("seed", 0)))

    def _wanted(self, system: str) -> Task | None:
        """The task in a system prompt; None in the prompt of an agent."""
        found = (self._by_words.get(paragraph) for paragraph in system.split("\n\n"))
        return next((task for task in found if task is not None), None)

    def _call(self, said: str, seed: int) -> str | dict[str, Any]:
        """A tool call for the stated wish; correct with the probability `accuracy`."""
        wish = _WISH.match(said)
        task = self._by_id.get(wish[1]) if wish else None
        if wish is None or task is None:
            return "What would you like?"
        goal = task.goals[int(wish[2]) % len(task.goals)]
        arguments = dict(goal.detail["parameters"])
        if not _draw(seed) < self._accuracy:
            arguments[next(iter(arguments))] = "something else"
        function = {"name": goal.detail["tool"], "arguments": orjson.dumps(arguments).decode()}
        return {"role": "assistant", "content": None, "tool_calls": [_one_call(function)]}


def _wish(task: Task, number: int) -> str:
    lines = task.instructions.splitlines()
    return f"{task.id}, wish {number}: {lines[number % len(lines)]}"


def _one_call(function: dict[str, Any]) -> dict[str, Any]:
    return {"id": "call_0", "type": "function", "function": function}


def _draw(seed: int) -> float:
    """A number from 0 to 1."""
    return int.from_bytes(blake2b(b"luck %d" % seed, digest_size=8).digest(), "big") / (1 << 64)
