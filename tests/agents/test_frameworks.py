"""Agents of LangGraph, OpenAI's Agents SDK and pydantic-ai, as the page shows them, in trees that fork in a turn."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import simkit
from simkit.plugins.loading import find_class
from simkit.run.casting import AGENT
from simkit.search.josh import BeamSearch, Josh
from support.drawn_model import Drawn
from support.journal_lines import episodes

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

PAGE = Path(__file__).parents[2] / "docs" / "agent-frameworks.md"
TREE = Josh(BeamSearch(beam=4, branch_by="action"), simkit.Limits(turns=2))


def shown(name: str) -> str:
    """The program of the page that defines a class."""
    (text,) = [text for text in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if f"class {name}(" in text]
    return str(text)


@pytest.mark.parametrize(
    ("name", "package"),
    [("GraphAgent", "langchain"), ("SdkAgent", "agents"), ("PydanticAgent", "pydantic_ai")],
)
async def test_an_agent_of_a_framework_is_forked_and_asks_nothing_twice(
    tmp_path: Path, name: str, package: str, anyio_backend: str
) -> None:
    found = find_spec(package)
    if found is None or "site-packages" not in str(found.origin):
        pytest.skip(f"{package} is not installed, or the project's own folder of that name is imported instead")
    file = tmp_path / "agent.py"
    file.write_text(shown(name))
    kind: Any = find_class(AGENT, f"{file}:{name}")
    lines: list[dict[str, list[str]]] = []
    for most in (256, 1):
        model, store = Drawn(), tmp_path / str(most)
        async with simkit.Run(store=store, seed=4) as run:
            world = run.world("builtin")
            played = await run.play(TREE, run.cast(world, agent=kind(model, most)), run.tasks(world, "val", 2))
        assert not any(each.faults for each in played)
        assert sum(each.branches for each in played) > 20
        assert sum(each.calls for each in played) > 0
        assert set(model.asked.values()) == {1}
        lines.append(episodes(store, run.id))
    assert lines[0] == lines[1]


def test_an_agent_of_langgraph_has_few_lines(anyio_backend: str) -> None:
    assert len([line for line in shown("GraphAgent").splitlines() if line.strip()]) <= 12
