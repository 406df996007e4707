"""Table of differences between endpoints. The first row whose host and model match applies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """Deviations of an endpoint in its settings.

    Attributes:
        rename: settings that have another name there.
        drop: settings added by simkit that the endpoint refuses. Options set by the user are never dropped.
        seed_bits: maximum bits of a seed; larger seeds are cut to their low bits.
    """

    rename: Mapping[str, str] = field(default_factory=dict[str, str])
    drop: frozenset[str] = frozenset()
    seed_bits: int = 31

    def apply(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The settings in the form that this endpoint accepts."""
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
    """The quirks of a model at a host. If no row matches, the OpenAI form applies."""
    for row in table:
        if re.fullmatch(row.host, host) and re.fullmatch(row.model, model):
            return row.quirks
    return Quirks()
