"""The tool server in both variants: beside a plain reading of the release's rules, and where it repairs them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_multiwoz import TABLES, write_folder

from simkit.components.tools import CallTool, StartTools
from simkit.core.messages import ToolCall, ToolResult
from simkit.core.tasks import Task
from simkit.tools.toolwoz import ToolwozWorld
from simkit.tools.toolwoz.data import Archive, prepare
from simkit.tools.toolwoz.records import BOOK, SEARCH, Variant
from simkit.tools.toolwoz.server import Entities, FixedServer, PaperServer
from simkit.tools.toolwoz.specs import PUBLISHED
from simkit.tools.toolwoz.task_view import compile_view

EMPTY = ("", "dontcare", "dont care", "don't care", "do n't care", "not mentioned")


class Bench:
    """One variant's server over the small world, called with plain values."""

    def __init__(self, folder: Path, variant: Variant) -> None:
        archive = Archive.open(folder)
        server = PaperServer if variant == "paper" else FixedServer
        self.server = server(Entities(archive.tables, frozenset({"cardiology"})))
        world = ToolwozWorld(variant, folder)
        self.tasks = {task.id: task for split in ("train", "val", "test") for task in world.tasks(split)}
        self.views = {key: compile_view(task, archive.tables, variant) for key, task in self.tasks.items()}

    def result(self, task_id: str, name: str, arguments: Any) -> ToolResult:
        call = ToolCall.of("c", name, arguments if isinstance(arguments, str) else json.dumps(arguments))
        return self.server.answer(call, self.views[task_id])

    def __call__(self, task_id: str, name: str, arguments: Any) -> Any:
        return json.loads(json.dumps(self.result(task_id, name, arguments).value))

    def name_of(self, task_id: str, name: str, arguments: Any) -> str | None:
        """The name or train id of the entity that a search returns."""
        found = self(task_id, name, arguments)
        return (found[0].get("trainID") or found[0]["name"]) if found else None


@pytest.fixture(scope="session")
def paper(small_cache: Path) -> Bench:
    return Bench(small_cache, "paper")


@pytest.fixture(scope="session")
def fixed(small_cache: Path) -> Bench:
    return Bench(small_cache, "fixed")


# --- the release's rules, read plainly: scan the rows, compare one by one ---------------------------------------------


def _folded(value: Any) -> Any:
    return value.lower().replace("'", "") if isinstance(value, str) else value


def _includes(whole: Mapping[str, Any], part: Mapping[str, Any]) -> bool:
    whole = {key: _folded(value) for key, value in whole.items() if value not in EMPTY}
    return all(key in whole and whole[key] == _folded(value) for key, value in part.items() if value not in EMPTY)


def _passes(row: Mapping[str, Any], key: str, value: Any) -> bool:
    if not isinstance(value, str) or value in EMPTY:
        return True
    if key == "leaveAt":
        return row[key] > value
    return row[key] < value if key == "arriveBy" else row.get(key) == value


def _released(task: Task, domain: str, arguments: Mapping[str, Any], rows: list[Any]) -> list[Any]:
    asked = {key: _folded(value) for key, value in arguments.items()}
    found = [row for row in rows if all(_passes(row, key, value) for key, value in asked.items())]
    goals = {goal.key: goal.detail for goal in task.goals}
    if not found or f"search_{domain}" not in goals:
        return found[:1]
    goal, booking = goals[f"search_{domain}"]["parameters"], goals.get(f"book_{domain}")
    wrong = [row for row in found if not _includes(row, goal)][-1:]
    right = [row for row in found if booking and row[booking["id_field"]] == booking["entity"]][-1:]
    if _includes(asked, goal):
        return (right or wrong) if booking else found[:1]
    return (wrong or right or found[:1]) if _includes(goal, asked) else found[:1]


def values_of(domain: str, key: str) -> st.SearchStrategy[Any]:
    known = sorted({str(row[key]) for row in TABLES[domain] if key in row})
    odd = [*EMPTY, "DONTCARE", "zzz", "09:15", "13:15", "24:00", None, 3, True, 2.5]
    return st.sampled_from([*known, *(value.upper() for value in known), *odd])


def searches(domain: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    optional = {key: values_of(domain, key) for key in SEARCH[domain]}
    return st.tuples(st.just(domain), st.fixed_dictionaries({}, optional=optional))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(["STAY.json", "EAT.json", "SEE.json"]), st.sampled_from(sorted(SEARCH)).flatmap(searches))
def test_paper_searches_as_the_plain_rules_say(paper: Bench, task_id: str, search: tuple[str, dict[str, Any]]) -> None:
    domain, arguments = search
    rows = json.loads(json.dumps(paper.server.entities.tables[domain].rows))
    expected = _released(paper.tasks[task_id], domain, arguments, rows)
    assert paper(task_id, f"search_{domain}", arguments) == expected


