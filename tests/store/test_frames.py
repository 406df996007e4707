"""Results of queries as data frames: values, types, NULL, repeated names, and what a missing library says."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from store_events import run_started, write_journal

from simkit import Store, UsageError
from simkit.store.frames import unique_names
from simkit.store.reader import QueryResult

SQL = """
SELECT 1::BIGINT AS whole, 2::HUGEINT AS sum, 0.5::DOUBLE AS share, true AS fine, 'x' AS text, '{"a": 1}'::JSON AS body,
    ['a', 'b'] AS names, TIMESTAMP '2026-01-02 03:04:05' AS at, 7 AS whole, {'a': 1} AS struct
UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
"""
NAMES = ["whole", "sum", "share", "fine", "text", "body", "names", "at", "whole_1", "struct"]


@pytest.fixture
def result(tmp_path: Path) -> QueryResult:
    store = Store(tmp_path / "simkit-store")
    write_journal(store.path, [run_started()])
    return store.query(SQL)


def library(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed (extra `frames`)")


def test_pandas_keeps_whole_numbers_beside_null(result: QueryResult) -> None:
    pandas = library("pandas")
    frame = result.df()
    assert list(frame.columns) == NAMES
    assert [str(frame[name].dtype) for name in ("whole", "sum", "share", "fine", "at")] == [
        "Int64",
        "Int64",
        "float64",
        "boolean",
        "datetime64[us]",
    ]
    assert frame["whole"][0] == 1
    assert frame["whole"][1] is pandas.NA
    assert frame["names"][0] == ["a", "b"]
    assert frame["at"][0] == datetime(2026, 1, 2, 3, 4, 5)
    assert frame["struct"][0] == {"a": 1}


def test_polars_has_typed_columns(result: QueryResult) -> None:
    polars = library("polars")
    frame = result.pl()
    assert frame.columns == NAMES
    assert frame.schema["names"] == polars.List(polars.String)
    assert frame.schema["sum"] == polars.Int64
    assert frame.row(0)[:7] == (1, 2, 0.5, True, "x", '{"a": 1}', ["a", "b"])
    assert frame.row(1) == (None,) * 9 + (None,)


def test_arrow_has_typed_columns(result: QueryResult) -> None:
    arrow = library("pyarrow")
    table = result.arrow()
    assert table.column_names == NAMES
    assert table.schema.field("names").type == arrow.list_(arrow.string())
    assert table.schema.field("at").type == arrow.timestamp("us")
    assert table.column("whole").to_pylist() == [1, None]
    assert table.column("struct").to_pylist() == [{"a": 1}, None]


@pytest.mark.parametrize(("make", "package"), [("df", "pandas"), ("pl", "polars"), ("arrow", "pyarrow")])
def test_no_rows_keep_their_types_and_names(make: str, package: str, tmp_path: Path) -> None:
    library(package)
    store = Store(tmp_path / "simkit-store")
    write_journal(store.path, [run_started()])
    found = getattr(store.query("select run_id, trial, reward from episodes"), make)()
    assert found.shape == (0, 3)


@pytest.mark.parametrize(("make", "package"), [("df", "pandas"), ("pl", "polars"), ("arrow", "pyarrow")])
def test_numbers_beyond_64_bits_keep_their_digits(make: str, package: str, tmp_path: Path) -> None:
    library(package)
    store = Store(tmp_path / "simkit-store")
    write_journal(store.path, [run_started()])
    found = getattr(store.query("select 170141183460469231731687303715::HUGEINT as n"), make)()
    value = found["n"][0]
    assert int(value.as_py() if make == "arrow" else value) == 170141183460469231731687303715


@pytest.mark.parametrize(("make", "package"), [("df", "pandas"), ("pl", "polars"), ("arrow", "pyarrow")])
def test_a_missing_library_names_the_extra(
    make: str, package: str, result: QueryResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"needs the package `{package}`.*\[frames\]"):
        getattr(result, make)()


def test_no_column_is_lost_in_rows(tmp_path: Path) -> None:
    store = Store(tmp_path / "simkit-store")
    write_journal(store.path, [run_started()])
    assert store.query("select 1 as a, 2 as a").dicts() == [{"a": 1, "a_1": 2}]


def test_repeated_names_get_numbers() -> None:
    assert unique_names(["a", "a", "a_1", "a"]) == ["a", "a_1", "a_1_1", "a_2"]
