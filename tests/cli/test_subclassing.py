"""Whoever subclasses a public class finds every type of its signatures in `simkit` (or `simkit.models`)."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest

import simkit
import simkit.models
from simkit import (
    Agent,
    ChatModel,
    Reward,
    Search,
    Task,
    ToolServer,
    TreeSearch,
    User,
    Watch,
    World,
    load_world,
)
from simkit.core.messages import AssistantMessage, ToolCall
from simkit.errors import UsageError

BASES = (Agent, User, ToolServer, Reward, World, ChatModel, Search, TreeSearch, Watch)
INTERNAL = {
    "ActorRef",
    "BranchState",  # what a playout's leaf holds, to be read
    "EndedLeaf",
    "Counts",
    "FinalBranch",
    "Leaf",
    "Spent",
    "EpisodeContext",
    "RecordedRun",  # what a world writes a result file from
}
"""Types that appear in a public signature, to be read or handed on, never constructed by a subclass."""


def public() -> dict[str, Any]:
    names = {name: getattr(simkit, name) for name in simkit.__all__}
    return names | {name: getattr(simkit.models, name) for name in simkit.models.__all__}


def hints(function: Any) -> dict[str, Any]:
    return get_type_hints(function, localns=public())


def types_of(hint: Any) -> Iterator[type[Any]]:
    """The classes of simkit in a type."""
    if inspect.isclass(hint) and hint.__module__.startswith("simkit"):
        yield hint
    for argument in get_args(hint):
        yield from types_of(argument)


def named_by(base: type[Any]) -> set[type[Any]]:
    """The classes that the methods and properties of a base name, and those that build their values."""
    found: set[type[Any]] = set()
    for name, member in inspect.getmembers(base):
        function = member.fget if isinstance(member, property) else member
        if name.startswith("_") or not inspect.isroutine(function):
            continue
        for hint in hints(getattr(function, "__func__", function)).values():
            found |= {*types_of(hint)}
    return found


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.__name__)
def test_types_of_the_signatures_are_public(base: type[Any]) -> None:
    known = set(map(id, public().values()))
    waiting, seen = [base], set[type[Any]]()
    while waiting:
        for each in named_by(waiting.pop()) - seen:
            seen.add(each)
            assert id(each) in known or each.__name__ in INTERNAL, f"{each} is in a signature of {base.__name__}"
            if dataclasses.is_dataclass(each) and each.__name__ not in INTERNAL:
                fields = {one for hint in hints(each).values() for one in types_of(hint)}
                missing = {one.__name__ for one in fields if id(one) not in known} - INTERNAL
                assert not missing, f"fields of {each.__name__}"


def test_every_public_name_says_what_it_is() -> None:
    undocumented = [name for name, value in public().items() if inspect.isclass(value) and not inspect.getdoc(value)]
    assert undocumented == []


def test_a_world_and_its_tasks_need_no_run() -> None:
    tasks = load_world("builtin,restaurants=12").tasks("test")[10:20]
    assert [task.id for task in tasks] == [f"test-{number:05d}" for number in range(10, 20)]
    assert all(isinstance(task, Task) for task in tasks)
    with pytest.raises(UsageError, match="no option `restaurant`"):
        load_world("builtin,restaurant=12")


def test_decisions_are_made_of_words_or_of_calls() -> None:
    call = ToolCall.of("1", "find", {"area": "north"})
    spoken = simkit.Decision.speak("Which day?", state=3)
    assert (spoken.say, spoken.message, spoken.calls, spoken.state, spoken.end) == (
        "Which day?",
        AssistantMessage.of("Which day?"),
        (),
        3,
        False,
    )
    assert simkit.Decision.speak("Bye.", end=True).end
    called = simkit.Decision.call(call, text="Looking.", state=4)
    assert (called.say, called.message, called.calls, called.state) == (
        None,
        AssistantMessage.of("Looking.", (call,)),
        (call,),
        4,
    )


def test_a_decision_whose_message_has_other_calls_is_refused() -> None:
    one, other = ToolCall.of("1", "find", {}), ToolCall.of("2", "book", {})
    message = AssistantMessage.of(None, (one,))
    for calls, say in (((other,), None), ((), "Done."), ((), None)):
        with pytest.raises(ValueError, match="are not those of its message"):
            simkit.Decision(message, calls=calls, say=say)
    assert simkit.Decision(message, calls=(ToolCall.of("1", "find", {}),)).calls == (one,)
    with pytest.raises(ValueError, match="are not those of its message"):
        simkit.Decision(message, calls=(ToolCall.of("9", "find", {}),))
    renamed = simkit.Decision(message, calls=(ToolCall.of("9", "find", {}),), observe=lambda call, result: message)
    assert renamed.calls[0].id == "9"
    assert simkit.Decision(AssistantMessage.of("<find/>"), calls=(one,)).calls == (one,)
