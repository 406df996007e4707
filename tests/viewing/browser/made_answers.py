"""Answers of the API that no small store has: large, odd and hostile ones, in the shapes of docs/viewer.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

Answer: TypeAlias = Mapping[str, Any] | Sequence[Any]

HOSTILE = (
    "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\"> [a](javascript:alert(1)) "
    "![p](http://evil.example/p.png) \x1b[31mred\x1b[0m \x00 safe\u202egnp.exe zero\u200bwidth \ud800 \U000e0041"
)
"""Markup, scripts, links, a picture elsewhere, ANSI colours, a bidi override, and characters that cannot be seen."""

VISIBLE = ("⟨ESC⟩[31mred⟨ESC⟩[0m", "⟨NUL⟩", "safe⟨U+202E⟩gnp.exe", "zero⟨U+200B⟩width", "⟨U+D800⟩", "⟨U+E0041⟩")
"""What a page shows of the characters that cannot be seen."""


def answer_with(page: Page, answers: Mapping[str, Answer]) -> None:
    """Have the page's requests that begin with a path answered, the longest path first; others reach the server."""
    paths = sorted(answers, key=len, reverse=True)

    def fulfil(route: Route) -> None:
        asked = route.request.url.split("/", 3)[3]
        found = next((path for path in paths if f"/{asked}".startswith(path)), None)
        if found is None:
            route.fallback()
        else:
            route.fulfill(status=200, content_type="application/json", body=json.dumps(answers[found]))

    page.route("**/api/**", fulfil)


def run_row(**values: Any) -> dict[str, Any]:
    """A row of `/api/runs`."""
    share = {"value": 0.5, "low": 0.4, "high": 0.6}
    return {
        "run_id": "made", "name": "made", "recipe": "rollout", "status": "done", "alive": False, "part_of": None,
        "stage": None, "world": "builtin", "split": "test", "agent": None, "user": None, "models": {}, "episodes": 1,
        "finished": 1, "expected": 1, "reward": share, "success": share, "pass_k": [0.5, 0.4], "faults": 0,
        "cost": None, "started_at": "2026-11-28T06:39:36.056Z", "last_line_at": "2026-11-28T06:48:43.532Z",
        "seconds": 9.0, "error": None, **values,
    }  # fmt: skip


def run(tasks: int, trials: int, **values: Any) -> dict[str, Any]:
    """`/api/runs/RUN` with an episode for each task and trial; each fourth is a success, each hundredth a fault."""
    count = tasks * trials
    rewards = [None if i % 100 == 99 else 1.0 if i % 4 == 0 else (i % 4) / 5 for i in range(count)]
    episodes = {
        "task_id": [f"test-{i // trials:05d}" for i in range(count)],
        "trial": [i % trials for i in range(count)],
        "reward": rewards,
        "success": [None if reward is None else reward == 1 for reward in rewards],
        "outcome": ["agent_fault" if reward is None else "user_ended" for reward in rewards],
        "faults": [int(reward is None) for reward in rewards],
        **{name: [3] * count for name in ("achieved", "goals", "turns", "branches")},
        "flags": [0] * count, "seconds": [1.5] * count, "cost": [None] * count, "error": [None] * count,
        "running": [False] * count,
    }  # fmt: skip
    whole: dict[str, Any] = {
        "config": {"seed": 0},
        "summary": [],
        "units": {"not_played": {}},
        "harvest": None,
        "parts": [],
        "doctor": [],
    }
    outcomes = {"user_ended": count} if count else {}
    counts = {"episodes": count, "finished": count, "expected": count}
    return {**run_row(**counts), **whole, "outcomes": outcomes, "episodes": episodes, **values}


def nodes(parent: Sequence[int], path: Sequence[str], turn: Sequence[int], **values: Any) -> dict[str, Any]:
    """Nodes of an episode, of which the first child of each is golden."""
    count = len(parent)
    golden, marks = 0, [3] + [0] * (count - 1)
    for i in range(1, count):
        if parent[i] == golden and not any(marks[golden + 1 : i]):
            golden, marks[i] = i, 3
    return {
        "branch_id": [f"made/task/0/{path[i]}.{turn[i]}" for i in range(count)], "parent": list(parent),
        "path": list(path), "turn": list(turn), "outcome": [None] * count, "error": [None] * count, "mark": marks,
        "said": [f"said {i}" for i in range(count)], "calls": [[]] * count, "goals": [[]] * count,
        "credited": [[]] * count, **values,
    }  # fmt: skip


def wide_tree(count: int, factor: int = 6) -> dict[str, Any]:
    """A tree with a number of nodes in which each node has up to `factor` children."""
    parent, path, turn = [-1], [""], [0]
    for node in range(count):
        for arm in range(factor):
            if len(parent) == count:
                return nodes(parent, path, turn)
            parent.append(node)
            path.append(f"{path[node]}.{arm}" if path[node] else str(arm))
            turn.append(turn[node] + 1)
    raise AssertionError("unreachable: each node adds children")


def chain(turns: int, **values: Any) -> dict[str, Any]:
    """The nodes of a rollout."""
    return nodes(range(-1, turns), [""] * (turns + 1), range(turns + 1), mark=[0] * (turns + 1), **values)


def episode(of: Mapping[str, Any], **values: Any) -> dict[str, Any]:
    """`/api/episodes/made/task/0`."""
    return {
        "run_id": "made", "task_id": "task", "trial": 0, "reward": 0.5, "success": False, "outcome": "user_ended",
        "error": None, "instructions": "Ask.", "seconds": 3.0, "cost": None, "flags": 0, "running": False,
        "final": None, "task_goals": [], "trials": {"trial": [0], "reward": [0.5], "outcome": ["user_ended"]},
        "prev": None, "next": None, "nodes": of, "why": [], "faults": [], "parts": [], **values,
    }  # fmt: skip


def line(seq: int, turn: int, author: str, content: str, **values: Any) -> dict[str, Any]:
    """One line of a transcript."""
    return {
        "branch_id": f"made/task/0/.{turn}", "seq": seq, "turn": turn, "step": 0, "author": author, "content": content,
        "cut": None, "tool_calls": [], "heard": content, "flags": [], "tool": None, "digest": "d", **values,
    }  # fmt: skip


def transcript(lines: Sequence[Mapping[str, Any]], **values: Any) -> dict[str, Any]:
    """`/api/transcript/made/task/0/...`."""
    return {"branch_id": "made/task/0/.1", "lines": lines, "model_calls": [], "cost": None, "seconds": None, **values}


def conversation(of: Mapping[str, Any], said: Mapping[str, Any], **more: Answer) -> dict[str, Answer]:
    """The answers that the page of an episode asks for."""
    return {
        "/api/episodes/made/task/0": episode(of) if "nodes" not in of else of,
        "/api/transcript/made/task/0/": said,
        "/api/runs/made/notes": {"notes": []},
        **more,
    }
