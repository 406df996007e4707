"""Constraints on the form of replies: JSON by a schema, and forced tool calls.

A constraint is a grammar. After each token llguidance computes which tokens may follow, and the others are not sampled.
Grammars are compiled once per distinct form, in the thread of the caller, so that a large schema delays nobody else.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

from simkit.core.messages import AssistantMessage, JsonObject, ToolCall, ToolSpec, UserMessage, sorted_json
from simkit.errors import BadRequest, UsageError
from simkit.local.chat import ChatFormat
from simkit.local.sampling import Allowed
from simkit.models.base import ChatRequest
from simkit.plugins.extras import require

if TYPE_CHECKING:
    from simkit.local.job import Job

_KEPT = 256
_TRIES = 200
_SPACES = " ?"
"""White space between the parts of JSON. Small models would otherwise indent it or write line breaks only."""

_NESTED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAME, _KEY, _VALUE = "probe_of_a_name", "probe_of_a_key", "probe_of_a_value"


@dataclass(frozen=True, eq=False, slots=True)
class Constraint:
    """A compiled form of replies, shared by all that have it.

    Attributes:
        grammar: the form as a grammar of llguidance.
        matcher: its state before the first token.
    """

    grammar: str
    matcher: Any

    def begin(self) -> Any:
        """The state of a new reply."""
        return self.matcher.deep_copy()


class Constraints:
    """Compiles the constraints of one model, and computes which tokens may follow.

    It may be called from any thread; `allowed` only from the one that generates.

    Args:
        chat: the conversation format of the model.
        vocabulary: number of tokens for which the model computes probabilities.
        threads: number of threads that compute allowed tokens.
    """

    def __init__(self, chat: ChatFormat, vocabulary: int, threads: int = 1) -> None:
        self._chat = chat
        self._size = max(vocabulary, len(chat.tokenizer))
        self._threads = threads
        self._known: OrderedDict[bytes, Constraint] = OrderedDict()
        self._lock = Lock()

    def known(self, request: ChatRequest) -> tuple[bool, Constraint | None]:
        """Whether `of` answers at once, and if so its answer."""
        if not is_constrained(request):
            return True, None
        with self._lock:
            found = self._known.get(_key(request))
        return found is not None, found

    def of(self, request: ChatRequest) -> Constraint | None:
        """The constraint of a request; None if its reply is free. New ones take milliseconds, the first one a second.

        Raises:
            BadRequest: the request is contradictory, or its form cannot be compiled; the message names the place.
        """
        ready, found = self.known(request)
        if ready:
            return found
        made = self._compiled(request)
        with self._lock:
            self._known[_key(request)] = made
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return made

    def allowed(self, rows: Sequence[Job], logits: Any) -> Allowed | None:
        """The tokens that constrained rows may take next; None if all rows are free.

        A row whose constraint fails gets an `error`, and all tokens.

        Args:
            rows: the rows of the batch.
            logits: the logits that the masks are for [rows, vocabulary].
        """
        held = [(index, job) for index, job in enumerate(rows) if job.constraint is not None]
        if not held:
            return None
        torch, numpy = require("torch", "local"), require("numpy", "local")
        words = -(-self._size // 32)
        masks = numpy.zeros((len(held), words), dtype=numpy.int32)
        matchers = [(self._matcher(job), place) for place, (_, job) in enumerate(held)]
        self._executor.unsafe_compute_mask_ptr(matchers, masks.ctypes.data, words * 4, len(held))
        bits = numpy.unpackbits(masks.view(numpy.uint8), axis=1, count=int(logits.shape[1]), bitorder="little")
        for (matcher, place), (_, job) in zip(matchers, held, strict=True):
            if matcher.is_error() or not masks[place].any():
                job.error = BadRequest(f"the reply cannot be held to its form: {_reason(matcher)}; simplify its schema")
                bits[place] = 1
        places = torch.tensor([index for index, _ in held], device=logits.device)
        return Allowed(places, torch.from_numpy(bits.view(numpy.bool_)).to(logits.device))

    def _matcher(self, job: Job) -> Any:
        if job.matcher is None:
            assert job.constraint is not None
            job.matcher = job.constraint.begin()
        return job.matcher

    @cached_property
    def _executor(self) -> Any:
        return require("llguidance", "local").LLExecutor(num_threads=self._threads)

    @cached_property
    def _tokenizer(self) -> Any:
        library, hf = require("llguidance", "local"), require("llguidance.hf", "local")
        tokenizer, ends = self._chat.tokenizer, sorted(self._chat.ends)
        try:
            return hf.from_tokenizer(tokenizer, n_vocab=self._size, eos_token=ends)
        except ValueError:  # it knows the usual decoders only; the tokens of others are decoded one by one
            wrapped = library.TokenizerWrapper(_Decoded(self._chat, ends[0]))
            return library.LLTokenizer(wrapped, n_vocab=self._size, eos_token=ends)

    # --- grammars -----------------------------------------------------------------------------------------------------

    def _compiled(self, request: ChatRequest) -> Constraint:
        forms: dict[str, str] = {}
        schema = _schema(request)
        if schema is not None and request.tool_choice in (None, "auto", "none"):
            self._check(schema, "response_format.json_schema.schema")
            forms["answer"] = _json_rule(schema)
        if request.tool_choice != "none":
            forms |= self._calls(request)
        rules = [f"{name}: {rule}" for name, rule in forms.items()]
        if self._chat.opens_reasoning:
            rules = [f"start: thought spaces ({' | '.join(forms)})", *_THOUGHT, *rules]
        else:
            rules = [f"start: {' | '.join(forms)}", *rules]
        grammar = require("llguidance", "local").LLMatcher.grammar_from_lark("\n".join(rules))
        matcher = self._started(grammar)
        first = matcher.deep_copy()
        if not any(first.compute_bitmask()) or first.is_error():  # a schema that only refers to itself, for instance
            raise BadRequest(f"the form of the reply cannot be compiled: {_reason(first)}; simplify its schema")
        return Constraint(grammar, matcher)

    def _calls(self, request: ChatRequest) -> dict[str, str]:
        choice = request.tool_choice
        rules: dict[str, str] = {}
        for index, tool in enumerate(request.tools):
            if choice in (None, "auto", "required") or choice == tool.name:
                parameters = _parameters(tool)
                self._check(parameters, f"tools.{index}.function.parameters")
                rules[f"call_{index}"] = self._call_rule(tool.name, parameters)
        return rules

    def _call_rule(self, name: str, parameters: JsonObject) -> str:
        before, between, after = self._notation
        literal = self._literal
        escaped = json.dumps(name, ensure_ascii=False)[1:-1]
        parts = (literal(f"{before}{escaped}{between}"), _json_rule(parameters), literal(after))
        return " ".join(part for part in parts if part)

    @cached_property
    def _notation(self) -> tuple[str, str, str]:
        """The text of a call before its name, between name and arguments, and after them.

        It is taken from the chat template, if calls in that notation are read from replies, else it is a JSON object.
        """
        for found in (self._rendered(), _PLAIN):
            if found is None:
                continue
            before, between, after = found
            text = f'{before}{_NAME}{between}{{"{_KEY}": "{_VALUE}"}}{after}'
            calls = self._chat.read(text, [_PROBE]).message.tool_calls or ()
            if [(call.name, call.parse_arguments()) for call in calls] == [(_NAME, {_KEY: _VALUE})]:
                return found
        raise BadRequest(
            "calls in the notation of this model's chat template cannot be forced; leave out `tool_choice`, or use "
            "`response_format`"
        )

    def _rendered(self) -> tuple[str, str, str] | None:
        """A call as the chat template writes it; None if it leaves out calls or writes arguments not as JSON."""
        asked = UserMessage.of("?")
        call = ToolCall.of("call00000", _NAME, {_KEY: _VALUE})
        try:
            prompt = self._chat.prompt_text([asked], [_PROBE])
            whole = self._chat.rendered([asked, AssistantMessage.of(None, (call,))], [_PROBE])
        except UsageError:
            return None
        if not whole.startswith(prompt):
            return None
        reply, key = whole[len(prompt) :], f'"{_KEY}"'
        for end in sorted(self._chat.ends):
            reply = reply.partition(self._chat.text([end]))[0]
        name, first = reply.find(_NAME), reply.find(key)
        start, last = reply.rfind("{", 0, max(first, 0)), reply.find("}", first)
        if min(name, first, start, last) < 0 or not name < start:
            return None
        return reply[:name].lstrip("\n"), reply[name + len(_NAME) : start], reply[last + 1 :].rstrip("\n")

    def _literal(self, text: str) -> str:
        """A text in a grammar. Marks that are single tokens are named by their numbers."""
        tokenizer = self._chat.tokenizer
        parts: list[str] = []
        plain = list[int]()

        def close() -> None:
            if plain:
                parts.append(json.dumps(self._chat.text(plain)))
                plain.clear()

        for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
            if token in tokenizer.added_tokens_decoder:
                close()
                parts.append(f"<[{token}]>")
            else:
                plain.append(token)
        close()
        return " ".join(parts)

    # --- errors -------------------------------------------------------------------------------------------------------

    def _started(self, grammar: str) -> Any:
        return require("llguidance", "local").LLMatcher(self._tokenizer, grammar, log_level=0)

    def _check(self, schema: object, place: str) -> None:
        """Raise BadRequest if a schema cannot be compiled, with the place of the innermost part that cannot."""
        fault = self._fault(schema)
        if fault is None:
            return
        definitions = {name: _fields(schema)[name] for name in ("$defs", "definitions") if name in _fields(schema)}
        tries = iter(range(_TRIES))  # a schema of thousands of parts is not searched to its end
        while True:
            same = (
                (path, inner)
                for path, inner in _parts(schema)
                if next(tries, None) is not None and self._fault(_with(definitions, inner)) == fault
            )
            path, inner = next(same, ("", None))
            if not path:
                break
            place, schema = f"{place}.{path}", inner
        raise BadRequest(f"`{place}` is a JSON schema that cannot be compiled: {fault}; change or omit it")

    def _fault(self, schema: object) -> str | None:
        if not isinstance(schema, (Mapping, bool)):
            return "it must be an object or a boolean"
        try:
            grammar = require("llguidance", "local").LLMatcher.grammar_from_json_schema(json.dumps(schema))
        except ValueError as error:  # nested too deeply
            return str(error)
        matcher = self._started(grammar)
        return _reason(matcher) if matcher.is_error() else None


_PLAIN = ('{"name": "', '", "arguments": ', "}")
_PROBE = ToolSpec.of(_NAME, "Probe.", {_KEY: {"type": "string"}})
_THOUGHT = ('thought[suffix="</think>"]: /(.|\\n)*/', "spaces: /[ \\n]{0,4}/")


class _Decoded:
    """The tokens of a tokenizer as llguidance needs them, decoded one by one."""

    bos_token_id = None

    def __init__(self, chat: ChatFormat, end: int) -> None:
        self.eos_token_id = end
        self._chat = chat
        special = {*chat.tokenizer.added_tokens_decoder, *chat.tokenizer.all_special_ids}
        self.special_token_ids = sorted(special)
        self.tokens = [
            b"\xff[%d]" % token if token in special else chat.text([token]).encode()
            for token in range(len(chat.tokenizer))
        ]

    def __call__(self, text: bytes) -> list[int]:
        return list(self._chat.tokenizer(text.decode(), add_special_tokens=False)["input_ids"])


def is_constrained(request: ChatRequest) -> bool:
    """Whether the reply to a request must have a form."""
    form = request.response_format
    return request.tool_choice not in (None, "auto", "none") or (form is not None and form.get("type") != "text")


def check_form(request: ChatRequest) -> None:
    """Reject a `response_format` or a `tool_choice` that has no meaning.

    Raises:
        BadRequest: it has none; the message names the field.
    """
    _schema(request)
    choice, names = request.tool_choice, [tool.name for tool in request.tools]
    if choice == "required" and not names:
        raise BadRequest("`tool_choice` is `required`, but there are no `tools`; send some, or omit it")
    if choice not in (None, "auto", "none", "required", *names):
        raise BadRequest(
            f"`tool_choice` is `{choice}`, which is none of the `tools` ({', '.join(names) or 'there are none'}); use "
            "auto, none, required or the name of a tool"
        )


def _schema(request: ChatRequest) -> object:
    """The schema of a request's `response_format`; None for free text."""
    form = request.response_format
    if form is None:
        return None
    match form.get("type"):
        case "text":
            return None
        case "json_object":
            return {"type": "object"}
        case "json_schema":
            named = form.get("json_schema")
            if not isinstance(named, Mapping) or "schema" not in named:
                raise BadRequest("`response_format.json_schema.schema` is missing; send a JSON schema")
            schema = cast("JsonObject", named)["schema"]
            if not isinstance(schema, (Mapping, bool)):
                raise BadRequest(f"`response_format.json_schema.schema` is {schema!r:.80}; send an object or a boolean")
            return cast("object", schema)
        case other:
            raise BadRequest(f"`response_format.type` is {other!r}; use text, json_object or json_schema")


