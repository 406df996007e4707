"""States that functions change through a copy: SQLite databases and JSON documents."""

from __future__ import annotations

import os
import pickle
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from simkit import CallTool, FunctionTools, StartTools, Task, ToolCall, ToolResult, ToolReturn, UsageError
from simkit.errors import DataCorrupt, DataMissing
from simkit.testing.conformance import check_tool_server
from simkit.tools import sql_guard
from simkit.tools.database import Database
from simkit.tools.documents import Documents
from simkit.tools.drafts import DraftedState

pytestmark = pytest.mark.anyio

SCRIPT = """
create table items (id integer primary key, name text, stock integer check (stock >= 0));
create table notes (text);
create table events (what text, at text default current_timestamp);
insert into items values (1, 'kettle', 2), (2, 'pot', 0);
"""
TASK = Task(id="t", world="w", split="test", instructions="Do it.")


@pytest.fixture
def start() -> Database:
    return Database.made_by(SCRIPT)


async def called(function: Callable[..., Any], state: DraftedState, **arguments: Any) -> ToolReturn:
    server = FunctionTools(function, state=state)
    call = ToolCall.of("c", function.__name__, arguments)
    return await server.call(CallTool(TASK, call, state))


def run_sql(db: sqlite3.Connection, sql: str) -> Any:
    """Run a statement that a model wrote."""
    return db.execute(sql).fetchall()


def rename(data: dict[str, Any], name: str) -> str:
    """Rename the first item in place."""
    data["items"][0]["name"] = name
    return name


# --- databases --------------------------------------------------------------------------------------------------------


async def test_a_function_changes_a_copy_and_its_rows_are_recorded(start: Database) -> None:
    done = await called(run_sql, start, sql="update items set stock = 1 where id = 1")
    assert done.state != start
    assert done.writes == (
        {"table": "items", "removed": {"id": 1, "name": "kettle", "stock": 2}},
        {"table": "items", "written": {"id": 1, "name": "kettle", "stock": 1}},
    )
    assert (await called(run_sql, start, sql="select stock from items")).result.value == [{"stock": 2}, {"stock": 0}]
    assert (await called(run_sql, done.state, sql="select stock from items")).result.value == [
        {"stock": 1},
        {"stock": 0},
    ]


async def test_reading_leaves_the_state_as_it_is(start: Database) -> None:
    done = await called(run_sql, start, sql="select * from items")
    assert done.state is start
    assert done.writes == ()


async def test_equal_rows_without_keys_are_told_apart(start: Database) -> None:
    state = (await called(run_sql, start, sql="insert into notes values ('x')")).state
    again = await called(run_sql, state, sql="insert into notes values ('x')")
    assert again.writes == ({"table": "notes", "written": {"text": "x"}},)


async def test_an_error_discards_what_was_changed(start: Database) -> None:
    def spoil(db: sqlite3.Connection) -> ToolResult:
        """Change, and then say no."""
        db.execute("delete from items")
        return ToolResult(value="no", error=True)

    done = await called(spoil, start)
    assert done.state is start
    assert done.result.error


