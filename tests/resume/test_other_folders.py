"""Components named by files are found where they were named: beside a world or a recipe, or where a run was started."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from simkit import Run
from simkit.cli.app import app
from simkit.plugins.component_paths import NAMED_IN, STARTED_IN, BaseFolders, folder_of, same_file
from simkit.store import Store

AGENT = """
from simkit.agents.scripted import ScriptedAgent

class Own(ScriptedAgent):
    name = "{name}"
"""

USER = """
from pathlib import Path
from simkit.users.agenda import AgendaUser

class Own(AgendaUser):
    name = "own"
    def __init__(self, world, *, note: Path | None = None):
        super().__init__(world)
        self.note = note.read_text() if note else ""
        assert self.note in ("", "beside the world")
"""

REWARD = """
from simkit.components.reward import EpisodeReward
from simkit.rewards.goal_calls import GoalCalls

class Own(GoalCalls):
    name = "own"
    async def score_episode(self, request):
        return EpisodeReward({value})
"""

WORLD = """
from simkit.tools.builtin.world import BuiltinWorld

class Own(BuiltinWorld):
    default_agent = "parts/agent.py:Own"
    default_user = "user.py,note=notes/note.txt"
    default_reward = "reward.py:Own"
"""

RECIPE = """
from simkit import Rollout, Run

async def small(run: Run, *, world: str = "worlds/world.py", agent: str | None = None, reward: str = "reward.py"):
    place = run.world(world)
    user = "user.py,note=worlds/notes/note.txt"
    await run.play(Rollout(), run.cast(place, agent=agent, user=user, reward=reward), run.tasks(place, "test", 2))
