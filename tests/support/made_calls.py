"""Replies of local models that hold calls as text, built from a grammar of notations, each with what it means."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from hypothesis import strategies as st

from simkit.core.messages import ToolCall, text_of
from simkit.core.text_calls import TextCalls, certain_words, find_calls
from simkit.local.chat import ChatFormat
from support.made_texts import SENTENCES, TOOLS

Fields: TypeAlias = dict[str, Any]
Kind: TypeAlias = Literal["call", "malformed", "doubtful", "data", "words"]

_KEYS: st.SearchStrategy[str] = st.sampled_from(("area", "day", "stars", "name", "arguments", "x"))
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=6)
    | st.sampled_from(("<tool_call>", "</tool_call>", '{"a": 1}', "```", "it's", '"', "\\", "}", "[", "\n{", "book("))
)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3), max_leaves=5
)
_ARGUMENTS: st.SearchStrategy[Fields] = st.dictionaries(_KEYS, _VALUES, max_size=3)
_SIMPLE: st.SearchStrategy[Fields] = st.dictionaries(
    st.sampled_from(("area", "day")), st.sampled_from(("north", "Friday")), min_size=1, max_size=2
)
_NAMES = tuple(tool.name for tool in TOOLS)
_DATA: tuple[Fields, ...] = ({"reason": "It is near."}, {"name": "Anna", "age": 4}, {"day": "Monday"}, {})


@dataclass(frozen=True)
class Piece:
    """A piece of a reply; `meant` is its call."""

    kind: Kind
    text: str
    meant: tuple[str, Fields] | None = None


@dataclass(frozen=True)
class MadeReply:
    """A reply: its text, its pieces, and where the first one begins that is no word."""

    text: str
    pieces: tuple[Piece, ...]
    begins: int

    @property
    def calls(self) -> list[tuple[str, Fields]]:
        """The calls that it means."""
        return [piece.meant for piece in self.pieces if piece.meant is not None]

    @property
    def malformed(self) -> bool:
        """Whether it holds a malformed call. A doubtful object is one only beside others."""
        kinds = {piece.kind for piece in self.pieces}
        return "malformed" in kinds or ("doubtful" in kinds and "call" in kinds)


def _written(draw: st.DrawFn, name: str, arguments: Fields) -> str:
    key = draw(st.sampled_from(("arguments", "parameters")))
    fields = {"name": name, key: arguments} if draw(st.booleans()) else {key: arguments, "name": name}
    return json.dumps(fields, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from((None, None, 1))))


@st.composite
def objects(draw: st.DrawFn, lines: bool, inside: bool) -> Piece:
    """A JSON object: a call, a malformed one, or data.

    Args:
        lines: whether it stands on lines of its own, so that an object without its last bracket ends with them.
        inside: whether it stands behind a mark, where everything has to be a call.
    """
    name, arguments, simple = draw(st.sampled_from(_NAMES)), draw(_ARGUMENTS), draw(_SIMPLE)
    call = Piece("call", _written(draw, name, arguments), (name, arguments))
    malformed = [
        json.dumps({"name": name}),
        json.dumps({"name": name, "arguments": list(simple)}),
        json.dumps({"name": name, "arguments": simple}).replace(": {", ": {["),
        json.dumps({"steps": [{"name": name, "arguments": simple}]}),
    ]
    malformed += [json.dumps({"name": name, "arguments": simple})[:-1]] if lines else []
    doubtful = [json.dumps({"arguments": simple}), json.dumps({"parameters": simple, "name": "Acorn"})]
    if inside:
        malformed += [json.dumps({"arguments": simple}), json.dumps(draw(st.sampled_from(_DATA)))]
        return draw(st.sampled_from((call, call, Piece("malformed", draw(st.sampled_from(malformed))))))
    data = Piece("data", json.dumps(draw(st.sampled_from(_DATA))))
    others = (Piece("malformed", draw(st.sampled_from(malformed))), Piece("doubtful", draw(st.sampled_from(doubtful))))
    return draw(st.sampled_from((call, call, data, *others)))


@st.composite
def _words(draw: st.DrawFn) -> Piece:
    return Piece("words", draw(SENTENCES))


def _marked(before: str, after: str) -> Callable[[st.DrawFn], list[Piece]]:
    def make(draw: st.DrawFn) -> list[Piece]:
        found: list[Piece] = []
        for _ in range(draw(st.integers(1, 4))):
            if draw(st.integers(0, 3)):
                one = draw(objects(lines=False, inside=True))
                found.append(replace(one, text=f"{before}{one.text}{after}"))
            else:
                found.append(draw(st.one_of(_words(), objects(lines=False, inside=False))))
        return found

    return make


def _list(before: str, between: str, after: str) -> Callable[[st.DrawFn], list[Piece]]:
    def make(draw: st.DrawFn) -> list[Piece]:
        found = draw(st.lists(objects(lines=False, inside=bool(before.strip("["))), min_size=1, max_size=4))
        last = len(found) - 1
        return [
            replace(one, text=f"{before if not n else ''}{one.text}{between if n < last else after}")
            for n, one in enumerate(found)
        ]

    return make


def _bare(draw: st.DrawFn) -> list[Piece]:
    return draw(st.lists(st.one_of(objects(lines=True, inside=False), _words()), min_size=1, max_size=5))


def _fenced(draw: st.DrawFn) -> list[Piece]:
    return [
        one if one.kind == "words" else replace(one, text=f"```json\n{one.text}\n```")
        for one in draw(st.lists(st.one_of(objects(lines=True, inside=False), _words()), min_size=1, max_size=4))
    ]


def _python(draw: st.DrawFn) -> list[Piece]:
    found: list[Piece] = []
    for _ in range(draw(st.integers(1, 4))):
        name, arguments = draw(st.sampled_from(_NAMES)), draw(_ARGUMENTS)
        call = f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
        broken = f"{name}(area=north town, day=)"
        good = Piece("call", call, (name, arguments))
        found.append(draw(st.sampled_from((good, good, Piece("malformed", broken), draw(_words())))))
    return found


NOTATIONS: Mapping[str, Callable[[st.DrawFn], list[Piece]]] = {
    "hermes": _marked("<tool_call>\n", "\n</tool_call>"),
    "cohere": _marked("<|START_ACTION|>", "<|END_ACTION|>"),
    "mistral": _list("[TOOL_CALLS][", ", ", "]"),
    "llama": _list("<|python_tag|>", "; ", ""),
    "json list": _list("[", ", ", "]"),
    "json": _bare,
    "fenced json": _fenced,
    "python": _python,
}


@st.composite
def call_replies(draw: st.DrawFn) -> MadeReply:
    """A reply of some calls and other objects in one notation, with or without words before it."""
    notation = draw(st.sampled_from(tuple(NOTATIONS)))
    pieces = NOTATIONS[notation](draw)
    between = "" if notation in ("mistral", "llama", "json list") else "\n"
    first = [draw(_words())] if draw(st.booleans()) else []
    text, begins = "", -1
    for piece in (*first, *pieces):
        text += "\n" if text and piece is pieces[0] else between if text else ""
        if begins < 0 and piece.kind != "words":
            begins = len(text)
        text += piece.text
    return MadeReply(text, (*first, *pieces), len(text) if begins < 0 else begins)


# --- checks -----------------------------------------------------------------------------------------------------------


def check_calls(made: MadeReply) -> None:
    """The reply is read as what it means: its calls, malformed ones as unread, and words without either."""
    found = find_calls(made.text, TOOLS)
    assert _made(found) == made.calls
    assert bool(found and found.unread) == made.malformed
    if found is None:
        return
    assert not [name for name in _NAMES if f'"{name}"' in found.words]
    for piece in made.pieces:
        if piece.kind == "words":
            assert piece.text in found.rest
        if piece.kind == "data":
            assert piece.text[piece.text.index("{") : piece.text.rindex("}") + 1] in found.rest


def check_read(made: MadeReply, chat: ChatFormat) -> None:
    """A local model's reply: its calls, and a doubt about malformed ones, which stay in the text."""
    read = chat.read(made.text, TOOLS)
    calls = [(call.name, call.parse_arguments()) for call in read.message.tool_calls or ()]
    assert calls == made.calls
    assert bool(read.doubts) == made.malformed
    if not calls and not read.doubts:
        assert text_of(read.message).strip() == made.text.strip()


def check_beginnings(made: MadeReply, ends: list[int]) -> None:
    """Beginnings of a reply: the calls are those at its beginning, and what is certain precedes all of them."""
    for end in ends:
        begun = made.text[: end % (len(made.text) + 1)]
        calls = _made(find_calls(begun, TOOLS))
        assert calls == made.calls[: len(calls)], begun
        certain, _ = certain_words(begun, offered=True)
        assert certain <= made.begins, begun
        assert certain <= len(begun)


def _made(found: TextCalls | None) -> list[tuple[str, Fields]]:
    calls = found.calls if found else ()
    return [(call.name, ToolCall.of("", call.name, call.arguments).parse_arguments()) for call in calls]
