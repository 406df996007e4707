"""Arguments as a model may write them: read, or refused in words that the model is told; never a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hostile import Oddity, players, run

from simkit.components.agent import Decision
from simkit.components.tools import CallTool, StartTools
from simkit.core.messages import AssistantMessage, ToolCall, ToolResult, parse_call
from simkit.core.records import CallRecord
from simkit.errors import InvalidArguments
from simkit.search.rollout import Rollout
from simkit.tools.builtin import BuiltinWorld
from simkit.tools.functions import FunctionTools

pytestmark = pytest.mark.anyio


def call(arguments: str, name: str = "put") -> ToolCall:
    return ToolCall.of("c1", name, arguments)


REFUSED = {
    "990 levels": '{"x":' * 990 + "1" + "}" * 990,
    "65 levels of lists": '{"x":' + "[" * 65 + "]" * 65 + "}",
    "a million levels": "[" * 1_000_000,
    "100 levels beside a long number": '{"n": 12345678901234567890, "x":' + "[" * 100 + "]" * 100 + "}",
    "two megabytes": '{"x": "' + "y" * 2_000_000 + '"}',
    "NaN": '{"x": NaN}',
    "Infinity": '{"x": -Infinity}',
    "too large a float": '{"x": 1e999}',
    "5,000 digits": '{"x": ' + "9" * 5_000 + "}",
    "half a character": '{"x": "\ud83d"}',
    "half a character, escaped": '{"x": "\\ud83d"}',
    "a zero byte": '{"x": "\x00"}',
    "a list": "[1]",
    "a text": '"x"',
    "cut off": '{"x": "y',
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_read_is_refused_in_a_short_message(what: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        call(REFUSED[what]).parse_arguments()
    assert len(str(caught.value)) < 300
    assert parse_call(call(REFUSED[what])) is None


READ: dict[str, tuple[str, dict[str, Any]]] = {
    "nothing": ("", {}),
    "the last of two": ('{"x": 1, "x": 2}', {"x": 2}),
    "a whole number of thirty digits": ('{"x": 123456789012345678901234567890}', {"x": 123456789012345678901234567890}),
    "the greatest of 64 bits": ('{"x": 18446744073709551615}', {"x": 18446744073709551615}),
    "a negative one beyond 64 bits": ('{"x": [-9223372036854775809]}', {"x": [-9223372036854775809]}),
    "digits in a text": ('{"x": "1234567890123456789012"}', {"x": "1234567890123456789012"}),
    "a hundred brackets side by side": ('{"x": [' + "[]," * 99 + "[]]}", {"x": [[]] * 100}),
    "brackets in a text": ('{"x": "' + "[" * 500 + '"}', {"x": "[" * 500}),
    "64 levels": ('{"x":' + "[" * 63 + "1" + "]" * 63 + "}", {}),
}


@pytest.mark.parametrize("what", READ)
def test_what_can_be_read_is_read_exactly(what: str) -> None:
    text, expected = READ[what]
    assert call(text).parse_arguments() == (expected or call(text).parse_arguments())


@pytest.mark.parametrize("what", REFUSED)
async def test_the_model_is_told_by_every_tool_server(what: str) -> None:
    async def put(x: str) -> str:
        """Put."""
        return x

    world = BuiltinWorld()
    task = world.tasks("test")[0]
    for server, name in ((FunctionTools(put), "put"), (world.tools(), "search_hotel")):
        state = server.start(StartTools(task)).state
        reply = await server.call(CallTool(task, call(REFUSED[what], name), state))
        assert reply.result.error
        assert len(reply.result.text) < 500


@pytest.mark.parametrize("what", REFUSED)
async def test_an_episode_with_them_is_scored(what: str, tmp_path: Path) -> None:
    made = call(REFUSED[what])
    decision = Decision(AssistantMessage.of(None, (made,)), calls=(made,), end=True)
    ran = await run(tmp_path, Rollout(), players(Oddity("act", lambda: decision)))
    assert ran.odd.faults == 0
    assert (ran.odd.outcome, ran.odd.calls) == ("agent_ended", 1)
    assert ran.query("SELECT count(*) AS bad FROM unreadable_lines") == [{"bad": 0}]


def test_a_record_of_them_has_no_arguments() -> None:
    record = CallRecord.of(call("[" * 990), ToolResult(value=1))
    assert record.parameters is None
