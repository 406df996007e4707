"""Arithmetic of the tool `calculate`."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simkit.tools.tau.calculate import LONGEST, calculate
from simkit.tools.tau.text import Refused


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2 + 2", "4.0"),
        ("  -0.001", "-0.0"),
        ("2 * ((350 - 122) + (499 - 127))", "1200.0"),
        ("7 // 2", "3.0"),
        ("2**0.5", "1.41"),
        ("2.675", "2.67"),
        ("-2**2", "-4.0"),
        ("2**3**2", "512.0"),
        ("10-4-3", "3.0"),
        ("--5", "5.0"),
        ("+5", "5.0"),
        ("9.0**40", "1.4780882941434593e+38"),
        ("1" + "+1" * 900, "901.0"),
    ],
)
def test_the_value_of_an_expression(expression: str, value: str) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize(
    ("expression", "error", "message"),
    [
        ("1e5", Refused, "invalid characters in expression"),
        ("1,000", Refused, "invalid characters in expression"),
        ("", SyntaxError, "invalid syntax"),
        ("1 +", SyntaxError, "invalid syntax"),
        ("(1", SyntaxError, "was never closed"),
        ("1/0", ZeroDivisionError, "division"),
        ("()", TypeError, "not 'tuple'"),
        ("...", TypeError, "not 'ellipsis'"),
        ("(-8)**0.5", TypeError, "not 'complex'"),
        ("3(4)", TypeError, "'int' object is not callable"),
        ("3(1/0)", ZeroDivisionError, "division"),
        ("3(*4)", TypeError, r"3 argument after \* must be an iterable, not int"),
        ("3(*())", TypeError, "'int' object is not callable"),
        ("3.5(**4)", TypeError, r"3.5 argument after \*\* must be a mapping, not int"),
        ("1+" * LONGEST + "1", Refused, f"longer than {LONGEST} characters"),
    ],
)
def test_what_cannot_be_computed_is_an_error(expression: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        calculate(expression)


@pytest.mark.parametrize("value", [[], {}, ["1", "+"]])
def test_a_list_of_allowed_characters_is_no_expression(value: str) -> None:
    with pytest.raises(TypeError, match="must be a string"):
        calculate(value)


@pytest.mark.parametrize(
    "expression", ["9**9**9", "9**9**9**9", "(0-9)**99999999", "2**(10**4000)", "*".join(["9**9999"] * 200)]
)
def test_numbers_that_would_take_long_are_too_large(expression: str) -> None:
    with pytest.raises(OverflowError, match="int too large to convert to float"):
        calculate(expression)


@pytest.mark.parametrize("expression", ["0**99999999", "1**(9**999)", "(0-1)**99999999", "2**1000"])
def test_large_exponents_of_small_powers_are_computed(expression: str) -> None:
    assert math.isfinite(float(calculate(expression)))


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_sums_and_products_are_those_of_integers(numbers: list[int]) -> None:
    assert calculate("+".join(map(str, numbers))) == str(round(float(sum(numbers)), 2))
    assert calculate("*".join(map(str, numbers))) == str(round(float(math.prod(numbers)), 2))
