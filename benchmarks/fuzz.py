"""Fuzzing: random inputs at the doors of simkit, where nothing but a SimkitError may come out.

    python benchmarks/fuzz.py lines|replies|errors|files|values|commands [--minutes 10] [--seed N]

lines     journals with altered bytes, lost, doubled and shuffled lines, and lines of hostile values that carry a right
          checksum; then load, query, resume, diagnose
replies   replies of both providers made from a grammar of what servers send, which must be read as what they mean; the
          same with altered bytes, types and values; calls in the notations of local models, good and malformed, with
          their beginnings; and megabytes of repeated marks
errors    error replies made from a grammar of codes, envelopes and headers, each with its class and wait; then altered
files     training files made from a grammar of forms and encodings, each with its conversations; then altered
values    components that return hostile values in every field; then play rollouts and trees, and ask the store
commands  command lines of real and wrong words, run by the real command line

The grammars are in tests/support/made_*.py, and short runs of them are tests (tests/fuzz). Prints each finding with its
input as it comes; exit code 1 when there was one, or when nothing was tried.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar, cast

import anyio
import orjson
from fuzz_values import hostile_json
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from simkit.errors import SimkitError

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # for `support`

SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)

HANGS = 60.0
"""Seconds for one body, of a megabyte at most, after which it counts as a hang."""

FOUND_MOST = 20
"""Findings after which a door is given up."""


@dataclass(slots=True)
class Tried:
    """What was tried, and what came of it."""

    inputs: int = 0
    refused: int = 0
    findings: list[str] = field(default_factory=list[str])

    def found(self, what: str, error: BaseException | None, given: object) -> None:
        """Take note of a finding."""
        trace = "".join(traceback.format_exception(error)[-6:]) if error else ""
        text = f"{what}: {given!r:.1500}\n{trace}"
        self.findings.append(text)
        print(f"FINDING {len(self.findings)}: {text}", flush=True)


Made = TypeVar("Made")


def made_round(
    made: st.SearchStrategy[Made], check: Callable[[Made], None], random: Random, tried: Tried
) -> list[Made]:
    """Check values of a grammar against what they mean; returns them. A finding is reduced to a small input."""
    found: list[Made] = []

    @seed(random.randrange(1 << 60))
    @settings(max_examples=100, database=None, deadline=None, suppress_health_check=SLOW)
    @given(made)
    def one(value: Made) -> None:
        tried.inputs += 1
        found.append(value)
        check(value)

    try:
        one()
    except (Exception, BaseExceptionGroup) as error:
        tried.found("not as meant", error, "\n".join(getattr(error, "__notes__", ())))
    return found


@contextlib.contextmanager
def trying(what: str, tried: Tried, data: object) -> Generator[None]:
    """One input that may be refused, but neither raises another error nor hangs."""

    def hang(*_: object) -> None:
        raise TimeoutError(f"not read within {HANGS:g} seconds")

    tried.inputs += 1
    before = signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, HANGS)
    try:
        yield
    except SimkitError:
        tried.refused += 1
    except Exception as error:  # what is looked for
        tried.found(what, error, data)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- journal lines ----------------------------------------------------------------------------------------------------


def fuzz_lines(random: Random, tried: Tried) -> Iterator[None]:
    """One altered journal after another."""
    from simkit.store import Store
    from simkit.store.lines import journal_seed, seal

    with tempfile.TemporaryDirectory() as scratch:
        first = Path(scratch) / "first"
        run_id = anyio.run(_small_run, first)
        whole = (first / "journals" / run_id / "main.jsonl").read_bytes().splitlines(keepends=True)
        seed = journal_seed(first / "journals" / run_id / "main.jsonl")
        for number in range(sys.maxsize):
            folder = Path(scratch) / f"store{number}"
            journal = folder / "journals" / run_id / "main.jsonl"
            journal.parent.mkdir(parents=True)
            altered = _altered_lines(random, whole, lambda event, n: seal(event + b"\n", n, seed))
            journal.write_bytes(altered)
            tried.inputs += 1
            _read_everything(Store(folder), run_id, tried, altered[-4000:])
            shutil.rmtree(folder)
            yield


def _altered_lines(random: Random, whole: list[bytes], seal: Callable[[bytes, int], bytes]) -> bytes:
    lines = list(whole)
    for _ in range(random.randint(1, 4)):
        place = random.randrange(len(lines)) if lines else 0
        match random.randrange(9) if lines else 8:
            case 0:
                line = bytearray(lines[place])
                line[random.randrange(len(line))] = random.randrange(256)
                lines[place] = bytes(line)
            case 1:
                del lines[place : place + random.randint(1, 5)]
            case 2:
                lines[place:place] = lines[place : place + random.randint(1, 10)]
            case 3:
                other = random.randrange(len(lines))
                lines[place], lines[other] = lines[other], lines[place]
            case 4:
                lines[place] = lines[place][: random.randrange(len(lines[place]) + 1)]
            case 5:
                lines.insert(place, random.randbytes(random.randint(0, 300)) + b"\n")
            case 6:
                lines.insert(place, b"\0" * random.randint(1, 4096))
            case 7:  # a hostile value with a right checksum: a newer or a buggy writer
                event = _event_of(lines[place])
                number = event.pop("n", place)
                event.pop("c", None)
                event[random.choice(list(event))] = hostile_json(random)
                lines[place] = seal(json.dumps(event).encode(), number if isinstance(number, int) else place)
            case _:
                lines.append(json.dumps(hostile_json(random)).encode() + b"\n")
    return b"".join(lines)


def _event_of(line: bytes) -> dict[str, Any]:
    """The event of a line, another one where an earlier alteration has left no object."""
    with contextlib.suppress(orjson.JSONDecodeError):
        if isinstance(event := orjson.loads(line), dict) and event:
            return cast("dict[str, Any]", event)
    return {"e": "?"}


async def _small_run(store: Path) -> str:
    from simkit import BeamSearch, Josh, Run

    async with Run(store=store, seed=3) as run:
        world = run.world("builtin")
        await run.play(Josh(BeamSearch(beam=2)), run.cast(world), run.tasks(world, "train", 2))
    return run.id


def _read_everything(store: Any, run_id: str, tried: Tried, given: bytes) -> None:
    from simkit.monitoring.doctor import diagnose
    from simkit.run.resume import RecordedRun, read_start

    for name, read in (
        ("load", lambda: store.load()),
        ("query", lambda: store.query("from run_summary")),
        ("examples", lambda: store.query("from kto_examples")),
        ("runs", lambda: store.runs()),
        ("start", lambda: read_start(store.path, run_id)),
        ("recorded run", lambda: RecordedRun.read(store.path, run_id)),
        ("doctor", lambda: diagnose(store, "last")),
        ("damage", lambda: store.damage()),
    ):
        try:
            read()
        except SimkitError:
            tried.refused += 1
        except Exception as error:  # what is looked for
            tried.found(name, error, given)


# --- replies ----------------------------------------------------------------------------------------------------------

REPLY: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Hello.",
                "refusal": None,
                "reasoning_content": "Hm.",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"area": "north"}'}}
                ],
            },
            "logprobs": {"content": [{"token": "H", "logprob": -0.1, "bytes": [72], "top_logprobs": []}]},
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}
ERROR: dict[str, Any] = {"error": {"message": "slow down", "type": "rate_limit", "code": "rate_limit_exceeded"}}


def fuzz_replies(random: Random, tried: Tried) -> Iterator[None]:
    """Replies and calls with known meaning, the same altered, altered replies on the wire, and long bodies, in turn."""
    from support.made_calls import MadeReply, call_replies, check_beginnings, check_calls
    from support.made_replies import anthropic_replies, check_anthropic, check_any, check_openai, openai_replies
    from support.made_texts import repeated_marks

    altered = fuzz_wire(random, tried)
    while True:
        for made, check in ((openai_replies(), check_openai), (anthropic_replies(), check_anthropic)):
            for each in made_round(made, check, random, tried):
                body = altered_body(random, each.body)
                with trying("altered", tried, body):
                    check_any(body)
            yield

        def check_call(made: MadeReply) -> None:
            check_calls(made)
            check_beginnings(made, [random.randrange(1 << 16) for _ in range(8)])

        for each in made_round(call_replies(), check_call, random, tried):
            text = _altered_bytes(random, each.text.encode("utf-8", "replace")).decode("utf-8", "replace")
            with trying("altered call", tried, text):
                check_text(text)
        yield
        text = repeated_marks(random, 1 << random.randint(16, 20))
        with trying("marks", tried, text[:100]):
            check_text(text)
        for _ in range(200):
            next(altered)
        yield


def check_text(text: str) -> None:
    """A text is read as an answer, an error, a stream and speech; errors of simkit are expected."""
    from simkit.core.reasoning import leaks_reasoning
    from simkit.core.text_calls import find_calls
    from support.made_replies import check_any
    from support.made_texts import TOOLS

    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    for body in (text, json.dumps({"choices": [choice]}), f"data: {text}", json.dumps({"error": text})):
        for status in (200, 429):
            check_any(body.encode(), status)
    leaks_reasoning(text)
    find_calls(text, TOOLS, anywhere=True)


def altered_body(random: Random, body: bytes) -> bytes:
    """A body with an altered value, or altered bytes."""
    if random.random() < 0.6:
        with contextlib.suppress(ValueError):
            return json.dumps(_altered_value(random, json.loads(body))).encode("utf-8", "surrogatepass")
    return _altered_bytes(random, body)


def fuzz_errors(random: Random, tried: Tried) -> Iterator[None]:
    """Error replies with known meaning, and the same altered."""
    from support.made_errors import check_error, error_replies
    from support.made_replies import check_any

    while True:
        for each in made_round(error_replies(), check_error, random, tried):
            body = altered_body(random, each.reply.body)
            with trying("altered", tried, (each.reply.status, body)):
                check_any(body, each.reply.status)
        yield


def fuzz_files(random: Random, tried: Tried) -> Iterator[None]:
    """Training files with known rows, and the same altered."""
    from support.made_files import check_altered, check_file, files

    while True:
        for each in made_round(files(), check_file, random, tried):
            data = altered_body(random, each.data)
            with trying("altered", tried, (each.name, data)):
                check_altered(data, each.name)
        yield


def fuzz_wire(random: Random, tried: Tried) -> Iterator[None]:
    """One altered reply after another, as bytes of the wire and as JSON."""
    from simkit.models.providers.openai_replies import read_reply
    from simkit.models.providers.reply_errors import ReplyContext
    from simkit.models.transport.http1 import IncompleteReply, InvalidReply, ReplyReader

    reading = ReplyContext("http://127.0.0.1:1", "m", "sk-secret-0123456789")
    while True:
        body = orjson.dumps(REPLY if random.random() < 0.85 else ERROR)
        if random.random() < 0.8:
            body = json.dumps(_altered_value(random, orjson.loads(body))).encode("utf-8", "surrogatepass")
        if random.random() < 0.15:
            body = _altered_bytes(random, body)
        status = (
            200 if random.random() < 0.8 else random.choice((400, 401, 404, 429, 500, 503, random.randint(100, 599)))
        )
        headers = (
            f"content-type: application/json\r\nretry-after: {random.choice(('1', '-5', '1e400', 'soon', ''))}\r\n"
        )
        wire = f"HTTP/1.1 {status} .\r\n{headers}content-length: {len(body)}\r\n\r\n".encode() + body
        if random.random() < 0.1:
            wire = _altered_bytes(random, wire)
        tried.inputs += 1
        try:
            reader = ReplyReader()
            cut = random.randrange(len(wire) + 1)
            reply = reader.feed(wire[:cut]) or reader.feed(wire[cut:])
            reply = reader.end() if reply is None else reply
        except (InvalidReply, IncompleteReply):
            tried.refused += 1
            yield
            continue
        except Exception as error:
            tried.found("wire", error, wire)
            continue
        try:
            _record(read_reply(reply, reading))
        except SimkitError:
            tried.refused += 1
        except Exception as error:
            tried.found("reply", error, wire)
        yield


def _record(response: Any) -> None:
    """What an answer becomes in the journal must be JSON that can be read again, with counters that fit a column."""
    from simkit.core.events import ModelCall
    from simkit.store.encoding import encode

    usage = response.usage
    event = ModelCall(
        *("r/t/0", "r/t/0/.1", "agent", 0, 0, "m", "h", None, {"message": response.message.to_openai()}, None),
        *(usage.prompt_tokens, usage.completion_tokens, usage.cost, 0.1, 0.0),
    )
    read = json.loads(encode(event))
    for name in ("prompt_tokens", "completion_tokens"):
        assert isinstance(read[name], int), read[name]
        assert 0 <= read[name] < 1 << 63, read[name]
    assert read["cost"] >= 0


def _altered_value(random: Random, value: Any) -> Any:
    """The same JSON with one value somewhere replaced, dropped or added."""
    if isinstance(value, dict) and value and random.random() < 0.8:
        fields = cast("dict[str, Any]", value)
        name = random.choice(list(fields))
        if random.random() < 0.1:
            return {key: item for key, item in fields.items() if key != name}
        return {**fields, name: _altered_value(random, fields[name])}
    if isinstance(value, list) and value and random.random() < 0.8:
        items = list(cast("list[Any]", value))
        place = random.randrange(len(items))
        items[place] = _altered_value(random, items[place])
        return items
    return hostile_json(random)


def _altered_bytes(random: Random, data: bytes) -> bytes:
    altered = bytearray(data)
    for _ in range(random.randint(1, 5)):
        place = random.randrange(len(altered) + 1)
        match random.randrange(3):
            case 0 if place < len(altered):
                altered[place] = random.randrange(256)
            case 1:
                del altered[place : place + random.randint(1, 30)]
            case _:
                altered[place:place] = random.choice((random.randbytes(8), b"\r\n", b"\xff", b"9" * 40, b"{" * 2000))
    return bytes(altered)


# --- component values -------------------------------------------------------------------------------------------------


def fuzz_values(random: Random, tried: Tried) -> Iterator[None]:
    """One run with hostile components after another."""
    while True:
        seed = random.randrange(1 << 60)
        tried.inputs += 1
        with tempfile.TemporaryDirectory() as folder:
            try:
                anyio.run(_hostile_run, Path(folder), seed)
            except SimkitError:
                tried.refused += 1
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # SystemExit and its like are what is looked for
                tried.found("run", error, seed)
        yield


async def _hostile_run(store: Path, seed: int) -> None:
    from fuzz_values import HostileAgent, HostileReward, HostileTools, HostileUser

    from simkit import BeamSearch, Josh, Limits, Rollout, Run

    random = Random(seed)
    async with Run(store=store, seed=3, ask_timeout=2.0) as run:
        world = run.world("builtin")
        cast = run.cast(
            world,
            agent=HostileAgent(world, random),
            user=HostileUser(world, random),
            reward=HostileReward(world, random),
            tools=HostileTools(world.tools(), random),
        )
        limits = Limits(turns=3)
        search = Rollout(limits) if random.random() < 0.5 else Josh(BeamSearch(beam=2), limits)
        await run.play(search, cast, run.tasks(world, "train", 3))
    json.dumps(run.summary().to_json(), allow_nan=False)
    (row,) = run.store.query("select count(*) as n, count(fate) as told from units").dicts()
    assert row == {"n": 3, "told": 3}, row
    bad = run.store.query("select reward from episodes where reward is not null and not (reward between 0 and 1)")
    assert not bad.rows, bad.rows
    assert not run.store.damage()


# --- command lines ----------------------------------------------------------------------------------------------------

WORDS = (
    *("run", "rollout", "josh", "ls", "show", "sql", "export", "check", "compare", "doctor", "resume", "last", "first"),
    *("sft", "kto", "dpo", "--json", "--quiet", "--name", "--tasks", "--trials", "--seed", "--beam", "--factor"),
    *("--agent", "--user", "--world", "--reward", "--split", "--max-turns", "--concurrency", "--max-faults", "--run"),
    *("--out", "--format", "--model", "--base-url", "--temperature", "--max-cost", "--branch", "--fail-fast", "--help"),
    *("--winner", "--branch-by", "--clean-of", "--replay", "--max-wall", "--ask-timeout", "--durable", "--parts"),
    *("1", "0", "-1", "2", "0.5", "nan", "inf", "1e400", "99999999999999999999", "", " ", "\x1b[2J", "\ud800", "\0"),
    *(
        "builtin",
        "builtin,seed=2",
        "builtin,seed=x",
        "scripted",
        "scripted,error_rate=2",
        "scripted,habits=x",
        "agenda",
    ),
    *("from run_summary", "select 1", "selec", "copy runs to '/tmp/x'", "openai/x", "scripted/hi", "builtin:test"),
    *("nothing.py:X", "os:system", "[bold]", "../../x", "http://127.0.0.1:9", "table", "csv", "json", "a" * 300, "?#%"),
)
BEGINNINGS: tuple[tuple[str, ...], ...] = (
    *(("run", "rollout", "--tasks", "1"), ("run", "josh", "--tasks", "1", "--beam", "2"), ("show",), ("sql",), ("ls",)),
    *(("export",), ("check",), ("compare",), ("doctor",), ("resume",), ("show", "last"), ("export", "kto")),
)


def fuzz_commands(random: Random, tried: Tried) -> Iterator[None]:
    """One command line after another, in this process."""
    from typer.testing import CliRunner

    from simkit.cli.app import app

    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        anyio.run(_small_run, place / "store")
        with contextlib.chdir(place):
            while True:
                arguments = [*random.choice(BEGINNINGS), *random.choices(WORDS, k=random.randint(0, 5))]
                tried.inputs += 1
                environment = {"SIMKIT_STORE": str(place / "store"), "OPENAI_API_KEY": "sk-fuzz-0123456789"}
                result = CliRunner(env=cast("Mapping[str, str]", environment)).invoke(app, arguments, input="")
                known = result.exception is None or isinstance(result.exception, SystemExit)
                if not known or result.exit_code not in (0, 1, 2, 130) or "Traceback" in result.output:
                    tried.found(f"exit {result.exit_code}", result.exception, (arguments, result.output[-800:]))
                elif "\x1b[2J" in result.output:
                    tried.found("control characters", None, (arguments, result.output[-800:]))
                tried.refused += result.exit_code == 2
                yield


DOORS: Mapping[str, Callable[[Random, Tried], Iterator[None]]] = {
    "lines": fuzz_lines,
    "replies": fuzz_replies,
    "errors": fuzz_errors,
    "files": fuzz_files,
    "values": fuzz_values,
    "commands": fuzz_commands,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("door", choices=DOORS)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args()
    print(f"{given.door}, seed {given.seed}", flush=True)
    tried, until = Tried(), time.monotonic() + 60 * given.minutes
    for _ in DOORS[given.door](Random(given.seed), tried):
        if time.monotonic() > until or len(tried.findings) >= FOUND_MOST:
            break
    print(f"{given.door}: {tried.inputs:,} inputs, {tried.refused:,} refused, {len(tried.findings)} findings")
    sys.exit(1 if tried.findings or not tried.inputs else 0)


if __name__ == "__main__":
    main()
