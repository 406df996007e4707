"""Error model of the scripted agent: random errors, and habits that occur always or with a given probability.

A search has to recover from these errors, and training on its harvest can reduce them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from simkit.agents.dialogue_state import Perception, Values
from simkit.core.ontology import Domain, Ontology, Slot
from simkit.errors import UsageError
from simkit.rule_based.reader import closed_values, slots_of

HABITS: Mapping[str, str] = {
    "drop": "drop:SLOT leaves a slot out of every call",
    "swap": "swap:SLOT writes another value for a slot",
    "deaf": "deaf:SLOT ignores a slot that the user names",
    "hasty": "hasty searches immediately instead of asking",
    "skip_confirm": "skip_confirm offers and confirms without details, so that mistakes go unnoticed",
    "no_book": "no_book claims a booking without making it",
}
_WITH_SLOT = frozenset({"drop", "swap", "deaf"})


@dataclass(frozen=True, slots=True)
class Habit:
    """A systematic mistake, made with probability `share` at each opportunity; `slot` if it concerns one slot."""

    name: str
    slot: str = ""
    share: float = 1.0


def parse_habits(text: str, ontology: Ontology) -> tuple[Habit, ...]:
    """Habits from their short form, joined by `+`: `drop:people:0.6+skip_confirm`.

    Raises:
        UsageError: an unknown habit or slot, or a share outside 0 to 1; the message lists the valid choices.
    """
    return tuple(_parse(part.strip(), ontology) for part in text.split("+") if part.strip())


def _parse(text: str, ontology: Ontology) -> Habit:
    name, *rest = text.split(":")
    if name not in HABITS:
        raise UsageError(f"unknown habit `{name}` of the scripted agent; choose from: {'; '.join(HABITS.values())}")
    slot = ""
    if name in _WITH_SLOT:
        slot = rest.pop(0) if rest else ""
        known = sorted({found.name for domain in ontology.domains for found in slots_of(domain)})
        if slot not in known:
            raise UsageError(
                f"the habit `{text}` needs a slot of this world; write {name}:SLOT with one of: {', '.join(known)}"
            )
    if len(rest) > 1:
        raise UsageError(
            f"the habit `{text}` has too many parts; write {HABITS[name].split()[0]}, optionally followed by :SHARE"
        )
    return Habit(name, slot, _share(text, rest[0]) if rest else 1.0)


def _share(text: str, number: str) -> float:
    try:
        share = float(number)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"the share `{number}` of the habit `{text}` must be a number from 0 to 1")
    return share


def check_rate(rate: float) -> float:
    """Return `rate` if it is a probability.

    Raises:
        UsageError: it is not.
    """
    if not 0 <= rate <= 1:
        raise UsageError(f"error_rate is {rate}; it must be a number from 0 to 1")
    return rate


class ErrorModel:
    """Draws mistakes: with probability `rate` one per user utterance and one per tool call, plus the habits.

    All randomness comes from the generator passed in, so siblings differ and a rerun repeats.
    """

    def __init__(self, rate: float, habits: Sequence[Habit]) -> None:
        self._rate = rate
        self._habits = tuple(habits)

    def has(self, name: str, rng: Random) -> bool:
        """Whether a habit applies now."""
        return any(habit.name == name and rng.random() < habit.share for habit in self._habits)

    def perceive(self, rng: Random) -> Perception:
        """Filter for the values of the user's next utterance."""
        left = [True] if rng.random() < self._rate else []

        def hear(domain: Domain, values: Values) -> Values:
            kept = self._by_habit("deaf", dict(values), domain, rng)
            if kept and left:
                left.clear()
                return _lose_or_change(kept, domain, rng)
            return kept

        return hear

    def arguments(self, verb: str, domain: Domain, right: Values, rng: Random) -> Values | None:
        """The arguments that the agent sends, None if it does not make the call."""
        sent = self._by_habit("swap", self._by_habit("drop", dict(right), domain, rng), domain, rng)
        if verb == "book" and self.has("no_book", rng):
            return None
        if rng.random() >= self._rate:
            return sent
        if rng.random() < 0.3 or not sent:
            return None
        return _lose_or_change(sent, domain, rng)

    def _by_habit(self, name: str, values: dict[str, str], domain: Domain, rng: Random) -> dict[str, str]:
        for habit in self._habits:
            if habit.name == name and habit.slot in values and rng.random() < habit.share:
                values = _change(values, habit.slot, domain, rng) if name == "swap" else _without(values, habit.slot)
        return values


def _lose_or_change(values: dict[str, str], domain: Domain, rng: Random) -> dict[str, str]:
    name = rng.choice(sorted(values))
    return _without(values, name) if rng.random() < 0.5 else _change(values, name, domain, rng)


def _without(values: Mapping[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in values.items() if key != name}


def _change(values: Mapping[str, str], name: str, domain: Domain, rng: Random) -> dict[str, str]:
    slot = next((slot for slot in slots_of(domain) if slot.name == name), None)
    others = [value for value in _alternatives(slot, values[name]) if value != values[name]] if slot else []
    return {**values, name: rng.choice(others)} if others else _without(values, name)


def _alternatives(slot: Slot, value: str) -> tuple[str, ...]:
    match slot.kind:
        case "category" | "name" | "day":
            return slot.values or closed_values(slot)
        case "flag":
            return ("yes", "no")
        case "number":
            return _beside(value)
        case "time":
            return _near(value)
        case "id":
            return slot.values


def _beside(value: str) -> tuple[str, ...]:
    return (str(int(value) + 1), str(max(1, int(value) - 1))) if value.isascii() and value.isdecimal() else ()


def _near(value: str) -> tuple[str, ...]:
    hour, _, minute = value.partition(":")
    if not (hour.isascii() and hour.isdecimal() and minute.isascii() and minute.isdecimal()):
        return ()
    start = int(hour) * 60 + int(minute)
    return tuple(f"{at // 60 % 24:02d}:{at % 60:02d}" for at in (start - 60, start - 15, start + 15, start + 60))
