"""`simkit world check`: each fault that was planted into a right world is named, with its file and line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from simkit.authoring.scaffold import init_world
from simkit.cli.app import app
from simkit.components.tools import StartTools
from simkit.components.world import load_world
from simkit.testing.conformance import ConformanceError
from simkit.testing.worlds import check_world_folder

ORDER = "shop/tasks.yaml"
FILES = ("tasks.yaml", "tools.py", "policy.md")
CALL = "- call: place_order\n        with: {item_id: i1, count: 2}"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The world that `simkit init world shop` writes, in the current folder."""
    monkeypatch.chdir(tmp_path)
    init_world(Path("shop"))
    return Path("shop")


def simkit(*args: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, args)])


def change(file: Path, old: str, new: str) -> int:
    """Change a text that occurs in a file, and return the line of its first occurrence, from 1."""
    text = file.read_text()
    assert old in text, f"{file} has no {old!r}"
    file.write_text(text.replace(old, new, 1))
    return text[: text.index(old)].count("\n") + 1


def found(shop: Path) -> list[dict[str, Any]]:
    checked = simkit("world", "check", shop, "--json")
    assert checked.exit_code in (0, 1), checked.output
    return json.loads(checked.stdout)["findings"]


def test_the_template_has_no_problems(shop: Path) -> None:
    checked = simkit("world", "check", shop)
    assert checked.exit_code == 0, checked.output
    assert checked.stdout == "shop: 3 tools, 3 tasks (2 in train, 1 in test)\nno problems found\n"
    check_world_folder(shop)


def test_one_problem_is_counted_as_one(shop: Path) -> None:
    change(shop / "tasks.yaml", "- told: 24.5", "- tolt: 24.5")
    assert simkit("world", "check", shop).stdout.endswith("\n1 problem\n")


Plant = Callable[[Path], int]
"""Plants a fault, and returns the line where it should be reported."""

SECOND = """
  - id: again
    instructions: {instructions}
    agenda: [{line}]
    solution: [{{call: cancel_order, with: {{order_id: 101}}}}]
    goals: [{goal}]
"""


def append(shop: Path, **parts: str) -> int:
    """Add a task, and return the line of its instructions."""
    file = shop / "tasks.yaml"
    text = file.read_text()
    with file.open("a") as more:
        more.write(SECOND.format(**parts))
    return text.count("\n") + 3


def no_docstring(shop: Path) -> int:
    change(shop / "tools.py", '    """Order a number of pieces of an item."""\n', "")
    return change(shop / "tools.py", "def place_order", "def place_order")


def failing_solution(shop: Path) -> int:
    return change(shop / "tasks.yaml", "with: {item_id: i1, count: 2}", "with: {item_id: i1, count: 9}") - 1


def unknown_tool(shop: Path) -> int:
    return change(shop / "tasks.yaml", "- call: cancel_order", "- call: cancel_ordr")


def unreached_call(shop: Path) -> int:
    file = shop / "tasks.yaml"
    line = change(
        file, "      - call: place_order\n        with: {item_id: i1, count: 2}\n        weight", "      - weight"
    )
    text = file.read_text()
    file.write_text(text.replace("- weight: 2", "- {call: place_order, with: {item_id: i1, count: 3}}"))
    return line


def untellable(shop: Path) -> int:
    return change(shop / "tasks.yaml", "- told: 24.5", "- told: 25.5")


def wrong_writes(shop: Path) -> int:
    change(shop / "tasks.yaml", "{item_id: i2, stock: 4}", "{item_id: i2, stock: 3}")
    return change(shop / "tasks.yaml", "- writes:", "- writes:")


def met_at_the_start(shop: Path) -> int:
    return change(shop / "tasks.yaml", "- state: [orders]", "- state: [items]")


def same_goal_twice(shop: Path) -> int:
    return change(shop / "tasks.yaml", "- told: 24.5", "- told: 24.5\n      - {told: 24.5, name: price}") + 1


def covered_goal(shop: Path) -> int:
    more = f"- {{call: place_order, with: {{count: 2}}, name: two}}\n      {CALL}\n        w"
    return change(shop / "tasks.yaml", f"{CALL}\n        w", more) + 1


def same_words_other_goals(shop: Path) -> int:
    text = "You ordered a toaster, order number 101, and do not want it any more. Cancel the order."
    return append(shop, instructions=text, line="Please cancel my order number 101.", goal="{call: cancel_order}")


