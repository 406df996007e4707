"""Mutants of a Python file: one small change each, found in its syntax tree and made in its text.

Annotations, decorators, docstrings and code for type checkers are left alone, and so is the type in a `cast`: no test
can see them. Texts are changed only where they look like names (`"dropped"`), because the words of messages are
nobody's behaviour.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

COMPARISONS: dict[type[ast.cmpop], tuple[str, tuple[str, ...]]] = {
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: (r"is\s+not", ("is",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: (r"not\s+in", ("in",)),
}
ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.BitOr: ("|", "&"),
    ast.BitAnd: ("&", "|"),
    ast.BitXor: ("^", "&"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list", "reversed": "iter"}
NAME_LIKE = re.compile(r"[a-z][a-z_]*\Z")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A changed file.

    Attributes:
        path: the file, from the top of the project.
        function: what the change is in: `Class.method`, or empty at the top of the file.
        called: whether it runs when that function is called, not when the file is imported.
        line: of the change, from 1.
        lines: of the whole statement that is changed, its blocks left out: first and last.
        was, now: the changed lines without and with the change, stripped.
        source: the whole changed file.
        nth: how many mutants of the file before it have the same `key`.
    """

    path: str
    function: str
    called: bool
    line: int
    lines: tuple[int, int]
    was: str
    now: str
    source: bytes
    nth: int = 0

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What the change is, wherever in the function it stands."""
        return (self.path, self.function, self.was, self.now)


@dataclass(frozen=True, slots=True)
class _Edit:
    """Bytes `start` to `end` become `new`."""

    start: int
    end: int
    new: str


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the tree we are."""

    function: str = ""
    called: bool = False
    statement: ast.stmt | None = None


def mutants_of(root: Path, path: str) -> list[Mutant]:
    """All mutants of one file that compile.

    Raises:
        SyntaxError: the file itself does not.
    """
    text = _Text((root / path).read_bytes())
    found: dict[bytes, Mutant] = {}
    same = Counter[tuple[str, str, str, str]]()
    for place, edit in _Finder(text).edits():
        source = text.data[: edit.start] + edit.new.encode() + text.data[edit.end :]
        if source == text.data or source in found or not _compiles(source):
            continue
        line = text.line_of(edit.start)
        last = text.line_of(max(edit.start, edit.end - 1))
        added = edit.new.count("\n") - text.data[edit.start : edit.end].count(b"\n")
        now = _Text(source)
        mutant = Mutant(
            path,
            place.function,
            place.called,
            line,
            _header(place.statement, line),
            text.stripped(line, last),
            now.stripped(line, last + added),
            source,
        )
        found[source] = replace(mutant, nth=same[mutant.key])
        same[mutant.key] += 1
    return list(found.values())


def _header(statement: ast.stmt | None, line: int) -> tuple[int, int]:
    """The lines of a statement without the blocks in it."""
    if statement is None:
        return (line, line)
    body: list[ast.stmt] = getattr(statement, "body", None) or []
    last = body[0].lineno - 1 if body else statement.end_lineno or statement.lineno
    return (statement.lineno, max(statement.lineno, last, line))


