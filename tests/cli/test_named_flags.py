"""A message that sends its reader to a flag names one that the command has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import typer.main

import simkit
from simkit.cli.app import app
from simkit.cli.recipes import recipe_command
from simkit.cli.resume import resume_command
from simkit.plugins.loading import available
from simkit.plugins.recipe import GROUP, load_recipe

FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]")
TRAININGS = {f"train {method}": f"simkit.training.recipes:train_{method}" for method in ("sft", "kto", "dpo", "grpo")}
RECIPES = (*available(GROUP), *TRAININGS)
ROOT = cast("Any", typer.main.get_command(app))
COMMANDS = tuple(str(name) for name in ROOT.commands if name not in ("run", "train"))

ELSEWHERE = {"--index-url", "--no-deps", "--only-binary", "--no-input", "--dest", "--disable-pip-version-check"}
"""Flags of pip, which messages and calls of it name."""

OF_SERVERS = {
    *("--enable-auto-tool-choice", "--tool-call-parser", "--reasoning-parser"),
    *("--jinja", "--reasoning-format"),
}
"""Flags of vLLM, SGLang and llama.cpp, which messages about their answers name."""

OF_TRL = {
    "--help-trl",
    "--model-name-or-path",
    "--learning",
    "--max",
    "--num",
    "--nproc",
    "--output",
    "--output-dir",
    "--model",
    "--eval",
}
"""Flags that TRL's classes and launchers have; those with an underscore as far as the expression reads them."""

OF_OTHERS = {"selftrain": {"--parts"}, "scratch": {"--split"}}
"""Flags of other commands that a recipe names with their command."""

LEARNING = ("train sft", "train kto", "train dpo", "selftrain", "finetune", "preserve")
"""Recipes that refuse damaged data, in words that name --allow-incomplete."""


@cache
def flags_of(name: str) -> frozenset[str]:
    """The flags of a command, or of a recipe."""
    if name in RECIPES:
        command = recipe_command(load_recipe(TRAININGS.get(name, name)), name)
    else:
        resume = resume_command().make_context("resume", ["last"]).command  # it has its flags when it is called
        command = resume if name == "resume" else ROOT.commands[name]
    of_group = [each for one in getattr(command, "commands", {}).values() for each in one.params]
    every = [*command.params, *of_group]
    flags = (str(flag) for each in every for flag in (*each.opts, *each.secondary_opts))
    return frozenset(flag for flag in flags if flag.startswith("--")) | {"--help"}


def named(files: Iterable[Path]) -> dict[str, str]:
    """Every flag that a text in a file names, with one place."""
    found: dict[str, str] = {}
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= dict.fromkeys(FLAG.findall(node.value), f"{file}:{node.lineno}")
    return found


def test_every_flag_that_a_text_names_is_a_flag_of_some_command() -> None:
    folder = Path(simkit.__file__).parent
    files = [file for file in folder.rglob("*.py") if file.parent.name != "testing"]
    of_all = {flag for each in ROOT.params for flag in each.opts}
    known = frozenset[str]().union(
        *map(flags_of, (*RECIPES, *COMMANDS, "resume")), of_all, ELSEWHERE, OF_SERVERS, OF_TRL
    )
    assert {flag: place for flag, place in named(files).items() if flag not in known} == {}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_has_the_flags_that_its_texts_name(recipe: str) -> None:
    loaded = load_recipe(TRAININGS.get(recipe, recipe))
    file = Path(cast("Any", loaded.function).__code__.co_filename)
    texts = dict.fromkeys(FLAG.findall(loaded.help), recipe) if recipe in TRAININGS else named([file])
    others = OF_TRL if recipe in TRAININGS else OF_OTHERS.get(recipe, set())
    missing = {flag: place for flag, place in texts.items() if flag not in flags_of(recipe) | others}
    assert missing == {}


@pytest.mark.parametrize("command", [*LEARNING, "export", "compare"])
def test_what_refuses_damaged_data_can_be_told_to_take_it(command: str) -> None:
    assert "--allow-incomplete" in flags_of(command)