def silent_agenda(shop: Path) -> int:
    return change(shop / "tasks.yaml", "cancel my order number 101", "cancel my order") - 1


def silent_instructions(shop: Path) -> int:
    return change(shop / "tasks.yaml", "You ordered a toaster, order number 101,", "You ordered a toaster")


def unknown_table(shop: Path) -> int:
    return change(shop / "tasks.yaml", "- state: [orders]", "- state: [order]") - 1


def raising_tool(shop: Path) -> int:
    change(
        shop / "tools.py",
        '    found = db.execute("update orders',
        '    found = 1 // 0\n    found = db.execute("update orders',
    )
    return change(shop / "tasks.yaml", "- id: cancel-toaster", "- id: cancel-toaster")


def repeats(shop: Path, tool: str) -> int:
    change(shop / "tools.py", '    found = db.execute("update orders', f'{tool}\n    found = db.execute("update orders')
    return change(shop / "tasks.yaml", "- call: cancel_order", "- call: cancel_order")


def chance(shop: Path) -> int:
    return repeats(shop, '    import uuid\n    db.execute("update orders set status = ?", (str(uuid.uuid4()),))')


def shared(shop: Path) -> int:
    change(shop / "tools.py", "def find_items", "_seen = []\n\n\ndef find_items")
    return repeats(shop, '    _seen.append(1)\n    db.execute("update orders set count = ?", (len(_seen),))')


def leaving_tool(shop: Path) -> int:
    change(shop / "tools.py", "    found = db", "    raise SystemExit(0)\n    found = db")
    return change(shop / "tasks.yaml", "- id: cancel-toaster", "- id: cancel-toaster")