def books(domain: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    values = st.sampled_from(["1", "2", "3", "friday", "FRI'DAY", "last inn", "Last Inn", "TR13fr", "dontcare", 3])
    return st.tuples(st.just(domain), st.fixed_dictionaries({}, optional=dict.fromkeys(BOOK[domain], values)))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["STAY.json", "EAT.json"]), st.sampled_from(sorted(BOOK)).flatmap(books))
def test_paper_books_exactly_what_was_booked(paper: Bench, task_id: str, book: tuple[str, dict[str, Any]]) -> None:
    domain, arguments = book
    goals = {goal.key: goal.detail["parameters"] for goal in paper.tasks[task_id].goals}
    wanted = goals.get(f"book_{domain}")
    done = wanted is not None and _includes(arguments, wanted)
    answer: dict[str, Any] = paper.tasks[task_id].data[domain]["booked"] if done else {}
    assert paper(task_id, f"book_{domain}", arguments) == {"success": done, "return": answer}


BOOKING = {"stay": "2", "day": "friday", "people": "3", "name": "last inn"}


@pytest.mark.parametrize("variant", ["paper", "fixed"])
def test_a_gold_booking_returns_its_reference(variant: str, request: pytest.FixtureRequest) -> None:
    bench: Bench = request.getfixturevalue(variant)
    assert bench("STAY.json", "book_hotel", BOOKING) == {
        "success": True,
        "return": {"name": "last inn", "reference": "REF00001"},
    }
    assert bench("STAY.json", "book_hotel", {**BOOKING, "people": "4"}) == {"success": False, "return": {}}


def test_partial_searches_mislead_and_whole_ones_find_the_gold_entity(paper: Bench) -> None:
    assert paper.name_of("STAY.json", "search_hotel", {"area": "north"}) == "quiet corner"
    whole = {"area": "north", "type": "guesthouse", "pricerange": "cheap"}
    assert paper.name_of("STAY.json", "search_hotel", whole) == "last inn"


def test_missing_fields_are_null(paper: Bench) -> None:
    found = paper("EAT.json", "search_restaurant", {"food": "greek"})
    assert found[0]["phone"] == "01001"
    assert paper("SEE.json", "search_restaurant", {"area": "east"}) == []
    assert TABLES["restaurant"][1].get("phone") is None
    rows = paper.server.entities.tables["restaurant"].rows
    assert rows[1]["phone"] is None


@pytest.mark.parametrize(
    ("arguments", "paper_finds", "fixed_finds"),
    [
        ({"name": "king's garden"}, None, "king's garden"),
        ({"name": "  Kings   GARDEN "}, None, "king's garden"),
        ({"type": "museum", "area": "do n't care"}, None, "old mill"),
        ({"type": "museum", "area": "Don't Care"}, "old mill", "old mill"),
    ],
)
def test_names_and_spellings_that_only_fixed_finds(
    paper: Bench, fixed: Bench, arguments: dict[str, Any], paper_finds: str | None, fixed_finds: str
) -> None:
    assert paper.name_of("EAT.json", "search_attraction", arguments) == paper_finds
    assert fixed.name_of("EAT.json", "search_attraction", arguments) == fixed_finds


def test_fixed_finds_names_with_capitals(paper: Bench, fixed: Bench) -> None:
    asked = {"name": "Pizza Palace North"}
    assert paper.name_of("SEE.json", "search_restaurant", asked) is None
    assert fixed.name_of("SEE.json", "search_restaurant", asked) == "Pizza Palace North"


@pytest.mark.parametrize(
    ("arguments", "paper_finds", "fixed_finds"),
    [
        ({"leaveAt": "09:15", "arriveBy": "12:00"}, None, "TR09mo"),
        ({"leaveAt": "9:15", "arriveBy": "12:00"}, None, "TR09mo"),
        ({"leaveAt": "23:15"}, None, "TR23mo"),
        ({"arriveBy": "06:05"}, None, "TR05mo"),
        ({"arriveBy": "06:06"}, "TR05mo", "TR05mo"),
        ({"arriveBy": "06:04"}, None, None),
    ],
)
def test_times_exclude_the_time_itself_only_in_paper(
    paper: Bench, fixed: Bench, arguments: dict[str, str], paper_finds: str | None, fixed_finds: str | None
) -> None:
    assert paper.name_of("SEE.json", "search_train", arguments) == paper_finds
    assert fixed.name_of("SEE.json", "search_train", arguments) == fixed_finds


def test_fixed_reads_numbers_and_booleans(paper: Bench, fixed: Bench) -> None:
    assert fixed.name_of("EAT.json", "search_hotel", {"stars": 4}) == "last inn"
    assert paper.name_of("EAT.json", "search_hotel", {"stars": 4}) == "the elm"
    assert fixed("EAT.json", "search_hotel", {"parking": False}) == []
    assert fixed("STAY.json", "book_hotel", {**BOOKING, "people": 3, "stay": 2.0})["success"] is True
    assert paper("STAY.json", "book_hotel", {**BOOKING, "people": 3})["success"] is False


