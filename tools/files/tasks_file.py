"""The file `tasks.yaml` of a world: its form, and messages that name the line of a mistake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from simkit.core.limits import Limits
from simkit.errors import UsageError
from simkit.plugins.component_paths import TASKS
from simkit.plugins.loading import nearest
from simkit.tools.files.yaml_text import Place, YamlText, read_yaml

KINDS: Final = ("call", "state", "writes", "told", "rubric")
"""The kinds of goals, each named by its key."""

LONGEST_SCALE: Final = 100
"""Difference of the highest and the lowest grade of a rubric, at most; as in `simkit.rewards.criteria`."""


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _as_columns(value: object) -> object:
    """A list of tables as tables with all their columns."""
    named = cast("list[object]", value) if isinstance(value, list) else []
    if named and all(isinstance(each, str) for each in named):
        return dict.fromkeys(named, cast("list[str]", []))
    return cast("object", value)


def _as_scale(value: object) -> object:
    """The lowest and the highest grade."""
    named = cast("list[object]", value) if isinstance(value, list) else []
    grades = [each for each in named if isinstance(each, int) and not isinstance(each, bool)]
    if len(named) != 2 or len(grades) != 2 or not 0 < grades[1] - grades[0] <= LONGEST_SCALE:
        raise ValueError("a scale is a list of the lowest and the highest grade, such as [1, 5]")
    return tuple(grades)


Text: TypeAlias = Annotated[str, BeforeValidator(_as_text), Field(pattern=r"\S")]
Tables: TypeAlias = Annotated[dict[str, list[str]], BeforeValidator(_as_columns), Field(min_length=1)]
Scale: TypeAlias = Annotated[tuple[int, int], BeforeValidator(_as_scale)]
Count: TypeAlias = Annotated[int, Field(ge=1, strict=True)]
Rows: TypeAlias = dict[str, list[dict[str, Any]]]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CallEntry(_Entry):
    """A call, of the solution or as a goal, with the arguments that it must have."""

    call: Text
    arguments: dict[str, Any] = Field(default_factory=dict[str, Any], alias="with")


class GoalEntry(_Entry):
    """A goal: exactly one of `KINDS`.

    Attributes:
        call, arguments: a call that succeeds, with at least these arguments.
        state: tables that are as after the solution, with the columns that count.
        writes: rows that the conversation must have written, by table, and no others; each with at least these columns.
        told: a text or number that the agent must have said.
        rubric: a criterion for a judge, which is met or not.
        scale: the lowest and the highest grade of a rubric, for one that has grades.
        weight: share of the reward, relative to the other goals.
        name: its name in results.
    """

    call: Text | None = None
    arguments: dict[str, Any] | None = Field(None, alias="with")
    state: Tables | None = None
    writes: Rows | None = None
    told: Text | None = None
    rubric: Text | None = None
    scale: Scale | None = None
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)] = 1.0
    name: Text | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> GoalEntry:
        kinds = self.kinds
        if len(kinds) != 1:
            has = " and ".join(kinds) or "none of them"
            raise ValueError(f"a goal has exactly one of {', '.join(KINDS)}; this one has {has}")
        if self.arguments is not None and self.call is None:
            raise ValueError("`with` belongs to a goal with `call`")
        if self.scale is not None and self.rubric is None:
            raise ValueError("`scale` belongs to a goal with `rubric`")
        return self

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that are given."""
        return tuple(kind for kind in KINDS if getattr(self, kind) is not None)


class TaskEntry(_Entry):
    """A task.

    Attributes:
        id: unique within its split.
        split: name of its split.
        instructions: what a model that plays the user reads.
        agenda: what the user says, one utterance each, for users without a model.
        solution: the calls of a right solution, in their order; by default the calls among the goals.
        implied: values in the solution that the user does not say, and the agent has to conclude.
        goals: what counts.
    """

    id: Text
    split: Text = "test"
    instructions: Annotated[str, Field(pattern=r"\S")]
    agenda: Sequence[Text] = ()
    solution: Sequence[CallEntry] | None = None
    implied: Sequence[Any] = ()
    goals: Annotated[Sequence[GoalEntry], Field(min_length=1)]

    @property
    def calls(self) -> Sequence[CallEntry]:
        """The calls of the solution."""
        if self.solution is not None:
            return self.solution
        called = [goal for goal in self.goals if goal.call is not None]
        return tuple(CallEntry.model_validate({"call": goal.call, "with": goal.arguments or {}}) for goal in called)


class LimitsEntry(_Entry):
    """Limits of a conversation, as in `Limits`."""

    turns: Count | None = None
    steps: Count | None = None
    decisions: Count | None = None
    errors: Count | None = None
    messages: Count | None = None


