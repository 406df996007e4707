"""Vocabulary of rule-based components: domains, their slots, and a user's wishes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A user's wishes in one domain, expressed in the parameters of its tools.

    Attributes:
        domain: name of a `Domain` of the world's ontology.
        inform: constraints of the search; empty values are left out.
        book: parameters of the booking other than the entity itself; empty if nothing is to be booked.
        requests: fields of the entity that the user asks for.
    """

    domain: str
    inform: Mapping[str, str] = field(default_factory=dict[str, str])
    book: Mapping[str, str] = field(default_factory=dict[str, str])
    requests: tuple[str, ...] = ()


SlotKind: TypeAlias = Literal["category", "name", "time", "day", "number", "id", "flag"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One parameter of a domain's tools, with the phrases that people use for it.

    `name` is the parameter's name in the tool; `phrases` are what people call it ("price range"); `values` are the
    values known to the world (empty for open ones such as times).
    """

    name: str
    kind: SlotKind
    phrases: tuple[str, ...]
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Domain:
    """One kind of entity to search for and perhaps book, with the tools `search_<name>` and `book_<name>`."""

    name: str
    nouns: tuple[str, ...]
    id_field: str
    search: tuple[Slot, ...]
    book: tuple[Slot, ...] = ()
    facts: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Fields of an entity that a user may ask for, with their phrases: {"phone": ("phone number",)}."""

    @property
    def tools(self) -> tuple[str, ...]:
        """Names of its tools: `search_<name>`, and `book_<name>` if a booking has parameters."""
        return (f"search_{self.name}", f"book_{self.name}") if self.book else (f"search_{self.name}",)


@dataclass(frozen=True, slots=True)
class Ontology:
    """The domains of a world, as known to rule-based agents and agenda users. Models never see them."""

    domains: tuple[Domain, ...]

    def __repr__(self) -> str:
        return f"<Ontology of {', '.join(domain.name for domain in self.domains)}>"

    def domain(self, name: str) -> Domain | None:
        """The domain of that name."""
        return next((domain for domain in self.domains if domain.name == name), None)
