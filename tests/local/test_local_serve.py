"""`simkit serve`: our own client, OpenAI's and plain HTTP get what the engine gives."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from local_serving import Running, serving
from pydantic import SecretStr
from typer.testing import CliRunner

from simkit.cli.app import app
from simkit.core.ids import TurnKey
from simkit.core.messages import AssistantMessage, ToolSpec, UserMessage
from simkit.errors import AuthFailed, BadRequest, ContextTooLong, ModelNotServed, UsageError
from simkit.local.chat import ChatFormat
from simkit.local.engine import LocalEngine
from simkit.local.server import listen
from simkit.local.wire import Speech
from simkit.models import CallKey, ChatRequest, ChatResponse, Sampling
from simkit.models.config import ModelConfig
from simkit.models.factory import open_model
from simkit.plugins.extras import require
from support.signals import heeding_signals
from support.tiny_llama import CONVERSATION, FIND, PLAIN, tiny_engine, tiny_model, tiny_tokenizer

pytestmark = [
    pytest.mark.skipif(
        any(find_spec(name) is None for name in ("starlette", "uvicorn")),
        reason="the server needs starlette and uvicorn: pip install '.[local]'",
    ),
]

KEY = CallKey(TurnKey(1, "task", 0, "", 0), "agent")
HELLO: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "I need a cheap hotel"}]}


@pytest.fixture(scope="module")
def server() -> Generator[Running]:
    with serving(tiny_engine()) as running:
        yield running


def post(server: Running, body: object, path: str = "/v1/chat/completions", **headers: str) -> tuple[int, str]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(server.origin + path, data, {"content-type": "application/json", **headers})
    return fetched(request)


def fetched(request: urllib.request.Request | str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def ask(server: Running, **more: Any) -> dict[str, Any]:
    status, text = post(server, {**HELLO, **more})
    assert status == 200, text
    return json.loads(text)


def form(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "wish", "schema": schema}}


def pieces(server: Running, **more: Any) -> list[dict[str, Any]]:
    status, text = post(server, {**HELLO, "stream": True, **more})
    assert status == 200, text
    *events, end, rest = text.split("\n\n")
    assert (end, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_our_own_client_gets_what_the_engine_gives(server: Running) -> None:
    request = ChatRequest(
        messages=CONVERSATION[:4], tools=(FIND,), seed=5, sampling=Sampling(max_tokens=12, logprobs=True)
    )
    async with open_model("openai/models/tiny", ModelConfig(base_url=server.base_url)) as model:
        response: ChatResponse = await model.complete(request, KEY)
        with pytest.raises(ContextTooLong):
            await model.complete(ChatRequest(messages=(UserMessage.of("hotel " * 600),)), KEY)
    prompt = server.engine.chat.prompt(request.messages, request.tools)
    (made,) = server.engine.generate([prompt], request.sampling, [5])
    assert response.message == server.engine.chat.parse(made.ids, request.tools)
    assert response.logprobs == pytest.approx(made.logprobs, abs=1e-4)
    assert (response.usage.prompt_tokens, response.usage.completion_tokens) == (len(prompt), len(made.ids))
    async with open_model("openai/gpt-9", ModelConfig(base_url=server.base_url)) as other:
        with pytest.raises(ModelNotServed):
            await other.complete(request, KEY)


def test_the_openai_package(server: Running) -> None:
    openai = pytest.importorskip("openai", reason="the openai package is an extra: pip install '.[finetune]'")
    with openai.OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client:
        assert [each.id for each in client.models.list()] == ["models/tiny"]
        asked: dict[str, Any] = {**HELLO, "seed": 4, "max_completion_tokens": 10}
        whole = client.chat.completions.create(**asked)
        stream = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
        chunks = list(stream)
        with pytest.raises(openai.BadRequestError, match="one answer per request"):
            client.chat.completions.create(**asked, n=2)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == (whole.choices[0].message.content or "")
    used = [(usage.prompt_tokens, usage.completion_tokens) for usage in (chunks[-1].usage, whole.usage)]
    assert used[0] == used[1]


def test_a_stream_says_what_the_whole_answer_says(server: Running) -> None:
    count = 0
    for seed in range(12):
        more = {"seed": seed, "max_tokens": 25, "tools": [FIND.to_openai()] if seed % 2 else [], "stop": ["qx", "zz"]}
        whole = ask(server, **more)["choices"][0]
        events = pieces(server, **more)
        deltas = [event["choices"][0]["delta"] for event in events]
        assert deltas[0] == {"role": "assistant", "content": ""}
        said = "".join(delta.get("content", "") for delta in deltas)
        assert said == (whole["message"]["content"] or "")
        assert events[-1]["choices"][0]["finish_reason"] == whole["finish_reason"]
        count += len(deltas)
    assert count > 60, "most answers come in pieces"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (["One ", "moment.", "<tool", '_call>{"name": "find_hotel", "argu', 'ments": {}}</tool_call>'], "One moment."),
        (['{"name": "find', '_hotel", "arguments": {}}'], ""),
        (["a < b <", "tool"], "a < b <tool"),
        (["yes", " {no}"], "yes {no}"),
    ],
)
def test_calls_are_held_back_until_they_are_whole(parts: list[str], said: str) -> None:
    chat = ChatFormat(tiny_tokenizer())
    speech, heard, written = Speech(chat, calls=True), "", list[int]()
    for part in parts:
        ids = chat.tokenizer(part, add_special_tokens=False)["input_ids"]
        written += ids
        heard += speech.hear(ids)
        assert "<tool" not in heard or "a <" in said
        assert "{" not in heard
    message = chat.parse(written, (FIND,))
    rest = speech.finish(message)
    assert heard + rest.get("content", "") == said
    assert len(rest.get("tool_calls", [])) == len(message.tool_calls or ())


def test_a_text_that_is_called_off_ends_where_it_was_said() -> None:
    chat = ChatFormat(tiny_tokenizer())
    speech = Speech(chat, calls=False, stop=("the north",))
    ids = chat.tokenizer("hotel in the north", add_special_tokens=False)["input_ids"]
    heard = "".join(speech.hear([each]) for each in ids)
    assert heard == "hotel in "
    assert speech.finish(AssistantMessage.of("hotel in ")) == {}


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"{", 400, "the body is not JSON"),
        (b'{"max_tokens": NaN}', 400, "the body is not JSON"),
        (b"\xff", 400, "the body is not JSON"),
        ([], 400, "not a JSON object"),
        ({**HELLO, "model": "gpt-4o"}, 404, "the model `gpt-4o` does not exist here"),
        ({**HELLO, "model": ["tiny"]}, 400, "`model` is ['tiny']"),
        ({"model": "tiny"}, 400, "`messages` is missing or empty"),
        ({**HELLO, "messages": []}, 400, "send at least one"),
        ({**HELLO, "messages": "hi"}, 400, "`messages` is 'hi'"),
        ({**HELLO, "messages": [5]}, 400, "`messages.0` is 5"),
        ({**HELLO, "messages": [{"role": "robot", "content": "x"}]}, 400, "`messages.0`: Input tag 'robot'"),
        ({**HELLO, "messages": [*HELLO["messages"], {"role": "user"}]}, 400, "`messages.1.content`: Field required"),
        ({**HELLO, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "of type 'image_url'"),
        ({**HELLO, "temperature": -1}, 400, "`temperature` is -1.0"),
        ({**HELLO, "temperature": "warm"}, 400, "`temperature` is 'warm'"),
        ({**HELLO, "top_p": 1.5}, 400, "`top_p` is 1.5"),
        ({**HELLO, "top_p": True}, 400, "`top_p` is True"),
        ({**HELLO, "presence_penalty": 1e300}, 400, "`presence_penalty` is 1e+300"),
        ({**HELLO, "max_tokens": "20"}, 400, "`max_tokens` is '20'"),
        ({**HELLO, "max_tokens": 20.5}, 400, "`max_tokens` is 20.5"),
        ({**HELLO, "max_tokens": 10**30}, 400, "`max_tokens` is 1e+30"),
        ({**HELLO, "max_completion_tokens": 0}, 400, "`max_tokens` is 0"),
        ({**HELLO, "seed": 1.5}, 400, "`seed` is 1.5"),
        ({**HELLO, "stop": [""]}, 400, "`stop` has an empty text"),
        ({**HELLO, "stop": ["a"] * 1000}, 400, "`stop` has"),
        ({**HELLO, "stop": [None]}, 400, "`stop` is [None]"),
        ({**HELLO, "n": 2}, 400, "`n` is not 1"),
        ({**HELLO, "n": True}, 400, "`n` is True"),
        ({**HELLO, "logprobs": "yes"}, 400, "`logprobs` is 'yes'"),
        ({**HELLO, "stream": 1}, 400, "`stream` is 1"),
        ({**HELLO, "stream_options": [1]}, 400, "`stream_options` is [1]"),
        ({**HELLO, "tools": [{"type": "function"}]}, 400, "`tools.0.function`: Field required"),
        ({**HELLO, "tools": [5]}, 400, "`tools.0`"),
        ({**HELLO, "tools": {"a": 1}}, 400, "`tools` is {'a': 1}"),
        ({**HELLO, "logit_bias": {"1": 5}}, 400, "does not support `logit_bias`"),
        ({**HELLO, "top_logprobs": 3}, 400, "does not support `top_logprobs`"),
        ({**HELLO, "tool_choice": "required"}, 400, "there are no `tools`"),
        ({**HELLO, "tool_choice": {"function": 5}}, 400, "`tool_choice.function` is 5"),
        ({**HELLO, "tool_choice": {"function": {"name": "fly"}}}, 400, "`tool_choice` is `fly`"),
        ({**HELLO, "response_format": "json"}, 400, "`response_format` is 'json'"),
        ({**HELLO, "response_format": {"type": "xml"}, "stream": True}, 400, "`response_format.type` is 'xml'"),
        ({**HELLO, "response_format": form({"type": "strin"}), "stream": True}, 400, "`response_format.json_schema"),
        ({**HELLO, "messages": [{"role": "user", "content": "hotel " * 600}], "stream": True}, 400, "reads 512"),
    ],
)
def test_bad_requests_say_why(server: Running, body: object, status: int, told: str) -> None:
    got, text = post(server, body)
    error = json.loads(text)["error"]
    assert got == status
    assert told in error["message"]
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_tools_that_the_model_would_not_see_are_refused() -> None:
    tokenizer = tiny_tokenizer(PLAIN)
    tool = FIND.to_openai()
    with serving(LocalEngine(tiny_model(tokenizer), tokenizer)) as server:
        short = {**HELLO, "max_tokens": 3}
        for more in ({}, {"stream": True}, {"tool_choice": "required"}):
            status, text = post(server, {**short, "tools": [tool], **more})
            error = json.loads(text)["error"]
            assert (status, error["type"]) == (400, "invalid_request_error")
            assert "does not support tools: its chat template does not render tools" in error["message"]
        accepted: tuple[dict[str, Any], ...] = ({}, {"tools": []}, {"tools": [tool], "tool_choice": "none"})
        for fine in accepted:
            assert post(server, {**short, **fine})[0] == 200
        async with open_model("openai/models/tiny", ModelConfig(base_url=server.base_url)) as model:
            with pytest.raises(BadRequest, match="use --agent react, which needs no tool calling"):
                await model.complete(ChatRequest(messages=CONVERSATION[:2], tools=(FIND,)), KEY)


ODD: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "20", "auto", "required", "find_hotel", "user", "json_object", "x" * 2000, "\ud83d", "\x00"])
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "role", "content", "function", "name", "schema", "json_schema"]), inner
        )
    ),
    max_leaves=6,
)
GOOD = {"temperature": 0, "max_tokens": 4}
NAMES = """
messages tools tool_choice response_format temperature top_p max_tokens max_completion_tokens stop seed n logprobs
top_logprobs stream stream_options presence_penalty frequency_penalty model logit_bias
"""
FIELDS = st.dictionaries(st.sampled_from(NAMES.split()), ODD, min_size=1, max_size=3)
SCHEMAS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["object", "array", "string", "integer", "strin"])
        | st.just(5)
        | st.just(["string", "null"]),
        "properties": st.dictionaries(st.text(max_size=3), ODD, max_size=2),
        "enum": st.lists(ODD, max_size=2),
        "pattern": st.sampled_from(["a+", "(", "(?=x)y", "\\d{2}"]),
        "$ref": st.sampled_from(["#", "#/none", "http://127.0.0.1:9/x"]) | st.just(5),
        "minLength": st.sampled_from([0, 3, -1, 10**9]) | st.just("x"),
        "required": st.just(["a"]) | ODD,
        "anyOf": st.lists(ODD, max_size=2),
    },
)


@pytest.fixture(scope="module")
def usual(server: Running) -> object:
    return ask(server, **GOOD)["choices"]


@settings(derandomize=True, deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(FIELDS | SCHEMAS.map(lambda schema: {"response_format": form(schema)}))
def test_a_bad_request_fails_alone(server: Running, usual: object, fields: dict[str, Any]) -> None:
    """Whatever is sent, the status is 200 or 4xx, and a good request beside it gets its usual answer."""
    limit = {} if "max_tokens" in fields or "max_completion_tokens" in fields else {"max_tokens": 8}
    found: list[dict[str, Any]] = []
    beside = threading.Thread(target=lambda: found.append(ask(server, **GOOD)))
    beside.start()
    status, text = post(server, {**HELLO, **limit, **fields})
    beside.join()
    assert status == 200 or 400 <= status < 500, text
    assert status == 200 or json.loads(text)["error"]["message"]
    assert [answer["choices"] for answer in found] == [usual]


def test_a_form_and_a_forced_call_over_http(server: Running) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"area": {"enum": ["north"]}}, "required": ["area"]}
    schema["additionalProperties"] = False
    whole = ask(server, response_format=form(schema), seed=1)["choices"][0]
    assert json.loads(whole["message"]["content"]) == {"area": "north"}
    said = "".join(
        e["choices"][0]["delta"].get("content", "") for e in pieces(server, response_format=form(schema), seed=1)
    )
    assert said == whole["message"]["content"]
    book = ToolSpec.of("book_hotel", "Books.", {"people": {"enum": [1, 2]}}, ("people",)).to_openai()
    named = {"type": "function", "function": {"name": "book_hotel"}}
    for choice in ("required", named):
        made = ask(server, tools=[book], tool_choice=choice, seed=2)["choices"][0]
        assert made["finish_reason"] == "tool_calls"
        (call,) = made["message"]["tool_calls"]
        assert json.loads(call["function"]["arguments"])["people"] in (1, 2)


def test_other_routes(server: Running) -> None:
    assert json.loads(fetched(f"{server.origin}/health")[1])["status"] == "ok"
    assert fetched(f"{server.origin}/v1/models")[0] == 200
    status, text = fetched(f"{server.origin}/v1/embeddings")
    assert status == 404
    assert "there is no GET /v1/embeddings" in text
    assert fetched(f"{server.origin}/v1/chat/completions")[0] == 405


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_key(engine: Any) -> None:
    with serving(engine, api_key="open sesame") as server:
        assert post(server, {**HELLO, "max_tokens": 2})[0] == 401
        assert fetched(f"{server.origin}/v1/models")[0] == 401
        assert fetched(f"{server.origin}/health")[0] == 200
        wrong = ModelConfig(base_url=server.base_url, api_key=SecretStr("wrong"))
        async with open_model("openai/tiny", wrong) as model:
            with pytest.raises(AuthFailed):
                await model.complete(ChatRequest(messages=CONVERSATION[:2]), KEY)
        right = ModelConfig(base_url=server.base_url, api_key=SecretStr("open sesame"))
        async with open_model("openai/tiny", right) as model:
            answer = await model.complete(ChatRequest(messages=CONVERSATION[:2], sampling=Sampling(max_tokens=3)), KEY)
    assert answer.usage.completion_tokens <= 3


def test_who_goes_away_is_not_generated_for(server: Running) -> None:
    """A client that reads a first piece and leaves: its row is given up, long before the reply would end."""
    http = require("http.client", "local")
    connection = http.HTTPConnection(server.origin.removeprefix("http://"), timeout=60)
    connection.request("POST", "/v1/chat/completions", json.dumps({**HELLO, "stream": True, "max_tokens": 450}))
    reply = connection.getresponse()
    assert reply.read(5) == b"data:"
    reply.close()
    connection.close()
    while json.loads(fetched(f"{server.origin}/health")[1])["in_flight"]:
        pass
    while server.engine.busy:
        pass


def test_an_address_that_is_taken() -> None:
    with (
        listen("127.0.0.1", 0) as door,
        pytest.raises(UsageError, match="choose another address with --host or --port"),
    ):
        listen("127.0.0.1", door.getsockname()[1])


def test_the_command_serves_until_it_is_interrupted(folder: Path) -> None:
    command = [sys.executable, "-m", "simkit", "serve", str(folder), "--port", "0"]
    with heeding_signals():
        started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with started as process:
        assert process.stdout is not None
        greeting = process.stdout.readline()
        url = greeting.split(" at ")[1].split(";")[0]
        status, _ = fetched(url.replace("/v1", "/health"))
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert status == 200
    assert f"serving {folder} (" in greeting
    assert "512 tokens of context" in greeting
    assert process.returncode == 0
    assert told.endswith("stopped\n")


@pytest.mark.parametrize(
    ("parts", "said", "thought"),
    [
        (["<th", "ink>Let me", " see.</th", "ink>\n\nThe ", "north."], "The north.", "Let me see."),
        (["[THI", "NK]A.[/TH", "INK]", "Yes."], "Yes.", "A."),
        (["<think>never ", "closed"], "", "never closed"),
        (["[1] a ", "hotel"], "[1] a hotel", None),
        (["<thin", "g> is a word"], "<thing> is a word", None),
    ],
)
def test_reasoning_is_not_streamed_as_text(parts: list[str], said: str, thought: str | None) -> None:
    chat = ChatFormat(tiny_tokenizer())
    speech, heard, written = Speech(chat, calls=False), "", list[int]()
    for part in parts:
        ids = chat.tokenizer(part, add_special_tokens=False)["input_ids"]
        written += ids
        heard += speech.hear(ids)
        assert said.startswith(heard)
    rest = speech.finish(chat.parse(written))
    assert heard + rest.get("content", "") == said
    assert rest.get("reasoning_content") == thought


def test_a_reply_whose_prompt_opens_reasoning_is_streamed_after_the_closing_mark() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template += "{% if add_generation_prompt %}<think>\n{% endif %}"
    chat = ChatFormat(tokenizer)
    assert chat.opens_reasoning
    assert not ChatFormat(tiny_tokenizer()).opens_reasoning
    speech = Speech(chat, calls=False)
    parts = (chat.tokenizer(part, add_special_tokens=False)["input_ids"] for part in ("Hm.", "</think>", "Yes"))
    heard = [speech.hear(ids) for ids in parts]
    assert heard == ["", "", "Yes"]


def test_a_value_that_the_chat_template_does_not_read_is_refused(folder: Path) -> None:
    command = ["serve", f"{folder},enable_thinking=false", "--port", "0"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "the chat template of" in result.output
    assert "does not read it" in result.output
