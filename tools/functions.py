"""A tool server made from typed Python functions: schemas from their signatures, state as a parameter.

def deposit(state: int, amount: int) -> Changed:
    '''Put money into the account.'''
    return Changed({"balance": state + amount}, state=state + amount, writes=({"balance": state + amount},))

def balance(state: int) -> int:
    '''How much money there is.'''
    return state

server = FunctionTools(deposit, balance, state=100)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeAlias, cast, final, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic_core import to_jsonable_python

from simkit.components.state import State, fork_state
from simkit.components.tools import CallTool, StartTools, ToolReturn, ToolServer, ToolsStart
from simkit.core.messages import FunctionSpec, JsonObject, ToolResult, ToolSpec
from simkit.errors import InvalidArguments, UsageError
from simkit.tools.drafts import DraftedState

Function: TypeAlias = Callable[..., Any]
STATE = "state"

_SHARED = (
    "the state of the tools is a `{kind}`, which can be changed in place, and branches and episodes share it; use an"
    " immutable value (a tuple, a frozenset, a frozen dataclass, types.MappingProxyType), or an object whose method"
    " fork() returns an independent copy"
)


@dataclass(frozen=True, slots=True)
class Changed:
    """Return value of a function that changes the world: its answer, the new state, and the rows it wrote."""

    value: Any
    state: State
    writes: tuple[JsonObject, ...] = ()


@final
class FunctionTools(ToolServer):
    """Serves functions as tools, synchronous or not.

    A tool has the name, docstring and annotated parameters of its function. A parameter named `state` is hidden from
    the model: it gets the branch's state. Branches and episodes share states by reference, so a state must be an
    immutable value (a tuple, a frozenset, a frozen dataclass, `types.MappingProxyType`) or an object whose method
    `fork()` returns an independent copy. A function that changes the world returns `Changed` with a new state. To
    answer with an error, it returns `ToolResult(value=..., error=True)`. Any other return value is the result.
    With a `Database` or `Documents` as the state, the hidden parameter is `db` or `data`: a copy for this call, which
    the function may change in place, and which is the next state unless the answer is an error.
    Arguments that do not match the annotations are answered with errors. An exception in a function is a fault of the
    tool server.

    Args:
        functions: the tools.
        state: the world's state at the start of every task.
        policy: the world's rules for agents.

    Raises:
        UsageError: a function has a parameter without annotation, `*args` or `**kwargs`, or two share a name; or the
            state can be changed in place and has no `fork()`.
    """

    name: ClassVar[str] = "functions"

    def __init__(self, *functions: Function, state: State = None, policy: str = "") -> None:
        hidden = frozenset({STATE, state.parameter} if isinstance(state, DraftedState) else {STATE})
        self._tools: Mapping[str, _Tool] = {function.__name__: _Tool.of(function, hidden) for function in functions}
        if len(self._tools) < len(functions):
            raise UsageError(
                f"two functions have the same name: {', '.join(f.__name__ for f in functions)}; rename one"
            )
        _check_state(state)
        self._start = ToolsStart(tuple(tool.spec() for tool in self._tools.values()), state, policy)

    def start(self, request: StartTools) -> ToolsStart:
        """The tools, and the state given at construction (a fork of it, if it has `fork()`)."""
        state = fork_state(self._start.state)
        return self._start if state is self._start.state else replace(self._start, state=state)

    async def call(self, request: CallTool) -> ToolReturn:
        """The result of one call."""
        tool = self._tools.get(request.call.name)
        if tool is None:
            named = request.call.name[:100]
            return _mistake(f"there is no tool `{named}`; there are: {', '.join(self._tools)}", request.state)
        try:
            arguments = tool.read(request.call.parse_arguments())
        except InvalidArguments as error:
            return _mistake(str(error), request.state)
        except ValidationError as error:
            return _mistake(_explain(error), request.state)
        if isinstance(request.state, DraftedState):
            return await _on_draft(tool, arguments, request.state)
        given = {STATE: request.state} if STATE in tool.hidden else {}
        return _answer(await tool.returned(given, arguments), request.state)


@dataclass(frozen=True, slots=True)
class _Tool:
    """A function with the pydantic model of its arguments; fields are `p0`, `p1`, ... to avoid reserved names."""

    function: Function
    names: tuple[str, ...]
    arguments: type[BaseModel]
    hidden: frozenset[str]
    """Parameters that models do not see."""

    @classmethod
    def of(cls, function: Function, hidden: frozenset[str]) -> _Tool:
        parameters = inspect.signature(function).parameters
        hints = _hints(function)
        names = tuple(name for name in parameters if name not in hidden)
        fields = {f"p{number}": _field(function, parameters[name], hints) for number, name in enumerate(names)}
        config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
        try:
            model = create_model(function.__name__, __config__=config, **fields)
            model.model_json_schema()
        except PydanticUserError as error:
            raise UsageError(_undescribed(function, names, error)) from error
        return cls(function, names, model, hidden.intersection(parameters))

    async def returned(self, hidden: Mapping[str, Any], arguments: Mapping[str, Any]) -> object:
        """What the function returns for these arguments."""
        value = self.function(**hidden, **arguments)
        return await value if inspect.isawaitable(value) else value

    def spec(self) -> ToolSpec:
        schema = self.arguments.model_json_schema()
        schema.pop("title", None)
        schema.pop("description", None)
        described = inspect.getdoc(self.function) or self.function.__name__
        kind: Literal["function"] = "function"
        return ToolSpec(
            type=kind, function=FunctionSpec(name=self.function.__name__, description=described, parameters=schema)
        )

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        read = self.arguments.model_validate(given)
        return {name: getattr(read, f"p{number}") for number, name in enumerate(self.names)}


def _field(function: Function, parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Any:
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) or parameter.name not in hints:
        where = f"the parameter `{parameter}` of the tool `{function.__name__}`"
        raise UsageError(f"{where} cannot be offered to a model; give it a name and an annotation of its own")
    default: Any = ... if parameter.default is parameter.empty else parameter.default
    return (hints[parameter.name], Field(default, alias=parameter.name))


def _hints(function: Function) -> Mapping[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise UsageError(
            f"an annotation of the tool `{function.__name__}` cannot be evaluated: {error}; define or import the name "
            "before the function, and not under `if TYPE_CHECKING:`"
        ) from error


def _undescribed(function: Function, names: Sequence[str], error: PydanticUserError) -> str:
    """What to do about a parameter that no JSON schema describes."""
    said = (
        f"the parameters of the tool `{function.__name__}` cannot be described to a model: {error.message}. Use types "
        "that JSON has, or dataclasses and pydantic models of them"
    )
    if not {"db", "data"}.intersection(names):
        return said
    return (
        f"{said}. `db` is hidden from models if the state is a database, `data` if it is documents; here it is neither"
    )


def _check_state(state: State) -> None:
    """Check that branches can share a state.

    Raises:
        UsageError: it can be changed in place, or is a handle such as a database connection, and has no `fork()`.
    """
    kind = cast("type[object]", type(state))
    if hasattr(kind, "fork") or kind is MappingProxyType:
        return
    if kind.__hash__ is None or hasattr(kind, "close"):
        raise UsageError(_SHARED.format(kind=kind.__name__))


def _answer(returned: object, state: State) -> ToolReturn:
    match returned:
        case Changed():
            _check_state(returned.state)
            return ToolReturn(_result(returned.value), returned.state, returned.writes)
        case _:
            return ToolReturn(_result(returned), state)


async def _on_draft(tool: _Tool, arguments: Mapping[str, Any], state: DraftedState) -> ToolReturn:
    """The answer of a function that works on a copy of the state, which an error discards."""
    if state.parameter not in tool.hidden:
        return _answer(await tool.returned({STATE: state} if STATE in tool.hidden else {}, arguments), state)
    try:
        with state.draft() as draft:
            hidden = {STATE: state} if STATE in tool.hidden else {}
            result = _result(await tool.returned({**hidden, state.parameter: draft.value}, arguments))
            after, changes = (state, ()) if result.error else draft.finish()
    except state.refusals as error:
        return _mistake(f"refused: {error}", state)
    return ToolReturn(result, after, tuple(change.to_json() for change in changes))


def _result(value: object) -> ToolResult:
    return value if isinstance(value, ToolResult) else ToolResult(value=to_jsonable_python(value))


def _mistake(reason: str, state: State) -> ToolReturn:
    shown = reason.encode("utf-8", "replace").decode()
    return ToolReturn(ToolResult(value={"error": shown}, error=True), state)


def _explain(error: ValidationError) -> str:
    wrong = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, entry['loc']))[:100]}: {entry['msg']}" for entry in wrong[:5])