def test_a_request_that_is_to_fail_fails_only_in_fixed(paper: Bench, fixed: Bench) -> None:
    asked = {"area": "north", "type": "guesthouse", "pricerange": "moderate"}
    assert paper.name_of("STAY.json", "search_hotel", asked) == "quiet corner"
    assert fixed.name_of("STAY.json", "search_hotel", asked) is None
    assert fixed.name_of("SEE.json", "search_hotel", asked) == "quiet corner"
    assert fixed.name_of("SEE.json", "search_attraction", {"type": "park"}) is None


def test_fixed_train_goals_are_satisfied_by_later_trains(fixed: Bench) -> None:
    whole = {"departure": "ely", "destination": "cambridge", "day": "friday", "leaveAt": "09:15"}
    assert fixed.name_of("STAY.json", "search_train", whole) == "TR13fr"


@pytest.mark.parametrize("variant", ["paper", "fixed"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("search_spaceship", {}),
        ("search", {}),
        ("", {}),
        ("search_hotel_rooms", {}),
        ("search_hotel", "{not json"),
        ("search_hotel", "[1]"),
        ("search_hotel", "null"),
        ("search_hotel", {"colour": "red"}),
        ("search_hotel", {"area": ["north"]}),
        ("book_hotel", {"name": {"a": 1}}),
        ("search_taxi", {}),
        ("search_hospital", {"department": "cardiology"}),
    ],
)
def test_bad_input_is_answered_with_an_error_to_read(
    variant: str, name: str, arguments: Any, request: pytest.FixtureRequest
) -> None:
    bench: Bench = request.getfixturevalue(variant)
    result = bench.result("STAY.json", name, arguments)
    assert result.error
    assert result.text.startswith("ERROR: ")


def test_fixed_says_what_there_is_instead(fixed: Bench) -> None:
    assert "search_train" in fixed("STAY.json", "find_train", {})
    assert "pricerange" in fixed("STAY.json", "search_hotel", {"price": "low"})


@settings(max_examples=200, deadline=None)
@given(
    variant=st.sampled_from(["paper", "fixed"]),
    name=st.sampled_from(sorted(PUBLISHED)) | st.text(max_size=12),
    arguments=st.dictionaries(
        st.sampled_from(["name", "area", "leaveAt", "people", "department"]) | st.text(max_size=3),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
            max_leaves=4,
        ),
        max_size=3,
    ),
)
def test_no_call_ever_raises(paper: Bench, fixed: Bench, variant: str, name: str, arguments: dict[str, Any]) -> None:
    bench = paper if variant == "paper" else fixed
    assert bench.result("STAY.json", name, arguments).text


@pytest.mark.parametrize(("variant", "count"), [("paper", 8), ("fixed", 7)])
def test_the_tools_of_a_variant(variant: str, count: int, request: pytest.FixtureRequest) -> None:
    bench: Bench = request.getfixturevalue(variant)
    specs = bench.server.start(StartTools(bench.tasks["STAY.json"])).specs
    assert len(specs) == count
    assert ("book_attraction" in {spec.name for spec in specs}) == (variant == "paper")
    for spec in specs:
        assert spec.properties.keys() == set(PUBLISHED[spec.name])
        assert spec.function.description


def test_answers_cannot_be_changed(paper: Bench) -> None:
    whole = {"area": "north", "type": "guesthouse", "pricerange": "cheap"}
    row = paper.result("STAY.json", "search_hotel", whole).value[0]
    changes: list[Callable[[], object]] = [
        lambda: row.update(name="x"),
        lambda: row.pop("name"),
        lambda: row.__setitem__("name", "x"),
        lambda: row.setdefault("new", 1),
        row.clear,
    ]
    for change in changes:
        with pytest.raises(TypeError):
            change()
    assert paper.name_of("STAY.json", "search_hotel", whole) == "last inn"


@pytest.mark.anyio
@pytest.mark.parametrize("variant", ["paper", "fixed"])
async def test_a_call_through_the_contract_leaves_the_state_alone(variant: Variant, tmp_path: Path) -> None:
    prepare(tmp_path / "cache", write_folder(tmp_path / "multiwoz"))
    world = ToolwozWorld(variant, tmp_path / "cache")
    server, task = world.tools(), world.tasks("train")[1]
    state = server.start(StartTools(task)).state
    call = ToolCall.of("c", "book_hotel", BOOKING)
    reply = await server.call(CallTool(task, call, state))
    assert reply.state is state
    assert reply.writes == ()
    assert reply.result.value["success"] is True
    assert (await server.call(CallTool(task, call, None))).result == reply.result
