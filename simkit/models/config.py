"""Configuration of models. Flags, environment variables, recorded JSON and resume checks follow from its fields."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, cast, get_args

from pydantic import BeforeValidator, Field, SecretStr, field_validator

from simkit.core.ids import derive_seed
from simkit.errors import ModelFault, UsageError
from simkit.models.adjustments import MESSAGE_RULES
from simkit.models.base import CallKey
from simkit.models.options import OptionFlag, Options
from simkit.models.sampling import Sampling, texts
from simkit.models.transport.url import HIDDEN, shown_header, shown_url

if TYPE_CHECKING:
    from simkit.models.middleware.budget import Allowances

URLS = ("base_url", "user_base_url")
USER = "user_"
"""Prefix of the options of the user's model."""

TransportChoice: TypeAlias = Literal["auto", "direct", "httpx2"]
"""HTTP client: `direct`, the built-in one (asyncio only, no proxies); `httpx2`; `auto`: `direct` where it works."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptive:
    """Parameters of an adaptive concurrency limit.

    Attributes:
        start: initial number of concurrent calls.
        least, most: bounds of the limit.
        cut: factor that multiplies the limit after a 429.
        cooldown: seconds after a cut during which the limit does not change.
    """

    start: int = 64
    least: int = 1
    most: int = 4096
    cut: float = 0.7
    cooldown: float = 5.0

    def __post_init__(self) -> None:
        if not (1 <= self.least <= self.start <= self.most and 0 < self.cut < 1 and self.cooldown >= 0):
            raise UsageError(
                f"{self} is not possible: 1 <= least <= start <= most, 0 < cut < 1, cooldown >= 0 must hold"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Retry policy of model calls.

    Attributes:
        max_retries: maximum number of attempts after the first.
        max_seconds: no attempt begins later than this many seconds after the first.
        first: seconds before the first retry; doubled for each further retry up to `longest`; jitter subtracts up to
            half.
        longest: maximum seconds between two attempts, unless the server asks for more (`Retry-After`).
        down_after: an endpoint that has answered no call for this many seconds is considered down; the run stops.
        down_at_start: the same for an endpoint that has never answered. One that says it is overloaded has answered.
    """

    max_retries: int = 8
    max_seconds: float = 1800.0
    first: float = 0.5
    longest: float = 10.0
    down_after: float = 120.0
    down_at_start: float = 5.0

    @property
    def last_attempt(self) -> float:
        """Seconds after which the last attempt begins at an endpoint that has never answered."""
        return 0.9 * self.down_at_start

    def __post_init__(self) -> None:
        if self.max_retries < 0:
            raise UsageError(f"--max-retries is {self.max_retries}; 0 makes one attempt, n makes n more after it")

    def pause(self, attempt: int, fault: ModelFault, key: CallKey) -> float:
        """Seconds to wait after failed attempt `attempt` (from 0). Deterministic: the jitter is derived from `key`."""
        chance = derive_seed(key.seed, "retry", attempt) / (1 << 63)
        if fault.retry_after is not None:
            return fault.retry_after * (1 + 0.1 * chance)
        return min(self.longest, self.first * 2.0 ** min(attempt, 30)) * (1 - 0.5 * chance)


def pairs(value: object) -> Any:
    """Normalize texts of the form NAME=VALUE; a single text becomes a tuple."""
    found = texts(value)
    several = cast("Sequence[object]", found) if isinstance(found, list | tuple) else ()
    for each in several:
        if not isinstance(each, str) or not each.partition("=")[0].strip() or "=" not in each:
            raise UsageError(  # not a ValueError: its message would show the value, which may be secret
                "a header or a setting is not written as NAME=VALUE (--header x-route=eu, --send-as seed=)"
            )
    return cast("Any", found)


