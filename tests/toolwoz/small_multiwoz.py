"""A MultiWOZ folder of a few invented dialogues, in the annotation of version 2.1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HOTELS: list[dict[str, Any]] = [
    {"name": "the elm", "area": "north", "type": "hotel", "pricerange": "cheap", "stars": "2"},
    {"name": "rosie's loft", "area": "north", "type": "guesthouse", "pricerange": "cheap", "stars": "3"},
    {"name": "harbour view", "area": "east", "type": "hotel", "pricerange": "moderate", "stars": "3"},
    {"name": "quiet corner", "area": "north", "type": "guesthouse", "pricerange": "moderate", "stars": "3"},
    {"name": "last inn", "area": "north", "type": "guesthouse", "pricerange": "cheap", "stars": "4"},
]
RESTAURANTS: list[dict[str, Any]] = [
    {"name": "red lantern", "food": "chinese", "pricerange": "cheap", "area": "centre", "phone": "01000"},
    {"name": "Pizza Palace North", "food": "italian", "pricerange": "cheap", "area": "north"},
    {"name": "olive branch", "food": "greek", "pricerange": "moderate", "area": "centre", "phone": "01001"},
    {"name": "blue lantern", "food": "chinese", "pricerange": "expensive", "area": "centre", "phone": "01002"},
]
ATTRACTIONS: list[dict[str, Any]] = [
    {"name": "king's garden", "type": "park", "area": "north", "location": [1.5, 2.5]},
    {"name": "old mill", "type": "museum", "area": "north", "location": [1.0, 2.0]},
    {"name": "glass house", "type": "museum", "area": "east", "location": [3.0, 2.0]},
]
TRAINS: list[dict[str, Any]] = [
    {
        "trainID": f"TR{hour:02}{day[:2]}",
        "day": day,
        "departure": start,
        "destination": end,
        "leaveAt": f"{hour:02}:15",
        "arriveBy": f"{hour + 1:02}:05",
    }
    for day in ("monday", "friday")
    for start, end in (("ely", "cambridge"), ("cambridge", "ely"))
    for hour in (5, 9, 13, 23)
]
TABLES = {"hotel": HOTELS, "restaurant": RESTAURANTS, "attraction": ATTRACTIONS, "train": TRAINS}


def _filled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    more = {"parking": "yes", "internet": "yes", "phone": "01000", "postcode": "cb2"}
    return [{**row, **more} if "stars" in row else row for row in rows]


def _empty_state() -> dict[str, Any]:
    return {name: {"book": {"booked": []}, "semi": {}} for name in (*TABLES, "taxi", "police", "hospital")}


def dialogue(booked: dict[str, Any] | None = None, **goal: Any) -> dict[str, Any]:
    """One annotated dialogue of four turns; `booked` is what the last state has per domain."""
    state = _empty_state()
    for domain, returned in (booked or {}).items():
        state[domain]["book"]["booked"] = [returned]
    log: list[dict[str, Any]] = [
        {"text": "Hello,  I need\nhelp.", "metadata": {}},
        {"text": "Of course.", "metadata": _empty_state()},
        {"text": "Thanks, bye.", "metadata": {}},
        {"text": "Goodbye.", "metadata": state},
    ]
    return {"goal": {"taxi": {}, "police": {}, "hospital": {}, **goal}, "log": log}


DIALOGUES: dict[str, dict[str, Any]] = {
    "STAY.json": dialogue(
        booked={
            "hotel": {"name": "last inn", "reference": "REF00001"},
            "train": {"trainID": "TR13fr", "reference": "REF00002"},
        },
        message=[
            "You are planning a trip and like local restaurants",
            "You are looking for a <span class='emphasis'>train</span>. It should leave after 09:15",
            "You are also looking for a <span class='emphasis'>place to stay</span>",
        ],
        hotel={
            "info": {"area": "north", "type": "guesthouse", "internet": "dontcare", "pricerange": "cheap"},
            "fail_info": {"pricerange": "moderate"},
            "book": {"stay": "2", "day": "friday", "people": "3", "invalid": False},
            "fail_book": {"stay": "5"},
            "reqt": ["phone"],
        },
        train={
            "info": {"departure": "ely", "destination": "cambridge", "day": "friday", "leaveAt": "09:15"},
            "fail_info": {},
            "book": {"people": "3", "invalid": False},
            "fail_book": {},
        },
    ),
    "EAT.json": dialogue(
        message="Task 00012: You want chinese food in the centre. Get the phone number.",
        restaurant={
            "info": {"food": "chinese", "area": "centre"},
            "fail_info": {},
            "book": {"people": "2", "day": "monday", "time": "18:00"},
            "reqt": ["phone"],
        },
    ),
    "SEE.json": dialogue(
        message=["You want to see a <span class='emphasis'>museum</span>"],
        attraction={"info": {"type": "museum"}, "fail_info": {"type": "park"}, "reqt": ["area"]},
    ),
    "NAMELESS.json": dialogue(
        booked={"hotel": {"reference": "REF00003"}},
        message=["You are looking for a <span class='emphasis'>hotel</span>"],
        hotel={"info": {"area": "east"}, "fail_info": {}, "book": {"stay": "1", "day": "monday", "people": "1"}},
    ),
    "RIDE.json": {**dialogue(message=["A taxi."]), "goal": {"taxi": {"info": {"leaveAt": "10:00"}}}},
}


def write_folder(folder: Path, *, indent: int | None = 1) -> Path:
    """Write the folder: data.json, the two lists and db/."""
    (folder / "db").mkdir(parents=True)
    for name, rows in TABLES.items():
        (folder / "db" / f"{name}_db.json").write_text(json.dumps(_filled(rows)))
    (folder / "data.json").write_text(json.dumps(DIALOGUES, indent=indent))
    (folder / "testListFile.txt").write_text("EAT.json\nRIDE.json\n")
    (folder / "valListFile.json").write_text("SEE.json\n")
    return folder
