"""`simkit run fidelity`: simulated users beside people."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from simkit.core.conversation import Utterance
from simkit.core.ontology import Domain, Ontology, Slot, Wish
from simkit.core.tasks import Task
from simkit.errors import UsageError
from simkit.recipes.fidelity.comparing import People, difference, floor_of
from simkit.recipes.fidelity.dialogues import Dialogue, of_file, of_people
from simkit.recipes.fidelity.measures import MEASURES, measured
from simkit.recipes.fidelity.recipe import fidelity
from simkit.recipes.fidelity.telling import swapped, tell_apart
from simkit.run.run import Run

AREA = Slot("area", "category", ("area",), ("north", "south"))
FOOD = Slot("food", "category", ("food",), ("indian",))
PEOPLE = Slot("people", "number", ("people",))
FOODS = Ontology((Domain("restaurant", ("restaurant",), "name", (AREA, FOOD), (PEOPLE,)),))

_SUBJECTS = ("i", "we", "my friends and i", "my wife", "the whole family")
_WANTS = ("am looking for", "would like", "need", "want to find", "hope to get", "was told to book")
_THINGS = ("a cheap hotel", "some place to eat", "a train to london", "a table", "a museum", "a quiet guesthouse")
_WHERE = ("in the north", "near the centre", "by the river", "with free parking", "for two nights", "on tuesday")
_ENDS = ("please", "if that is possible", "thanks", "what do you have", "can you help me with that", "asap")


def speech(rng: Random) -> str:
    """A turn of a made-up person, from so many parts that hardly two are equal."""
    parts = [rng.choice(part) for part in (_SUBJECTS, _WANTS, _THINGS, _WHERE)]
    parts += rng.sample(_ENDS, rng.randrange(3)) + rng.sample(_WHERE, rng.randrange(2))
    return " ".join(parts)


def crowd(count: int, seed: int = 0) -> list[Dialogue]:
    rng = Random(seed)
    return [
        Dialogue(f"{seed}-{number}", tuple(speech(rng) for _ in range(rng.randint(4, 9)))) for number in range(count)
    ]


# --- the classifier ---------------------------------------------------------------------------------------------------


def test_two_halves_of_the_same_people_are_not_told_apart() -> None:
    people = crowd(240)
    told = tell_apart(people[:120], people[120:])
    assert not told.apart
    assert told.accuracy.low < 0.5 < told.accuracy.high


def test_a_copy_with_a_tenth_of_its_words_swapped_is_told_apart() -> None:
    people = crowd(240)
    assert tell_apart(people[:120], swapped(people[:120], 0.1)).apart  # the same dialogues
    assert tell_apart(people[:120], swapped(people[120:], 0.1)).apart  # others


def test_swapping_keeps_the_words_of_a_dialogue() -> None:
    (before,) = crowd(1)
    (after,) = swapped([before], 0.1)
    assert sorted(before.text.split()) == sorted(after.text.split())
    moved = sum(one != two for one, two in zip(before.text.split(), after.text.split(), strict=True))
    assert 0 < moved <= round(0.1 * len(before.text.split())) + 1


def test_an_exact_copy_is_not_told_apart_and_no_dialogue_is_in_two_parts() -> None:
    """Equal texts of one id are in the same part: if one were fitted and the other tested, it would be remembered."""
    people = crowd(120)
    told = tell_apart(people, people)
    assert told.accuracy.value == told.auc == 0.5
    assert told.tested == 40


def test_the_result_depends_on_the_seed_alone() -> None:
    people = crowd(120)
    one, two = people[:60], people[60:]
    assert tell_apart(one, two, 1) == tell_apart(one[::-1], two[::-1], 1)


def test_too_few_dialogues_are_refused() -> None:
    with pytest.raises(UsageError, match="needs 30 dialogues of each side; there are 40 and 29"):
        tell_apart(crowd(40), crowd(29, seed=1))


# --- the measures -----------------------------------------------------------------------------------------------------


def task(name: str, *turns: str) -> Task:
    wish = Wish(domain="restaurant", inform={"area": "north", "food": "indian"}, book={"people": "3"})
    reference = tuple(each for turn in turns for each in (Utterance("user", turn), Utterance("agent", "Indian? Yes.")))
    return Task(id=name, world="w", split="s", instructions="", agenda=(wish,), reference=reference)


def values(*turns: str) -> dict[str, float]:
    found = measured(of_people([task("t", *turns)]), FOODS)
    return {each.name: found.of(each)[0] for each in MEASURES if found.of(each)}


def test_what_is_measured_of_a_dialogue() -> None:
    found = values("I want food in the north.", "Indian, please.", "No, for three people. Can you do that?", "Thanks!")
    assert found == {
        "turns": 4.0,
        "words": pytest.approx((6 + 2 + 8 + 1) / 4),
        "wishes_per_turn": 0.75,
        "wishes_at_first": 1.0,
        "order": 1.0,
        "questions": 0.25,
        "corrections": 0.25,
        "politeness": 0.5,
        "novelty": 1.0,
        "left_early": 0.0,
    }


def test_the_order_of_wishes_and_those_never_said() -> None:
    assert values("Indian.", "In the north.")["order"] == 0.0
    assert values("Indian.", "In the north.")["left_early"] == 1.0
    assert "order" not in values("Indian food in the north for 3.")


def test_words_that_others_say_too_are_not_new() -> None:
    said = [task("a", "north indian food"), task("b", "north indian house"), task("c", "something else")]
    found = measured(of_people(said), FOODS)
    assert found.values["novelty"] == {"a": 0.5, "b": 0.5, "c": 1.0}


def test_a_difference_is_beyond_chance_or_not() -> None:
    people = People(tuple(crowd(200)), Ontology(()))
    same = people.compare("same", crowd(100, seed=5))
    assert not any(each.beyond for each in same.differences)
    assert same.told is not None
    assert not same.told.apart
    long = [Dialogue(each.id, each.turns * 2) for each in crowd(100, seed=5)]
    turns = people.compare("long", long).differences[0]
    assert turns.beyond
    assert turns.measure.name == "turns"
    assert str(turns).endswith("*")


def test_people_with_the_same_tasks_are_compared() -> None:
    """Half of the people, those with the same ids: nothing differs, although the other half talks otherwise."""
    talk = crowd(60)
    other = [Dialogue(f"x{each.id}", tuple(turn.upper() + "!" for turn in each.turns * 3)) for each in talk]
    found = People((*talk, *other), Ontology(())).compare("same", talk)
    assert all(each.difference.value == 0 for each in found.differences)


def test_differences_and_floors_are_means_of_groups() -> None:
    found = difference([1.0] * 50, [0.0] * 50)
    assert (found.low, found.value, found.high) == (1.0, 1.0, 1.0)
    assert floor_of([0.0, 1.0] * 100, 50) == pytest.approx(
        0.2, abs=0.05
    )  # 1.96 sqrt(2 / (4 * 50)), less without replacement
    assert floor_of([1.0] * 30, 9) is None


# --- the recipe -------------------------------------------------------------------------------------------------------


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def people_file(folder: Path) -> Path:
    rows = [
        {"task_id": each.id, "messages": [{"role": "user", "content": turn} for turn in each.turns]}
        for each in crowd(40)
    ]
    file = folder / "people.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


@pytest.mark.anyio
async def test_users_are_compared_with_dialogues_of_a_file(tmp_path: Path) -> None:
    file = people_file(tmp_path)
    picture = tmp_path / "p.png"
    async with Run(store=tmp_path / "s", recipe="fidelity") as run:
        found = await fidelity(
            run, users=["agenda"], people=file, world="builtin", split="test", tasks="30", picture=picture
        )
    assert found.extra["agenda: dialogues"] == 30
    assert str(found.extra["agenda: told from people"]).startswith("1.000")
    assert picture.stat().st_size > 1000
    rows = run.store.query(
        "select suite, count(distinct item) from item_scores where metric = 'turns' group by all order by all"
    ).rows
    assert rows == [("fidelity/agenda", 30), ("fidelity/people", 40)]


@pytest.mark.anyio
@pytest.mark.parametrize(("name", "told"), [("no/p.png", "does not exist; create it"), ("p.jpx", "ends in .png")])
async def test_a_picture_that_cannot_be_written_is_refused_before_anything_is_played(
    tmp_path: Path, name: str, told: str
) -> None:
    async with Run(store=tmp_path / "s", recipe="fidelity") as run:
        with pytest.raises(UsageError, match=told):
            await fidelity(run, users=["agenda"], world="no such world", picture=tmp_path / name)


@pytest.mark.anyio
async def test_a_run_that_was_played_is_measured_too(tmp_path: Path) -> None:
    file = people_file(tmp_path)
    async with Run(store=tmp_path / "s") as run:
        first = await fidelity(run, users=["agenda"], people=file, world="builtin", split="test", tasks="12")
        part = (await run.query("select run_id from runs where name like '%user0'")).rows[0][0]
    async with Run(store=tmp_path / "s") as run:
        again = await fidelity(run, of=[part], people=file, world="builtin", split="test")
    assert again.extra[f"{part}: turns"] == first.extra["agenda: turns"]
    assert again.extra[f"{part}: told from people"] == "too few dialogues"


@pytest.mark.anyio
async def test_nothing_to_measure_and_nobody_to_compare_with_are_refused(tmp_path: Path) -> None:
    async with Run(store=tmp_path / "s") as run:
        with pytest.raises(UsageError, match="name what to measure"):
            await fidelity(run)
        with pytest.raises(UsageError, match="the split test of builtin has no human dialogues; give --people"):
            await fidelity(run, users=["agenda"], world="builtin", split="test")


def test_a_file_without_users_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"task_id": "a", "messages": [{"role": "assistant", "content": "Hi"}]}')
    with pytest.raises(UsageError, match="no user says anything"):
        of_file(file, {})
