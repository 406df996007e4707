"""Names and values of the town; every name was invented for this project."""

from __future__ import annotations

from typing import Final

from simkit.rule_based.normalise import WEEKDAYS

TOWN: Final = "alderhaven"
STATIONS: Final = (
    "brackwell",
    "corrin mills",
    "dunmarrow",
    "eastlow",
    "fennick bridge",
    "garrowby",
    "hollin cross",
    "ivelstone",
    "kestrel bay",
    "larkhampton",
)
DAYS: Final = WEEKDAYS
AREAS: Final = ("harbour", "old town", "hillside", "riverside", "market quarter")
PRICES: Final = ("cheap", "moderate", "expensive")
FOODS: Final = (
    "basque",
    "ethiopian",
    "georgian",
    "greek",
    "indonesian",
    "japanese",
    "lebanese",
    "mexican",
    "peruvian",
    "polish",
    "seafood",
    "vegetarian",
)
LODGINGS: Final = ("guesthouse", "hostel", "inn", "lodge")
STARS: Final = ("2", "3", "4", "5")
SIGHTS: Final = ("aquarium", "castle", "cinema", "gallery", "garden", "lighthouse", "museum", "theatre")
FLAGS: Final = ("yes", "no")
PEOPLE: Final = ("1", "2", "3", "4", "5", "6", "7", "8")
NIGHTS: Final = ("1", "2", "3", "4", "5")
TABLE_TIMES: Final = tuple(f"{hour:02d}:{minute:02d}" for hour in range(11, 22) for minute in (0, 30))

STREETS: Final = (
    "anchor lane",
    "beacon road",
    "cooper street",
    "drovers way",
    "elm terrace",
    "ferry street",
    "glassworks yard",
    "heron walk",
    "kiln lane",
    "lantern row",
    "mill parade",
    "netmakers court",
    "orchard rise",
    "quarry street",
    "ropewalk",
    "saltern road",
)
COLOURS: Final = (
    "amber",
    "blue",
    "copper",
    "crimson",
    "golden",
    "green",
    "ivory",
    "jade",
    "scarlet",
    "silver",
    "velvet",
    "violet",
    "white",
    "wild",
)
TABLE_THINGS: Final = ("fig", "kettle", "ladle", "lantern", "olive", "pepper", "plum", "spoon", "thistle", "walnut")
LODGING_THINGS: Final = ("anchor", "badger", "curlew", "gull", "heron", "otter", "pilot", "swan")
SIGHT_THINGS: Final = ("arch", "bell", "compass", "dragon", "harp", "keel", "mermaid", "oak", "sundial", "weaver")
