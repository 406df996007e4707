"""Plain functions as tools."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any

import pytest
from pydantic import Field

from simkit.components.tools import CallTool, StartTools, ToolReturn
from simkit.core.messages import ToolCall, ToolResult
from simkit.core.tasks import Goal, Task
from simkit.errors import UsageError
from simkit.testing import check_tool_server
from simkit.tools.functions import Changed, FunctionTools

pytestmark = pytest.mark.anyio

TASK = Task(
    id="pay",
    world="bank",
    split="val",
    instructions="",
    goals=(
        Goal("deposit", {"tool": "deposit", "parameters": {"amount": 5}}),
        Goal("balance", {"tool": "balance", "parameters": {}}),
    ),
)


def deposit(state: int, amount: Annotated[int, Field(gt=0, description="in pounds")], copy: bool = False) -> Changed:
    """Put money into the account."""
    after = state + amount
    return Changed({"balance": after, "copy": copy}, state=after, writes=({"balance": after},))


async def balance(state: int) -> int:
    """How much money there is."""
    return state


def rate(currency: str) -> ToolResult | float:
    """The exchange rate."""
    return 1.5 if currency == "euro" else ToolResult(value=f"no rate for {currency[:20]}", error=True)


def explode() -> None:
    """Raise."""
    raise RuntimeError("boom")


SERVER = FunctionTools(deposit, balance, rate, state=100)


async def call(name: str, arguments: dict[str, Any] | str, state: int = 100) -> ToolReturn:
    return await SERVER.call(CallTool(TASK, ToolCall.of("c", name, arguments), state))


async def test_functions_keep_the_promises_of_a_tool_server() -> None:
    await check_tool_server(SERVER, [TASK])


async def test_state_goes_in_and_comes_out() -> None:
    reply = await call("deposit", {"amount": "5", "copy": True})
    assert reply == ToolReturn(ToolResult(value={"balance": 105, "copy": True}), 105, ({"balance": 105},))
    assert (await call("balance", {}, reply.state)).result.value == 105
    assert (await call("rate", {"currency": "euro"})).result.value == 1.5


def test_signatures_become_schemas() -> None:
    spec = SERVER.start(StartTools(TASK)).specs[0]
    assert spec.function.description == "Put money into the account."
    assert set(spec.properties) == {"amount", "copy"}
    assert spec.properties["amount"]["description"] == "in pounds"
    assert (spec.function.parameters or {})["required"] == ["amount"]


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("withdraw", {}, "there are: deposit, balance, rate"),
        ("deposit", {}, "amount: Field required"),
        ("deposit", {"amount": -1}, "amount: Input should be greater than 0"),
        ("deposit", {"amount": 1, "state": 10**6}, "state: Extra inputs are not permitted"),
        ("deposit", "[1]", "send one JSON object"),
        ("rate", {"currency": "yen"}, "no rate for yen"),
    ],
)
async def test_mistakes_are_answered(name: str, arguments: dict[str, Any] | str, said: str) -> None:
    reply = await call(name, arguments)
    assert reply.result.error
    assert said in reply.result.text
    assert reply.state == 100


async def test_what_a_function_raises_is_a_fault_of_the_server() -> None:
    server = FunctionTools(explode)
    with pytest.raises(RuntimeError, match="boom"):
        await server.call(CallTool(TASK, ToolCall.of("c", "explode", {}), None))


class Account:
    """A balance that is changed in place, with a copy for each branch."""

    def __init__(self, balance: int) -> None:
        self.balance = balance

    def fork(self) -> Account:
        return Account(self.balance)


def pay(state: Account, amount: int) -> Changed:
    """Pay."""
    state.balance += amount
    return Changed(state.balance, state, ({"balance": state.balance},))


async def test_a_state_with_fork_may_be_changed_in_place() -> None:
    server = FunctionTools(pay, state=Account(100))
    paid = Goal("pay", {"tool": "pay", "parameters": {"amount": 5}})
    await check_tool_server(server, [replace(TASK, goals=(paid, paid))])
    assert server.start(StartTools(TASK)).state.balance == 100


@pytest.mark.parametrize("kind", [list, dict, set, partial(sqlite3.connect, ":memory:")])
async def test_a_state_that_branches_would_share_is_refused(kind: Callable[[], object]) -> None:
    state = kind()
    with pytest.raises(UsageError, match=f"a `{type(state).__name__}`, which can be changed in place"):
        FunctionTools(balance, state=state)

    def spoil() -> Changed:
        """Return such a state."""
        return Changed("done", state)

    with pytest.raises(UsageError, match="method fork"):
        await FunctionTools(spoil).call(CallTool(TASK, ToolCall.of("c", "spoil", {}), None))


def test_a_read_only_mapping_can_be_a_state() -> None:
    state = MappingProxyType({"balance": 100})
    assert FunctionTools(balance, state=state).start(StartTools(TASK)).state is state


def test_what_cannot_be_a_tool_is_refused() -> None:
    with pytest.raises(UsageError, match="two functions have the same name"):
        FunctionTools(deposit, deposit)

    def many(*amounts: int) -> None: ...

    with pytest.raises(UsageError, match="`\\*amounts: 'int'` of the tool `many`"):
        FunctionTools(many)