PLANTED: dict[str, tuple[Plant, str, str, str]] = {
    "no docstring": (no_docstring, "tools", "shop/tools.py", "the tool `place_order` is not described"),
    "failing solution": (failing_solution, "solution", ORDER, "the call place_order(item_id='i1', count=9) of the"),
    "unknown tool": (unknown_tool, "solution", ORDER, "there is no tool `cancel_ordr`; there are: find_items, place_"),
    "unreached call": (unreached_call, "solution", ORDER, "the goal `place_order` is not reached by the solution"),
    "untellable": (untellable, "solution", ORDER, "the goal `told 25.5` cannot be reached: neither a result"),
    "wrong writes": (
        wrong_writes,
        "solution",
        ORDER,
        "the goal `writes` does not hold after the solution, which",
    ),
    "met at the start": (met_at_the_start, "start", ORDER, "the goal `state` holds already at the start"),
    "same goal twice": (same_goal_twice, "goals", ORDER, "the goals `told 24.5` and `price` cannot be told apart"),
    "covered goal": (covered_goal, "goals", ORDER, "the goals `two` and `place_order` cannot be told apart"),
    "same words, other goals": (same_words_other_goals, "goals", ORDER, "the task `cancel-toaster` has the same instr"),
    "silent agenda": (silent_agenda, "user", ORDER, "the agenda does not contain `order_id=101` for cancel_order"),
    "silent instructions": (silent_instructions, "user", ORDER, "the instructions do not contain `order_id=101`"),
    "unknown table": (unknown_table, "goals", ORDER, "no table `order` (did you mean `orders`?)"),
    "raising tool": (raising_tool, "solution", ORDER, "ZeroDivisionError"),
    "leaving tool": (leaving_tool, "solution", ORDER, "SystemExit"),
    "chance": (chance, "tools", ORDER, "does something else the second time"),
    "state of its own": (shared, "tools", ORDER, "does something else the second time"),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_each_planted_fault_is_named_with_its_line(fault: str, shop: Path) -> None:
    plant, kind, file, said = PLANTED[fault]
    line = plant(shop)
    findings = found(shop)
    named = [(each["kind"], each["where"]) for each in findings if said in each["problem"]]
    assert named == [(kind, f"{file}:{line}")], findings
    with pytest.raises(ConformanceError, match="shop/"):
        check_world_folder(shop)


def test_an_agenda_in_the_wrong_order_is_found_by_the_scripted_pair(shop: Path) -> None:
    file = shop / "tasks.yaml"
    change(file, "      - Please cancel my order number 101.\n", "      - Please do it.\n")
    change(file, "solution:\n      - call: cancel_order", "implied: [101]\n    solution:\n      - call: cancel_order")
    assert found(shop) == []
    change(file, "instructions: You ordered", "split: later\n    instructions: You ordered")
    text = file.read_text().replace("split: train\n    split: later", "split: later")
    file.write_text(
        text.replace("- Hello, I am looking for a kettle. What does it cost?\n      - I take two", "- I take two")
    )
    (problem,) = found(shop)
    assert problem["kind"] in ("user", "play")
    assert problem["task"] == "order-kettles"


def test_a_conversation_that_is_too_short_is_found_by_the_scripted_pair(shop: Path) -> None:
    change(shop / "tasks.yaml", "\ntasks:", "\nlimits: {turns: 1}\ntasks:")
    assert [(each["kind"], each["task"]) for each in found(shop)] == [
        ("play", "order-kettles"),
        ("play", "order-toaster"),
    ]
    assert "turn_limit; not reached: `place_order`" in found(shop)[0]["problem"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "    agenda:",
            "    agnda:",
            ":18: there is no key `agnda` in `tasks[0]` (did you mean `agenda`?); the keys are: id,",
        ),
        ("- told: 24.5", "- told: [24.5]", "`tasks[0].goals[0].told` must be a text"),
        ("weight: 2", "weight: -2", "`tasks[0].goals[1].weight` input should be greater than 0"),
        ("weight: 2", "weight: two", "`tasks[0].goals[1].weight` must be a number"),
        ("- told: 24.5", "- told: 24.5\n        rubric: polite", "this one has told and rubric"),
        (
            "- told: 24.5",
            "- name: price",
            "a goal has exactly one of call, state, writes, told, rubric; this one has none",
        ),
        ("id: cancel-toaster", "id: order-kettles", "the id `order-kettles` occurs twice in the split `train`"),
        ("    solution:", "    solution", "is not YAML"),
        ("    agenda:", "\tagenda:", "is not YAML"),
        ("split: train", "split: train\n    split: test", "the key `split` occurs twice"),
        ("\ntasks:", "\ntasks: []\nother:", "`tasks` is empty; add at least one"),
        ("\ntasks:", "\ndata: nowhere\ntasks:", "there is no shop/nowhere, which tasks.yaml names"),
        ("\ntasks:", "\ntools: tol.py\ntasks:", "there is no file tol.py"),
        ("\ntasks:", "\npolicy: rules.md\ntasks:", "shop/rules.md cannot be read"),
        ("\ntasks:", "\nlimits: {turn: 3}\ntasks:", "there is no key `turn` in `limits` (did you mean `turns`?)"),
        ("told: 24.5", 'told: " "', "`tasks[0].goals[0].told` is empty"),
        ("id: cancel-toaster", "id: !!python/object:os.system x", "is not known here"),
    ],
)
def test_mistakes_of_form_are_named_with_their_line(old: str, new: str, said: str, shop: Path) -> None:
    change(shop / "tasks.yaml", old, new)
    mistakes = found(shop)
    assert {mistake["kind"] for mistake in mistakes} == {"file"}
    assert any(said in mistake["problem"] for mistake in mistakes)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("data/start.sql", "create table items (x);\ncreate tabel y (x);", "shop/data/start.sql:2: SQLite refuses"),
        ("data/more.json", "[]", "shop/data has more.json, start.sql; a world's state is one database, one SQL script"),
        ("tools.py", "def f(x): return x", "the parameter `x` of the tool `f` cannot be offered to a model"),
        ("tools.py", "def f(", "tools.py:1: SyntaxError"),
        (
            "tools.py",
            "from sqlite3 import *\ndef f(x: Connection): return x",
            "tool `f` cannot be described to",
        ),
        ("tools.py", "def f(x: 'Connection'): return x", "name 'Connection' is not defined; define or import the name"),
        ("tools.py", "", "shop/tools.py has no public function"),
        ("tasks.yaml", "", "the file must be a mapping"),
        ("tasks.yaml", "- 1", "the file must be a mapping"),
    ],
)
def test_files_that_cannot_be_used_are_named(file: str, text: str, said: str, shop: Path) -> None:
    (shop / file).write_text(text)
    (mistake,) = found(shop)
    assert said in mistake["problem"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"o1": {"n": 1}, "o1": {"n": 2}}', "shop/data/orders.json cannot be used: an object has the key `o1` twice"),
        ('[{"id": 123456789012345678901}]', "64-bit range; write such numbers as texts"),
        ("[NaN]", "shop/data/orders.json:1:2 is not JSON"),
    ],
)
def test_data_that_would_be_changed_by_reading_is_refused(text: str, said: str, shop: Path) -> None:
    (shop / "data" / "start.sql").unlink()
    (shop / "data" / "orders.json").write_text(text)
    (mistake,) = found(shop)
    assert said in mistake["problem"]


