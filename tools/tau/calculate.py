"""Bounded arithmetic for the tool `calculate`: the syntax and the error messages of Python, without `eval`.

Python's parser reads the expression, and only numbers, operators and the few other forms that the allowed characters
can spell are computed. Exponents are bounded, since `9**9**9` would take longer than the universe has.
"""

from __future__ import annotations

import ast
from typing import Any, Final, cast

from simkit.tools.tau.text import Refused

CHARACTERS: Final = "0123456789+-*/(). "
LONGEST: Final = 2_000
"""The number of characters of the longest expression that is read."""
LARGEST: Final = 20_000
"""The number of bits of the largest integer that a power or a product may have; a float overflows at 1,024."""


def calculate(expression: str) -> str:
    """The value of an arithmetic expression, rounded to two decimals.

    Raises:
        Refused: the expression has other characters, or it is too long.
        Exception: what Python raises for this expression, with the same message.
    """
    if not all(character in CHARACTERS for character in expression):
        raise Refused("invalid characters in expression")
    if not isinstance(expression, str):  # pyright: ignore[reportUnnecessaryIsInstance]: a model may send a list
        raise TypeError("eval() arg 1 must be a string, bytes or code object")
    if len(expression) > LONGEST:
        raise Refused(f"expression is longer than {LONGEST} characters")
    tree = cast("ast.Expression", compile(expression.lstrip(" "), "<string>", "eval", ast.PyCF_ONLY_AST))
    return str(round(float(_value(tree.body)), 2))


def _value(tree: ast.expr) -> Any:
    """The value of an expression, computed in the order of Python.

    A loop in place of a recursion: the depth of a tree grows with the length of the expression.
    """
    values: list[Any] = []
    waiting: list[tuple[ast.expr, bool]] = [(tree, False)]
    while waiting:
        node, ready = waiting.pop()
        if ready:
            _reduce(node, values)
        else:
            waiting.append((node, True))
            waiting += [(part, False) for part in reversed(_parts(node))]
    return values.pop()


def _parts(node: ast.expr) -> list[ast.expr]:
    match node:
        case ast.BinOp(left=left, right=right):
            return [left, right]
        case ast.UnaryOp(operand=operand):
            return [operand]
        case ast.Call(func=function, args=arguments, keywords=keywords):
            given = [argument.value if isinstance(argument, ast.Starred) else argument for argument in arguments]
            return [function, *given, *(keyword.value for keyword in keywords)]
        case _:
            return []


def _reduce(node: ast.expr, values: list[Any]) -> None:
    """Replace the values of a node's parts, which are the last ones, by the node's own value."""
    match node:
        case ast.BinOp(op=operation):
            right, left = values.pop(), values.pop()
            values.append(_computed(operation, left, right))
        case ast.UnaryOp(op=operation):
            value = values.pop()
            values.append(-value if isinstance(operation, ast.USub) else +value)
        case ast.Constant(value=value):
            values.append(value)
        case ast.Tuple():
            values.append(())
        case ast.Call():
            _refuse_call(node, values)
        case _:
            raise Refused("invalid expression")


def _computed(operation: ast.operator, left: Any, right: Any) -> Any:
    whole = isinstance(left, int) and isinstance(right, int)
    match operation:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Div():
            return left / right
        case ast.FloorDiv():
            return left // right
        case ast.Mult():
            _check_size(left.bit_length() + right.bit_length() if whole else 0)
            return left * right
        case _:  # a power, the last operator that the allowed characters can spell
            _check_size((abs(left).bit_length() - 1) * right if whole else 0)
            return left**right


def _check_size(bits: int) -> None:
    """Refuse an integer that takes too long to compute, as `float` refuses one that is too large."""
    if bits > LARGEST:
        raise OverflowError("int too large to convert to float")


def _refuse_call(node: ast.Call, values: list[Any]) -> None:
    """Raise what Python raises for `2(3)`, `2(*3)` and `2(**3)`: nothing that can be spelled here is a function."""
    function, *given = values[len(values) - len(_parts(node)) :]
    if any(isinstance(argument, ast.Starred) for argument in node.args) and not isinstance(given[0], tuple):
        raise TypeError(f"{function} argument after * must be an iterable, not {type(given[0]).__name__}")
    if node.keywords:
        raise TypeError(f"{function} argument after ** must be a mapping, not {type(given[-1]).__name__}")
    raise TypeError(f"'{type(function).__name__}' object is not callable")