"""

WRONG = "raise AssertionError('the file of another folder')"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A recipe with its parts and a world with its own, each under a name that the current folder has as well."""
    files = {
        "small.py": RECIPE,
        "reward.py": REWARD.format(value=0.5),
        "user.py": USER,
        "worlds/world.py": WORLD,
        "worlds/parts/agent.py": AGENT.format(name="the world's"),
        "worlds/user.py": USER,
        "worlds/notes/note.txt": "beside the world",
        "worlds/reward.py": REWARD.format(value=0.25),
    }
    for name, text in files.items():
        place = tmp_path / "project" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return tmp_path / "project"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a wrong file for each name."""
    place = tmp_path / "elsewhere"
    for name in ("reward.py", "user.py", "parts/agent.py", "worlds/world.py", "mine.py"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(WRONG)
    monkeypatch.chdir(place)
    return place


def simkit(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def scored(*arguments: str | Path) -> float:
    done = simkit(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return float(json.loads(done.stdout.splitlines()[-1])["reward"]["value"])


def recorded(store: Path) -> Mapping[str, Any]:
    ((config,),) = Store(store).query("select config from runs").rows
    return json.loads(config)


def test_the_default_components_of_a_world_are_beside_its_file(project: Path, elsewhere: Path) -> None:
    world = project / "worlds" / "world.py"
    assert scored("run", "rollout", "--world", world, "--tasks", "1", "--store", "store") == 0.25


def test_a_default_that_a_world_inherits_is_beside_the_file_that_says_so(project: Path, elsewhere: Path) -> None:
    (project / "heir.py").write_text(
        "from simkit.plugins.loading import import_file\nfrom pathlib import Path\n"
        "Base = import_file(Path(__file__).parent / 'worlds' / 'world.py').Own\n"
        "class Heir(Base):\n    default_reward = 'reward.py:Own'\n"
    )
    assert scored("run", "josh", "--world", f"{project}/heir.py", "--tasks", "1", "--store", "store") == 0.5


def test_a_missing_default_says_where_it_was_looked_for(project: Path, elsewhere: Path) -> None:
    (project / "worlds" / "reward.py").unlink()
    done = simkit("run", "rollout", "--world", project / "worlds" / "world.py", "--tasks", "1")
    assert done.exit_code == 2
    assert f"there is no file reward.py (looked in {project / 'worlds'})" in done.stderr.replace("\n", " ")


def test_names_in_a_recipe_count_from_its_folder(project: Path, elsewhere: Path) -> None:
    assert scored("run", project / "small.py", "--store", "store") == 0.5
    assert recorded(elsewhere / "store")[NAMED_IN] == {"worlds/world.py": str(project), "reward.py": str(project)}


def test_names_on_the_command_line_count_from_the_current_folder(
    project: Path, elsewhere: Path, tmp_path: Path
) -> None:
    (elsewhere / "mine.py").write_text(REWARD.format(value=0.125))
    (project / "mine.py").write_text(WRONG)
    assert scored("run", project / "small.py", "--reward", "mine.py", "--store", "store") == 0.125


def test_a_given_name_that_means_another_file_in_the_recipe_is_refused(project: Path, elsewhere: Path) -> None:
    done = simkit("run", project / "small.py", "--agent", "reward.py:Own", "--store", "store")
    assert done.exit_code == 2
    assert f"give the whole path: {elsewhere / 'reward.py'}" in done.stderr.replace("\n", " ")


def test_a_run_goes_on_from_any_folder(project: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    (project / "mine.py").write_text(REWARD.format(value=0.75))
    assert scored("run", "small.py", "--reward", "mine.py:Own", "--store", "store") == 0.75
    store = project / "store"
    monkeypatch.chdir(elsewhere)
    done = simkit("resume", "last", "--store", "../project/store", "--log", "own.log")
    assert done.exit_code == 0, done.output
    assert f"continues in {project}" in done.stderr
    assert Path.cwd() == elsewhere
    assert (elsewhere / "own.log").exists()
    assert recorded(store)[STARTED_IN] == str(project)
    assert simkit("resume", "last", "--store", store, "--reward", "../project/mine.py:Own").exit_code == 0
    other = simkit("resume", "last", "--store", store, "--reward", "mine.py:Own")
    assert other.exit_code == 2
    assert "mine.py:Own was a file of" in other.stderr.replace("\n", " ")


def test_a_run_does_not_go_on_with_a_file_that_has_changed(
    project: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scored("run", project / "small.py", "--store", "store") == 0.5
    (project / "reward.py").write_text(REWARD.format(value=1))
    monkeypatch.chdir(project)
    done = simkit("resume", "last", "--store", elsewhere / "store")
    assert done.exit_code == 2
    assert "reward.py has changed" in done.stderr.replace("\n", " ")


def test_a_project_that_was_moved_goes_on_where_its_user_stands(
    project: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    assert scored("run", "rollout", "--world", "worlds/world.py", "--tasks", "1", "--store", "store") == 0.25
    moved = project.rename(project.parent / "moved")
    monkeypatch.chdir(moved)
    assert simkit("resume", "last", "--store", "store").exit_code == 0


def test_a_comparison_reads_worlds_where_their_runs_found_them(
    project: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    same = ("run", "rollout", "--world", "worlds/world.py", "--tasks", "2", "--store", "store")
    for name, reward in (("one", ()), ("other", ("--reward", "reward.py:Own"))):
        assert simkit(*same, "--name", name, *reward).exit_code == 0
        monkeypatch.chdir(project)
    monkeypatch.chdir(elsewhere)
    assert simkit("compare", "one", "one", "--store", project / "store").exit_code == 2
    done = simkit("compare", "one", "other", "--store", project / "store")
    assert done.exit_code == 0, done.output  # of one name: the reader is told that they are two files
    (project / "reward.py").write_text(REWARD.format(value=0.5) + "\n# changed\n")
    monkeypatch.chdir(project)
    assert simkit(*same, "--name", "third", "--reward", "reward.py:Own").exit_code == 0
    done = simkit("compare", "other", "third", "--store", "store")
    assert "the reward comes from reward.py in several runs, and the file was not the same" in " ".join(
        (done.stdout + done.stderr).split()
    )


@pytest.mark.anyio
async def test_a_run_in_python_is_resumed_from_any_folder(
    project: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    async with Run(store=project / "store", config={"reward": "reward.py:Own"}) as run:
        assert run.config["files"]
    place = BaseFolders.recorded(run.config)
    monkeypatch.chdir(elsewhere)
    assert place.of("reward.py:Own") == project
    assert place.digests(run.config) == run.config["files"]


@pytest.mark.parametrize(
    ("name", "absolute"),
    [
        ("a.py:B,x=1,c.py", "{0}/a.py:B,x=1,c.py"),
        ("./a.py", "{0}/a.py"),
        ("/tmp/a.py:B", "/tmp/a.py:B"),
        ("scripted,habits=a.py", "scripted,habits=a.py"),
        ("package.module:Class", "package.module:Class"),
        ("", ""),
    ],
)
def test_only_the_file_of_a_name_gets_its_folder(tmp_path: Path, name: str, absolute: str) -> None:
    assert BaseFolders(folder=tmp_path).absolute(name) == absolute.format(tmp_path)
    assert BaseFolders().absolute(name) == name


def test_a_name_with_more_options_counts_from_where_the_name_does(tmp_path: Path) -> None:
    places = BaseFolders({"a.py:B": tmp_path / "one"}, tmp_path)
    assert places.of("a.py:B,error_rate=0.5") == tmp_path / "one"
    assert places.of("a.py:C") == tmp_path


def test_two_names_of_one_file_ask_for_the_same_of_it() -> None:
    here, there = Path("/x/y"), Path("/x")
    assert same_file("a.py:B", here, "y/a.py:B", there)
    assert same_file("../y/a.py:B,o=1", here, "y/a.py:B,o=1", there)
    assert not same_file("a.py:B", here, "a.py:B", there)
    assert not same_file("a.py:B", here, "y/a.py:C", there)
    assert same_file("data", here, "./y/data", there)


def test_the_folder_of_an_attribute_is_that_of_whoever_set_it() -> None:
    run = object.__new__(Run)
    assert folder_of(run, "__init__") == Path(str(Run.__init__.__code__.co_filename)).parent
    assert folder_of(run, "no such attribute") == folder_of(run, "__init__")
    assert folder_of(0, "real") is None
