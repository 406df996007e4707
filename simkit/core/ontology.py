"""The vocabulary of rule-based components: domains, their slots, and what a user wishes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a user wants of one domain, in the parameters of its tools.

    Attributes:
        domain: name of a `Domain` of the world's ontology.
        inform: constraints of the search; empty values are left out.
        book: parameters of the booking other than the entity itself; empty when nothing is to be booked.
        requests: fields of the entity the user asks for.
    """

    domain: str
    inform: Mapping[str, str] = field(default_factory=dict[str, str])
    book: Mapping[str, str] = field(default_factory=dict[str, str])
    requests: tuple[str, ...] = ()


SlotKind: TypeAlias = Literal["category", "name", "time", "day", "number", "id", "flag"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One parameter of a domain's tools, and how people speak of it.

    `name` is the parameter's name in the tool; `phrases` are what people call it ("price range"); `values` are the
    values known to the world (empty for open ones such as times).
    """

    name: str
    kind: SlotKind
    phrases: tuple[str, ...]
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Domain:
    """One kind of thing that is searched for and perhaps booked: tools `search_<name>` and `book_<name>`."""

    name: str
    nouns: tuple[str, ...]
    id_field: str
    search: tuple[Slot, ...]
    book: tuple[Slot, ...] = ()
    facts: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Fields of an entity a user may ask for, with their phrases: {"phone": ("phone number",)}."""


@dataclass(frozen=True, slots=True)
class Ontology:
    """What a rule-based agent and an agenda user know of a world: its domains. Models never see it."""

    domains: tuple[Domain, ...]

    def domain(self, name: str) -> Domain | None:
        """The domain of that name."""
        return next((domain for domain in self.domains if domain.name == name), None)
