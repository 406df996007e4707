"""Exports: one file with the answers to all that its pages ask, and nothing that another text could act in."""

from __future__ import annotations

import json
import re
import stat
from base64 import b64decode, b64encode
from collections.abc import Iterator
from hashlib import sha256
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from viewing_events import told

from simkit.cli.app import app
from simkit.core.conversation import Entry
from simkit.errors import UsageError
from simkit.store import Reader, Store
from simkit.viewing import export as exporting
from simkit.viewing.api import answer
from simkit.viewing.export import Choice, Collected, collected, export, page_of
from simkit.viewing.standalone import inline_json


@pytest.fixture(scope="module")
def reader(played: Path) -> Iterator[Reader]:
    with Store(played).reading() as found:
        yield found


def run_id(reader: Reader, name: str) -> str:
    return reader.resolve(name).run_id


def data_of(page: str) -> Any:
    """The data of an exported page, as its script reads them."""
    (text,) = re.findall(r'<script type="application/json" id="simkit-data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def lines(found: Collected, path: str) -> list[Any]:
    """The messages of an exported conversation, put together as the pages do it."""
    value = found.all_answers[path]
    return [*(lines(found, value["after"]) if "after" in value else ()), *value["lines"]]


def test_a_conversation_is_the_server_s_and_each_message_is_stored_once(reader: Reader) -> None:
    run = run_id(reader, "trees")
    found = collected(reader, Choice(run=run, all_branches=True))
    talks = {path: value for path, value in found.all_answers.items() if path.startswith("/api/transcript/")}
    assert len(talks) > 50
    for path in [*talks][::7]:
        told_there = answer(reader, path)
        assert lines(found, path) == told_there["lines"]
        assert {**talks[path], "lines": [], "after": ""} == {**told_there, "lines": [], "after": ""}
    stored = [(line["branch_id"], line["seq"]) for value in talks.values() for line in value["lines"]]
    assert len(stored) == len(set(stored))


def test_by_default_golden_and_final_conversations_are_exported_and_the_others_counted(reader: Reader) -> None:
    run = run_id(reader, "trees")
    found, every = (collected(reader, Choice(run=run, all_branches=each)) for each in (False, True))
    assert 0 < found.kept < found.ends == every.ends == every.kept
    assert any(f"{found.ends - found.kept} of {found.ends} ends" in text for text in found.left_out)
    assert not any("ends of trees" in text for text in every.left_out)
    for name, answers in found.episodes.items():
        page = answers[f"/api/episodes/{name}"]
        assert f"/api/transcript/{name}/{page['final']}" in answers
        for path, turn, mark in zip(*(page["nodes"][key] for key in ("path", "turn", "mark")), strict=True):
            assert not mark & 4 or f"/api/transcript/{name}/{path}.{turn}" in answers


def test_the_shapes_of_the_trees_are_the_server_s(reader: Reader) -> None:
    path = f"/api/runs/{run_id(reader, 'trees')}/trees"
    found = collected(reader, Choice(run=run_id(reader, "trees"))).answers[path]
    assert found["next"] is None
    assert found["trees"] == answer(reader, path)["trees"]


def test_one_episode_alone_starts_at_its_page(reader: Reader) -> None:
    run = run_id(reader, "trees")
    found = collected(reader, Choice(run=run, episodes=("train-00002",)))
    assert found.start == f"/runs/{run}/train-00002/0"
    assert [*found.episodes] == [f"{run}/train-00002/0"]
    assert found.answers[f"/api/runs/{run}"]["episodes"]["task_id"] == ["train-00002"]
    assert [*found.answers[f"/api/runs/{run}/trees"]["trees"]] == ["train-00002/0"]
    page = found.all_answers[f"/api/episodes/{run}/train-00002/0"]
    assert (page["prev"], page["next"]) == (None, None)
    assert "5 of 6 episodes" in found.left_out


def test_a_comparison_has_both_runs_and_starts_there(reader: Reader) -> None:
    a, b = run_id(reader, "before"), run_id(reader, "after")
    found = collected(reader, Choice(run=a, compare=b))
    assert found.start == f"/compare?a={a}&b={b}"
    assert [row["run_id"] for row in found.answers["/api/runs"]] == [b, a]
    assert len(found.episodes) == 24
    told_there = answer(reader, "/api/compare", {"a": a, "b": b})
    assert found.answers[f"/api/compare?a={a}&b={b}"]["claims"] == told_there["claims"]
    part = collected(reader, Choice(run=a, compare=b, episodes=("test-00001/1",)))
    assert [*part.episodes] == [f"{a}/test-00001/1", f"{b}/test-00001/1"]
    assert [row["task_id"] for row in part.answers[f"/api/compare?a={a}&b={b}"]["tasks"]] == ["test-00001"]


def test_no_notes_can_be_written_and_the_place_of_the_store_is_not_told(reader: Reader) -> None:
    found = collected(reader, Choice(run=run_id(reader, "after")))
    version = found.answers["/api/version"]
    assert version["annotations"] == {"enabled": False, "reason": exporting.NO_NOTES, "author": ""}
    assert version["store"] == "store"
    assert str(reader.path.parent) not in json.dumps(found.all_answers)


def test_configurations_are_exported_without_keys(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_key(*args: Any) -> Any:
        found = answer(*args)
        return {**found, "config": {**found["config"], "api_key": "k-123"}} if "config" in found else found

    monkeypatch.setattr(exporting, "answer", with_key)
    run = run_id(reader, "after")
    assert collected(reader, Choice(run=run)).answers[f"/api/runs/{run}"]["config"]["api_key"] == "[key]"


def test_long_messages_are_held_whole_up_to_a_size(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    told(store, "r1", [Entry.agent("long " * 10_000, 1), Entry.agent("longer " * 200_000, 2)])
    with store.reading() as reader:
        found = collected(reader, Choice(run="r1")).all_answers
    assert found["/api/message/r1/t/0/.1/1"]["content"] == "long " * 10_000
    assert "/api/message/r1/t/0/.2/2" not in found


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_page_holds_its_data_and_is_for_its_owner_alone(reader: Reader, tmp_path: Path) -> None:
    run = run_id(reader, "after")
    choice = Choice(run=run, episodes=("test-00000/0",))
    written = export(reader, choice, tmp_path / "out.html")
    page = written.page.read_text(encoding="utf-8")
    assert written.size == len(page.encode())
    assert not written.folder
    assert stat.S_IMODE(written.page.stat().st_mode) == 0o600
    found = data_of(page)
    assert found["start"] == f"/runs/{run}/test-00000/0"
    assert found["answers"] == json.loads(json.dumps(collected(reader, choice).all_answers))
    assert page == page_of(reader, choice)


def test_nothing_in_the_page_runs_but_its_own_scripts(reader: Reader) -> None:
    page = page_of(reader, Choice(run=run_id(reader, "after"), episodes=("test-00000/0",)))
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    directives = dict(each.strip().split(" ", 1) for each in unescape(policy).split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["connect-src"] == "'none'"
    scripts = re.findall(r"<script(?: type=\"importmap\")?>(.*?)</script>", page, re.DOTALL)
    hashes = [f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in scripts]
    assert directives["script-src"].split() == ["'strict-dynamic'", *hashes]
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert directives["style-src"] == f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'"
    assert not re.search(r"\b(?:src|href)=\"(?!data:)", page)


def test_every_module_is_in_the_map_under_the_name_by_which_it_is_imported(reader: Reader) -> None:
    page = page_of(reader, Choice(run=run_id(reader, "after"), episodes=("test-00000/0",)))
    (text,) = re.findall(r'<script type="importmap">(.*?)</script>', page)
    modules = {name: b64decode(url.split(",")[1]).decode() for name, url in json.loads(text)["imports"].items()}
    assert "simkit/app.js" in modules
    for source in modules.values():
        code = re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL)
        named = re.findall(r"""(?:\bfrom|\bimport)\s*["']([^"']+)["']""", code)
        assert {*named} <= {*modules}


@pytest.mark.parametrize("text", ["</script><script>alert(1)</script>", "<!--<script>", "\u2028\u2029"])
def test_no_text_ends_the_data(text: str) -> None:
    shown = inline_json(json.dumps({"text": text}, ensure_ascii=False).encode())
    assert "<" not in shown
    assert json.loads(shown) == {"text": text}


def test_too_much_for_one_file_becomes_a_folder(
    reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "LARGEST", 10_000)
    choice = Choice(run=run_id(reader, "after"))
    written = export(reader, choice, tmp_path / "out.html")
    assert written.folder
    assert written.page == tmp_path / "out" / "index.html"
    page = written.page.read_text(encoding="utf-8")
    assert "connect-src 'self'" in unescape(page)
    found = data_of(page)
    held = {path: json.loads((tmp_path / "out" / name).read_text()) for path, name in found["files"].items()}
    whole = collected(reader, choice)
    assert {*held} | {*found["answers"]} == {*whole.all_answers}
    for path, answers in held.items():
        assert answers[path] == whole.all_answers[path]
    assert written.size == sum(file.stat().st_size for file in (tmp_path / "out").rglob("*.*"))


def test_a_place_that_cannot_be_written_is_named(reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name, message in (
        ("file/out.html", r"file is a file, so out\.html cannot be in it"),
        ("mistyped/out.html", r"mistyped does not exist; create it"),
        (f"{'x' * 300}.html", r"x\.html cannot be written: File name too long"),
    ):
        with pytest.raises(UsageError, match=message):
            export(reader, Choice(run=run_id(reader, "after")), tmp_path / name)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


# --- the command ------------------------------------------------------------------------------------------------------


def command(*words: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["view", *map(str, words)])
    return done.exit_code, done.output


def test_the_command_writes_the_file_and_says_what_it_lacks(played: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.html"
    code, said = command(
        "trees", "train-00001", "train-00002/0", "--export", out, "--redact", "hotel", "--store", played
    )
    assert code == 0
    assert f"written: {out} (" in said
    assert "not in it: 4 of 6 episodes; " in " ".join(said.split())
    data = data_of(out.read_text(encoding="utf-8"))
    assert sum(path.startswith("/api/episodes/") for path in data["answers"]) == 2
    assert "hotel" not in json.dumps(data)
    code, said = command("before", "--compare", "after", "--export", out, "--json", "--store", played)
    assert json.loads(said)["page"] == str(out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trees", "nothing", "--export", "x.html"], "has no episode 'nothing'"),
        (["trees", "--redact", "(", "--export", "x.html"], "is not a regular expression"),
        (["trees", "--compare", "after"], "are for --export FILE"),
        (["nosuch", "--export", "x.html"], "there is no run 'nosuch'"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(
    played: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = command(*words, "--store", played)
    assert code != 0
    assert message in " ".join(said.split())
    assert not [*tmp_path.iterdir()]
