"""Sampling options of a request, and the flags that set them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, TypeAlias, cast

import orjson
from pydantic import AfterValidator, BeforeValidator, Field

from simkit.core.messages import JsonObject
from simkit.errors import UsageError
from simkit.models.options import OptionFlag, Options

Number: TypeAlias = float | int
"""A number that keeps its type, because requests with 1 and with 1.0 have different hashes."""


def texts(value: object) -> object:
    """Normalize several texts: a single one becomes a tuple, a JSON list (environment variable) is parsed."""
    if not isinstance(value, str):
        return value
    return _from_json(value) if value.startswith("[") else (value,)


def _from_json(value: object) -> object:
    """Parse a JSON text; return other values unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise ValueError(f'it is not JSON ({error}); write it like {{"top_k": 20}}') from error


def _without_secrets(value: JsonObject) -> JsonObject:
    for name, inner in value.items():
        if _SECRET.fullmatch(str(name)):
            raise UsageError(  # not a ValueError: its message would show the value
                f"--extra-body has a field `{name}`, which would be recorded with the run; set keys in OPENAI_API_KEY, "
                "or as headers"
            )
        if isinstance(inner, Mapping):
            _without_secrets(cast("Mapping[str, Any]", inner))
    return value


_SECRET = re.compile(r"(.*[-_])?(api[-_]?key|password|secret|authorization|access[-_]?token)", re.IGNORECASE)


class Sampling(Options):
    """Sampling options of a request. None leaves an option to the provider.

    Attributes:
        temperature: at least 0.
        top_p: between 0 and 1.
        max_tokens: maximum tokens of the reply.
        stop: sequences that end the reply.
        presence_penalty, frequency_penalty: between -2 and 2.
        logprobs: whether to ask for the log probabilities of the reply's tokens.
        reasoning_effort: "minimal", "low", "medium", "high", or another value that the model supports.
        parallel_tool_calls: whether one reply may hold several tool calls.
        no_seed: whether requests are sent without a seed, for endpoints that refuse one.
        extra_body: additional fields of the request body, sent unchanged. They are recorded and must not hold secrets.

    Raises:
        UsageError: a value is outside its range.
    """

    temperature: Annotated[
        Number | None, Field(ge=0), OptionFlag(help="Sampling temperature of the agent's model.", shared=False)
    ] = None
    top_p: Annotated[
        Number | None,
        Field(ge=0, le=1),
        OptionFlag(
            help="Nucleus sampling: tokens are drawn from the most likely ones with this total probability.",
            shared=False,
        ),
    ] = None
    max_tokens: Annotated[int | None, Field(ge=1), OptionFlag(help="Maximum number of tokens in a reply.")] = None
    stop: Annotated[
        tuple[str, ...],
        BeforeValidator(texts),
        OptionFlag(help="Stop sequence that ends a reply of the agent; repeat the flag for more.", shared=False),
    ] = ()
    presence_penalty: Annotated[
        Number | None,
        Field(ge=-2, le=2),
        OptionFlag(help="Make tokens that the reply already holds less likely (-2 to 2).", shared=False),
    ] = None
    frequency_penalty: Annotated[
        Number | None,
        Field(ge=-2, le=2),
        OptionFlag(
            help="Make tokens less likely for each time that the reply already holds them (-2 to 2). Keeps small "
            "models from repeating themselves.",
            shared=False,
        ),
    ] = None
    logprobs: bool = False
    reasoning_effort: Annotated[
        str | None,
        OptionFlag(
            help="Reasoning effort: minimal, low, medium, high, or another value that the model supports.", shared=False
        ),
    ] = None
    parallel_tool_calls: bool | None = None
    no_seed: Annotated[bool, OptionFlag(help="Send requests without seeds, for endpoints that refuse them.")] = False
    extra_body: Annotated[
        Mapping[str, Any],
        BeforeValidator(_from_json),
        AfterValidator(_without_secrets),
        OptionFlag(help="Additional fields of every request, as a JSON object; recorded with the run."),
    ] = Field(default_factory=dict[str, Any])

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The options that differ from their defaults, under their OpenAI names."""
        fields = Sampling.model_fields
        values = {name: getattr(self, name) for name in fields if name not in ("no_seed", "extra_body")}
        sent = {name: value for name, value in values.items() if value != fields[name].default}
        return {**sent, "stop": list(self.stop)} if self.stop else sent


DEFAULT = Sampling()
"""Sampling options that leave everything to the provider."""
