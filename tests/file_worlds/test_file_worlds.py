"""Worlds from files: as `--world ./shop`, with goals of every kind, and found again by resumed runs and workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from simkit import Check, Goal, Hit, Run, ScoreEpisode, StartTools, Task, UsageError, World, load_world
from simkit.agents.solution import SolutionAgent
from simkit.authoring.scaffold import init_world
from simkit.cli.app import app
from simkit.components.reward import ScoreTurn
from simkit.core.conversation import Conversation, Entry
from simkit.core.ids import TurnKey
from simkit.errors import ComponentNotFound, NotRebuilt, RewardFault
from simkit.models.base import CallKey, ChatRequest
from simkit.models.providers.scripted import ScriptedModel
from simkit.plugins.component_paths import BaseFolders
from simkit.rewards.task_goals import TaskGoals
from simkit.rule_based.unsaid import unsaid
from simkit.search.rollout import Rollout
from simkit.testing.conformance import check_agent, check_reward
from simkit.testing.worlds import check_world_folder
from simkit.tools.files.world import FileWorld
from simkit.tools.files.yaml_text import parse_yaml
from simkit.viewing.rebuilding import _check  # pyright: ignore[reportPrivateUsage]

pytestmark = pytest.mark.anyio


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    init_world(Path("shop"))
    return Path("shop")


def simkit(*args: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, args)])


def summary(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


TALK = Conversation([Entry.user("A toaster, please.", 0), Entry.agent("Here you are.", 1)])
KEY = TurnKey(7, "order-toaster", 0, "L", 1)


def verdicts(**found: bool | int) -> str:
    """The answer of a judge: a criterion is met or not, or has a grade."""
    values = {name: {"met": value} if isinstance(value, bool) else {"grade": value} for name, value in found.items()}
    return json.dumps({name: {"reason": f"because {name}", **value} for name, value in values.items()})


def _asked(world: World, talk: Conversation) -> ScoreEpisode[Any]:
    task = world.tasks("test")[0]
    return ScoreEpisode(task, task.goals, (), (), talk, world.tools().start(StartTools(task)).state, key=KEY)


def add_goal(shop: Path, goal: str) -> None:
    """Give the task `order-toaster` one more goal."""
    with (shop / "tasks.yaml").open("a") as file:
        file.write(f"      - {goal}\n")


def test_a_new_world_is_played_at_once(shop: Path) -> None:
    played = summary(simkit("run", "rollout", "--world", "./shop", "--split", "train", "--trials", "4", "--json"))
    assert played["episodes"] == 8
    assert 0 < played["reward"]["value"] <= 1


def test_josh_harvests_in_a_new_world(shop: Path) -> None:
    played = summary(simkit("run", "josh", "--world", "./shop", "--beam", "4", "--json"))
    assert played["episodes"] == 2
    assert played["kto_desirable"] > 0


def test_workers_play_the_world_of_a_folder(shop: Path) -> None:
    args = ("run", "rollout", "--world", "./shop", "--trials", "4", "--concurrency", "2", "--json", "--seed", "3")
    assert summary(simkit(*args, "--workers", "2"))["reward"] == summary(simkit(*args))["reward"]


def test_a_world_that_has_changed_is_noticed_when_a_run_is_resumed(shop: Path) -> None:
    config = {"world": "./shop"}
    before = BaseFolders().digests(config)
    assert list(before) == ["shop"]
    (shop / "data" / "start.sql").write_text((shop / "data" / "start.sql").read_text() + "\n-- more")
    assert BaseFolders().digests(config) != before
    assert BaseFolders().digests({"world": "./nowhere", "model": "openai/gpt"}) == {}


def test_a_run_is_resumed_from_another_folder(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = ("--world", "./shop", "--tasks", "1", "--name", "first", "--json")
    summary(simkit("run", "rollout", *args, "--store", tmp_path / "store"))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    resumed = simkit("resume", "first", "--store", tmp_path / "store", "--json")
    assert summary(resumed)["episodes"] == 1


def test_folders_are_told_from_names(shop: Path) -> None:
    with pytest.raises(ComponentNotFound, match=r"there is no folder \./shopp"):
        load_world("./shopp")
    with pytest.raises(ComponentNotFound, match=r"no world is called `shop`; the folder is \./shop"):
        load_world("shop")
    with pytest.raises(UsageError, match=r"has no tasks\.yaml"):
        load_world("./shop/data")
    world = load_world("./shop")
    assert world.name == "shop"
    assert world.splits == ("train", "test")
    assert load_world("./shop").limits.steps == 30


def test_a_file_of_a_world_in_the_place_of_its_folder(shop: Path) -> None:
    refused = simkit("run", "rollout", "--world", "./shop/tools.py")
    assert refused.exit_code == 2
    assert "./shop/tools.py does not hold exactly one world; the world is the folder, ./shop/" in refused.output
    unknown = simkit("run", "rollout", "--world", "warehouse")
    assert "a folder with tasks.yaml (./NAME), path/to/file.py:NAME" in unknown.output


def test_the_viewer_runs_no_tools_of_a_folder_that_a_store_names(shop: Path) -> None:
    with pytest.raises(NotRebuilt, match="runs no code that a store names"):
        _check("world", "./shop", BaseFolders())


async def test_goals_of_each_kind_have_their_weights(shop: Path, tmp_path: Path) -> None:
    for goal in (
        "{told: toaster, weight: 0.5}",
        "{state: {orders: [item_id, count]}}",
        "{rubric: The agent is polite.}",
    ):
        add_goal(shop, goal)
    world = load_world("./shop")
    for met, reward in ((True, 1.0), (False, 2.5 / 3.5)):
        judged = TaskGoals(world, judge=ScriptedModel.by_turn([verdicts(rubric=met)]))
        async with Run(store=tmp_path / str(met)) as run:
            cast = run.cast(world, agent="solution,error_rate=0", reward=judged)
            (episode,) = await run.play(Rollout(), cast, world.tasks("test"))
        assert episode.reward == pytest.approx(reward)
        assert [part["name"] for part in episode.parts] == ["writes", "told toaster", "state", "rubric"]
        shown = simkit("show", "last", episode.task_id, "--store", tmp_path / str(met)).stdout
        assert f"{'✓' if met else '✗'} rubric\n    why     because rubric\n" in shown


async def test_rubrics_are_judged_together_as_the_reward_rubric_does(shop: Path) -> None:
    for goal in (
        "{rubric: The agent is polite.}",
        "{rubric: The agent is brief., name: is brief, weight: 3}",
        "{rubric: How clear it is., scale: [1, 5], name: is-brief}",
    ):
        add_goal(shop, goal)
    asked: list[ChatRequest] = []

    def answer(request: ChatRequest, key: CallKey) -> str:
        asked.append(request)
        return verdicts(rubric=True, is_brief=len(asked) != 2, **{"is-brief": 4})

    world = load_world("./shop")
    reward = TaskGoals(world, ScriptedModel(answer), votes=3, form="text")
    found = await reward.score_episode(_asked(world, TALK))
    assert [(part.name, part.value, part.weight, part.evidence) for part in found.parts[1:]] == [
        ("rubric", 1.0, 1.0, "3 of 3 votes: because rubric"),
        ("is brief", 1.0, 3.0, "2 of 3 votes: because is_brief"),
        ("is-brief", 0.75, 1.0, "3 of 3 votes: because is-brief"),
    ]
    prompt = str(asked[0].messages[0].content)
    assert "- is_brief (met or not): The agent is brief." in prompt
    assert "- is-brief (a whole number from 1 to 5): How clear it is." in prompt
    assert len(asked) == 3
    assert all(request.response_format is None and request.reusable for request in asked)


async def test_rubrics_are_sparse_goals_if_asked_for(shop: Path) -> None:
    for goal in ("{rubric: The agent is polite.}", "{rubric: How clear it is., scale: [1, 5], name: clear}"):
        add_goal(shop, goal)
    world = load_world("./shop")
    judge = ScriptedModel(lambda request, key: verdicts(rubric=True))
    reward = TaskGoals(world, judge, goals=True)
    task = world.tasks("test")[0]
    assert [goal.key for goal in reward.goals(task)] == ["writes", "rubric"]
    asked = ScoreTurn(task, reward.goals(task), (), TALK, None, KEY)
    assert await reward.score_turn(asked) == (Hit("rubric", "because rubric"),)
    plain = TaskGoals(world, judge)
    assert [goal.key for goal in plain.goals(task)] == ["writes"]
    assert await plain.score_turn(asked) == ()


async def test_a_judge_without_a_verdict_is_a_fault_and_no_score(shop: Path) -> None:
    add_goal(shop, "{rubric: The agent is polite.}")
    world = load_world("./shop")
    with pytest.raises(RewardFault, match="gave no verdict"):
        await TaskGoals(world, ScriptedModel(lambda request, key: "Yes.")).score_episode(_asked(world, TALK))


@pytest.mark.parametrize(
    ("goal", "told"),
    [
        ("{rubric: Clear., scale: [1]}", r"a scale is a list of the lowest and the highest grade, such as \[1, 5\]"),
        ("{rubric: Clear., scale: [5, 1]}", "a scale is a list"),
        ("{rubric: Clear., scale: 5}", "a scale is a list"),
        ("{told: 5, scale: [1, 5]}", "`scale` belongs to a goal with `rubric`"),
    ],
)
def test_a_scale_has_two_grades_and_belongs_to_a_rubric(shop: Path, goal: str, told: str) -> None:
    add_goal(shop, goal)
    with pytest.raises(UsageError, match=rf"tasks\.yaml:\d+: `tasks\[2\].goals\[1\].*{told}"):
        load_world("./shop")


def test_a_world_with_rubrics_passes_the_test_that_is_written_for_it(shop: Path) -> None:
    add_goal(shop, "{rubric: The agent is polite.}")
    check_world_folder(shop)


@pytest.mark.parametrize(
    ("sql", "holds"),
    [
        ("", True),
        ("insert into orders (item_id, count) values ('i1', 1)", False),
        ("delete from orders where order_id = 101", False),
        ("update orders set status = 'lost' where order_id = 101", False),
    ],
)
def test_writes_allow_no_other_changes(sql: str, holds: bool, shop: Path) -> None:
    world = FileWorld(shop)
    task = world.tasks("test")[0]
    (goal,) = task.goals
    with world.solved(task).state.draft() as draft:
        draft.value.executescript(sql)
        state, _ = draft.finish()
    assert world.holds(Check(goal.key, dict(goal.detail)), state) == holds


async def test_a_state_that_is_left_again_is_not_rewarded(shop: Path) -> None:
    world = load_world("./shop")
    task = world.tasks("test")[0]
    reward = TaskGoals(world)
    start = world.tools().start(StartTools(task)).state
    asked = ScoreEpisode(task, task.goals, (Hit("writes", "c"),), (), Conversation(), start)
    assert (await reward.score_episode(asked)).value == 0


def test_rubrics_need_a_judge(shop: Path) -> None:
    add_goal(shop, "{rubric: The agent is polite.}")
    refused = simkit("run", "rollout", "--world", "./shop", "--quiet")
    assert refused.exit_code != 0
    assert "needs a judge; name a model for it: --judge-model openai/NAME" in refused.output
    judged = simkit(
        "run", "rollout", "--world", "./shop", "--judge-model", f"scripted/{verdicts(rubric=True)}", "--json"
    )
    assert summary(judged)["episodes"] == 1


def test_the_reward_final_state_judges_the_whole_database(shop: Path) -> None:
    args = ("--world", "./shop", "--reward", "final_state", "--agent", "solution,error_rate=0", "--json")
    assert summary(simkit("run", "rollout", *args))["reward"]["value"] == 1
    forgetful = ("--world", "./shop", "--reward", "final_state", "--agent", "solution,error_rate=1", "--json")
    assert summary(simkit("run", "rollout", *forgetful))["reward"]["value"] == 0


def test_documents_are_the_data_of_a_world(shop: Path) -> None:
    (shop / "data" / "start.sql").unlink()
    (shop / "data" / "orders.json").write_text('[{"order_id": 101, "status": "open"}]')
    (shop / "tools.py").write_text(
        "from typing import Any\n\n\n"
        "def cancel_order(data: dict[str, Any], order_id: int) -> dict[str, Any]:\n"
        '    """Cancel an order."""\n'
        "    found = [order for order in data['orders'] if order['order_id'] == order_id]\n"
        "    for order in found:\n"
        "        order['status'] = 'cancelled'\n"
        "    return {'success': bool(found)}\n"
    )
    (shop / "tasks.yaml").write_text(
        "tasks:\n  - id: cancel\n    instructions: Cancel order 101.\n    agenda: [Please cancel order 101.]\n"
        "    solution: [{call: cancel_order, with: {order_id: 101}}]\n    goals: [{state: [orders]}]\n"
    )
    checked = simkit("world", "check", shop)
    assert checked.exit_code == 0, checked.output


def test_equal_goals_are_copies_and_others_are_numbered(shop: Path) -> None:
    for count in (1, 1, 2):
        add_goal(shop, f"{{call: place_order, with: {{count: {count}}}}}")
    goals: tuple[Goal, ...] = load_world("./shop").tasks("test")[0].goals
    assert [goal.key for goal in goals] == ["writes", "place_order", "place_order", "place_order:2"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: no", "no"),
        ("a: 12:30", "12:30"),
        ("a: 2026-11-28", "2026-11-28"),
        ("a: 007", "007"),
        ("a: 1_000", "1_000"),
        ("a: '3'", "3"),
        ("a: !!str 3", "3"),
        ("a: -3", -3),
        ("a: 1e3", 1000.0),
        ("a: true", True),
        ("a: ~", None),
        ("a: .inf", ".inf"),
    ],
)
def test_yaml_has_no_surprises(text: str, value: object) -> None:
    found = parse_yaml(text, "t.yaml").value["a"]
    assert (found, type(found)) == (value, type(value))


def test_hostile_yaml_is_refused_and_not_expanded() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    for text in ("\n".join(lines), "a: &a [*a]", "[" * 200 + "]" * 200):
        with pytest.raises(UsageError, match="nested too deeply, or too large"):
            parse_yaml(text, "t.yaml")


EXAMPLE = Path(__file__).parents[2] / "examples" / "shop"


def test_the_example_has_three_tools_and_a_database_in_at_most_40_lines() -> None:
    texts = [(EXAMPLE / name).read_text() for name in ("tools.py", "tasks.yaml", "data/start.sql")]
    assert sum(1 for text in texts for line in text.splitlines() if line.strip()) <= 40
    check_world_folder(EXAMPLE)
    assert [spec.name for spec in FileWorld(EXAMPLE).tools().start(StartTools(_first(EXAMPLE))).specs] == [
        "find_items",
        "place_order",
        "cancel_order",
    ]


def test_the_example_is_harvested(tmp_path: Path) -> None:
    played = simkit("run", "josh", "--world", EXAMPLE, "--store", tmp_path / "store", "--json")
    assert summary(played)["episodes"] == 2


async def test_agent_and_reward_keep_their_promises(shop: Path) -> None:
    world = load_world("./shop")
    task = world.tasks("train")[0]
    start = world.tools().start(StartTools(task))
    opening = task.reference[0].text
    await check_agent(SolutionAgent(world), tools=start.specs, texts=(opening, "Hello?"))
    await check_reward(TaskGoals(world), world.tasks("train"), world=start.state)


def _first(folder: Path) -> Task:
    world = FileWorld(folder)
    return world.tasks(world.splits[0])[0]


@pytest.mark.parametrize(
    ("arguments", "heard", "missing"),
    [
        ({"item": "i1", "count": 2}, ["Two of i1, please."], ()),
        ({"item": "kettle"}, ["Some kettles"], ()),
        ({"item": "i1"}, ["Number i12"], ("item=i1",)),
        ({"day": "2026-11-28"}, ["on 2026-11-28."], ()),
        ({"price": 24.5}, ["for 24.5 dollars"], ()),
        ({"price": 24.5}, ["for 24 dollars"], ("price=24.5",)),
        ({"rows": [{"id": 7}, {"id": 8}]}, ["number 7"], ("rows=8",)),
        ({"gift": True, "note": None}, [], ()),
        ({"size": "large", "colour": "red"}, [], ("colour=red",)),
        ({"why": "broken"}, [], ()),
    ],
)
def test_what_a_user_has_not_said_is_named(
    arguments: dict[str, Any], heard: list[str], missing: tuple[str, ...]
) -> None:
    properties = {"size": {"enum": ["small", "large"]}}
    assert unsaid(arguments, heard, ["broken"], properties) == missing