@pytest.mark.parametrize(
    "sql",
    [
        "attach 'outside.db' as outside",
        "vacuum into 'outside.db'",
        "vacuum",
        "pragma temp_store_directory = '/tmp'",
        "pragma journal_mode = wal",
        "select * from pragma_database_list",
        "select load_extension('outside.so')",
        "select writefile('outside.db', 'x')",
        "select random()",
        "select lower(hex(randomblob(8)))",
        "insert into events (what) values ('x')",
        "select current_date",
        "select datetime('now')",
        "select unixepoch()",
        "select strftime('%s', 'NOW', '+1 day')",
        "select strftime('%s')",
        "select datetime('2026-01-01', 'localtime')",
        "select 9e999",
        "insert into notes values (9e999)",
        "no sql at all",
        "update items set stock = -1",
        "select zeroblob(100000000)",
    ],
)
async def test_refused_statements_are_errors_that_reach_no_file(
    sql: str, start: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = await called(run_sql, start, sql=sql)
    assert done.result.error
    assert done.result.value["error"].startswith("refused: ")
    assert done.state is start
    assert os.listdir(tmp_path) == []


async def test_a_query_without_end_is_stopped(start: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_guard, "MOST_STEPS", 200_000)
    endless = "with recursive n(x) as (select 1 union all select x + 1 from n) select count(*) from n"
    done = await called(run_sql, start, sql=endless)
    assert done.result.value == {
        "error": "refused: the SQL takes too long (more than 200,000 steps); ask for less",
    }


async def test_a_query_of_too_many_rows_is_stopped(start: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_guard, "MOST_READ", 1 << 20)
    many = "with recursive n(x) as (select 1 union all select x + 1 from n limit 100000) select x from n"
    assert (await called(run_sql, start, sql=many)).result.value == {
        "error": "refused: the SQL reads more than 1 MB; ask for less",
    }


async def test_dates_that_are_given_are_computed(start: Database) -> None:
    sql = "select date('2026-01-31', '+1 month') as d, strftime('%Y', 0, 'unixepoch') as y, julianday(null) as n"
    assert (await called(run_sql, start, sql=sql)).result.value == [{"d": "2026-03-03", "y": "1970", "n": None}]


def test_a_script_that_reads_the_clock_is_refused_with_its_line() -> None:
    with pytest.raises(UsageError, match=r"start\.sql:2: .*current_timestamp reads the clock"):
        Database.made_by("create table a (x, at default current_timestamp);\ninsert into a(x) values (1);", "start.sql")


async def test_each_way_to_change_a_row_is_seen() -> None:
    start = Database.made_by(
        """
        create table names (name text collate nocase);
        create table owners (id text primary key);
        create table pets (owner text references owners on delete cascade, rowid text);
        create virtual table found using fts5(body);
        insert into names values ('ann'), ('ann');
        insert into owners values ('o1');
        insert into pets values ('o1', 'same'), ('o1', 'same');
        """
    )
    seen: dict[str, list[Any]] = {
        "update names set name = 'ANN' where rowid = 1": [("removed", {"name": "ann"}), ("written", {"name": "ANN"})],
        "delete from names where rowid = 2": [("removed", {"name": "ann"})],
        "delete from owners": [("removed", {"id": "o1"}), *[("removed", {"owner": "o1", "rowid": "same"})] * 2],
        "insert into found values ('hello')": [("written", {"body": "hello"})],
        "create table copy as select id from owners": [("written", {"id": "o1"})],
        "alter table owners rename column id to name": [("removed", {"id": "o1"}), ("written", {"name": "o1"})],
        "drop table names": [("removed", {"name": "ann"})] * 2,
    }
    for sql, rows in seen.items():
        done = await called(run_sql, start, sql=sql)
        told = [(kind, change[kind]) for change in done.writes for kind in ("removed", "written") if kind in change]
        assert told == rows, sql
        assert isinstance(done.state, Database)
        assert [change.to_json() for change in done.state.changes(start)] == list(done.writes), sql


async def test_a_database_that_is_kept_or_closed_is_a_fault_of_the_tool(start: Database) -> None:
    kept: list[sqlite3.Connection] = []

    def keep(db: sqlite3.Connection) -> str:
        """Use the connection of the first call."""
        kept.append(db)
        kept[0].execute("select 1")
        return "done"

    def close(db: sqlite3.Connection) -> str:
        """Close the connection."""
        db.close()
        return "done"

    await called(keep, start)
    for tool in (keep, close):
        with pytest.raises(UsageError, match="use the parameter `db`, leave it open"):
            await called(tool, start)


async def test_an_open_transaction_is_committed(start: Database) -> None:
    def begun(db: sqlite3.Connection) -> str:
        """Forget to commit."""
        db.execute("begin")
        db.execute("delete from items")
        return "done"

    done = await called(begun, start)
    assert (await called(run_sql, done.state, sql="select count(*) as n from items")).result.value == [{"n": 0}]


async def test_a_tool_server_with_a_database_keeps_its_promises(start: Database) -> None:
    def take(db: sqlite3.Connection, item: int) -> dict[str, Any]:
        """Take one piece of an item."""
        return {"success": db.execute("update items set stock = stock - 1 where id = ?", (item,)).rowcount == 1}

    calls = [ToolCall.of("a", "take", {"item": 1}), ToolCall.of("b", "take", {"item": 1})]
    await check_tool_server(FunctionTools(take, state=start), [TASK], calls=lambda _: calls)


def test_files_of_any_journal_mode_are_read_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "shop.sqlite"
    with closing(sqlite3.connect(file)) as made:
        made.execute("pragma journal_mode = wal")
        made.executescript(SCRIPT)
        before = file.read_bytes()
        found = Database.read(file)
        assert file.read_bytes() == before
    assert found.tables() == ("events", "items", "notes")
    assert found.digest({"items": ()}) == Database.made_by(SCRIPT).digest({"items": ()})


def test_files_that_are_no_databases_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="there is no database"):
        Database.read(tmp_path / "none.sqlite")
    (tmp_path / "text.sqlite").write_text("not a database, but long enough to be read as one" * 50)
    with pytest.raises(DataCorrupt, match="cannot be read as an SQLite database"):
        Database.read(tmp_path / "text.sqlite")


