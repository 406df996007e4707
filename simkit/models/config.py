"""Which models play in a run and what they may use: the same names as flags, as settings and in Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simkit.errors import UsageError
from simkit.models.base import Sampling
from simkit.models.transport.url import HIDDEN, shown_url
from simkit.plugins.flags import MODEL_CHOICES

if TYPE_CHECKING:
    from simkit.models.factory import ModelOptions
    from simkit.models.middleware.budget import Allowances

URLS = ("base_url", "user_base_url")

Number = Annotated[float, Field(gt=0)]
Tokens = Annotated[int, Field(gt=0)]
Temperature = Annotated[float, Field(ge=0)]


class ModelChoices(BaseModel):
    """What a run was told of its models; None leaves a choice open.

    Keys come from the environment (OPENAI_API_KEY) or from `ModelOptions`. Where an endpoint wants one in its URL, it
    is sent and never stored: `to_json` hides it.

    Attributes:
        model: the agent's model, `openai/NAME` at any OpenAI-compatible endpoint, or `local/PATH` in this process.
        user_model: the user's; the agent's when None.
        base_url, user_base_url: their endpoints; the user's is the agent's when None.
        temperature, user_temperature: how they sample; each leaves it to the provider when None.
        max_tokens, user_max_tokens: tokens of one reply at most; the user's are the agent's when None.
        api_concurrency: calls at once to one endpoint, or `adaptive`.
        rpm, tpm: requests and tokens a minute.
        request_timeout: seconds for one attempt.
        max_retries: attempts after the first.
        max_cost: US dollars that the run may use.
        max_tokens_total: tokens that the run may use.
        max_wall: seconds that the run may take, each time it is started or resumed.
        prices: a file of prices over those that come with simkit.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str | None = None
    user_model: str | None = None
    base_url: str | None = Field(default=None, repr=False)
    user_base_url: str | None = Field(default=None, repr=False)
    temperature: Temperature | None = None
    user_temperature: Temperature | None = None
    max_tokens: Tokens | None = None
    user_max_tokens: Tokens | None = None
    api_concurrency: Annotated[int, Field(ge=1)] | Literal["adaptive"] | None = None
    rpm: Number | None = None
    tpm: Number | None = None
    request_timeout: Number | None = None
    max_retries: Annotated[int, Field(ge=0)] | None = None
    max_cost: Number | None = None
    max_tokens_total: Tokens | None = None
    max_wall: Number | None = None
    prices: Path | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> ModelChoices:
        """The choices among some values; others are left alone.

        Raises:
            UsageError: a value cannot be used; the message names its flag.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            told = {str(one["loc"][0]): one for one in reversed(error.errors())}
            lines = [f"{flag_of(name)} is {one.get('input')!r}: {one['msg']}" for name, one in told.items()]
            raise UsageError("; ".join(lines)) from error

    def over(self, other: ModelChoices) -> ModelChoices:
        """These choices, and the other's where these leave one open."""
        return other.model_copy(update=self.chosen())

    def chosen(self) -> dict[str, Any]:
        """The choices that were made."""
        return {name: value for name in MODEL_CHOICES if (value := getattr(self, name)) is not None}

    def to_json(self) -> dict[str, Any]:
        """The choices that were made, as JSON, without the secrets of URLs."""
        shown = {name: str(value) if isinstance(value, Path) else value for name, value in self.chosen().items()}
        return {name: shown_url(value) if name in URLS else value for name, value in shown.items()}

    def hidden(self) -> list[str]:
        """The URLs among the choices whose secrets are hidden, by name: those that were stored."""
        return [name for name in URLS if HIDDEN in (getattr(self, name) or "")]

    def options(self, base: ModelOptions | None = None) -> ModelOptions:
        """How the agent's model is reached and treated; choices made here go over those of `base`."""
        from simkit.models.factory import ModelOptions
        from simkit.models.middleware.retry import RetryPolicy

        base = base or ModelOptions()
        chosen = self.chosen()
        same = {
            name: chosen[name]
            for name in ("base_url", "api_concurrency", "rpm", "tpm", "request_timeout", "prices")
            if name in chosen
        }
        if self.max_retries is not None:
            same["retry"] = replace(base.retry or RetryPolicy(), max_retries=self.max_retries)
        sampling = _chosen(temperature=self.temperature, max_tokens=self.max_tokens)
        return replace(base, **same, sampling=replace(base.sampling, **sampling))

    def user_options(self, base: ModelOptions | None = None) -> ModelOptions:
        """The same for the user's model: its own endpoint, temperature and length, everything else as the agent's."""
        options, own = self.options(base), base.sampling if base else Sampling()
        length = self.max_tokens if self.user_max_tokens is None else self.user_max_tokens
        sampling = replace(own, **_chosen(temperature=self.user_temperature, max_tokens=length))
        return replace(options, base_url=self.user_base_url or options.base_url, sampling=sampling)

    def allowances(self, base: Allowances | None = None) -> Allowances:
        """What the run may use; choices made here go over those of `base`, whose episodes' and branches' are kept."""
        from simkit.models.middleware.budget import Allowances

        base = base or Allowances()
        run = replace(base.run, **_chosen(tokens=self.max_tokens_total, cost=self.max_cost))
        return replace(base, run=run, **_chosen(wall_seconds=self.max_wall))


def _chosen(**choices: Any) -> dict[str, Any]:
    return {name: value for name, value in choices.items() if value is not None}


def flag_of(name: str) -> str:
    """A choice as it is written on the command line."""
    return "--" + name.replace("_", "-")