def test_byte_order_marks_and_capital_suffixes_are_read(shop: Path) -> None:
    script = (shop / "data" / "start.sql").read_bytes()
    (shop / "data" / "start.sql").unlink()
    for file, text in (("data/START.SQL", script), *((name, (shop / name).read_bytes()) for name in FILES)):
        (shop / file).write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    assert found(shop) == []
    assert "\ufeff" not in load_world("./shop").tools().start(StartTools(load_world("./shop").tasks("test")[0])).policy


def test_a_folder_that_is_no_world_says_how_to_make_one(tmp_path: Path) -> None:
    checked = simkit("world", "check", tmp_path)
    assert checked.exit_code == 1
    assert "has no tasks.yaml, so it is no world; `simkit init world NAME` makes one" in checked.stdout


def test_a_folder_with_files_is_not_overwritten(shop: Path) -> None:
    again = simkit("init", "world", shop)
    assert again.exit_code == 2
    assert isinstance(again.exception, SystemExit)
    assert "shop exists and is not empty" in again.output
    assert simkit("init", "world", "a b").exit_code == 2


def test_a_model_shows_how_difficult_the_tasks_are(shop: Path, tmp_path: Path) -> None:
    model = "scripted/It costs 24.50 dollars. Really: 24.5|Done."
    args = ("--model", model, "--trials", "2", "--store", tmp_path / "store", "--json")
    checked = simkit("world", "check", shop, *args)
    assert checked.exit_code == 0, checked.output
    tried = json.loads(checked.stdout.splitlines()[-1])["difficulty"]
    assert [(one["task"], one["solved"], one["trials"], round(one["reward"], 2)) for one in tried] == [
        ("order-kettles", 0, 2, 0.33),
        ("cancel-toaster", 0, 2, 0.0),
        ("order-toaster", 0, 2, 0.0),
    ]


def test_conversations_that_faulted_are_not_held_against_the_model(shop: Path, tmp_path: Path) -> None:
    text = (shop / "tools.py").read_text()
    broken = "def broken() -> int:\n    'Always fails, whatever it is asked.'\n    return 1 // 0\n"
    (shop / "tools.py").write_text(f"{text}\n\n{broken}")
    call = json.dumps({"name": "broken", "arguments": {}})
    args = ("--model", f"scripted/<tool_call>{call}</tool_call>", "--trials", "1", "--tasks", "1", "--store", tmp_path)
    checked = simkit("world", "check", shop, *args, "--json")
    tried = json.loads(checked.stdout.splitlines()[0])["difficulty"]
    assert [(one["solved"], one["trials"], one["reward"], one["faulted"]) for one in tried] == [(0, 0, None, 1)] * 2
    assert checked.exit_code == 1
    assert "2 of 2 conversations with the model faulted and have no score" in checked.output


def test_a_folder_that_was_removed_under_ones_feet_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    checked = simkit("world", "check", "shop")
    assert checked.exit_code == 2
    assert "the current folder was removed" in checked.output


def test_a_judge_can_be_named_for_rubrics_and_else_they_are_left_out(shop: Path, tmp_path: Path) -> None:
    change(shop / "tasks.yaml", "- told: 24.5", "- told: 24.5\n      - rubric: The agent is brief.")
    args = ("--model", "scripted/It costs 24.5|Done.", "--trials", "1", "--tasks", "1", "--store", tmp_path, "--json")
    verdict = json.dumps({"rubric": {"reason": "It is.", "met": True}})
    for judge, reward in (((), 0.33), (("--judge-model", f"scripted/{verdict}"), 0.5)):
        checked = simkit("world", "check", shop, *args, *judge)
        assert checked.exit_code == 0, checked.output
        tried = json.loads(checked.stdout.splitlines()[-1])["difficulty"]
        assert round(tried[0]["reward"], 2) == reward
    assert "note: 1 rubrics are left to a judge (--judge-model)" in simkit("world", "check", shop).stdout


def test_a_judge_without_a_model_to_judge_is_refused(shop: Path) -> None:
    refused = simkit("world", "check", shop, "--judge-model", "scripted/yes")
    assert "give --model openai/NAME with it" in refused.output
