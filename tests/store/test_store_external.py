"""A query reaches the store and nothing else, unless it is allowed to."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_events import josh_episode, run_started, write_journal
from typer.testing import CliRunner

from simkit.cli.app import app
from simkit.errors import UsageError
from simkit.store import Store

OUTSIDE = [
    "COPY (SELECT 1) TO '{folder}/out.csv'",
    "COPY (SELECT 1) TO '{folder}/out.parquet' (FORMAT parquet)",
    "FROM read_text('{folder}/secret.csv')",
    "FROM read_blob('{folder}/secret.csv')",
    "FROM read_csv('{folder}/secret.csv')",
    "FROM '{folder}/secret.csv'",
    "FROM glob('{folder}/*')",
    "SELECT * FROM sniff_csv('{folder}/secret.csv')",
    "ATTACH '{folder}/other.duckdb' AS other",
    "EXPORT DATABASE '{folder}/exported'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "FROM 'http://127.0.0.1:9/x.csv'",
    "CREATE SECRET s (TYPE s3)",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "SET memory_limit = '1GB'",
    "PRAGMA enable_profiling",
    "SET profiling_output = '{folder}/profile'",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret.csv").write_text("a\n1\n")
    return tmp_path


@pytest.fixture
def played(store: Store) -> Store:
    write_journal(store.path, [run_started("r1", "one"), *josh_episode("r1").events], run="r1")
    return store


@pytest.mark.parametrize("query", OUTSIDE)
def test_nothing_outside_is_reached(query: str, folder: Path, played: Store) -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(UsageError, match="`simkit sql --external`"):
        played.query(query.format(folder=folder))
    made = [path for path in sorted(folder.rglob("*")) if path not in before and played.path not in path.parents]
    assert not made


def test_what_is_python_s_is_not_reached(played: Store) -> None:
    rows = [{"a": 1}]
    assert rows
    with pytest.raises(UsageError, match="rows"):
        played.query("FROM rows")


def test_allowed_queries_reach_it(folder: Path, played: Store) -> None:
    allowed = Store(played.path, external=True)
    assert allowed.query(f"FROM read_csv('{folder}/secret.csv')").rows == [(1,)]
    assert played.query("SELECT count(*) FROM runs").rows == [(1,)]
    allowed.query(f"COPY (FROM runs) TO '{folder}/runs.csv'")
    assert (folder / "runs.csv").exists()


def test_the_command_has_a_flag_for_it(folder: Path, played: Store) -> None:
    query = f"FROM read_csv('{folder}/secret.csv')"
    refused = CliRunner().invoke(app, ["sql", query, "--store", str(played.path)])
    assert refused.exit_code == 2
    assert "--external" in refused.output
    allowed = CliRunner().invoke(app, ["sql", query, "--external", "--format", "csv", "--store", str(played.path)])
    assert (allowed.exit_code, allowed.stdout) == (0, "a\n1\n")


def test_a_reader_beside_one_that_is_closed_off_can_be_opened(played: Store) -> None:
    with played.reading() as first, played.reading() as second:
        assert first.query("SELECT count(*) FROM runs").rows == second.query("SELECT count(*) FROM runs").rows


def test_an_export_cannot_be_made_to_read_other_files(folder: Path, played: Store) -> None:
    where = f"(SELECT count(*) FROM read_text('{folder}/secret.csv')) > 0"
    command = ["export", "sft", "--run", "last", "--out", str(folder / "x.jsonl"), "--where", where]
    done = CliRunner().invoke(app, [*command, "--store", str(played.path), "--allow-incomplete"])
    assert done.exit_code == 2, done.output
    assert "disabled by configuration" in done.output


def test_a_query_whose_error_duckdb_cuts_within_a_letter_is_a_wrong_query(folder: Path, played: Store) -> None:
    store = Store(played.path, external=True)
    for shift in range(3):  # one of three places at least is within a letter of three bytes
        (folder / "rows.json").write_text(f'{{"a": "{"x" * shift}{"日" * 400}"}}\n', encoding="utf-8")
        with pytest.raises(UsageError, match="the query failed"):
            store.query(
                f"FROM read_json('{folder}/rows.json', format = 'newline_delimited', columns = {{'a': 'INTEGER'}})"
            )