class EndpointOptions(Options):
    """The model and its endpoint.

    Attributes:
        model: `PROVIDER/NAME` or `path/to/file.py:Class`.
        base_url: the URL to which `/chat/completions` is appended. Default: OPENAI_BASE_URL, else OpenAI (for
            `anthropic/NAME`, ANTHROPIC_BASE_URL, else Anthropic, and `/v1/messages` is appended). Secrets in
            it are sent but never stored: `to_json` hides them.
        api_key: default OPENAI_API_KEY, or ANTHROPIC_API_KEY for `anthropic/NAME`; local servers need no key.
        api_key_env: name of the environment variable that holds the key, instead of those.
        organization: default OPENAI_ORG_ID.
        headers: additional headers of every request.
        header: the same as texts `NAME=VALUE`. Values of headers that may hold a secret are not recorded.
        send_as: other names of settings, as `NAME=OTHER`; `NAME=` leaves a setting out.
        message_rule: rules of `simkit.models.providers.message_rules` that messages follow from the first call on.
        send_reasoning: whether the reasoning of earlier messages is sent back; `auto` does if the endpoint demands it.
        no_negotiation: whether every refusal is final; otherwise requests are adjusted to what the endpoint accepts.
        request_timeout: maximum seconds of one attempt.
        connect_timeout: maximum seconds to connect.
        transport: the HTTP client; see `TransportChoice`.
    """

    model: Annotated[
        str | None,
        OptionFlag(
            help="The agent's model: openai/NAME, anthropic/NAME, local/FOLDER (in this process), or "
            "path/to/file.py:Class. The default agent becomes function_calling, or react for a model that cannot be "
            "given tools.",
            shared=False,
        ),
    ] = None
    base_url: Annotated[
        str | None,
        OptionFlag(
            help="URL of an OpenAI-compatible endpoint.", default="OPENAI_BASE_URL, else OpenAI", on_resume=True
        ),
    ] = Field(default=None, repr=False)
    api_key: SecretStr | None = None
    api_key_env: Annotated[
        str | None,
        OptionFlag(help="Environment variable that holds the key.", default="OPENAI_API_KEY", on_resume=True),
    ] = None
    organization: str | None = None
    headers: Mapping[str, str] = Field(default_factory=dict[str, str], repr=False)
    header: Annotated[
        tuple[str, ...],
        BeforeValidator(pairs),
        OptionFlag(help="A header of every request, as NAME=VALUE; may be repeated.", on_resume=True),
    ] = Field(default=(), repr=False)
    send_as: Annotated[
        tuple[str, ...],
        BeforeValidator(pairs),
        OptionFlag(
            help="Another name of a setting (max_tokens=max_completion_tokens), or none (seed=) to leave it out; may "
            "be repeated.",
            default="as the endpoint accepts",
            on_resume=True,
        ),
    ] = ()
    message_rule: Annotated[
        tuple[str, ...],
        BeforeValidator(texts),
        OptionFlag(
            help=f"A rule for messages that the endpoint enforces ({', '.join(MESSAGE_RULES)}); may be repeated.",
            default="as the endpoint demands",
            on_resume=True,
        ),
    ] = ()
    send_reasoning: Annotated[
        Literal["auto", "always", "never"],
        OptionFlag(
            help="Send the reasoning of earlier messages back: auto, always or never.", default="auto", on_resume=True
        ),
    ] = "auto"
    no_negotiation: Annotated[
        bool, OptionFlag(help="Do not adjust requests to what the endpoint accepts.", on_resume=True)
    ] = False
    request_timeout: Annotated[
        float, Field(gt=0), OptionFlag(help="Timeout of one attempt, in seconds.", default="600", on_resume=True)
    ] = 600.0
    connect_timeout: Annotated[float, Field(gt=0)] = 10.0
    transport: TransportChoice = "auto"


class LimitOptions(Options):
    """Limits of model calls.

    Attributes:
        api_concurrency: concurrent calls to one endpoint with one key: a number, or `adaptive`.
        rpm, tpm: requests and tokens per minute.
        max_retries: attempts after the first; overrides the one in `retry`.
        retry: the retry policy.
        wait_for_endpoint: seconds to wait for an endpoint that has not answered yet; overrides the one in `retry`.
        max_cost: US dollars that the run may use.
        max_tokens_total: tokens that the run may use.
        max_wall: seconds that the run may take, each time it is started or resumed.
        prices: a file of prices that override the built-in ones.
        record_requests: whether the store keeps whole requests; digests, which still allow replay, if False.
    """

    api_concurrency: Annotated[
        Annotated[int, Field(ge=1)] | Literal["adaptive"] | Adaptive,
        OptionFlag(
            help="Maximum concurrent calls to one endpoint: a number, or `adaptive`.",
            default="adaptive",
            on_resume=True,
        ),
    ] = "adaptive"
    rpm: Annotated[float | None, Field(gt=0), OptionFlag(help="Maximum requests per minute.", on_resume=True)] = None
    tpm: Annotated[float | None, Field(gt=0), OptionFlag(help="Maximum tokens per minute.", on_resume=True)] = None
    max_retries: Annotated[
        int | None, Field(ge=0), OptionFlag(help="Maximum retries of a failed call.", default="8", on_resume=True)
    ] = None
    retry: RetryPolicy = Field(default_factory=RetryPolicy)
    wait_for_endpoint: Annotated[
        float | None,
        Field(ge=0),
        OptionFlag(help="Seconds to wait for an endpoint that is still starting.", default="5", on_resume=True),
    ] = None
    max_cost: Annotated[
        float | None, Field(gt=0), OptionFlag(help="Budget of the run in US dollars.", on_resume=True)
    ] = None
    max_tokens_total: Annotated[
        int | None, Field(ge=1), OptionFlag(help="Budget of the run in tokens.", on_resume=True)
    ] = None
    max_wall: Annotated[
        float | None, Field(gt=0), OptionFlag(help="Maximum duration of the run, in seconds.", on_resume=True)
    ] = None
    prices: Annotated[
        Path | None, OptionFlag(help="File of prices, which override the built-in ones.", on_resume=True)
    ] = None
    record_requests: Annotated[
        bool, OptionFlag(help="Store each request whole, not only its digest.", on_resume=True)
    ] = False


