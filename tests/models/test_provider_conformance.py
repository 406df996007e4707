"""The conformance suite of model providers: what is built in passes it, and each broken promise is named."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest
from anyio.lowlevel import checkpoint
from pydantic import SecretStr

from simkit.core.messages import AssistantMessage
from simkit.errors import ModelFault
from simkit.models import CallKey, ChatModel, ChatRequest, ChatResponse, Usage
from simkit.models.config import ModelConfig
from simkit.models.prices import Price
from simkit.models.provider import Provider, Resources, find_provider
from simkit.testing import ConformanceError, check_provider

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).parents[2] / "examples" / "echo-model"


class Endpoint(BaseHTTPRequestHandler):
    """Answers each of the three APIs with a count of the request's bytes; models named `broken` get an error."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        model = json.loads(body)["model"]
        self._reply(*((500, {"error": {"message": "broken"}}) if model == "broken" else (200, self._answer(len(body)))))

    def _answer(self, size: int) -> dict[str, Any]:
        words, usage = f"{size} bytes", {"input_tokens": size, "output_tokens": 2}
        if self.path.endswith("/messages"):
            content = [{"type": "text", "text": words}]
            return {
                "type": "message",
                "role": "assistant",
                "content": content,
                "stop_reason": "end_turn",
                "usage": usage,
            }
        if self.path.endswith("/responses"):
            parts: list[dict[str, Any]] = [{"type": "output_text", "text": words, "annotations": []}]
            output: list[dict[str, Any]] = [
                {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": parts}
            ]
            return {"object": "response", "status": "completed", "output": output, "usage": usage}
        choice = {"index": 0, "message": {"role": "assistant", "content": words}, "finish_reason": "stop"}
        return {"choices": [choice], "usage": {"prompt_tokens": size, "completion_tokens": 2}}

    def _reply(self, status: int, answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        return None


@pytest.fixture
def base_url() -> Generator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("provider", ["openai", "openai-responses", "anthropic"])
async def test_the_providers_of_endpoints_keep_the_contract(provider: str, base_url: str) -> None:
    config = ModelConfig(base_url=base_url, api_key=SecretStr("k"))

    def named(model: str) -> Callable[[], Provider]:
        return lambda: find_provider(f"{provider}/{model}", config)

    await check_provider(named("gpt-4o-mini"), deterministic=True, failing=named("broken"))


async def test_the_scripted_provider_keeps_the_contract() -> None:
    await check_provider(lambda: find_provider("scripted/Yes|No", ModelConfig()), deterministic=True)


def test_the_test_of_the_example_package_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(EXAMPLE), *sys.path])
    namespace: dict[str, Any] = {}
    exec((EXAMPLE / "test_simkit_echo_model.py").read_text(), namespace)
    namespace["test_the_provider_keeps_the_contract"]()
    monkeypatch.delitem(sys.modules, "simkit_echo_model")


class Parrot:
    """A model that keeps every promise."""

    name = "parrot/p"

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        await checkpoint()
        return ChatResponse(message=AssistantMessage.of(f"{request.seed}"), usage=Usage(1, 1, cost=2e-6))


class ParrotProvider(Provider):
    """A provider that keeps every promise; each subclass breaks one."""

    model: ClassVar[type[ChatModel]] = Parrot

    @property
    def price(self) -> Price | None:
        return Price(input=1, output=1)

    def open(self, resources: Resources) -> ChatModel:
        return self.model()


class Closable:
    async def aclose(self) -> None:
        return None


class Unnamed(Parrot):
    name = "other"


class Free(Parrot):
    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        return replace(await super().complete(request, key), usage=Usage(1, 1))


class Miscounting(Parrot):
    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        return replace(await super().complete(request, key), usage=Usage(-1, 1))


class Talkative(Parrot):
    async def complete(self, request: ChatRequest, key: CallKey) -> Any:
        return (await super().complete(request, key)).message.content


class Claiming(Parrot):
    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        return replace(await super().complete(request, key), finish="tool_calls")


class Forgetful(Parrot):
    def __init__(self) -> None:
        self.calls = 0

    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        self.calls += 1
        answer = await super().complete(request, key)
        return replace(answer, message=AssistantMessage.of(f"answer {self.calls}"))


class Picky(Parrot):
    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        assert request.messages[-1].content, "no text"
        return await super().complete(request, key)


class Stubborn(Parrot):
    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        try:
            return await super().complete(request, key)
        except anyio.get_cancelled_exc_class():
            raise ModelFault("the connection was closed") from None


class Hanging(Parrot):
    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        await anyio.sleep_forever()
        raise AssertionError


MODELS = {
    "has_one_name": Unnamed,
    "usage_is_billed": Free,
    "answers_are_valid": Miscounting,
    "any_text_is_answered": Picky,
    "calls_can_be_cancelled": Stubborn,
    "seeds_decide": Forgetful,
}


def parrot(broken: type[ChatModel] = Parrot, attributes: Mapping[str, Any] | None = None) -> Callable[[], Provider]:
    kind = type("BrokenProvider", (ParrotProvider,), {"model": broken, **(attributes or {})})
    return lambda: kind("parrot/p", ModelConfig())


async def test_a_provider_that_keeps_every_promise_passes() -> None:
    await check_provider(parrot(), deterministic=True)


@pytest.mark.parametrize(("promise", "model"), MODELS.items())
async def test_a_model_that_breaks_a_promise_is_named(promise: str, model: type[ChatModel]) -> None:
    with pytest.raises(ConformanceError, match=f"`parrot/p` breaks `{promise}`"):
        await check_provider(parrot(model), deterministic=True)


@pytest.mark.parametrize("model", [Talkative, Claiming])
async def test_answers_that_are_no_valid_responses_are_found(model: type[ChatModel]) -> None:
    with pytest.raises(ConformanceError, match="answers_are_valid"):
        await check_provider(parrot(model))


async def test_a_call_that_never_returns_is_found() -> None:
    with pytest.raises(ConformanceError, match=r"did not return within 0\.01 s"):
        await check_provider(parrot(Hanging), seconds=0.01)


@pytest.mark.parametrize(
    ("attribute", "value", "said"),
    [
        ("endpoint", property(lambda self: object()), "different"),
        ("endpoint", property(lambda self: ["a list"]), "not hashable"),
        ("price", property(lambda self: 0.1), "give a Price"),
        ("concurrency", property(lambda self: 0), "at least 1"),
    ],
)
async def test_declarations_that_a_run_cannot_use_are_found(attribute: str, value: property, said: str) -> None:
    with pytest.raises(ConformanceError, match=said):
        await check_provider(parrot(attributes={attribute: value}))


async def test_a_model_that_shares_nothing_is_found() -> None:
    def opened(self: Provider, resources: Resources) -> ChatModel:
        resources.shared(object(), Closable)
        return Parrot()

    with pytest.raises(ConformanceError, match="resources of its own"):
        await check_provider(parrot(attributes={"open": opened}))


class Raising(Parrot):
    async def complete(self, request: ChatRequest, key: CallKey) -> ChatResponse:
        raise KeyError("gone")


@pytest.mark.parametrize(("failing", "said"), [(Parrot, "was answered"), (Raising, "raise a ModelFault")])
async def test_a_failure_that_is_no_fault_of_the_model_is_found(failing: type[ChatModel], said: str) -> None:
    with pytest.raises(ConformanceError, match=said):
        await check_provider(parrot(), failing=parrot(failing))
