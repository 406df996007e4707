"""Results of queries as data frames and Arrow tables. The libraries come with the extra `frames`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from simkit.plugins.extras import require

if TYPE_CHECKING:
    from simkit.store.reader import QueryResult

EXTRA = "frames"
_LARGEST = 2**63
_INTEGERS = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64}


def pandas_frame(result: QueryResult) -> Any:
    """The rows as a `pandas.DataFrame`.

    Whole numbers and booleans have pandas' nullable types, so that NULL does not turn them into floats. Times are
    UTC without a zone, as in the store.

    Raises:
        UsageError: pandas is not installed.
    """
    pandas = require("pandas", EXTRA)

    def column(kind: str, values: list[Any]) -> Any:
        return pandas.Series(values, dtype=_pandas_type(kind, values))

    frame = pandas.concat(list(_columns(result, column)), axis=1) if result.columns else pandas.DataFrame()
    frame.columns = unique_names(result.columns)
    return frame


def polars_frame(result: QueryResult) -> Any:
    """The rows as a `polars.DataFrame`.

    Raises:
        UsageError: polars is not installed.
    """
    polars = require("polars", EXTRA)

    def column(kind: str, values: list[Any]) -> Any:
        return polars.Series(values=values, dtype=_polars_type(polars, kind, values), strict=False)

    series = zip(unique_names(result.columns), _columns(result, column), strict=True)
    return polars.DataFrame([each.alias(name) for name, each in series])


def arrow_table(result: QueryResult) -> Any:
    """The rows as a `pyarrow.Table`.

    Raises:
        UsageError: pyarrow is not installed.
    """
    arrow = require("pyarrow", EXTRA)

    def column(kind: str, values: list[Any]) -> Any:
        return arrow.array(values, type=_arrow_type(arrow, kind, values))

    return arrow.Table.from_arrays(list(_columns(result, column)), names=unique_names(result.columns))


def unique_names(names: Sequence[str]) -> list[str]:
    """Names of columns, of which a repeated one gets a number: frames and objects cannot hold two of one name."""
    taken: list[str] = []
    for name in names:
        number, free = 1, name
        while free in taken:
            free, number = f"{name}_{number}", number + 1
        taken.append(free)
    return taken


def _columns(result: QueryResult, column: Callable[[str, list[Any]], Any]) -> Iterable[Any]:
    for place, kind in enumerate(result.types):
        yield column(kind, [row[place] for row in result.rows])


def _fits(values: list[Any]) -> bool:
    """Whether all numbers fit into 64 bits; sums of whole numbers have 128 in DuckDB."""
    return all(value is None or -_LARGEST <= value < _LARGEST for value in values)


def _pandas_type(kind: str, values: list[Any]) -> str | None:
    if kind in _INTEGERS or (kind == "HUGEINT" and _fits(values)):
        return f"Int{_INTEGERS.get(kind, 64)}"
    names = {"DOUBLE": "float64", "FLOAT": "float32", "BOOLEAN": "boolean", "TIMESTAMP": "datetime64[us]"}
    return names.get(kind, None if kind in ("VARCHAR", "JSON") else "object")


def _polars_type(polars: Any, kind: str, values: list[Any]) -> Any:
    if kind.endswith("[]"):
        inner = _polars_type(polars, kind[:-2], [each for value in values if value is not None for each in value])
        return polars.List(inner) if inner is not None else None
    if kind == "HUGEINT":
        return polars.Int64 if _fits(values) else polars.Int128
    if kind in _INTEGERS:
        return getattr(polars, f"Int{_INTEGERS[kind]}")
    return {
        "DOUBLE": polars.Float64,
        "FLOAT": polars.Float32,
        "BOOLEAN": polars.Boolean,
        "VARCHAR": polars.String,
        "JSON": polars.String,
        "DATE": polars.Date,
        "TIMESTAMP": polars.Datetime("us"),
    }.get(kind)


def _arrow_type(arrow: Any, kind: str, values: list[Any]) -> Any:
    if kind.endswith("[]"):
        inner = _arrow_type(arrow, kind[:-2], [each for value in values if value is not None for each in value])
        return arrow.list_(inner) if inner is not None else None
    if kind == "HUGEINT":
        return arrow.int64() if _fits(values) else arrow.decimal128(38, 0)
    if kind in _INTEGERS:
        return getattr(arrow, f"int{_INTEGERS[kind]}")()
    return {
        "DOUBLE": arrow.float64(),
        "FLOAT": arrow.float32(),
        "BOOLEAN": arrow.bool_(),
        "VARCHAR": arrow.string(),
        "JSON": arrow.string(),
        "DATE": arrow.date32(),
        "TIMESTAMP": arrow.timestamp("us"),
    }.get(kind)
