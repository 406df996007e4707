"""Templates for the replies of the scripted agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random

from simkit.agents.dialogue_state import DialogueState, DomainState, Row
from simkit.agents.policy import askable, missing, ready
from simkit.core.ontology import Domain, Slot
from simkit.rule_based.reader import join, phrase_value, slots_of, spoken

_GREETINGS = (
    "Hello, what can I find for you?",
    "Welcome. What are you looking for?",
    "Hello, how can I help with your trip?",
)
_MORE = (
    "Is there anything else I can do for you?",
    "Can I help you with anything else?",
    "What else can I do for you?",
)
_BYES = ("You are welcome. Have a good trip.", "Glad to help. Goodbye.", "Enjoy your stay. Goodbye.")
_WAITING = ("One moment please, I am still looking into that.", "Let me look into that for you.")


@dataclass(frozen=True, slots=True)
class RenderedReply:
    """A reply, and the dialogue state after it."""

    text: str
    state: DialogueState


class ReplyTemplates:
    """Turns news into text; `terse` leaves out the details that a user could check."""

    def __init__(self, domains: Mapping[str, Domain]) -> None:
        self._domains = domains

    def filler(self, state: DialogueState, rng: Random) -> RenderedReply:
        """A filler that replaces an action."""
        return RenderedReply(rng.choice(_WAITING), state)

    def reply(self, state: DialogueState, rng: Random, terse: bool) -> RenderedReply:
        """All news, the requested facts, and the next question."""
        parts: list[str] = []
        asked: tuple[str, ...] = ()
        for name in self._by_interest(state):
            domain, topic = self._domains[name], state.topic(name)
            parts += self._news(domain, topic, rng, terse)
            parts += self._facts(domain, topic)
            if name == state.active:
                question, asked = self._question(domain, topic, rng)
                parts += [question] if question else []
            state = state.with_topic(name, _after_telling(domain, topic, bool(asked)))
        if not parts or (state.closing and not asked):
            parts.append(rng.choice(_BYES if state.closing else _MORE if state.active else _GREETINGS))
        return RenderedReply(" ".join(parts), replace(state, asked=asked))

    def _by_interest(self, state: DialogueState) -> tuple[str, ...]:
        others = [name for name in state.topics if name != state.active and state.topics[name].news]
        return (*others, state.active) if state.active in self._domains else tuple(others)

    # --- news ---------------------------------------------------------------------------------------------------------

    def _news(self, domain: Domain, topic: DomainState, rng: Random, terse: bool) -> list[str]:
        match topic.news:
            case "":
                return []
            case "found":
                return [_offer(domain, topic.row or {}, rng, terse)]
            case "nothing":
                return [_nothing(domain, topic, rng)]
            case "booked":
                return [_confirmation(domain, topic, rng, terse)]
            case "refused":
                return [rng.choice(_REFUSALS).format(noun=domain.nouns[0])]

    def _facts(self, domain: Domain, topic: DomainState) -> list[str]:
        if topic.row is None:
            return []
        return [_fact(domain, topic.row, name) for name in topic.requests]

    def _question(self, domain: Domain, topic: DomainState, rng: Random) -> tuple[str, tuple[str, ...]]:
        slots: tuple[Slot, ...] = ()
        if topic.news == "refused":
            slots = missing(domain, replace(topic, book={}))[:3]
            return (_ask(slots, rng), tuple(slot.name for slot in slots)) if slots else ("", ())
        if topic.row is None and topic.news != "nothing" and not ready(domain, topic):
            slots = askable(domain, topic)[:2]
        elif topic.row is not None and topic.wanted and not topic.booked:
            slots = missing(domain, topic)[:3]
        if slots:
            return _ask(slots, rng), tuple(slot.name for slot in slots)
        if topic.news == "found" and domain.book and not topic.booked:
            return rng.choice(_SHALL_I), ()
        return (rng.choice(_MORE), ()) if topic.news in ("found", "booked") or topic.requests else ("", ())


_REFUSALS = (
    "I am sorry, the booking of the {noun} did not go through.",
    "Unfortunately I could not book the {noun}.",
    "I am afraid the booking for the {noun} failed.",
)
_SHALL_I = (
    "Shall I book it for you?",
    "Would you like me to book it?",
    "Do you want me to make a booking?",
)


def _after_telling(domain: Domain, topic: DomainState, asked: bool) -> DomainState:
    searching = topic.row is None and topic.news != "nothing"
    requests = topic.requests if topic.row is None else ()
    if not topic.news and requests == topic.requests and not (asked and searching):
        return topic
    return replace(topic, news="", requests=requests, rounds=topic.rounds + (1 if asked and searching else 0))


def _offer(domain: Domain, row: Row, rng: Random, terse: bool) -> str:
    name = str(row.get(domain.id_field, "one"))
    opening = rng.choice(("How about {}?", "I found {}.", "I can recommend {}.", "There is {}.")).format(name)
    if terse:
        return opening
    slots = [slot for slot in domain.search if isinstance(row.get(slot.name), str) and slot.name != domain.id_field]
    chosen = rng.sample(slots, min(2, len(slots)))
    said = join(_of_entity(slot, str(row[slot.name])) for slot in domain.search if slot in chosen)
    return f"{opening} It is {said}." if said else opening


def _of_entity(slot: Slot, value: str) -> str:
    if slot.kind == "time":
        return {"leaveAt": "leaving at {}", "arriveBy": "arriving at {}"}.get(slot.name, "at {}").format(value)
    return phrase_value(slot, value)


def _nothing(domain: Domain, topic: DomainState, rng: Random) -> str:
    wish = " ".join(phrase_value(slot, topic.search[slot.name]) for slot in domain.search if slot.name in topic.search)
    noun = domain.nouns[0]
    return rng.choice(
        (
            f"I am sorry, there is no {noun} {wish}. Would you like something different?",
            f"Unfortunately I could not find a {noun} {wish}. Shall I look for something else?",
        )
    )


def _confirmation(domain: Domain, topic: DomainState, rng: Random, terse: bool) -> str:
    code = f" The reference number is {topic.reference}." if topic.reference else ""
    made = topic.booked or {}
    details = (
        ""
        if terse
        else " ".join(
            phrase_value(slot, str(made[slot.name]))
            for slot in slots_of(domain)
            if slot.name in made and slot.name != domain.id_field
        )
    )
    name = "it" if terse else str(made.get(domain.id_field, "it"))
    opening = rng.choice(("I have booked {}", "Your booking is confirmed: {}", "Done, I booked {}")).format(name)
    return f"{opening} {details}".rstrip() + f".{code}"


def _fact(domain: Domain, row: Row, name: str) -> str:
    phrase = next(iter(domain.facts.get(name, ())), name)
    value = row.get(name)
    if value is None or value == "":
        return f"I am sorry, I do not know the {phrase}."
    return f"The {phrase} is {value if isinstance(value, str) else join(str(value).split())}."


def _ask(slots: tuple[Slot, ...], rng: Random) -> str:
    wanted = join(spoken(slot) for slot in slots)
    return rng.choice(
        (
            f"What {wanted} would you like?",
            f"Could you tell me the {wanted}?",
            f"Which {wanted} do you want?",
        )
    )