class WorldEntry(_Entry):
    """The whole file.

    Attributes:
        name: the world's name in results; by default that of the folder.
        tools, policy, data: other files than `tools.py`, `policy.md` and `data`.
        agent, user: components that are played without a flag.
        limits: limits of a conversation.
        tasks: the tasks.
    """

    name: Text | None = None
    tools: Text = "tools.py"
    policy: Text | None = None
    data: Text | None = None
    agent: Text = "solution"
    user: Text | None = None
    limits: LimitsEntry = LimitsEntry()
    tasks: Annotated[Sequence[TaskEntry], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class TasksFile:
    """A valid file, with the lines of its parts."""

    world: WorldEntry
    text: YamlText = field(repr=False)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits: `train` first, `test` last."""
        names = dict.fromkeys(task.split for task in self.world.tasks)
        return tuple(sorted(names, key=lambda name: (name == "test", name != "train")))

    @property
    def limits(self) -> Limits:
        """Limits of a conversation; of 30 decisions in a turn, if the file does not say."""
        return Limits(**{"steps": 30, **self.world.limits.model_dump(exclude_none=True)})

    def at(self, *place: str | int) -> str:
        """File and line of a part."""
        return self.text.at(place)


def read_tasks(folder: Path, name: str) -> TasksFile:
    """Read `tasks.yaml` in a folder, which is called `name` in messages.

    Raises:
        UsageError: it cannot be read, or is wrong; the message names each mistake with its line.
    """
    if not (folder / TASKS).is_file():
        raise UsageError(f"{name} has no {TASKS}, so it is no world; `simkit init world NAME` makes one")
    text = read_yaml(folder / TASKS, str(Path(name) / TASKS))
    try:
        found = TasksFile(WorldEntry.model_validate(text.value), text)
    except ValidationError as error:
        errors = sorted(error.errors(include_url=False), key=lambda each: text.line(_place(each)))
        mistakes = [_mistake(each, text) for each in errors]
        raise UsageError("\n".join(dict.fromkeys(mistakes))) from None
    seen: dict[tuple[str, str], int] = {}
    for number, task in enumerate(found.world.tasks):
        first = seen.setdefault((task.split, task.id), number)
        if first != number:
            raise UsageError(
                f"{found.at('tasks', number, 'id')}: the id `{task.id}` occurs twice in the split `{task.split}`; the "
                f"other one is at {found.at('tasks', first, 'id')}"
            )
    return found


# --- mistakes ---------------------------------------------------------------------------------------------------------

_MODELS: Final[Mapping[str, type[BaseModel]]] = {
    "tasks": TaskEntry,
    "goals": GoalEntry,
    "solution": CallEntry,
    "limits": LimitsEntry,
}
_WANTED: Final[Mapping[str, str]] = {
    "string_type": "must be a text",
    "string_pattern_mismatch": "is empty",
    "dict_type": "must be a mapping (`key: value`)",
    "model_type": "must be a mapping (`key: value`)",
    "list_type": "must be a list (`- item`)",
    "sequence_str": "must be a list (`- item`)",
    "is_instance_of": "must be a list (`- item`)",
    "too_short": "is empty; add at least one",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
}


def _mistake(error: Any, text: YamlText) -> str:
    """One mistake of the file, with its line and what to do."""
    place = _place(error)
    where, kind = text.at(place), error["type"]
    shown = _shown(place)
    if kind == "extra_forbidden":
        known = _keys(_model(place))
        owner = f" in `{_shown(place[:-1])}`" if place[:-1] else ""
        hint = nearest(str(place[-1]), known)
        return f"{where}: there is no key `{place[-1]}`{owner}{hint}; the keys are: {', '.join(known)}"
    if kind == "missing":
        return f"{where}: `{_shown(place[:-1]) or TASKS}` has no `{place[-1]}`; add it"
    if kind == "value_error":
        return f"{where}: `{shown}`: {error['ctx']['error']}"
    if kind in ("model_type", "model_attributes_type") and not place:
        return f"{where}: the file must be a mapping with the key `tasks`"
    return f"{where}: `{shown}` {_WANTED.get(kind, str(error['msg'])[:1].lower() + str(error['msg'])[1:])}"


def _place(error: Any) -> Place:
    """Where a mistake is, without the names that pydantic gives to types."""
    return tuple(each for each in error["loc"] if isinstance(each, int) or "[" not in each)


def _shown(place: Sequence[str | int]) -> str:
    """A place as people write it: `tasks[2].goals[0].with`."""
    parts = [f"[{each}]" if isinstance(each, int) else f".{each}" for each in place]
    return "".join(parts).removeprefix(".")


def _model(place: Place) -> type[BaseModel]:
    """The form of the mapping that a key stands in."""
    names = [each for each in place[:-1] if isinstance(each, str)]
    return _MODELS.get(names[-1], WorldEntry) if names else WorldEntry


def _keys(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(field.alias or name for name, field in model.model_fields.items())
