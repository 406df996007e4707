"""Frozen dataclasses as parameters of recipes: their fields are flags, and the recipe gets the group."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pytest
from typer.testing import CliRunner

from simkit import CastChoice, Run, Store, TaskChoice
from simkit.cli.app import app
from simkit.errors import RecipeError
from simkit.plugins.recipe import REQUIRED, load_recipe, read_recipe, without_flags

RECIPE = """
from dataclasses import dataclass
from typing import Annotated
from simkit import CastChoice, Rollout, Run, TaskChoice

@dataclass(frozen=True)
class Taste:
    salt: Annotated[int, "How salty."]
    sweet: bool = False

ONE = TaskChoice(tasks="1")

async def cook(run: Run, *, taste: Taste, tasks: TaskChoice = ONE, cast: CastChoice = CastChoice(), hot: int = 1):
    await tasks.play(run, Rollout(tasks.limits), cast)
    return {"taste": repr(taste), "hot": hot}
"""


def simkit(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.output


def test_fields_of_groups_are_flags_and_the_recipe_gets_the_groups(tmp_path: Path) -> None:
    file = tmp_path / "cook.py"
    file.write_text(RECIPE)
    common = ("--store", str(tmp_path / "store"), "--quiet")
    shown = simkit("run", str(file), "--salt", "3", "--agent", "scripted,error_rate=0", *common)
    assert "Taste(salt=3, sweet=False)" in shown
    config = Store(tmp_path / "store").query(
        "select config ->> 'salt', config ->> 'tasks', config ->> 'agent' from runs"
    )
    assert config.rows == [("3", "1", "scripted,error_rate=0")]
    assert "How salty." in simkit("run", str(file), "--help")


def test_a_flag_of_a_group_without_a_default_must_be_given(tmp_path: Path) -> None:
    file = tmp_path / "cook.py"
    file.write_text(RECIPE)
    done = CliRunner().invoke(app, ["run", str(file), "--store", str(tmp_path / "store")])
    assert done.exit_code == 2
    assert "--salt" in done.output


@dataclass(frozen=True)
class Spice:
    heat: Annotated[int, "How hot."] = 1
    names: list[str] = field(default_factory=lambda: ["pepper"])


async def with_a_default(run: Run, *, spice: Spice = Spice(heat=9)) -> Spice:
    return spice


async def without_a_default(run: Run, *, spice: Spice) -> Spice:
    return spice


def test_defaults_are_those_of_the_parameter_or_else_of_the_fields() -> None:
    assert [flag.default for flag in read_recipe(with_a_default, "here").flags] == [9, ["pepper"]]
    flags = read_recipe(without_a_default, "here").flags
    assert [(flag.name, flag.default, flag.help, flag.group) for flag in flags] == [
        ("heat", 1, "How hot.", "spice"),
        ("names", ["pepper"], "", "spice"),
    ]
    assert load_recipe("rollout").flags[0].default is not REQUIRED


def test_a_group_that_can_be_changed_is_refused() -> None:
    @dataclass
    class Loose:
        heat: int = 1

    async def recipe(run: Run, *, spice: Loose) -> None: ...

    recipe.__annotations__["spice"] = Loose
    with pytest.raises(RecipeError, match="make it frozen"):
        read_recipe(recipe, "here")


def test_two_flags_of_one_name_are_refused() -> None:
    async def recipe(run: Run, *, agent: str = "", cast: CastChoice) -> None: ...

    with pytest.raises(RecipeError, match="the flag `agent` is in the signature twice"):
        read_recipe(recipe, "here")


def test_a_field_that_is_a_flag_of_every_run_is_refused() -> None:
    @dataclass(frozen=True)
    class Clash:
        seed: int = 1

    async def recipe(run: Run, *, spice: Clash) -> None: ...

    recipe.__annotations__["spice"] = Clash
    with pytest.raises(RecipeError, match="`seed` is a flag of every run already"):
        read_recipe(recipe, "here")


def test_flags_that_do_nothing_in_a_recipe_are_accepted_and_not_shown(tmp_path: Path) -> None:
    shown = simkit("run", "finetune", "--help")
    assert "--base" in shown
    for flag in ("--rpm", "--user-model", "--max-retries", "--replay", "--temperature"):
        assert flag not in shown
    assert "--rpm" in simkit("run", "rollout", "--help")
    done = CliRunner().invoke(
        app, ["run", "finetune", "--base", "x", "--rpm", "5", "--store", str(tmp_path), "--quiet"]
    )
    assert "there is no key for the fine-tuning API" in done.output


def test_the_names_of_hidden_flags_belong_to_the_function() -> None:
    @without_flags("rpm", "tpm")
    async def recipe(run: Run) -> None: ...

    assert read_recipe(recipe, "here").unused == {"rpm", "tpm"}


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_tasks_and_players_are_chosen_by_name(tmp_path: Path) -> None:
    async with Run(store=tmp_path) as run:
        from simkit import Rollout

        tasks = TaskChoice(split="val", tasks="1-3", trials=2, max_turns=4)
        episodes = await tasks.play(run, Rollout(tasks.limits), CastChoice(agent="scripted,error_rate=0"))
    assert [(episode.task_id, episode.trial) for episode in episodes] == [
        ("val-00001", 0),
        ("val-00002", 0),
        ("val-00001", 1),
        ("val-00002", 1),
    ]
