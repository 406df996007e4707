"""Base class of options. A new option needs only a field: its flag, environment variable and JSON are derived."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, ValidationInfo, model_validator
from pydantic.fields import FieldInfo

from simkit.errors import UsageError

Spelling: TypeAlias = Callable[[str, object], str]
"""Formats an option and its value for an error message, in the form in which the user wrote them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionFlag:
    """Command-line form of an option. A field without one can be set in Python only.

    Attributes:
        help: its help text.
        default: the default shown on the help page; None shows none.
        on_resume: whether a run may be resumed with another value.
        shared: whether a value set for the agent's model also applies to the user's.
    """

    help: str
    default: str | None = None
    on_resume: bool = False
    shared: bool = True


class Options(BaseModel):
    """Frozen options that track which of them were set, so that two sets of options can be merged.

    Raises:
        UsageError: a value is invalid, or an option does not exist; the message names it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """The options that differ from their defaults, for `repr`."""
        defaults = {
            name: field.get_default(call_default_factory=True) for name, field in type(self).model_fields.items()
        }
        for name, value in super().__repr_args__():
            if name is None or name not in defaults or value != defaults[name]:
                yield name, value

    @model_validator(mode="wrap")
    @classmethod
    def _validated(cls, values: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        try:
            return handler(values)
        except ValidationError as error:
            spelling: Spelling = info.context or _as_flag(cls)
            problems = {str(each["loc"][0]): each for each in reversed(error.errors())}
            unknown = [_unknown(cls, name) for name, each in problems.items() if each["type"] == "extra_forbidden"]
            wrong = (
                f"{spelling(name, each.get('input'))}: {each['msg'].removeprefix('Value error, ')}"
                for name, each in problems.items()
            )
            raise UsageError("; ".join(unknown or wrong)) from error

    @classmethod
    def flags(cls) -> Iterator[tuple[str, FieldInfo, OptionFlag]]:
        """The options that have a flag: name, field, flag."""
        for name, field in cls.model_fields.items():
            flag = next((each for each in field.metadata if isinstance(each, OptionFlag)), None)
            if flag is not None:
                yield name, field, flag

    @classmethod
    def of(cls, values: Mapping[str, Any], spelling: Spelling | None = None) -> Self:
        """Options from the values that belong to a flag; other values are ignored, and None leaves an option open.

        Raises:
            UsageError: a value is invalid; the message names it in the form of `spelling`.
        """
        given = {name: values[name] for name, _, _ in cls.flags() if values.get(name) is not None}
        return cls.model_validate(given, context=spelling)

    def chosen(self) -> dict[str, Any]:
        """The options that were set, in declaration order. An option set to None counts as open."""
        given = (name for name in type(self).model_fields if name in self.model_fields_set)
        return {name: value for name in given if (value := getattr(self, name)) is not None}

    def over(self, defaults: Self) -> Self:
        """These options, with `defaults` for those left open. Mappings are merged key by key."""
        return defaults.model_copy(
            update={
                name: {**getattr(defaults, name), **value} if isinstance(value, Mapping) else value
                for name, value in self.chosen().items()
            }
        )

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with validated changes. `deep` has no effect, because the values are frozen."""
        return type(self)(**{**self.chosen(), **(update or {})})

    def to_json(self) -> dict[str, Any]:
        """The options that were set and have a flag, as JSON."""
        chosen = self.chosen()
        return self.model_dump(mode="json", include={name for name, _, _ in self.flags() if name in chosen})


def flag_of(name: str) -> str:
    """The command-line spelling of an option."""
    return "--" + name.replace("_", "-")


def _as_flag(options: type[Options]) -> Spelling:
    flags = {name for name, _, _ in options.flags()}
    return lambda name, value: f"{flag_of(name) if name in flags else f'`{name}`'} is {value!r}"


def _unknown(options: type[Options], name: str) -> str:
    close = get_close_matches(name, options.model_fields, n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"its options: {', '.join(options.model_fields)}"
    return f"{options.__name__} has no option `{name}`; {hint}"