def test_a_mistake_in_a_script_is_named_with_its_line() -> None:
    with pytest.raises(UsageError, match=r"start\.sql:3: SQLite refuses the statement: near \"tabel\""):
        Database.made_by("create table a (x);\n\ncreate tabel b (y);\n", "start.sql")


def test_digests_depend_on_content_alone(start: Database) -> None:
    other = Database.made_by(SCRIPT.replace("(1, 'kettle', 2), (2, 'pot', 0)", "(2, 'pot', 0), (1, 'kettle', 2)"))
    assert other.digest({"items": ()}) == start.digest({"items": ()})
    fewer = Database.made_by(SCRIPT.replace("'kettle', 2", "'kettle', 1"))
    assert fewer.digest({"items": ()}) != start.digest({"items": ()})
    assert fewer.digest({"items": ("name",)}) == start.digest({"items": ("name",)})


def test_tables_and_columns_that_do_not_exist_are_named(start: Database) -> None:
    with pytest.raises(UsageError, match=r"no table `item` \(did you mean `items`\?\); it has: events, items, notes"):
        start.digest({"item": ()})
    with pytest.raises(UsageError, match=r"no column `stok` in `items` \(did you mean `stock`\?\)"):
        start.digest({"items": ("stok",)})


def test_states_can_be_sent_to_workers(start: Database) -> None:
    assert pickle.loads(pickle.dumps(start)) == start


# --- documents --------------------------------------------------------------------------------------------------------


async def test_documents_are_changed_in_place_on_a_copy() -> None:
    start = Documents.of({"items": [{"name": "kettle"}, {"name": "pot"}], "rest": {"a": {"n": 1}}})
    done = await called(rename, start, name="tea pot")
    assert done.writes == (
        {"table": "items", "removed": {"name": "kettle"}},
        {"table": "items", "written": {"name": "tea pot"}},
    )
    again = await called(rename, start, name="kettle")
    assert again.state is start
    assert again.writes == ()


async def test_branches_do_not_see_what_others_wrote() -> None:
    start = Documents.of({"items": [{"name": "kettle"}]})
    server = FunctionTools(rename, state=start)
    calls = [ToolCall.of("a", "rename", {"name": "x"}), ToolCall.of("b", "rename", {"name": "y"})]
    await check_tool_server(server, [TASK], calls=lambda _: calls)
    assert server.start(StartTools(TASK)).state == start


async def test_a_document_that_is_no_json_any_more_is_a_fault_of_the_tool() -> None:
    def spoil(data: dict[str, Any]) -> str:
        """Store what cannot be stored."""
        data["items"] = {1}
        return "done"

    with pytest.raises(UsageError, match="the document `items` of the world's data is not JSON"):
        await called(spoil, Documents.of({"items": []}))


def test_rows_of_objects_have_their_keys() -> None:
    start = Documents.of({"users": {"u1": {"age": 1}, "u2": {"age": 2}}, "total": 3})
    after = Documents.of({"users": {"u1": {"age": 1}, "u2": {"age": 5}}, "total": 3})
    assert [change.to_json() for change in after.changes(start)] == [
        {"table": "users", "removed": {"key": "u2", "age": 2}},
        {"table": "users", "written": {"key": "u2", "age": 5}},
    ]
    assert after.digest({"users": ("key",), "total": ()}) == start.digest({"users": ("key",), "total": ()})
    with pytest.raises(UsageError, match="no column `ag` in `users`"):
        start.digest({"users": ("ag",)})


def test_a_document_that_was_removed_has_no_rows_any_more() -> None:
    start, after = Documents.of({"items": [{"n": 1}], "rest": []}), Documents.of({"rest": []})
    assert [change.to_json() for change in after.changes(start)] == [{"table": "items", "removed": {"n": 1}}]


def test_numbers_that_are_no_json_are_refused_and_equal_ones_are_equal() -> None:
    for value in (float("nan"), float("inf"), 1 << 64):
        with pytest.raises(UsageError, match="the document `items` of the world's data is not JSON"):
            Documents.of({"items": [{"price": value, "at": None}]})
    whole, real = (Documents.of({"items": [{"price": price}]}) for price in (2, 2.0))
    assert whole.digest({"items": ()}) == real.digest({"items": ()})


def test_states_of_different_kinds_are_not_compared(start: Database) -> None:
    with pytest.raises(UsageError, match="cannot be compared"):
        start.changes(Documents.of({}))
    with pytest.raises(UsageError, match="cannot be compared"):
        Documents.of({}).changes(start)
