"""Flags, environment variables, recorded JSON and resume checks follow from the fields of `ModelConfig`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from players_models import HELLO, KEY

from simkit.errors import UsageError
from simkit.models.base import ChatRequest, SampledModel, request_hash
from simkit.models.config import ModelConfig
from simkit.models.providers.openai import Endpoint, OpenAIModel
from simkit.models.sampling import Sampling
from simkit.models.transport.http1 import HttpReply

pytestmark = pytest.mark.anyio

NEW = {"top_p": 0.9, "stop": ("A", "B"), "reasoning_effort": "low", "no_seed": True, "extra_body": {"top_k": 20}}
REPLY = {"choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}


class Line:
    """A transport that keeps the bodies it is given."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    async def post(self, body: bytes) -> HttpReply:
        self.bodies.append(json.loads(body))
        return HttpReply(200, {}, json.dumps(REPLY).encode())

    async def aclose(self) -> None: ...


async def test_each_new_option_reaches_the_request_body() -> None:
    line = Line()
    model = SampledModel(
        OpenAIModel("m", Endpoint(base_url="http://x"), line), ModelConfig.model_validate(NEW).sampling
    )
    await model.complete(ChatRequest(messages=HELLO.messages, seed=5), KEY)
    (body,) = line.bodies
    del body["model"], body["messages"]
    assert body == {"top_p": 0.9, "stop": ["A", "B"], "reasoning_effort": "low", "top_k": 20}


def test_the_environment_gives_the_same_as_python() -> None:
    variables = {
        "SIMKIT_TOP_P": "0.9",
        "SIMKIT_STOP": '["A", "B"]',
        "SIMKIT_REASONING_EFFORT": "low",
        "SIMKIT_NO_SEED": "1",
        "SIMKIT_EXTRA_BODY": '{"top_k": 20}',
        "SIMKIT_MODEL": "",
    }
    assert ModelConfig.from_environment(variables) == ModelConfig.model_validate(NEW)
    assert ModelConfig.from_environment({"SIMKIT_STOP": "END."}).stop == ("END.",)


def test_recorded_json_gives_the_configuration_back() -> None:
    config = ModelConfig.model_validate({**NEW, "prices": Path("p.json"), "api_concurrency": 3, "user_temperature": 1})
    recorded = json.loads(json.dumps(config.to_json()))
    assert recorded["user_temperature"] == 1.0
    assert ModelConfig.of({**recorded, "seed": 4, "target": "josh"}) == config
    assert ModelConfig(headers={"x-key": "secret"}, logprobs=True).to_json() == {}


def test_a_copy_sends_its_own_options() -> None:
    config = ModelConfig(temperature=0.5)
    assert config.sampling.settings == {"temperature": 0.5}
    assert config.model_copy(update={"temperature": 0.7}).sampling.settings == {"temperature": 0.7}
    assert config.sampling.model_copy(update={"logprobs": True}).settings == {"temperature": 0.5, "logprobs": True}


def test_the_user_shares_what_is_not_the_agents_alone() -> None:
    own = {"temperature": 0.2, "max_tokens": 9, "user_temperature": 0.4, "base_url": "http://a"}
    user = ModelConfig.model_validate({**NEW, **own}).for_user()
    assert user.sampling == Sampling(temperature=0.4, max_tokens=9, no_seed=True, extra_body={"top_k": 20})
    assert user.base_url == "http://a"


def test_numbers_are_hashed_as_they_were_given_to_a_request_and_as_decimals_from_a_configuration() -> None:
    """Recordings hold both: 1 from requests that Python made, 1.0 from the command line."""

    def hashed(sampling: Sampling) -> str:
        return request_hash("m", ChatRequest(messages=HELLO.messages, sampling=sampling))

    assert hashed(Sampling(temperature=1)) != hashed(Sampling(temperature=1.0))
    assert hashed(ModelConfig(temperature=1).sampling) == hashed(Sampling(temperature=1.0))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"temprature": 1}, "ModelConfig has no option `temprature`; did you mean `temperature`"),
        ({"top_p": 2}, "--top-p is 2: Input should be less than or equal to 1"),
        ({"extra_body": "[1]"}, "--extra-body is"),
        ({"extra_body": "{"}, "--extra-body is '{': it is not JSON"),
        ({"extra_body": {"a": {"api_key": "sk"}}}, "field `api_key`, which would be recorded"),
        ({"connect_timeout": 0}, "`connect_timeout` is 0"),
    ],
)
def test_what_cannot_be_used_is_named(values: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        ModelConfig(**values)


def test_a_secret_that_is_refused_is_not_shown() -> None:
    with pytest.raises(UsageError) as caught:
        ModelConfig(extra_body={"api_key": "sk-very-secret"})
    assert "sk-very-secret" not in str(caught.value)


def test_headers_and_names_of_keys_can_be_given() -> None:
    config = ModelConfig(base_url="http://x", api_key_env="MY_KEY", header=("X-Route=eu=1", "x-api-key= s3cret"))
    endpoint = Endpoint.of(config, {"MY_KEY": "k-1", "OPENAI_API_KEY": "k-2"})
    assert endpoint.secret == "k-1"
    assert endpoint.headers == {"X-Route": "eu=1", "x-api-key": " s3cret"}
    assert "s3cret" in endpoint.more_secrets
    assert ModelConfig(user_api_key_env="HER_KEY", api_key_env="MY_KEY").for_user().api_key_env == "HER_KEY"
    with pytest.raises(UsageError, match="--api-key-env names MY_KEY, which is not set"):
        Endpoint.of(config, {"OPENAI_API_KEY": "k-2"})


def test_secrets_in_headers_are_not_recorded() -> None:
    config = ModelConfig(header=("x-route=eu", "Authorization=Basic abc", "x-session-id=1"))
    assert config.to_json() == {"header": ["x-route=eu", "Authorization=***", "x-session-id=***"]}
    assert ModelConfig.of(config.to_json()).hidden() == ["header"]
    assert config.hidden() == []
    assert "abc" not in repr(config)


@pytest.mark.parametrize("name", ["header", "send_as"])
@pytest.mark.parametrize("value", [("novalue-s3cret",), ("=x",), (" =x",)])
def test_pairs_need_a_name_and_a_value(name: str, value: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="NAME=VALUE") as caught:
        ModelConfig.model_validate({name: value})
    assert "s3cret" not in str(caught.value)


def test_rules_and_choices_are_checked() -> None:
    with pytest.raises(UsageError, match=r"--message-rule.*no rule `alternate`; the rules: .*alternating"):
        ModelConfig(message_rule=("alternate",))
    with pytest.raises(UsageError, match="--send-reasoning"):
        ModelConfig.model_validate({"send_reasoning": "sometimes"})
    assert ModelConfig.from_environment({"SIMKIT_SEND_AS": '["seed=", "stop=ends"]'}).send_as == ("seed=", "stop=ends")


def test_the_time_for_an_endpoint_that_starts_is_part_of_the_policy() -> None:
    assert ModelConfig().retry_policy.down_at_start == 5.0
    assert ModelConfig(wait_for_endpoint=90).retry_policy.down_at_start == 90.0
