"""In what endpoints differ from one another, as data: the first row whose host and model match is used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """How an endpoint wants its settings.

    Attributes:
        rename: settings it knows under another name.
        drop: settings simkit adds on its own that it refuses; what a user chose is never dropped.
        seed_bits: how large a seed may be; larger ones are cut to their low bits.
    """

    rename: Mapping[str, str] = field(default_factory=dict[str, str])
    drop: frozenset[str] = frozenset()
    seed_bits: int = 31

    def apply(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The settings as this endpoint wants them."""
        if (seed := settings.get("seed")) is not None:
            settings["seed"] = seed & ((1 << self.seed_bits) - 1)
        if not self.rename and not self.drop:
            return settings
        return {self.rename.get(name, name): value for name, value in settings.items() if name not in self.drop}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: patterns for the whole host and the whole model name."""

    host: str
    model: str
    quirks: Quirks


TABLE: tuple[Row, ...] = (
    Row(r"(.*\.)?openai\.(azure\.)?com", r".*", Quirks(rename={"max_tokens": "max_completion_tokens"}, seed_bits=63)),
    Row(r"(.*\.)?mistral\.ai", r".*", Quirks(rename={"seed": "random_seed"})),
    Row(r"(.*\.)?anthropic\.com", r".*", Quirks(drop=frozenset({"seed"}))),
    Row(r"(.*\.)?deepseek\.com", r".*", Quirks(drop=frozenset({"seed"}))),
    Row(r".*", r".*", Quirks()),  # 31 bits: some servers keep the seed in a 32-bit integer
)


def quirks_for(host: str, model: str, table: tuple[Row, ...] = TABLE) -> Quirks:
    """The quirks of a model at a host; plain OpenAI form when no row matches."""
    for row in table:
        if re.fullmatch(row.host, host) and re.fullmatch(row.model, model):
            return row.quirks
    return Quirks()
