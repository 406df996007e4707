"""Dialogue state of the scripted agent: an immutable value, updated one conversation entry at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, cast

import orjson

from simkit.core.conversation import Entry
from simkit.core.messages import AssistantMessage, ToolMessage, text_of
from simkit.core.ontology import Domain, Ontology
from simkit.rule_based.reader import NEGATIONS, Mention, Reader, Sentence, slots_of, values_in

Row: TypeAlias = Mapping[str, Any]
Values: TypeAlias = Mapping[str, str]
Perception: TypeAlias = Callable[[Domain, Values], Values]
Outcome: TypeAlias = Literal["", "found", "nothing", "booked", "refused"]

_BOOKING = frozenset({"book", "booking", "reserve", "reservation", "reservations", "tickets", "ticket"})
_DECLINING = NEGATIONS | {"later", "yet"}


@dataclass(frozen=True, slots=True)
class DomainState:
    """State of one domain.

    Attributes:
        search: constraints the user gave; `indifferent` are slots without a preference.
        book: booking parameters the user gave; `wanted` says that a booking was asked for.
        stale: the user gave new information since the last search.
        rounds: number of times slots were asked for before a search.
        row: the entity last found.
        booked: arguments of the current booking, None without one; `reference` is its code.
        news: the outcome that has not been reported to the user yet.
        requests: facts asked for and not yet given.
    """

    search: Mapping[str, str] = field(default_factory=dict[str, str])
    indifferent: frozenset[str] = frozenset()
    book: Mapping[str, str] = field(default_factory=dict[str, str])
    wanted: bool = False
    stale: bool = False
    rounds: int = 0
    row: Row | None = None
    booked: Mapping[str, Any] | None = None
    reference: str = ""
    news: Outcome = ""
    requests: tuple[str, ...] = ()


UNTOUCHED = DomainState()
"""State of a domain that has not been talked about."""


@dataclass(frozen=True, slots=True)
class DialogueState:
    """State of the agent in a branch.

    Attributes:
        seen: number of conversation entries already processed.
        active: the domain being talked about, "" before there is one.
        topics: state by domain.
        asked: slots the agent asked for last.
        pending: tool calls without a result yet: id, name and arguments.
        closing: the user said goodbye.
    """

    seen: int = 0
    active: str = ""
    topics: Mapping[str, DomainState] = field(default_factory=dict[str, DomainState])
    asked: tuple[str, ...] = ()
    pending: tuple[tuple[str, str, Row], ...] = ()
    closing: bool = False

    def topic(self, domain: str) -> DomainState:
        """State of one domain."""
        return self.topics.get(domain) or UNTOUCHED

    def with_topic(self, domain: str, topic: DomainState) -> DialogueState:
        """A copy with one domain changed."""
        return self if self.topics.get(domain) is topic else replace(self, topics={**self.topics, domain: topic})


class StateTracker:
    """Updates the dialogue state from utterances and tool results; built once per agent."""

    def __init__(self, ontology: Ontology) -> None:
        self._domains = {domain.name: domain for domain in ontology.domains}
        self._reader = Reader(ontology)

    def fold(self, state: DialogueState, entries: tuple[Entry, ...], perceive: Perception) -> DialogueState:
        """The state after more entries; `perceive` filters the values that the user gives."""
        for entry in entries:
            message = entry.message
            if entry.author == "user" and entry.heard is not None:
                state = self.hear(state, entry.heard, perceive)
            elif isinstance(message, AssistantMessage) and message.tool_calls:
                made = tuple((call.id, call.name, _arguments(call.arguments)) for call in message.tool_calls)
                state = replace(state, pending=state.pending + made)
            elif isinstance(message, ToolMessage):
                state = self._answered(state, message)
        return replace(state, seen=state.seen + len(entries))

    # --- the user -----------------------------------------------------------------------------------------------------

    def hear(self, state: DialogueState, text: str, perceive: Perception) -> DialogueState:
        """The state after an utterance of the user."""
        state = replace(state, closing=False) if state.closing else state
        sentences = self._reader.read(text)
        for sentence in sentences:
            name = self._domain_of(sentence, state)
            if name:
                state = state if name == state.active else replace(state, active=name, asked=())
                state = state.with_topic(name, self._hear_about(state, self._domains[name], sentence, perceive))
            if sentence.has(("goodbye", "bye")):
                state = replace(state, closing=True)
        return replace(state, asked=()) if state.asked else state

    def _domain_of(self, sentence: Sentence, state: DialogueState) -> str:
        """The domain a sentence is about: one it names, else the active one if its words mean something there."""
        spoken = (mention for mention in sentence.mentions if not _compared(sentence, mention))
        named = [m for mention in spoken for m in mention.meanings if m.kind == "noun"]
        named = [m for m in named if not _is_value(sentence, m.domain, state.active)]
        if named:
            domains = [m.domain for m in named]
            return state.active if state.active in domains and len(set(domains)) > 1 else domains[0]
        meanings = [m for mention in sentence.mentions for m in mention.meanings if m.kind == "value"]
        if not meanings or any(m.domain == state.active for m in meanings):
            return state.active
        exact = [m.domain for m in meanings if self._is_name(m.domain, m.name)]
        return exact[0] if exact else state.active or meanings[0].domain

    def _is_name(self, domain: str, slot: str) -> bool:
        return any(known.name == slot and known.kind == "name" for known in slots_of(self._domains[domain]))

    def _hear_about(
        self, state: DialogueState, domain: Domain, sentence: Sentence, perceive: Perception
    ) -> DomainState:
        topic = state.topic(domain.name)
        values = {
            **_carried(state, domain, sentence),
            **values_in(sentence, self._reader.lexicon(domain), state.asked),
        }
        if not values and state.asked:
            values = _yes_or_no(domain, sentence, state.asked)
        topic = _informed(topic, domain, perceive(domain, values))
        topic = _unconcerned(topic, domain, sentence, state.asked, values)
        requests = _requested(topic, domain, sentence, values)
        topic = topic if requests == topic.requests else replace(topic, requests=requests)
        return _booking_wish(topic, domain, sentence)

    # --- the tools ----------------------------------------------------------------------------------------------------

    def _answered(self, state: DialogueState, message: ToolMessage) -> DialogueState:
        made = next((call for call in state.pending if call[0] == message.tool_call_id), None)
        if made is None:
            return state
        state = replace(state, pending=tuple(call for call in state.pending if call is not made))
        _, name, arguments = made
        verb, _, domain = name.partition("_")
        if domain not in self._domains:
            return state
        value = _json(text_of(message))
        topic = state.topic(domain)
        return state.with_topic(domain, _found(topic, value) if verb == "search" else _booked(topic, arguments, value))


def _compared(sentence: Sentence, mention: Mention) -> bool:
    """Whether a mention is only compared with: "in the same area as the restaurant"."""
    return "as" in sentence.words[max(0, mention.start - 2) : mention.start]


def _is_value(sentence: Sentence, domain: str, active: str) -> bool:
    """Whether the noun of a domain is meant as a value of the active one, as in "the type hotel"."""
    return any(
        mention.of("noun", domain) and mention.of("value", active) and active != domain for mention in sentence.mentions
    )


def _carried(state: DialogueState, domain: Domain, sentence: Sentence) -> dict[str, str]:
    """Values taken over from other domains: "for the same people on the same day"."""
    if "same" not in sentence.words:
        return {}
    named = {m.name for mention in sentence.mentions for m in mention.of("slot", domain.name)}
    if sentence.has(("group", "people", "party")):
        named.add("people")
    known: dict[str, str] = {}
    for other, topic in state.topics.items():
        if other != domain.name:
            known.update(topic.search)
            known.update(topic.book)
    names = {slot.name for slot in slots_of(domain)}
    return {name: known[name] for name in sorted(named & names) if name in known}


def _yes_or_no(domain: Domain, sentence: Sentence, asked: tuple[str, ...]) -> dict[str, str]:
    flags = [slot.name for slot in slots_of(domain) if slot.kind == "flag" and slot.name in asked]
    if len(flags) != 1 or not sentence.words or sentence.words[0] not in ("yes", "yeah", "no", "nope"):
        return {}
    if sentence.indifferent:
        return {}
    return {flags[0]: "yes" if sentence.words[0] in ("yes", "yeah") else "no"}


def _informed(topic: DomainState, domain: Domain, values: Mapping[str, str]) -> DomainState:
    if not values:
        return topic
    searched = {slot.name for slot in domain.search}
    search = {name: value for name, value in values.items() if name in searched}
    book = {name: value for name, value in values.items() if name not in searched and name != domain.id_field}
    if search:
        left = topic.indifferent - search.keys()
        topic = replace(topic, search={**topic.search, **search}, stale=True, indifferent=left)
    if book:
        changed = topic.booked is not None and any(topic.booked.get(name) != value for name, value in book.items())
        booked = None if changed else topic.booked
        topic = replace(topic, book={**topic.book, **book}, wanted=True, booked=booked)
    return topic


def _unconcerned(
    topic: DomainState, domain: Domain, sentence: Sentence, asked: tuple[str, ...], values: Mapping[str, str]
) -> DomainState:
    if not sentence.indifferent:
        return topic
    named = {m.name for mention in sentence.mentions for m in mention.of("slot", domain.name)} - values.keys()
    names = (named or set(asked)) - values.keys()
    search = {name: value for name, value in topic.search.items() if name not in names}
    stale = topic.stale or len(search) != len(topic.search)
    wanted = topic.wanted and not names.intersection(slot.name for slot in domain.book)
    return replace(topic, indifferent=topic.indifferent | names, search=search, stale=stale, wanted=wanted)


def _requested(topic: DomainState, domain: Domain, sentence: Sentence, values: Mapping[str, str]) -> tuple[str, ...]:
    slots = {slot.name for slot in slots_of(domain)}
    wanted = list(topic.requests)
    for mention in sentence.mentions:
        slot = bool(mention.of("slot", domain.name))
        for meaning in mention.of("fact", domain.name):
            plain = not slot and meaning.name not in slots
            if meaning.name not in wanted and meaning.name not in values and (plain or sentence.question):
                wanted.append(meaning.name)
    return tuple(wanted)


def _booking_wish(topic: DomainState, domain: Domain, sentence: Sentence) -> DomainState:
    if not domain.book or not sentence.has(_BOOKING):
        return topic
    declined = sentence.has(_DECLINING)
    return replace(topic, wanted=not declined)


def _arguments(text: str) -> Row:
    value = _json(text)
    return cast("Row", value) if isinstance(value, dict) else {}


def _json(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _found(topic: DomainState, value: object) -> DomainState:
    row = _first_row(value)
    if row is None:
        return replace(topic, stale=False, row=None, news="nothing")
    return replace(topic, stale=False, row=row, news="found")


def _first_row(value: object) -> Row | None:
    """The first entity of a search result: a list of rows, or a list inside an object."""
    if isinstance(value, list):
        return next((cast("Row", row) for row in cast("list[object]", value) if isinstance(row, dict)), None)
    if isinstance(value, dict) and "error" not in value:
        inner = cast("dict[str, object]", value)
        return next((row for row in map(_first_row, inner.values()) if row is not None and row), None)
    return None


def _booked(topic: DomainState, arguments: Row, value: object) -> DomainState:
    if not isinstance(value, dict):
        return replace(topic, news="refused", wanted=False)
    answer = cast("dict[str, object]", value)
    reference = _reference(answer)
    if answer.get("success") is False or "error" in answer or (not reference and not answer.get("success")):
        return replace(topic, news="refused", wanted=False)
    return replace(topic, news="booked", booked=arguments, reference=reference, wanted=False)


def _reference(answer: Mapping[str, object]) -> str:
    for key, value in answer.items():
        if key == "reference" and isinstance(value, str):
            return value
        if isinstance(value, dict):
            found = _reference(cast("dict[str, object]", value))
            if found:
                return found
    return ""