def _parameters(tool: ToolSpec) -> JsonObject:
    """The schema of a tool's arguments: an object without other names, unless the tool says otherwise."""
    given = dict(tool.function.parameters or {})
    return {"type": "object", "additionalProperties": False, **given}


def _json_rule(schema: object) -> str:
    if isinstance(schema, bool):
        schema = {} if schema else {"not": {}}
    options = {"x-guidance": {"whitespace_pattern": _SPACES}}
    return f"%json {json.dumps({**_fields(schema), **options}, ensure_ascii=False)}"


def _key(request: ChatRequest) -> bytes:
    tools = [[tool.name, tool.function.parameters] for tool in request.tools] if request.tool_choice != "none" else []
    return blake2b(sorted_json([request.response_format, request.tool_choice, tools])).digest()


def _parts(schema: object) -> Iterator[tuple[str, object]]:
    """The schemas inside a schema, with their places."""
    for name, value in _fields(schema).items():
        if name in _NESTED and isinstance(value, Mapping):
            for inner, each in cast("JsonObject", value).items():
                yield f"{name}.{inner}", each
        elif name in _LISTED and isinstance(value, Sequence) and not isinstance(value, str):
            for index, each in enumerate(cast("Sequence[object]", value)):
                yield f"{name}.{index}", each
        elif isinstance(value, Mapping):
            yield name, cast("object", value)


def _with(definitions: JsonObject, schema: object) -> object:
    """A part of a schema with the definitions of the whole."""
    fields = _fields(schema)
    return {**definitions, **fields} if fields else schema


def _fields(schema: object) -> JsonObject:
    return cast("JsonObject", schema) if isinstance(schema, Mapping) else {}


def _reason(matcher: Any) -> str:
    """Why a matcher is in an error state, without the dump of its state."""
    return " ".join(str(matcher.get_error()).partition("<state>")[0].split())[:200] or "no token may follow"
