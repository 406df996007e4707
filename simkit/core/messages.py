"""Messages, tool specifications, calls and results: frozen values that mirror the OpenAI chat format.

Parsing and writing back is lossless: unknown fields are kept, and an absent field stays absent (some servers treat
`content: null` and no content differently).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias, cast

import orjson
from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter
from pydantic_core import PydanticSerializationError

from simkit.core.values import JSON_DEPTH, JSON_SIZE, within_depth
from simkit.errors import InvalidArguments

JsonObject: TypeAlias = Mapping[str, Any]

_JSON = json.JSONEncoder(ensure_ascii=False)
_FLAT = frozenset({str, int, bool, type(None)})
_LONG = re.compile(r"\d{19}")  # a number that may not fit into 64 bits: orjson would make a float of it


class JsonText(Mapping[str, Any]):
    """A JSON object that is kept as its original text and parsed on first access."""

    __slots__ = ("_parsed", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self._parsed: dict[str, Any] | None = None

    def json_text(self) -> bytes:
        """The original text, to be written unchanged."""
        return self.text

    @property
    def _value(self) -> dict[str, Any]:
        if self._parsed is None:
            self._parsed = cast("dict[str, Any]", orjson.loads(self.text))
        return self._parsed

    def __getitem__(self, key: str) -> Any:
        return self._value[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._value)

    def __len__(self) -> int:
        return len(self._value)

    def __repr__(self) -> str:
        return f"JsonText({self.text[:80]!r})"


class WireModel(BaseModel):
    """A value that is written in the OpenAI chat format; unknown fields are kept."""

    model_config = ConfigDict(frozen=True, extra="allow", ser_json_inf_nan="null")

    __slots__ = ("_digest", "_json")  # what `digest` and `to_json` keep; not part of the value, of copies or of pickles

    if TYPE_CHECKING:
        _digest: ClassVar[bytes]
        _json: ClassVar[bytes]
    else:  # a type checker would take it for a field
        # Unknown fields must be JSON, and are copied while being checked: frozen values share nothing that can change.
        __pydantic_extra__: dict[str, JsonValue]

    def to_openai(self) -> dict[str, Any]:
        """This value as a JSON-able dict in the OpenAI chat format."""
        return self.model_dump(mode="json", exclude_unset=True)

    def to_json(self) -> bytes:
        """This value as JSON text in the OpenAI chat format; computed once, then cached."""
        try:  # not `self._json`: pydantic takes long to say that it is not there yet
            return cast("bytes", object.__getattribute__(self, "_json"))
        except AttributeError:
            data = _json_of(self)
            object.__setattr__(self, "_json", data)
            return data

    def canonical(self) -> bytes:
        """Canonical JSON text: equal exactly if the values are equal, regardless of the order of unknown fields."""
        return self.to_json() if _all_known(self) else sorted_json(self.to_openai())

    def digest(self) -> bytes:
        """16-byte digest, computed once, then cached; equal values have equal digests."""
        try:
            return cast("bytes", object.__getattribute__(self, "_digest"))
        except AttributeError:
            found = blake2b(self.canonical(), digest_size=16).digest()
            object.__setattr__(self, "_digest", found)
            return found

    def __eq__(self, other: object) -> bool:
        """Equal on the wire: a null field and an absent one are two different messages."""
        if not isinstance(other, WireModel):
            return NotImplemented
        return self.model_fields_set == other.model_fields_set and super().__eq__(other) is True

    def __hash__(self) -> int:
        return hash((type(self), *self.__dict__.values()))


def _json_of(value: WireModel) -> bytes:
    try:
        return value.__pydantic_serializer__.to_json(value, exclude_unset=True)
    except PydanticSerializationError:  # a lone surrogate, as a model writes when it is cut off inside an emoji
        text = json.dumps(value.model_dump(exclude_unset=True), ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _all_known(value: object) -> bool:
    """Whether a value has only known fields, which are always written in the same order."""
    if value is None or isinstance(value, str):
        return True
    if isinstance(value, WireModel):
        return not value.__pydantic_extra__ and all(map(_all_known, value.__dict__.values()))
    return isinstance(value, tuple) and all(map(_all_known, cast("tuple[object, ...]", value)))


def sorted_json(data: object) -> bytes:
    """JSON text with sorted keys."""
    try:
        return orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # a schema or a provider's own field may hold an integer of more than 64 bits
        return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


class FunctionCall(WireModel):
    """Name and arguments of a call; the arguments are the model's own text, which need not be valid JSON."""

    name: str
    arguments: str


