"""HTTP APIs as tool servers: documents, requests, results, sessions of branches, and servers that fail."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

import simkit
from simkit.apis.client import HttpPlace
from simkit.apis.sessions import BranchState, HttpSession
from simkit.components.tools import CallTool, StartTools, ToolReturn
from simkit.core.messages import ToolCall, ToolResult
from simkit.core.tasks import Goal, Task
from simkit.errors import NotForkable, ToolFault, UsageError
from simkit.search.josh import BeamSearch, Josh
from simkit.testing.fixed import fixed_user
from simkit.testing.promises import Promise
from simkit.testing.tools import TOOL_PROMISES, ToolSubject, base_never_changes
from simkit.tools.http import HttpTools
from simkit.tools.http_endpoints import Endpoint, read_openapi
from support.http_api import OPENAPI, Api, notes_api

pytestmark = pytest.mark.anyio

TASK = Task(
    id="t",
    world="notes",
    split="test",
    instructions="",
    goals=(Goal("never", {"tool": "notes_list", "parameters": {"never": "given"}}),),
)
BY_HEADER = {"x-session": "{session}"}
QUICK = HttpPlace(url="", wait=0.0, timeout=2.0)
COPIED = HttpSession(open="POST /sessions", copy="POST /sessions/{session}/copy", close="DELETE /sessions/{session}")
REPLAYED = HttpSession(open="POST /sessions")
COOKIES = HttpSession(cookies=True, open="POST /sessions")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def api() -> Generator[Api]:
    with notes_api() as running:
        yield running


def get(*names: str, method: str = "GET") -> list[Endpoint]:
    return [Endpoint(name, f"{method} /{name}") for name in names]


async def call(tools: HttpTools, state: BranchState, name: str, /, **arguments: Any) -> ToolReturn[BranchState]:
    return await tools.call(CallTool(TASK, ToolCall.of("1", name, arguments), state))


async def once(tools: HttpTools, name: str, /, **arguments: Any) -> ToolResult:
    async with tools:
        return (await call(tools, BranchState(), name, **arguments)).result


async def test_a_document_gives_tools_and_requests(api: Api) -> None:
    async with HttpTools(OPENAPI, url=api.url, stateless=True) as tools:
        specs = {spec.name: spec for spec in tools.start(StartTools(TASK)).specs}
        assert list(specs) == ["notes_list", "write", "echo"]
        assert specs["write"].function.description == "Writes a note."
        assert specs["write"].properties == {"text": {"type": "string"}, "parent": {}}  # itself
        assert (specs["write"].function.parameters or {})["required"] == ["text"]
        assert specs["echo"].properties["tag"] == {"type": "array", "description": "Tags."}
        told = await call(tools, BranchState(), "echo", part="a/../b c", tag=["x", "y&z"], **{"x-mark": "m"})
        value: Any = told.result.value
        assert (value["part"], value["query"], value["mark"]) == ("a/../b c", {"tag": ["x", "y&z"]}, "m")
        for name, arguments, said in (
            ("echo", {"part": ".."}, "cannot be '..'"),
            ("echo", {"part": "a" * 20_000}, "too long for an address"),
            ("echo", {}, "needs the parameter `part`"),
            ("echo", {"part": "a", "x-mark": "a\r\nb: c"}, "has a character that none can hold"),
            ("write", {"text": "a", "txt": "b"}, "has no parameter `txt`; it has: text, parent"),
            ("delete", {}, "there is no tool `delete`"),
        ):
            result = (await call(tools, BranchState(), name, **arguments)).result
            assert result.error
            assert said in str(result.value)


async def test_results_of_every_kind(api: Api) -> None:
    names = ("text", "picture", "empty", "torn", "refused", "packed", "latin", "long")
    async with HttpTools(url=api.url, endpoints=get(*names), stateless=True) as tools:
        found = [(await call(tools, BranchState(), name)).result for name in names]
    assert found == [
        ToolResult(value="Plain words."),
        ToolResult(value={"type": "image/png", "bytes": 7}),
        ToolResult(value={"status": 204}),
        ToolResult(value='{"rooms": [1, '),
        ToolResult(value={"detail": "no such room"}, error=True),
        ToolResult(value={"packed": True}),
        ToolResult(value="größer"),
        ToolResult(value={"id": 123456789012345678901234}),
    ]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # trio: httpcore2 leaves a generator
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken", r"answered with status 500: \{\"error\": \"\\u001b\[31mno\"\} \(GET /broken\)"),
        ("late", "gave no answer"),
        ("moved", r"answered with status 302 to http://elsewhere\.example/; name that address"),
        ("big", r"answered with more than 1,048,576 bytes \(body=\)"),
        ("forbidden", "answered with status 401"),
        ("damaged", "gave an answer that cannot be read: the gzip data of the body were cut off"),
        ("bomb", "cannot be read: the body is larger than 1,048,576 bytes when it is unpacked"),
    ],
)
async def test_a_server_that_fails_is_the_tools_fault(api: Api, name: str, said: str) -> None:
    place = HttpPlace(url=api.url, wait=0.0, timeout=0.3 if name == "late" else 30.0, retries=0)
    with pytest.raises(ToolFault, match=said):
        await once(HttpTools(endpoints=get(name), place=place, stateless=True), name)


async def test_nobody_there_is_said_with_the_address() -> None:
    place = HttpPlace(url="http://127.0.0.1:9", wait=0.0, retries=1)
    with pytest.raises(ToolFault, match=r"the HTTP API http://127\.0\.0\.1:9 cannot be reached"):
        await once(HttpTools(endpoints=get("text"), place=place, stateless=True), "text")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_request_that_was_refused_for_now_is_sent_again(api: Api, method: str) -> None:
    api.asked.clear()
    tools = HttpTools(url=api.url, endpoints=get("busy", method=method), place=QUICK, stateless=True)
    assert (await once(tools, "busy")).value == {"busy": False}
    assert api.asked[f"{method} /busy"] == 3


@pytest.mark.parametrize(("method", "times"), [("GET", 5), ("POST", 1)])
async def test_what_may_have_been_done_is_sent_again_only_if_that_is_safe(api: Api, method: str, times: int) -> None:
    api.asked.clear()
    tools = HttpTools(url=api.url, endpoints=get("broken", method=method), place=QUICK, stateless=True)
    with pytest.raises(ToolFault, match="status 500"):
        await once(tools, "broken")
    assert api.asked[f"{method} /broken"] == times


async def test_secrets_are_referred_to_and_do_not_come_back(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "sk-1234567890abcdef")
    headers = {"authorization": "Bearer $SHOP_TOKEN"}
    told = await once(HttpTools(OPENAPI, url=api.url, headers=headers, stateless=True), "echo", part="a")
    value: Any = told.value
    assert value["authorization"] == "Bearer [key]"
    monkeypatch.delenv("SHOP_TOKEN")
    with pytest.raises(UsageError, match="SHOP_TOKEN, to which an API or MCP server refers, is not set"):
        await once(HttpTools(OPENAPI, url=api.url, headers=headers, stateless=True), "echo", part="a")


async def test_cookies_of_a_stateless_api_are_ignored(api: Api) -> None:
    endpoints = [*get("sessions", method="POST"), Endpoint("echo", "GET /echo/{part}", parameters={"part": {}})]
    async with HttpTools(url=api.url, endpoints=endpoints, stateless=True) as tools:
        await call(tools, BranchState(), "sessions")
        value: Any = (await call(tools, BranchState(), "echo", part="a")).result.value
    assert value["cookie"] == ""


def stateful(api: Api, session: HttpSession, **more: Any) -> HttpTools:
    headers = {} if session.cookies else BY_HEADER
    return HttpTools(OPENAPI, url=api.url, headers=headers, session=session, **more)


@pytest.mark.parametrize("session", [COPIED, REPLAYED, COOKIES], ids=["copied", "replayed", "cookies"])
async def test_branches_do_not_see_each_other(api: Api, session: HttpSession) -> None:
    async with stateful(api, session, volatile=("in",) if session.cookies else ()) as tools:
        root = (await call(tools, BranchState(), "write", text="root")).state
        left, right = root.fork(), root.fork()
        one = await call(tools, left, "write", text="left")
        two = await call(tools, right, "write", text="right")
        third = await call(tools, root, "notes_list")
        assert third.result.value == ["root"]
        assert (await call(tools, one.state, "notes_list")).result.value == ["root", "left"]
        assert (await call(tools, two.state, "notes_list")).result.value == ["root", "right"]
        again = await call(tools, one.state, "write", text="more")  # from a place that was left
        assert (await call(tools, again.state, "notes_list")).result.value == ["root", "left", "more"]
        assert (await call(tools, BranchState(), "notes_list")).result.value == []
        if not session.cookies:
            written: Any = one.result.value
            assert written["in"] == "session"


async def test_sessions_end_with_their_branches(api: Api) -> None:
    api.notes.clear()
    async with stateful(api, COPIED) as tools:
        for _ in range(5):
            await call(tools, BranchState(), "write", text="a")
        assert len(api.notes) <= 2
    assert api.notes == {}


async def test_a_replay_with_another_result_is_the_tools_fault(api: Api) -> None:
    stamped = get("stamped", method="POST")
    async with stateful(api, REPLAYED, endpoints=stamped) as tools:
        root = (await call(tools, BranchState(), "stamped")).state
        await call(tools, root.fork(), "notes_list")
        with pytest.raises(ToolFault, match=r"POST /stamped gave another .*volatile=.*HttpSession\(copy=\.\.\.\)"):
            await call(tools, root, "notes_list")
    async with stateful(api, REPLAYED, endpoints=stamped, volatile=("stamp",)) as tools:
        root = (await call(tools, BranchState(), "stamped")).state
        await call(tools, root.fork(), "notes_list")
        assert (await call(tools, root, "notes_list")).result.value == []


class Notes(simkit.World):
    """Notes that nobody has to write."""

    name = "notes"
    splits = ("test",)
    default_reward = "goal_calls"

    def __init__(self, server: HttpTools) -> None:
        self.server = server

    def tasks(self, split: str) -> list[Task]:
        return [TASK]

    def tools(self) -> HttpTools:
        return self.server

    @property
    def ontology(self) -> simkit.Ontology:
        return simkit.Ontology(())


class Writer(simkit.Agent[int]):
    """Writes a note of its own, reads all, and speaks."""

    name = "writer"

    def start(self, request: simkit.StartAgent) -> simkit.AgentStart[int]:
        return simkit.AgentStart(state=0)

    async def act(self, request: simkit.Act[int]) -> simkit.Decision[int]:
        key = request.key
        match request.step:
            case 0:
                mark = f"{key.turn}-{key.rng('agent').randrange(10**9)}"
                return simkit.Decision.call(ToolCall.of("1", "write", {"text": mark}), state=0)
            case 1:
                return simkit.Decision.call(ToolCall.of("2", "notes_list", {}), state=0)
            case _:
                return simkit.Decision.speak("Written.", state=0)


@pytest.mark.parametrize("session", [COPIED, REPLAYED], ids=["copied", "replayed"])
async def test_josh_plays_with_a_stateful_api(api: Api, tmp_path: Path, session: HttpSession) -> None:
    world = Notes(stateful(api, session))
    async with simkit.Run(store=tmp_path) as run:
        cast = run.cast(world, agent=Writer(), user=fixed_user(["Go on."] * 4))
        (found,) = await run.play(Josh(BeamSearch(beam=4), simkit.Limits(turns=3)), cast, world.tasks("test"))
    assert found.faults == 0
    assert found.branches > 6
    rows = run.store.query(
        "select b.branch_id, list(m.content order by m.seq) from branches b, conversation(b.branch_id) m "
        "where m.author = 'tool' group by all"
    ).rows
    for _, results in rows:
        written = [json.loads(part)["written"] for part in results[::2]]
        assert [json.loads(each) for each in results[1::2]] == [written[: n + 1] for n in range(len(results) // 2)]


async def test_an_api_that_does_not_say_how_it_keeps_state_is_refused_where_branches_are(
    api: Api, tmp_path: Path
) -> None:
    world = Notes(HttpTools(OPENAPI, url=api.url))
    async with simkit.Run(store=tmp_path) as run:
        cast = run.cast(world, agent=Writer(), user=fixed_user(["Go on."]))
        with pytest.raises(NotForkable, match=r"nothing says how .* keeps the state of a branch; name its session"):
            await run.play(Josh(), cast, world.tasks("test"))


@pytest.mark.parametrize("promise", [each for each in TOOL_PROMISES if each is not base_never_changes])
async def test_it_keeps_the_promises_of_tool_servers(api: Api, promise: Promise[ToolSubject]) -> None:
    """All but `base_never_changes`, which compares a server's data: here these are at the API."""
    calls = (ToolCall.of("1", "write", {"text": "a"}), ToolCall.of("2", "notes_list", {}))
    async with stateful(api, COPIED, only=("write", "notes_list")) as tools:
        await promise(ToolSubject(tools, TASK, calls))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "has no tools"),
        ({"openapi": OPENAPI}, "the address of the HTTP API is ''"),
        ({"openapi": OPENAPI, "url": "http://a", "stateless": True, "session": REPLAYED}, "choose one"),
        ({"openapi": OPENAPI, "url": "http://a", "session": REPLAYED}, "not told which session"),
        ({"openapi": OPENAPI, "url": "http://a/{session}"}, "say how it keeps sessions"),
        ({"openapi": OPENAPI, "url": "http://a", "only": ["book"]}, "has no tool `book`; it has notes_list"),
        ({"openapi": {"swagger": "2.0"}}, "is of OpenAPI Swagger 2.0"),
        ({"openapi": "missing.json"}, "cannot be read"),
        ({"openapi": {"openapi": "3.0.0", "paths": {"/a": {"$ref": "other.json"}}}}, "refers to other.json"),
        ({"endpoints": [*get("a"), *get("a")], "url": "http://a"}, "two tools with the name `a`"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        HttpTools(**options)


def test_documents_in_files_and_operations_that_are_no_tools(tmp_path: Path) -> None:
    upload: dict[str, Any] = {"requestBody": {"content": {"multipart/form-data": {}}}, "operationId": "upload"}
    document: dict[str, Any] = {
        **OPENAPI,
        "servers": [{"url": "https://api.example/v1"}],
        "paths": {"/files": {"post": upload}},
    }
    file = tmp_path / "api.json"
    file.write_text(json.dumps(document))
    with pytest.raises(UsageError, match=r"`upload` cannot be a tool: its body is multipart/form-data; leave it out"):
        read_openapi(file)
    assert read_openapi(file, ["upload"]) == ("https://api.example/v1", ())
    for call, said in (("FETCH /a", "write one like"), ("GET a", "write one like"), ("GET /{b}", "no parameter of it")):
        with pytest.raises(UsageError, match=said):
            Endpoint("a", call)
    with pytest.raises(UsageError, match="cannot be copied"):
        HttpSession(cookies=True, copy="POST /copy")
