"""Templates for the utterances of the agenda user, chosen by the random generator passed in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random

from simkit.core.ontology import Domain, Slot
from simkit.rule_based.reader import join, phrase_value, slots_of, spoken

_OPENINGS = (
    "Hello, I am looking for {a}{wishes}.",
    "Hi, can you help me find {a}{wishes}?",
    "I need {a}{wishes}, please.",
    "Good day, I would like to find {a}{wishes}.",
)
_NEXT = (
    "Thanks. I also need {a}{wishes}.",
    "Great, thank you. I am looking for {a}{wishes} as well.",
    "Perfect. Next I would like to find {a}{wishes}.",
)
_NEXT_WITHOUT = (
    "All right, let us leave that. I also need {a}{wishes}.",
    "That is a pity. I am looking for {a}{wishes} as well.",
    "Too bad. Next I would like to find {a}{wishes}.",
)
_RESTATED = (
    "I am looking for {a}{wishes}.",
    "Let me say it again. I need {a}{wishes}.",
    "What I want is {a}{wishes}.",
)
_ADDED = ("It should also be {wishes}.", "One more thing, I would like one {wishes}.", "I need one {wishes}.")
_ANSWERED = ("I would like one {wishes}.", "Please look for one {wishes}.", "One {wishes}, please.")
_CORRECTED = (
    "That is not what I asked for. It should be {wishes}.",
    "Sorry, that is wrong. I want it {wishes}.",
    "I believe you misheard me. I need it {wishes}.",
)
_UNMINDED = (
    "I have no preference for the {slots}.",
    "As for the {slots}, I have no preference.",
    "I do not mind the {slots}.",
)
_BOOKINGS = ("Please book it{wishes}.", "I would like to book it{wishes}.", "Could you make a booking{wishes}?")
_BOOKING_ANSWERS = ("That would be{wishes}.", "Make it{wishes}, please.", "It is{wishes}.")
_FACTS = ("What is the {facts}?", "Could you give me the {facts}?", "Can you tell me the {facts}?")
_BYES = (
    "Thank you, that is all I need. Goodbye.",
    "That was everything, thanks for your help. Bye.",
    "Great, I am all set. Thank you and goodbye.",
)
_BYES_WITHOUT = (
    "That is a pity. There is no more to do then, goodbye.",
    "Too bad, I will see to the rest myself. Bye.",
    "All right, let us leave it at that. Goodbye.",
)
_LEAVING = (
    "I think I will look elsewhere. Goodbye.",
    "This is not getting me anywhere, I will try somebody else. Goodbye.",
)


class UserTemplates:
    """The user's sentences for one domain."""

    def __init__(self, domain: Domain, rng: Random) -> None:
        self._domain = domain
        self._slots = {slot.name: slot for slot in slots_of(domain)}
        self._rng = rng

    def opening(self, values: Mapping[str, str]) -> str:
        """The first words of a conversation."""
        return self._about(_OPENINGS, values)

    def next(self, values: Mapping[str, str], pleased: bool = True) -> str:
        """The turn to the next wish; pleased when the last one was fulfilled, without thanks when it was given up."""
        return self._about(_NEXT if pleased else _NEXT_WITHOUT, values)

    def restate(self, values: Mapping[str, str]) -> str:
        """A repetition of a wish."""
        return self._about(_RESTATED, values)

    def answer(self, values: Mapping[str, str]) -> str:
        """The constraints that were asked for."""
        return self._fill(_ANSWERED, wishes=self._wishes(values))

    def add(self, values: Mapping[str, str]) -> str:
        """Additional constraints that were not requested."""
        return self._fill(_ADDED, wishes=self._wishes(values))

    def correct(self, values: Mapping[str, str]) -> str:
        """A correction of the agent."""
        return self._fill(_CORRECTED, wishes=self._wishes(values))

    def unminded(self, names: Iterable[str]) -> str:
        """Slots that do not matter."""
        return self._fill(_UNMINDED, slots=join(spoken(self._slot(name)) for name in names))

    def book(self, values: Mapping[str, str]) -> str:
        """The wish for a booking, with its parameters."""
        return self._fill(_BOOKINGS, wishes=self._after(values))

    def booking_answer(self, values: Mapping[str, str]) -> str:
        """Booking parameters that were asked for."""
        return self._fill(_BOOKING_ANSWERS, wishes=self._after(values))

    def facts(self, names: Iterable[str]) -> str:
        """A question for facts of the entity."""
        phrases = (next(iter(self._domain.facts.get(name, ())), name) for name in names)
        return self._fill(_FACTS, facts=" and the ".join(phrases))

    def bye(self, pleased: bool = True) -> str:
        """The end: with thanks, or without when the last wish was given up."""
        return self._rng.choice(_BYES if pleased else _BYES_WITHOUT)

    def leave(self) -> str:
        """The end of the user's patience."""
        return self._rng.choice(_LEAVING)

    def _about(self, templates: tuple[str, ...], values: Mapping[str, str]) -> str:
        noun = self._domain.nouns[0] if self._domain.nouns else self._domain.name
        return self._fill(templates, a=f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}", wishes=self._after(values))

    def _fill(self, templates: tuple[str, ...], **parts: str) -> str:
        return self._rng.choice(templates).format(**parts)

    def _wishes(self, values: Mapping[str, str]) -> str:
        return join(phrase_value(self._slot(name), value) for name, value in values.items())

    def _after(self, values: Mapping[str, str]) -> str:
        said = self._wishes(values)
        return f" {said}" if said else ""

    def _slot(self, name: str) -> Slot:
        return self._slots.get(name) or Slot(name, "category", (name,))