class ToolCall(WireModel):
    """One call of a tool, as a model wrote it."""

    __slots__ = ("_parsed",)  # as `_json`: the arguments when no value of theirs can be changed

    if TYPE_CHECKING:
        _parsed: ClassVar[dict[str, Any]]

    id: str
    type: Literal["function"]
    function: FunctionCall

    @classmethod
    def of(cls, id: str, name: str, arguments: JsonObject | str) -> ToolCall:
        """A call from its parts; arguments given as a mapping are written as JSON."""
        text = arguments if isinstance(arguments, str) else _JSON.encode(dict(arguments))
        return cls(id=id, type="function", function=FunctionCall(name=name, arguments=text))

    @property
    def name(self) -> str:
        """The tool's name."""
        return self.function.name

    @property
    def arguments(self) -> str:
        """The arguments as the model wrote them."""
        return self.function.arguments

    def parse_arguments(self) -> dict[str, Any]:
        """The arguments as a new dict.

        If a name occurs twice, the last value counts, as usual for JSON. Integers stay exact.

        Raises:
            InvalidArguments: the text is not a JSON object, or it is too long or too deeply nested.
        """
        try:
            return cast("dict[str, Any]", object.__getattribute__(self, "_parsed")).copy()
        except AttributeError:
            return self._parse()

    def _parse(self) -> dict[str, Any]:
        text = self.function.arguments or "{}"
        if len(text) > JSON_SIZE:
            raise InvalidArguments(
                f"the arguments of {self.name:.80} are {len(text):,} characters long; send at most {JSON_SIZE:,}"
            )
        try:
            value: object = orjson.loads(text)
            if type(value) is dict and _FLAT.issuperset(map(type, cast("dict[str, Any]", value).values())):
                object.__setattr__(self, "_parsed", value)
                return cast("dict[str, Any]", value).copy()
            if _LONG.search(text):
                value = json.loads(text)
            if text.count("{") + text.count("[") > JSON_DEPTH and not within_depth(cast("object", value)):
                raise ValueError(f"more than {JSON_DEPTH} levels deep")
        except (ValueError, RecursionError) as error:
            raise InvalidArguments(
                f"the arguments of {self.name:.80} are not valid JSON ({error}); send one JSON object"
            ) from error
        if not isinstance(value, dict):
            raise InvalidArguments(
                f"the arguments of {self.name:.80} are a JSON {type(value).__name__}; send one JSON object"
            )
        return cast("dict[str, Any]", value)


def arguments_text(arguments: object) -> str:
    """The arguments of a call as a text, whatever form they were given in.

    A missing value, a JSON null and an empty list stand for no arguments. An object that was written as JSON twice is
    unwrapped. Anything else stays as it is, so that whoever wrote it gets an error.
    """
    if isinstance(arguments, str):
        stripped = arguments.strip()
        if stripped.startswith('"'):
            return _unwrapped(arguments)
        return "{}" if stripped in _NO_ARGUMENTS else arguments
    if arguments is None or arguments == []:
        return "{}"
    if isinstance(arguments, list):
        items = cast("list[object]", arguments)
        if len(items) == 1 and isinstance(items[0], dict):
            return arguments_text(cast("object", items[0]))
    try:
        return _JSON.encode(arguments)
    except RecursionError:
        return _JSON.encode("(left out: the arguments were nested too deep to be read)")


def _unwrapped(text: str) -> str:
    try:
        inner: object = json.loads(text)
        return inner if isinstance(inner, str) and isinstance(json.loads(inner or "{}"), dict) else text
    except (ValueError, RecursionError):
        return text


_NO_ARGUMENTS = frozenset({"null", "None"})


def parse_call(call: ToolCall) -> JsonObject | None:
    """The arguments of a call; None if they are not a JSON object."""
    try:
        return call.parse_arguments()
    except InvalidArguments:
        return None