_FLOATS = [name for name, field in Sampling.model_fields.items() if float in get_args(field.annotation)]


class ModelConfig(LimitOptions, Sampling, EndpointOptions):
    """Configuration of a run's models: endpoint, sampling and limits.

    Options without a prefix configure the agent's model. The user's model shares them, except those whose flag is
    marked `shared=False`; options with the prefix `user_` apply to it alone.
    """

    user_model: Annotated[
        str | None, OptionFlag(help="The user's model. The default user becomes goal.", default="the agent's")
    ] = None
    user_base_url: Annotated[
        str | None, OptionFlag(help="The user's endpoint.", default="the agent's", on_resume=True)
    ] = Field(default=None, repr=False)
    user_temperature: Annotated[
        float | None, Field(ge=0), OptionFlag(help="Sampling temperature of the user's model.")
    ] = None
    user_max_tokens: Annotated[
        int | None,
        Field(ge=1),
        OptionFlag(help="Maximum number of tokens in a reply of the user.", default="the agent's"),
    ] = None

    user_api_key_env: Annotated[
        str | None,
        OptionFlag(
            help="Environment variable that holds the key of the user's model.", default="the agent's", on_resume=True
        ),
    ] = None

    @field_validator("message_rule")
    @classmethod
    def _known_rules(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in value if name not in MESSAGE_RULES]
        if unknown:
            raise ValueError(f"there is no rule `{unknown[0]}`; the rules: {', '.join(MESSAGE_RULES)}")
        return value

    @field_validator(*_FLOATS)
    @classmethod
    def _float(cls, value: float | None) -> float | None:
        return None if value is None else float(value)  # 1 is recorded and sent as 1.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> ModelConfig:
        """The configuration from `SIMKIT_MODEL`, `SIMKIT_BASE_URL`, `SIMKIT_MAX_COST` etc. Empty values are ignored.

        Raises:
            UsageError: a variable has an invalid value; the message names the variable.
        """
        variables = {name.upper(): value for name, value in (environment or os.environ).items() if value}
        values = {name: variables.get(variable_of(name)) for name, _, _ in cls.flags()}
        return cls.of(values, lambda name, value: f"{variable_of(name)}={value} cannot be used")

    def for_user(self, base: ModelConfig | None = None) -> ModelConfig:
        """Configuration of the user's model: its own options, then those shared with the agent's, then `base`."""
        shared = {name: flag.shared for name, _, flag in self.flags()}
        chosen = self.chosen()
        own = {name.removeprefix(USER): value for name, value in chosen.items() if name.startswith(USER)}
        same = {name: value for name, value in chosen.items() if not name.startswith(USER) and shared.get(name, True)}
        user = ModelConfig(**{**same, **own})
        return user if base is None else user.over(base)

    @cached_property
    def sampling(self) -> Sampling:
        """The sampling options alone, in the form that a request holds."""
        return Sampling(**{name: value for name, value in self.chosen().items() if name in Sampling.model_fields})

    @property
    def all_headers(self) -> Mapping[str, str]:
        """The headers of every request: `headers`, and those given as texts."""
        given = (each.partition("=") for each in self.header)
        return {**self.headers, **{name.strip(): value for name, _, value in given}}

    @property
    def retry_policy(self) -> RetryPolicy:
        """The retry policy, with `max_retries` and `wait_for_endpoint` if they are set."""
        given = _given(max_retries=self.max_retries, down_at_start=self.wait_for_endpoint)
        return replace(self.retry, **given) if given else self.retry

    def to_json(self) -> dict[str, Any]:
        """The options that were set, as JSON, without secrets in URLs and headers."""
        found = {name: shown_url(value) if name in URLS else value for name, value in super().to_json().items()}
        return {**found, "header": list(map(shown_header, self.header))} if self.header else found

    def hidden(self) -> list[str]:
        """The names of the options whose secrets were hidden in the stored form."""
        headers = ["header"] if any(each.endswith(f"={HIDDEN}") for each in self.header) else []
        return [*(name for name in URLS if HIDDEN in (getattr(self, name) or "")), *headers]

    def allowances(self, base: Allowances | None = None) -> Allowances:
        """The run's allowances: these options override those of `base`; its limits per episode and branch stay."""
        from simkit.models.middleware.budget import Allowances

        base = base or Allowances()
        run = replace(base.run, **_given(tokens=self.max_tokens_total, cost=self.max_cost))
        return replace(base, run=run, **_given(wall_seconds=self.max_wall))


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def variable_of(name: str) -> str:
    """The environment variable of an option."""
    return f"SIMKIT_{name.upper()}"
