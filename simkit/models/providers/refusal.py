"""Refusals: a server's statements about the form of a request, and adjustments that may avoid the refusal.

An adjustment that would change what the run measures (an option that the user gave) is never made silently: the run
ends with the flag that allows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from simkit.core.reasoning import FIELD as REASONING_FIELD
from simkit.errors import OptionRefused
from simkit.models.adjustments import Adjustment
from simkit.models.base import ChatRequest
from simkit.models.providers.dialect import AT_MOST, FIELD, REASONING, RULE, SCHEMA, SETTING, VALUE, Dialect
from simkit.models.providers.error_details import ErrorDetails

SIMPLER: Mapping[str, tuple[str, ...]] = {"tool_choice": ("required", "auto"), "response_format": ("json_object",)}
"""Simpler values of settings, in the order in which they are tried before the setting is left out."""

MAY_BE_LEFT_OUT = frozenset({"seed", "tool_choice", "response_format", "parallel_tool_calls", "stop"})
"""Settings whose absence is made up for, or is visible in replies and checked there: a text that should end a reply is
searched in the reply, replies are parsed whatever their format, and a turn may hold any number of calls."""

_DEFAULTS: Mapping[str, float] = {"temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0}
"""Values with which leaving a setting out changes nothing."""

_QUOTED = re.compile(r"[`'\"‘“]([a-z][a-z0-9_]{1,60})[`'\"’”]")
_UNKNOWN = re.compile(
    r"(?:unknown name|property|extra (?:field|input)s?|unexpected (?:field|keyword))[^a-z0-9$]{0,6}"
    r"([a-z$][a-z0-9_$]{1,60})"
)
_REFUSED = re.compile(
    r"support|unknown|unrecogni[sz]ed|unexpected|permitted|invalid|allowed|extra|forbidden|deprecated|cannot|must|only|"
    r"incompatible|not valid|(?:not |un)available|disabled|should|too large|exceed"
)
_NOT_THE_SETTING = re.compile(r"--enable-auto-tool-choice|--tool-call-parser|--jinja")
_NUMBER = re.compile(r"(?<![\w.])(\d{1,19})(?![\w.]\d)")
_REASONING_MISSING = re.compile(
    r"reasoning_content.{0,120}(?:missing|required|must|passed back|needed|not found|absent|expected)|"
    r"missing.{0,60}reasoning_content"
)
_BLOCKS_REFUSED = re.compile(
    r"(?:invalid|unexpected|missing|malformed|verif).{0,60}signature|signature.{0,60}(?:invalid|required|missing|verif)|"
    r"(?:redacted_)?thinking`? blocks?.{0,120}(?:not |cannot|invalid|unexpected|unsupported|modif)|"
    r"(?:unknown|unexpected|unsupported|invalid|not support).{0,60}thinking`? (?:content )?blocks?|"
    r"expected tags? found using.{0,60}thinking|"
    r"encrypted.{0,40}(?:content|reasoning).{0,80}(?:invalid|could not|cannot|verif)"
)
"""Refusals of thinking blocks or of encrypted reasoning of earlier messages."""

_RULES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile("|".join(forms)))
    for name, *forms in (
        (
            "alternating",
            r"alternat|consecutive|in a row|multiple (?:user|assistant)",
            r"role '?(user|assistant)'? after role '?\1",
        ),
        (
            "answered",
            r"alternat|role '?user'? after role '?tool|user.{0,40}(?:after|follow).{0,30}tool",
            r"tool.{0,60}followed by.{0,30}user|after.{0,10}tool.{0,60}(?:must|should|expect).{0,30}assistant",
        ),
        (
            "system-role",
            r"developer.{0,40}(?:unknown|invalid|not|unsupported|unexpected)",
            r"(?:unknown|invalid|unsupported|unexpected).{0,60}developer|role.{0,200}(?:one of|expected).{0,80}system",
        ),
        (
            "one-system",
            r"system (?:message|prompt|role)s?.{0,40}(?:must|should|only|can).{0,40}(?:first|begin|start|once|one)",
            r"(?:only one|multiple|more than one|several) system|role '?system'? after role",
            r"system.{0,30}(?:at|in) the (?:beginning|start|first)",
        ),
        (
            "no-system",
            r"system (?:role|message|prompt|instruction)s?.{0,30}(?:not|n't|unsupported)",
            r"(?:not|n't) support.{0,20}system",
            r"developer instruction is not enabled|invalid role.{0,20}system",
            r"role.{0,20}system.{0,30}(?:not|invalid|unsupported)",
        ),
        (
            "user-first",
            r"alternat|(?:first|initial).{0,30}(?:message|turn|role|content).{0,40}user",
            r"(?:start|begin)s? with.{0,20}user|user.{0,20}(?:first|at the (?:start|beginning))",
        ),
        (
            "user-last",
            r"(?:last|final).{0,20}(?:message|role|turn).{0,60}(?:user|tool|assistant)|prefill",
            r"end with (?:a |an )?(?:user|assistant)",
        ),
        ("short-ids", r"tool.?(?:call|use).{0,30}id.{0,80}(?:must|should|length|match|pattern|alphanumeric)"),
        (
            "no-nulls",
            r"\bcontent.{0,80}(?:null|none|missing|required|valid string|must be a string|expected.{0,10}string)",
        ),
        (
            "filled",
            r"\bcontent.{0,80}(?:empty|blank|whitespace|at least (?:1|one)|min.?length|non-?empty)",
            r"(?:empty|blank).{0,40}(?:content|message|text)",
        ),
        ("texts", r"\bcontent.{0,80}(?:must|should|expected|valid|not).{0,30}(?:string|text|list|array|part)"),
        ("parts", r"\bcontent.{0,80}(?:must|should|expected|valid).{0,20}(?:list|array|sequence|part)"),
    )
)
"""Rules of messages, and how servers that enforce them refuse others."""

_ESSENTIAL = frozenset({"type", "properties", "function", "name", "description", "parameters", "required", "items"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A refused request: what the server said, and what had been sent.

    `settings` are those of the request before the dialect was applied; `messages` and `tools` are as they were sent.
    `final` if the refusal of an option that the user gave ends the run.
    """

    details: ErrorDetails
    request: ChatRequest
    dialect: Dialect
    settings: Mapping[str, Any]
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    error_text: str
    final: bool

    def is_repeated(self, details: ErrorDetails) -> bool:
        """Whether another reply is the same refusal, apart from numbers."""
        now, then = (re.sub(r"\d+", "0", each.words[:80]) for each in (details, self.details))
        return details.status == self.details.status and now == then and details.fields == self.details.fields

    def proposals(self) -> Iterator[Adjustment]:
        """Adjustments that may avoid the refusal, the likeliest first.

        Raises:
            OptionRefused: the refusal is about an option that the user gave.
        """
        yield from self._about_reasoning()
        yield from self._about_fields()
        named = self._settings_named()
        for name in named:
            yield from self._about_setting(name)
        yield from self._about_schemas()
        yield from self._about_messages()
        for name in named if self.final else ():
            self._check_option(name)

    # --- settings -----------------------------------------------------------------------------------------------------

    def _settings_named(self) -> list[str]:
        """The settings that the server names: in `param` or `loc`, in quotes, or as words beside a refusal."""
        if _NOT_THE_SETTING.search(self.details.words):
            return []
        words = self.details.words
        fields = [field.partition(".")[0].partition("[")[0] for field in self.details.fields]
        for found in (fields, _QUOTED.findall(words), re.findall(r"[a-z][a-z0-9_]+", words[:4096])):
            settings = (setting for name in dict.fromkeys(found) for setting in self.dialect.settings_of(name))
            named = [name for name in dict.fromkeys(settings) if name in self.settings]
            if named and (found is fields or _REFUSED.search(words)):
                return named
        return []

    def _about_setting(self, name: str) -> Iterator[Adjustment]:
        value, words = self.settings[name], self.details.words
        own = name not in self.request.sampling.settings and name not in self.request.sampling.extra_body
        if (most := self._most(name, value)) is not None:
            if own:
                yield Adjustment(AT_MOST, name, str(most))
            return
        for other in sorted(self.dialect.other_names(name), key=lambda other: other not in words):
            if name not in MAY_BE_LEFT_OUT or other in words:
                yield Adjustment(SETTING, name, other)
        if name == "max_tokens" and self.dialect.names.get(name, name) != name:
            yield Adjustment(SETTING, name, name)
        shown = value.get("type") if isinstance(value, Mapping) else value  # pyright: ignore
        simpler = SIMPLER.get(name, ())
        for other in simpler[simpler.index(shown) + 1 :] if shown in simpler else simpler:
            if other != "required" or isinstance(value, Mapping):
                yield Adjustment(VALUE, name, other)
        if name in MAY_BE_LEFT_OUT or (name in _DEFAULTS and value == _DEFAULTS[name]):
            yield Adjustment(SETTING, name, "")

    def _most(self, name: str, value: object) -> int | None:
        """The largest value that the server says it accepts for a setting whose value is too large."""
        if (
            name not in ("max_tokens", "seed")
            or not isinstance(value, int)
            or "unsupported parameter" in self.details.words
        ):
            return None
        sent = value & self.dialect.seed_mask if name == "seed" else value
        numbers = [int(digits) for digits in _NUMBER.findall(self.details.words.replace(",", "")[:4096])]
        return max((number for number in numbers if 16 <= number < sent), default=None)

    def _check_option(self, name: str) -> None:
        """Raise for an option that cannot be left out without the user's consent."""
        if name not in self.request.sampling.extra_body and name not in self.request.sampling.settings:
            return
        if name in MAY_BE_LEFT_OUT:
            return
        flag = "--extra-body" if name in self.request.sampling.extra_body else "--" + name.replace("_", "-")
        raise OptionRefused(
            f"{self.error_text}. The endpoint refuses `{name}` ({flag}), and without it the results would mean "
            f"something else. Give another value, or leave it out with --send-as {name}="
        )

    # --- tools and messages -------------------------------------------------------------------------------------------

    def _about_schemas(self) -> Iterator[Adjustment]:
        """Keywords of tool schemas that only some servers know."""
        words = self.details.words
        places = [part for field in self.details.fields if "tool" in field for part in re.split(r"[.\[\]]+", field)]
        named = {*_QUOTED.findall(words), *_UNKNOWN.findall(words)}
        for name in dict.fromkeys(_keywords(self.tools)):
            common = name in ("additionalProperties", "strict") and re.search(rf"\b{name.lower()}\b", words)
            if name not in _ESSENTIAL and (name in places or name.lower() in named or common):
                yield Adjustment(SCHEMA, name)

    def _about_fields(self) -> Iterator[Adjustment]:
        """Fields of messages that only some servers know."""
        extra = {name for each in self.messages for name in each} - {"role", "content", "tool_calls", "tool_call_id"}
        named = [re.split(r"[.\[\]]+", field)[-1] for field in self.details.fields if "message" in field]
        words = self.details.words
        named += [name for name in (*_UNKNOWN.findall(words), *_QUOTED.findall(words)) if name in extra]
        for name in dict.fromkeys(named):
            if name == REASONING_FIELD and self.dialect.sends_reasoning and not _REASONING_MISSING.search(words):
                yield Adjustment(REASONING, REASONING_FIELD, "left out")
            elif name in extra and name != REASONING_FIELD:
                yield Adjustment(FIELD, name)

    def _about_reasoning(self) -> Iterator[Adjustment]:
        if not self.dialect.sends_reasoning and _REASONING_MISSING.search(self.details.words):
            yield Adjustment(REASONING, REASONING_FIELD, "sent")
        elif self.dialect.sends_blocks and _BLOCKS_REFUSED.search(self.details.words[:4096]):
            yield Adjustment(REASONING, REASONING_FIELD, "left out")

    def _about_messages(self) -> Iterator[Adjustment]:
        words = self.details.words[:4096]
        for name, form in _RULES:
            if name not in self.dialect.rules and form.search(words):
                yield Adjustment(RULE, name)


def _keywords(schema: object) -> Iterator[str]:
    """All keywords in the schemas of tools."""
    match schema:
        case list():
            for each in cast("list[object]", schema):
                yield from _keywords(each)
        case dict():
            for name, value in cast("dict[str, object]", schema).items():
                yield name
                if name == "properties" and isinstance(value, dict):
                    yield from _keywords(list(cast("dict[str, object]", value).values()))
                else:
                    yield from _keywords(value)
        case _:
            return