class ContentPart(WireModel):
    """One part of a multi-part content: text, image, audio or file, kept unchanged."""

    type: str


Content: TypeAlias = str | tuple[ContentPart, ...]


class SystemMessage(WireModel):
    """Instructions for the agent's model (`developer` is OpenAI's newer name for `system`)."""

    role: Literal["system", "developer"]
    content: Content

    @classmethod
    def of(cls, content: str) -> SystemMessage:
        """A system message."""
        return cls(role="system", content=content)


class UserMessage(WireModel):
    """An utterance of the user or, for agents with a text protocol, a tool's result."""

    role: Literal["user"]
    content: Content

    @classmethod
    def of(cls, content: str) -> UserMessage:
        """A user message."""
        return cls(role="user", content=content)


class AssistantMessage(WireModel):
    """Output of the agent's model: text, tool calls, or both."""

    role: Literal["assistant"]
    content: Content | None = None
    tool_calls: tuple[ToolCall, ...] | None = None

    @classmethod
    def of(cls, content: str | None = None, tool_calls: tuple[ToolCall, ...] = ()) -> AssistantMessage:
        """An assistant message; without calls that field is omitted, without text the content is null."""
        if tool_calls:
            return cls(role="assistant", content=content, tool_calls=tool_calls)
        return cls(role="assistant", content=content)

    def without_calls(self) -> AssistantMessage:
        """The message without its tool calls, otherwise as it was written."""
        if not self.tool_calls:
            return self
        fields = {name: getattr(self, name) for name in self.model_fields_set - {"tool_calls"}}
        return AssistantMessage(**{**fields, **(self.model_extra or {})})


class ToolMessage(WireModel):
    """A tool's result as a message."""

    role: Literal["tool"]
    tool_call_id: str
    content: Content

    @classmethod
    def of(cls, tool_call_id: str, content: str) -> ToolMessage:
        """A tool message."""
        return cls(role="tool", tool_call_id=tool_call_id, content=content)


Message: TypeAlias = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]

_MESSAGE: TypeAdapter[Message] = TypeAdapter(Message)


def parse_message(data: JsonObject) -> Message:
    """A message from its OpenAI chat form.

    Raises:
        pydantic.ValidationError: the role is unknown or a field has the wrong type.
    """
    return _MESSAGE.validate_python(data)


def text_of(message: Message) -> str:
    """Text of a message; the text parts of a multi-part content are joined, and a null content gives an empty text."""
    content = message.content
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "".join(str((part.model_extra or {}).get("text", "")) for part in content if part.type == "text")


class FunctionSpec(WireModel):
    """Name, description and JSON schema of a function."""

    name: str
    description: str | None = None
    parameters: dict[str, JsonValue] | None = None


class ToolSpec(WireModel):
    """A tool definition as sent to a model."""

    type: Literal["function"]
    function: FunctionSpec

    @classmethod
    def of(cls, name: str, description: str, properties: JsonObject, required: tuple[str, ...] = ()) -> ToolSpec:
        """A tool from its parts; `properties` are JSON schemas by parameter name."""
        schema: dict[str, Any] = {"type": "object", "properties": dict(properties), "required": list(required)}
        return cls(type="function", function=FunctionSpec(name=name, description=description, parameters=schema))

    @property
    def name(self) -> str:
        """The tool's name."""
        return self.function.name

    @property
    def properties(self) -> dict[str, Any]:
        """JSON schemas by parameter name."""
        found = (self.function.parameters or {}).get("properties", {})
        return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


class ToolResult(BaseModel):
    """Result of a tool: a JSON value, and whether it is an error for the agent to read."""

    model_config = ConfigDict(frozen=True)

    __slots__ = ("_text",)  # as that of `WireModel`

    if TYPE_CHECKING:
        _text: ClassVar[str]

    value: Any
    error: bool = False

    def with_text(self, text: str) -> ToolResult:
        """Cache `text` as the text of this result; returns the result itself."""
        object.__setattr__(self, "_text", text)
        return self

    @property
    def text(self) -> str:
        """The value as the agent reads it: strings unchanged, anything else as JSON."""
        try:
            return cast("str", object.__getattribute__(self, "_text"))
        except AttributeError:
            return self.value if isinstance(self.value, str) else _JSON.encode(self.value)
