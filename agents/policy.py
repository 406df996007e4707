"""Policy of the scripted agent: from its dialogue state to the next action (ask, search, book or speak)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from simkit.agents.dialogue_state import DialogueState, DomainState
from simkit.core.ontology import Domain, Slot
from simkit.rule_based.reader import slots_of

_FOR_ROUTES = frozenset({"departure", "destination"})


@dataclass(frozen=True, slots=True)
class CallAction:
    """Call `search_<domain>` or `book_<domain>` with these arguments."""

    verb: str
    domain: Domain
    arguments: Mapping[str, str]

    @property
    def tool(self) -> str:
        """The tool's name."""
        return f"{self.verb}_{self.domain.name}"


@dataclass(frozen=True, slots=True)
class SpeakAction:
    """Speak to the user."""


Plan: TypeAlias = CallAction | SpeakAction


@dataclass(frozen=True, slots=True)
class Policy:
    """A rule policy: ask once for what is missing, search, offer, book when every parameter is known, speak.

    `steps` is the number of decisions in a turn; the last one is reserved for speaking.
    """

    domains: Mapping[str, Domain]
    steps: int = 3

    def plan(self, state: DialogueState, step: int, tools: Collection[str], hasty: bool) -> Plan:
        """The next action."""
        domain = self.domains.get(state.active)
        if domain is None or step >= self.steps - 1:
            return SpeakAction()
        topic = state.topic(domain.name)
        if topic.stale and f"search_{domain.name}" in tools and (hasty or ready(domain, topic)):
            return CallAction("search", domain, dict(topic.search))
        for name in (domain.name, *(name for name in state.topics if name != domain.name)):
            call = self._booking(self.domains[name], state.topic(name))
            if call is not None and call.tool in tools:
                return call
        return SpeakAction()

    def _booking(self, domain: Domain, topic: DomainState) -> CallAction | None:
        if not topic.wanted or topic.row is None or topic.stale or topic.booked or missing(domain, topic):
            return None
        entity = topic.row.get(domain.id_field)
        if entity is None:
            return None
        needed = {slot.name: topic.book[slot.name] for slot in _parameters(domain) if slot.name in topic.book}
        needed |= {slot.name: topic.search[slot.name] for slot in _shared(domain) if slot.name in topic.search}
        return CallAction("book", domain, {**needed, domain.id_field: str(entity)})


def ready(domain: Domain, topic: DomainState) -> bool:
    """Whether to search without asking more."""
    if topic.row is not None or topic.wanted or any(s.kind in ("name", "id") for s in _known(domain, topic)):
        return True
    open_slots = askable(domain, topic)
    urgent = any(_essential(slot) for slot in open_slots)
    return not open_slots or topic.rounds >= (3 if urgent else 1)


def askable(domain: Domain, topic: DomainState) -> tuple[Slot, ...]:
    """The search slots worth asking for, most informative first."""
    timed = any(slot.kind == "time" for slot in _known(domain, topic))
    open_slots = [
        slot
        for slot in domain.search
        if slot.name not in topic.search
        and slot.name not in topic.indifferent
        and slot.kind not in ("name", "id")
        and not (timed and slot.kind == "time")
    ]
    return tuple(sorted(open_slots, key=_rank))


def missing(domain: Domain, topic: DomainState) -> tuple[Slot, ...]:
    """The booking parameters not known yet."""
    return tuple(slot for slot in _parameters(domain) if slot.name not in topic.book)


def _parameters(domain: Domain) -> tuple[Slot, ...]:
    searched = {slot.name for slot in domain.search}
    return tuple(slot for slot in slots_of(domain) if slot.name not in searched and slot.name != domain.id_field)


def _shared(domain: Domain) -> tuple[Slot, ...]:
    searched = {slot.name for slot in domain.search}
    return tuple(slot for slot in domain.book if slot.name in searched and slot.name != domain.id_field)


def _known(domain: Domain, topic: DomainState) -> tuple[Slot, ...]:
    return tuple(slot for slot in domain.search if slot.name in topic.search)


def _essential(slot: Slot) -> bool:
    return slot.kind == "day" or slot.name in _FOR_ROUTES


def _rank(slot: Slot) -> int:
    if _essential(slot):
        return 0
    return {"time": 1, "category": 1, "number": 2, "flag": 3}.get(slot.kind, 4)
