"""Model prices: the built-in file, and entries of the user's own file that override it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from simkit.errors import UsageError
from simkit.models.base import Usage


class Price(BaseModel):
    """Prices in US dollars per million tokens: `input`, `output`, `cached` prompt tokens, and those written to a cache.

    `max_output` is the maximum length of a reply, in tokens.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached: float | None = Field(default=None, ge=0)
    cache_write: float | None = Field(default=None, ge=0)
    max_output: int | None = Field(default=None, gt=0)

    def cost(self, prompt: float, completion: float, cached: float = 0, written: float = 0) -> float:
        """Cost in US dollars of these token counts. `prompt` includes those read from a cache or written to it."""
        cheap = min(cached, prompt)
        rate = self.input if self.cached is None else self.cached
        extra = 0 if self.cache_write is None else written * (self.cache_write - self.input)
        return ((prompt - cheap) * self.input + cheap * rate + completion * self.output + extra) / 1e6

    def bill(self, usage: Usage, written: int = 0) -> Usage:
        """A copy of the usage with its cost."""
        cost = self.cost(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, written)
        return replace(usage, cost=cost)


_FILE: TypeAdapter[dict[str, Price]] = TypeAdapter(dict[str, Price])
_DATE = re.compile(r"[-@](\d{4}-\d{2}-\d{2}|\d{8})$")


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices by model name."""

    table: Mapping[str, Price] = field(default_factory=dict[str, Price])

    @classmethod
    def load(cls, path: Path | None = None) -> Prices:
        """The built-in prices, overridden model by model by those of a JSON file in the same format.

        Raises:
            UsageError: the file is missing or malformed.
        """
        own = _parse((files("simkit.models") / "prices.json").read_bytes(), "prices.json")
        if path is None:
            return cls(own)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UsageError(f"the price file {path} cannot be read: {error.strerror or error}") from error
        return cls({**own, **_parse(data, str(path))})

    def find(self, model: str) -> Price | None:
        """The price of a model: by its full name, without a trailing date, or without the publisher prefix."""
        for name in (model, _DATE.sub("", model), model.rpartition("/")[2], _DATE.sub("", model.rpartition("/")[2])):
            if name in self.table:
                return self.table[name]
        return None


def _parse(data: bytes, where: str) -> dict[str, Price]:
    try:
        value: Any = orjson.loads(data)
        return _FILE.validate_python(value["models"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValidationError) as error:
        form = '{"models": {"NAME": {"input": 2.5, "cached": 1.25, "output": 10}}}'
        raise UsageError(
            f"{where} is not a valid price file: {_first_line(error)}. Its form is {form}, dollars per million tokens"
        ) from error


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return f"{type(error).__name__} {error}".splitlines()[0]