def _compiles(source: bytes) -> bool:
    try:
        compile(source, "mutant", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


class _Text:
    """A file by lines and by bytes, as the positions of a syntax tree count them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.starts = [0]
        for line in data.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def at(self, line: int, column: int) -> int:
        return self.starts[line - 1] + column

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.at(node.lineno, node.col_offset), self.at(node.end_lineno, node.end_col_offset)

    def of(self, node: ast.expr | ast.stmt) -> str:
        start, end = self.span(node)
        return self.data[start:end].decode()

    def line_of(self, offset: int) -> int:
        low, high = 0, len(self.starts) - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.starts[middle] <= offset else (low, middle - 1)
        return low + 1

    def stripped(self, first: int, last: int) -> str:
        lines = self.data.decode().splitlines()[first - 1 : last]
        return "\n".join(line.strip() for line in lines)


class _Finder:
    """Walks a tree and finds what can be changed."""

    def __init__(self, text: _Text) -> None:
        self._text = text

    def edits(self) -> Iterator[tuple[_Place, _Edit]]:
        yield from self._walk(ast.parse(self._text.data), _Place())

    def _walk(self, node: ast.AST, place: _Place) -> Iterator[tuple[_Place, _Edit]]:
        if isinstance(node, ast.stmt):
            place = replace(place, statement=node)
        for edit in self._changes(node):
            yield place, edit
        inner = place
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            called = place.called or not isinstance(node, ast.ClassDef)
            inner = _Place(f"{place.function}.{node.name}".lstrip("."), called, node)
        for child in _children(node):
            yield from self._walk(child, inner if isinstance(child, ast.stmt) else place)

    def _changes(self, node: ast.AST) -> Iterator[_Edit]:
        match node:
            case ast.Compare():
                yield from self._comparison(node)
            case ast.BinOp(left=left, op=op, right=right):
                yield from self._token(left, right, *ARITHMETIC.get(type(op), ("", "")))
            case ast.AugAssign(target=target, op=op, value=value):
                old, new = ARITHMETIC.get(type(op), ("", ""))
                yield from self._token(target, value, f"{old}=", f"{new}=")
                yield self._instead(node, "pass")
            case ast.BoolOp():
                yield from self._logic(node)
            case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
                yield self._instead(node, f"({self._text.of(operand)})")
            case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
                yield from self._condition(test)
            case ast.comprehension(ifs=ifs):
                for test in ifs:
                    yield from self._condition(test)
                    yield self._instead(test, "True")
            case ast.Constant():
                yield from self._constant(node)
            case ast.Name(id=name) if name in NAMES:
                yield self._instead(node, NAMES[name])
            case ast.ExceptHandler(type=ast.Tuple(elts=elements)):
                for element in elements:
                    yield self._instead(element, "()")
            case ast.ExceptHandler(type=ast.expr() as kind):
                yield self._instead(kind, "()")
            case ast.For(iter=over) | ast.AsyncFor(iter=over):
                yield self._instead(over, "()")
            case ast.stmt():
                yield from self._statement(node)
            case _:
                return

    def _comparison(self, node: ast.Compare) -> Iterator[_Edit]:
        left = node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            old, changed = COMPARISONS[type(op)]
            for new in changed:
                yield from self._token(left, right, old, new, pattern=True)
            left = right

    def _token(self, left: ast.expr, right: ast.expr, old: str, new: str, *, pattern: bool = False) -> Iterator[_Edit]:
        """Another operator between two operands."""
        start, end = self._text.span(left)[1], self._text.span(right)[0]
        found = re.search((old if pattern else re.escape(old)).encode(), self._text.data[start:end])
        if new and found:
            yield _Edit(start + found.start(), start + found.end(), new)

    def _logic(self, node: ast.BoolOp) -> Iterator[_Edit]:
        parts = [f"({self._text.of(value)})" for value in node.values]
        word, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        yield self._instead(node, f"({f' {other} '.join(parts)})")
        for index in range(len(parts)):
            rest = parts[:index] + parts[index + 1 :]
            yield self._instead(node, f"({f' {word} '.join(rest)})")

    def _condition(self, test: ast.expr) -> Iterator[_Edit]:
        negated_otherwise = isinstance(test, ast.UnaryOp) or (isinstance(test, ast.Compare) and len(test.ops) == 1)
        if not negated_otherwise and not (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"):
            yield self._instead(test, f"(not ({self._text.of(test)}))")

    def _constant(self, node: ast.Constant) -> Iterator[_Edit]:
        match node.value:
            case bool():
                yield self._instead(node, str(not node.value))
            case int() | float():
                yield self._instead(node, repr(node.value + 1))
                yield self._instead(node, f"({node.value - 1!r})")
            case str() if NAME_LIKE.match(node.value):
                yield self._instead(node, repr(f"{node.value}_"))
            case _:
                return

    def _statement(self, node: ast.stmt) -> Iterator[_Edit]:
        match node:
            case ast.Expr(value=ast.Call(func=ast.Name(id="assert_never"))):
                return
            case ast.Expr(value=ast.Call() | ast.Await() | ast.Yield() | ast.YieldFrom()) | ast.Delete():
                yield self._instead(node, "pass")
            case ast.Raise():
                yield self._instead(node, "pass")
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
                yield self._instead(node, "pass")
            case ast.Break():
                yield self._instead(node, "continue")
            case ast.Continue():
                yield self._instead(node, "break")
            case ast.Return(value=ast.expr() as value) if not _is_falsy(value):
                yield self._instead(value, "None")
            case _:
                return

    def _instead(self, node: ast.expr | ast.stmt, new: str) -> _Edit:
        return _Edit(*self._text.span(node), new)


def _is_falsy(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and not node.value


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a node that tests can see."""
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING")) | ast.AnnAssign(annotation=ast.Name(id="TypeAlias")):
            return
        case ast.JoinedStr():  # messages; and Python 3.11 does not know where their parts are
            return
        case ast.Assign(targets=[ast.Name(id="__slots__" | "__all__")]):
            return
        case ast.Call(func=ast.Name(id="cast"), args=[_, *values]):
            yield from values
            return
        case _:
            pass
    hidden = {"annotation", "returns", "decorator_list", "type_comment", "type_params", "format_spec"}
    for name, value in ast.iter_fields(node):
        if name in hidden or (name in ("bases", "keywords") and isinstance(node, ast.ClassDef)):
            continue
        for child in value if isinstance(value, list) else [value]:  # pyright: ignore[reportUnknownVariableType]
            if isinstance(child, ast.AST):
                yield child
