"""Records of the facts that ToolWOZ needs from an annotated MultiWOZ dialogue, and tasks made from them.

The goals follow the release: a search goal from the goal's `info`, a booking goal from its `book` and from the
bookings in the last annotated state. A booking that was never made in the dialogue is not a goal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias, cast

from simkit.core.conversation import Utterance
from simkit.core.frozen import FrozenMap, freeze
from simkit.core.ontology import Wish
from simkit.core.tasks import Goal, Task
from simkit.rule_based.bitset_table import BitsetTable, Row
from simkit.rule_based.normalise import NO_WISH

Record: TypeAlias = dict[str, Any]
"""One dialogue in the cache: id, instructions, agenda, domains, log, speakers."""

Variant: TypeAlias = Literal["paper", "fixed"]
"""`paper` equals the published release call for call; `fixed` corrects its errors."""

ORDER = ("hotel", "attraction", "train", "restaurant")
"""The order in which the release evaluates the domains."""

SEARCH: Mapping[str, tuple[str, ...]] = {
    "hotel": ("name", "area", "parking", "pricerange", "stars", "internet", "type"),
    "attraction": ("type", "name", "area"),
    "train": ("leaveAt", "destination", "day", "arriveBy", "departure"),
    "restaurant": ("food", "pricerange", "name", "area"),
}
"""Parameters of the search tools, and columns of the tables."""

BOOK: Mapping[str, tuple[str, ...]] = {
    "hotel": ("stay", "day", "people", "name"),
    "attraction": (),
    "train": ("people", "trainID"),
    "restaurant": ("time", "day", "people", "name"),
}
"""Parameters of the booking tools; attractions take no bookings."""

_MISPLACED: Mapping[str, int] = {"hotel": 8, "restaurant": 5, "train": 0}
"""Index of the column that the release mistakes for the name, because it assigns field names by position."""

_OUT_OF_SCOPE = ("taxi", "police", "hospital")
_TAG = re.compile(r"<[^>]*>")
_TASK_NUMBER = re.compile(r"^Task \d+:\s*")
_EMPHASISED = re.compile(r"<span class='emphasis'>([^<]*)</span>")
_SENTENCE = re.compile(r"(?<=[.?!])\s+(?=[A-Z])")
_NOUNS: Mapping[str, re.Pattern[str]] = {
    "hotel": re.compile(r"place to stay|hotel|guesthouse"),
    "attraction": re.compile(r"places to go|attraction"),
    "train": re.compile(r"\btrain"),
    "restaurant": re.compile(r"place to dine|restaurant"),
}


def id_field(domain: str) -> str:
    """The field that names an entity of a domain: `trainID` or `name`."""
    return "trainID" if domain == "train" else "name"


def distil(dialogue_id: str, dialogue: Mapping[str, Any], tables: Mapping[str, BitsetTable]) -> Record | None:
    """The record of one dialogue of data.json; None if its goal needs a taxi, the police or a hospital."""
    goal = cast("Mapping[str, Any]", dialogue["goal"])
    if any(goal.get(domain) for domain in _OUT_OF_SCOPE):
        return None
    log = cast("list[dict[str, Any]]", dialogue["log"])
    state = _last_state(log)
    domains = [_domain(name, goal[name], state.get(name, {}), tables[name]) for name in ORDER if goal.get(name)]
    said = cast("str | list[str]", goal.get("message") or [])
    message = [said] if isinstance(said, str) else said
    return {
        "id": dialogue_id,
        "instructions": "\n".join(_lines(message)),
        "agenda": sorted((domain["name"] for domain in domains), key=lambda name: _mention(name, message)),
        "domains": domains,
        "log": [" ".join(str(turn["text"]).split()) for turn in log],
        "speakers": "".join("a" if turn["metadata"] else "u" for turn in log),
    }


def _last_state(log: list[dict[str, Any]]) -> Mapping[str, Any]:
    states = [cast("Mapping[str, Any]", turn["metadata"]) for turn in log[-2:]]
    return next((state for state in reversed(states) if state), FrozenMap[str, Any]())


def _domain(name: str, goal: Mapping[str, Any], state: Mapping[str, Any], table: BitsetTable) -> Record:
    info, book = _object(goal, "info"), _object(goal, "book")
    search = _wishes(SEARCH[name], info)
    found: Record = {"name": name, "search": search if info else None, "requests": goal.get("reqt") or []}
    if book:
        found["book"] = _wishes(BOOK[name], book)
        found |= _booking(name, state, search, table)
    if goal.get("fail_info"):
        found["fail_search"] = _wishes(SEARCH[name], {**info, **goal["fail_info"]})
    if goal.get("fail_book"):
        found["fail_book"] = _wishes(BOOK[name], {**book, **goal["fail_book"]})
    return found


def _object(goal: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", goal.get(key) or FrozenMap())


def _wishes(parameters: Iterable[str], given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: given[key] for key in parameters if key in given and not _open(given[key])}


def _booking(name: str, state: Mapping[str, Any], search: Mapping[str, Any], table: BitsetTable) -> Record:
    """The result of the last booking of the last state; a missing name is taken from the state, then from the table.

    `misnamed` is the name that the release takes from the table instead.
    """
    bookings = cast("list[dict[str, Any]]", state.get("book", {}).get("booked") or [])
    if not bookings:
        return {}
    booked, field = bookings[-1], id_field(name)
    if field in booked:
        return {"booked": booked}
    known = state.get("semi", {}).get(field, "")
    if not _open(known):
        return {"booked": {**booked, field: known}}
    rows = table.literal(search)
    if not rows:
        return {}
    row = table.first(rows)
    return {"booked": {**booked, field: row[field]}, "misnamed": list(row.values())[_MISPLACED[name]]}


def task_of(record: Record, split: str, variant: Variant) -> Task:
    """The task of a record; in the variant `paper` with the names that the release takes from wrong columns."""
    domains = cast("list[Record]", record["domains"])
    if variant == "paper":
        domains = [_misname(domain) for domain in domains]
    return Task(
        id=record["id"],
        world="toolwoz",
        split=split,
        instructions=record["instructions"],
        goals=tuple(goal for domain in domains for goal in _goals(domain)),
        agenda=tuple(_wish(domain) for name in record["agenda"] for domain in domains if domain["name"] == name),
        data=FrozenMap({domain["name"]: _data(domain) for domain in domains}),
        reference=tuple(
            Utterance("agent" if mark == "a" else "user", text)
            for mark, text in zip(record["speakers"], record["log"], strict=True)
        ),
    )


def _misname(domain: Record) -> Record:
    if "misnamed" not in domain:
        return domain
    return {**domain, "booked": {**domain["booked"], id_field(domain["name"]): domain["misnamed"]}}


def _goals(domain: Record) -> list[Goal]:
    name, booked = domain["name"], domain.get("booked")
    field = id_field(name)
    entity = freeze(booked[field]) if booked else None
    goals: list[Goal] = []
    if domain["search"] is not None:
        goals.append(_goal(f"search_{name}", domain["search"], field, entity))
    if booked:
        goals.append(_goal(f"book_{name}", {**domain["book"], field: entity}, field, entity))
    return goals


def _goal(tool: str, parameters: Mapping[str, Any], field: str, entity: object) -> Goal:
    wished = freeze({key: value for key, value in parameters.items() if not _open(value)})
    return Goal(tool, FrozenMap(tool=tool, parameters=wished, id_field=field, entity=entity))


def _open(value: object) -> bool:
    """Whether a value of a goal constrains nothing."""
    return isinstance(value, str) and value in NO_WISH


def _data(domain: Record) -> Row:
    """Data the world needs besides the goals: the booking's answer, and the search that has to fail first."""
    kept = {key: freeze(domain[key]) for key in ("booked", "fail_search", "fail_book") if domain.get(key) is not None}
    return FrozenMap(kept, requests=tuple(domain["requests"]))


def _wish(domain: Record) -> Wish:
    return Wish(
        domain=domain["name"],
        inform=FrozenMap(domain["search"] or {}),
        book=FrozenMap(domain.get("book") or {}),
        requests=tuple(domain["requests"]),
    )


def _mention(domain: str, message: list[str]) -> tuple[int, int]:
    """Position (line, offset) where the goal's text first emphasises a domain."""
    for number, line in enumerate(message):
        for match in _EMPHASISED.finditer(line):
            if _NOUNS[domain].search(match[1]):
                return number, match.start()
    return len(message), ORDER.index(domain)


def _lines(message: list[str]) -> list[str]:
    plain = (_TASK_NUMBER.sub("", _TAG.sub("", line)).strip() for line in message)
    return [sentence for line in plain for sentence in _SENTENCE.split(line) if sentence]
