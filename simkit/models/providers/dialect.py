"""The form in which one model at one endpoint accepts requests: what is known beforehand, and what was learned.

A dialect is an immutable value made of adjustments. Requests that need none are sent as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from simkit.core.messages import AssistantMessage, Message
from simkit.core.persistent_list import json_list
from simkit.core.reasoning import FIELD as FIELD_OF_REASONING
from simkit.models.adjustments import Adjustment
from simkit.models.base import ChatRequest
from simkit.models.config import ModelConfig
from simkit.models.providers.message_rules import REASONING_FIELDS, RULES, send_messages

SETTING, AT_MOST, VALUE, SCHEMA, FIELD, REASONING, RULE = (
    *("setting", "at_most", "value", "schema", "message_field", "reasoning", "message_rule"),
)
"""Kinds of adjustments.

    setting        `name` is sent as `sent_as`, or left out if that is empty
    at_most        `name` is cut to at most `sent_as`, a number
    value          `name` is sent with the simpler value `sent_as`
    schema         the keyword `name` is removed from the schemas of tools
    message_field  the field `name` of messages is not sent
    reasoning      the reasoning of earlier messages is sent (`sent_as` is `sent`), or is not
    message_rule   messages follow the rule `name` of `message_rules.RULES`
"""


OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "max_tokens": ("max_completion_tokens", "max_output_tokens", "max_new_tokens"),
    "seed": ("random_seed",),
    "stop": ("stop_sequences",),
}
"""Other names of settings. A name that the refusal mentions is tried first."""


@dataclass(frozen=True)
class Dialect:
    """The adjustments of the requests to one model at one endpoint; a later one overrides an earlier one."""

    adjustments: tuple[Adjustment, ...] = ()

    def adjusted(self, more: Iterable[Adjustment]) -> Dialect:
        """The dialect with more adjustments."""
        return replace(self, adjustments=(*self.adjustments, *(each for each in more if each not in self.adjustments)))

    @cached_property
    def names(self) -> Mapping[str, str]:
        """Names under which settings are sent; an empty one leaves the setting out."""
        return self._of(SETTING)

    @cached_property
    def seed_mask(self) -> int:
        """The bits of a seed that are sent."""
        return (1 << (int(self._of(AT_MOST).get("seed", 0x7FFFFFFF)) + 1).bit_length() - 1) - 1

    @cached_property
    def most_tokens(self) -> int | None:
        """Maximum reply limit that the endpoint accepts, for limits that a budget sets."""
        found = self._of(AT_MOST).get("max_tokens")
        return None if found is None else int(found)

    @cached_property
    def values(self) -> Mapping[str, str]:
        """Simpler values of `tool_choice` and `response_format`."""
        return self._of(VALUE)

    @cached_property
    def keywords(self) -> frozenset[str]:
        """Keywords that are removed from the schemas of tools."""
        return frozenset(self._of(SCHEMA))

    @cached_property
    def fields(self) -> frozenset[str]:
        """Fields of messages that are not sent."""
        return frozenset(self._of(FIELD))

    @cached_property
    def sends_reasoning(self) -> bool:
        """Whether the reasoning of earlier messages is sent."""
        return self._of(REASONING).get("reasoning_content") == "sent"

    @cached_property
    def sends_blocks(self) -> bool:
        """Whether reasoning that its provider signed or encrypted is sent back to it: unless it is to be left out."""
        return self._of(REASONING).get(FIELD_OF_REASONING) != "left out"

    @cached_property
    def rules(self) -> tuple[str, ...]:
        """Rules that messages follow, in the order in which they are applied."""
        chosen = self._of(RULE)
        return tuple(name for name in RULES if name in chosen)

    @cached_property
    def plain(self) -> bool:
        """Whether messages and tools are sent as they are, except for their reasoning."""
        return not (self.keywords or self.fields or self.rules or self.sends_reasoning)

    def settings(self, settings: dict[str, Any], limited: bool = False) -> dict[str, Any]:
        """The settings in the form that the endpoint accepts. `limited` if a budget set their `max_tokens`."""
        if (seed := settings.get("seed")) is not None:
            settings["seed"] = seed & self.seed_mask
        if not self.adjustments:
            return settings
        if limited and self.most_tokens is not None:
            settings["max_tokens"] = min(settings["max_tokens"], self.most_tokens)
        for name, value in self.values.items():
            if name in settings:
                settings[name] = {"type": value} if name == "response_format" else value
        names = self.names
        return {sent: value for name, value in settings.items() if (sent := names.get(name, name))}

    def body(self, model: str, request: ChatRequest) -> bytes:
        """The body of a request, as JSON text."""
        settings = self.settings(request.sent_settings(), request.limit is not None)
        if self.plain:
            messages = json_list(request.messages)
            if not messages.has_extras:
                return request.to_json(model, settings)
            return replace(request, messages=[*map(without_reasoning, messages)]).to_json(model, settings)
        whole = {"model": model, "messages": self.messages(request)}
        if request.tools:
            whole["tools"] = self.tools(request)
        return json.dumps({**whole, **settings}, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

    def messages(self, request: ChatRequest) -> list[dict[str, Any]]:
        """The messages in the form that the endpoint accepts."""
        messages = [message.to_openai() for message in request.messages]
        return send_messages(messages, self.rules, self.fields, reasoning=self.sends_reasoning)

    def tools(self, request: ChatRequest) -> list[dict[str, Any]]:
        """The tools without the keywords that the endpoint refuses."""
        return [without_keywords(tool.to_openai(), self.keywords) for tool in request.tools]

    def ends(self, request: ChatRequest) -> tuple[str, ...]:
        """The texts that end a reply, if they are not sent."""
        return request.sampling.stop if self.names.get("stop") == "" else ()

    def other_names(self, name: str) -> tuple[str, ...]:
        """Other names under which a setting may be accepted, in the order in which they are tried."""
        return OTHER_NAMES.get(name, ())

    def settings_of(self, name: str) -> tuple[str, ...]:
        """The settings that a field of the body stands for."""
        return next(((setting,) for setting, sent in self.names.items() if sent == name), (name,))

    def _of(self, kind: str) -> Mapping[str, str]:
        return {each.name: each.sent_as for each in self.adjustments if each.kind == kind}


def without_keywords(schema: Any, keywords: frozenset[str]) -> Any:
    """A schema without these keywords; the names of properties are no keywords."""
    if isinstance(schema, list):
        return [without_keywords(each, keywords) for each in schema]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(schema, dict):
        return schema
    return {
        name: {key: without_keywords(each, keywords) for key, each in value.items()}  # pyright: ignore
        if name == "properties" and isinstance(value, dict)
        else without_keywords(value, keywords)
        for name, value in schema.items()  # pyright: ignore
        if name not in keywords
    }


def without_reasoning(message: Message) -> Message:
    """The message without the text of its reasoning. Other fields of providers are kept: they want them back."""
    extra = message.model_extra or {}
    if not isinstance(message, AssistantMessage) or not any(name in extra for name in REASONING_FIELDS):
        return message
    known = {name: getattr(message, name) for name in message.model_fields_set if name not in extra}
    return AssistantMessage(**known, **{name: each for name, each in extra.items() if name not in REASONING_FIELDS})


def requested_adjustments(config: ModelConfig) -> tuple[Adjustment, ...]:
    """The adjustments that flags ask for."""
    names = (each.partition("=") for each in config.send_as)
    found = [Adjustment(SETTING, name.strip(), other.strip()) for name, _, other in names]
    if config.send_reasoning != "auto":
        found.append(
            Adjustment(REASONING, FIELD_OF_REASONING, "sent" if config.send_reasoning == "always" else "left out")
        )
    return (*found, *(Adjustment(RULE, rule) for rule in config.message_rule))


@dataclass(frozen=True, slots=True)
class KnownDialect:
    """One line of the table: patterns for the whole host and the whole model name."""

    host: str
    model: str
    adjustments: tuple[Adjustment, ...] = field(default=())


_NO_SEED = (Adjustment(SETTING, "seed", ""),)

TABLE: tuple[KnownDialect, ...] = (
    KnownDialect(
        r"(.*\.)?openai\.(azure\.)?com",
        r".*",
        (
            Adjustment(SETTING, "max_tokens", "max_completion_tokens"),
            Adjustment(AT_MOST, "seed", str((1 << 63) - 1)),
        ),
    ),
    KnownDialect(r"(.*\.)?mistral\.ai", r".*", (Adjustment(SETTING, "seed", "random_seed"),)),
    KnownDialect(r"(.*\.)?anthropic\.com", r".*", _NO_SEED),
    KnownDialect(r"(.*\.)?deepseek\.com", r".*", _NO_SEED),
)
"""Dialects known before the first call. Everything else is learned from refusals. Seeds have 31 bits unless a row says
otherwise, because some servers keep them in a 32-bit integer."""


def known_dialect(host: str, model: str, table: tuple[KnownDialect, ...] = TABLE) -> Dialect:
    """The dialect of a model at a host before the first call, from the first row that matches."""
    for row in table:
        if re.fullmatch(row.host, host) and re.fullmatch(row.model, model):
            return Dialect(row.adjustments)
    return Dialect()
