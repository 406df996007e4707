"""Usage that servers and models report: accepted if it is valid; otherwise counted as unknown and reported."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from simkit.core.events import ModelCall
from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, UserMessage
from simkit.core.recorder import MemoryRecorder
from simkit.errors import BudgetExhausted, MalformedReply, ModelFault
from simkit.models.base import CallKey, ChatModel, ChatRequest, ChatResponse, Usage
from simkit.models.middleware.budget import Allowance, Allowances, Budget, BudgetedModel
from simkit.models.middleware.journaling import RecordedModel
from simkit.models.middleware.replay import Recording
from simkit.models.providers.openai_replies import read_reply
from simkit.models.providers.reply_errors import ReplyContext
from simkit.models.sampling import Sampling
from simkit.models.transport.http1 import HttpReply
from simkit.models.usage import ValidatedModel, validated
from simkit.store.encoding import encode

pytestmark = pytest.mark.anyio

KEY = CallKey(TurnKey(1, "t", 0, "", 1), "agent")
REQUEST = ChatRequest(messages=(UserMessage.of("hi"),), sampling=Sampling(max_tokens=100))


def read(usage: str) -> ChatResponse:
    body = '{"choices":[{"message":{"role":"assistant","content":"hi"}}],"model":"m","usage":' + usage + "}"
    return read_reply(HttpReply(200, {}, body.encode()), ReplyContext("http://there", "m"))


@pytest.mark.parametrize(
    ("usage", "doubt"),
    [
        ('{"prompt_tokens": -5000, "completion_tokens": -1}', "prompt_tokens is -5000"),
        ('{"prompt_tokens": 5, "completion_tokens": -1}', "completion_tokens is -1"),
        ('{"prompt_tokens": 9223372036854775808, "completion_tokens": 1}', "prompt_tokens is 9223372036854775808"),
        ('{"prompt_tokens": 1e400, "completion_tokens": 1}', "prompt_tokens is inf"),
        ('{"prompt_tokens": NaN, "completion_tokens": 1}', "prompt_tokens is nan"),
        ('{"prompt_tokens": true, "completion_tokens": 1}', "prompt_tokens is True"),
        ('{"prompt_tokens": "-12", "completion_tokens": 1}', "prompt_tokens is '-12'"),
        ('{"prompt_tokens": "many"}', "prompt_tokens is 'many'"),
        ('{"prompt_tokens": 3.7, "completion_tokens": 1}', "prompt_tokens is 3.7"),
        ('{"prompt_tokens": {}, "completion_tokens": 1}', "prompt_tokens is a dict of 0"),
        (
            '{"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": -9}}',
            "cached_tokens",
        ),
        ("[1]", "the usage is a list of 1"),
        ('"x"', "the usage is 'x'"),
        ("7", "the usage is 7"),
        ('{"prompt_tokens": ' + "9" * 4_000 + "}", "an integer of"),
    ],
)
def test_a_usage_that_cannot_be_is_unknown_and_the_answer_is_kept(usage: str, doubt: str) -> None:
    response = read(usage)
    assert response.usage == Usage()
    assert len(response.doubts) == 1
    assert response.doubts[0].startswith("usage: ")
    assert doubt in response.doubts[0]
    assert ChatResponse.from_json(response.to_json()) == response


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ("null", (0, 0, 0)),
        ("{}", (0, 0, 0)),
        ('{"prompt_tokens": null}', (0, 0, 0)),
        ('{"prompt_tokens": 10, "completion_tokens": 2}', (10, 2, 0)),
        ('{"prompt_tokens": 10.0, "completion_tokens": 2}', (10, 2, 0)),
        ('{"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": []}', (10, 2, 0)),
        ('{"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}', (10, 2, 4)),
        ('{"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 99}}', (10, 2, 10)),
        ('{"prompt_tokens": 10, "completion_tokens": 2, "prompt_cache_hit_tokens": 3}', (10, 2, 3)),
        ('{"prompt_tokens": "10", "completion_tokens": "2"}', (10, 2, 0)),
        ('{"input_tokens": 10, "output_tokens": 2}', (10, 2, 0)),
        ('{"prompt_tokens": 10, "completion_tokens": 2, "completion_tokens_details": null}', (10, 2, 0)),
        (
            '{"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17, "completion_tokens_details": '
            '{"reasoning_tokens": 5}}',
            (10, 7, 0),
        ),
        (
            '{"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 17, "completion_tokens_details": '
            '{"reasoning_tokens": 5}}',
            (10, 7, 0),
        ),
    ],
)
def test_a_usage_that_can_be_is_counted(usage: str, counts: tuple[int, int, int]) -> None:
    response = read(usage)
    assert response.usage == Usage(*counts)
    assert response.doubts == ()
    assert b"doubt" not in response.json_text()


class Claiming:
    """Answers with whatever usage it was given."""

    name = "claiming"

    def __init__(self, reply: Any) -> None:
        self.reply = reply

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


def claiming(usage: Any) -> ChatResponse:
    return replace(ChatResponse.of(AssistantMessage.of("hi")), usage=usage)


HOSTILE: list[Any] = [
    Usage(-10_000, -10_000),
    Usage(1 << 63, 1),
    Usage(1, 1, -1),
    Usage(1, 1, 0, float("nan")),
    Usage(1, 1, 0, float("-inf")),
    Usage(1, 1, 0, -0.5),
    {"prompt_tokens": 1},
    None,
]


async def ask_again_and_again(model: ChatModel) -> None:
    for _ in range(100):
        await model.complete(REQUEST, KEY)


@pytest.mark.parametrize("usage", HOSTILE)
async def test_a_model_of_ones_own_cannot_win_back_a_budget(usage: Any) -> None:
    recorder = MemoryRecorder()
    recorded = RecordedModel(ValidatedModel(Claiming(claiming(usage))), recorder, "run")
    model = BudgetedModel(recorded, Budget(Allowances(run=Allowance(tokens=2_000))))
    with pytest.raises(BudgetExhausted):
        await ask_again_and_again(model)
    calls = [event for event in recorder.events if isinstance(event, ModelCall)]
    assert 0 < len(calls) < 20
    for call in calls:
        line = orjson.loads(encode(call))
        assert (line["prompt_tokens"], line["completion_tokens"], line["cost"]) == (0, 0, 0.0)
        assert line["response"]["doubts"][0].startswith("usage: ")


@pytest.mark.parametrize("reply", [None, "hi", {"message": "hi"}, replace(claiming(Usage()), message="hi")])
async def test_a_model_of_ones_own_that_answers_with_something_else_is_named(reply: Any) -> None:
    with pytest.raises(MalformedReply, match=r"model `claiming`.*return a ChatResponse"):
        await ValidatedModel(Claiming(reply)).complete(REQUEST, KEY)


async def test_what_a_model_of_ones_own_raises_is_its_own_fault() -> None:
    with pytest.raises(ModelFault, match=r"model `claiming`.*KeyError"):
        await ValidatedModel(Claiming(KeyError("x"))).complete(REQUEST, KEY)


def test_an_old_recording_of_a_usage_that_cannot_be_gives_nothing_back() -> None:
    call = ModelCall("run/t/0", "run/t/0/.1", "agent", 0, 0, "m", "h", None, None, None, 0, 0, 0.0, 0.0, 0.0)
    recording = Recording("run")
    recording.add(replace(call, prompt_tokens=-5_000, completion_tokens=1, cost=-3.0))
    recording.add(replace(call, prompt_tokens=10, completion_tokens=1, cost=0.5))
    assert recording.usage == Usage(10, 1, 0, 0.5)


def test_a_usage_that_can_be_is_left_alone() -> None:
    response = claiming(Usage(10, 2, 3, 0.25))
    assert validated(response) is response


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "null", '"low"', "[]"])
def test_log_probabilities_that_are_no_numbers_are_left_out_and_doubted(number: str) -> None:
    body = '{"choices":[{"message":{"content":"x"},"logprobs":{"content":[{"logprob":' + number + "}]}}]}"
    response = read_reply(HttpReply(200, {}, body.encode()), ReplyContext("http://there", "m"))
    assert (response.message.content, response.logprobs) == ("x", None)
    assert [doubt.split(":")[0] for doubt in response.doubts] == ["logprobs"]
    assert ChatResponse.from_json(response.to_json()) == response


@pytest.mark.parametrize("levels", [70, 300, 900])
def test_arguments_sent_as_a_deep_object_come_to_the_agent_and_are_refused_there(levels: int) -> None:
    deep = '{"x":' * levels + "1" + "}" * levels
    body = '{"choices":[{"message":{"tool_calls":[{"id":"a","function":{"name":"f","arguments":' + deep + "}}]}}]}"
    message = read_reply(HttpReply(200, {}, body.encode()), ReplyContext("http://there", "m")).message
    assert message.tool_calls is not None
    assert message.tool_calls[0].arguments
