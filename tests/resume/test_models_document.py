"""The commands of docs/models.md that need an endpoint are not run; their flags must exist all the same."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from simkit.cli.recipes import recipe_command
from simkit.plugins.recipe import load_recipe

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
COMMANDS = [line.replace("\\|", "|") for line in re.findall(r"(?:^|`)(simkit run [^`\n]+)", PAGE, re.M)]


def test_the_page_names_every_endpoint_with_its_command() -> None:
    for name in ("OpenAI", "vLLM", "llama.cpp", "Ollama", "transformers", "LiteLLM proxy", "Azure OpenAI"):
        (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| {name}")]
        assert "`simkit run rollout --model openai/" in row
    assert len(COMMANDS) >= 11


@pytest.mark.parametrize("command", [line for line in COMMANDS if "--help" not in line])
def test_a_command_of_the_page_can_be_read(command: str) -> None:
    recipe, *flags = shlex.split(command, comments=True)[2:]
    context = recipe_command(load_recipe(recipe), recipe).make_context(recipe, flags)
    assert context.params["model"] or context.params["replay"]
