"""What README.md and docs/ show is what happens: their recipes, programs, queries and commands are run here.

The fences say how a block is read: `python` that defines an async function taking `run` is a recipe, run through the
command line; other `python` is a program; `sql` is asked of a store with a harvest and a rollout; `sh` is run line by
line where the line starts with `simkit`, page by page, so that a page can be followed from its beginning. Programs that
a page has its reader save (``Save this as `NAME.py` ``, or `.yaml`) are there for its commands. A block behind
`<!-- not run by the tests: reason -->` is left out.
"""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simkit.cli.app import app
from simkit.store import Store
from simkit.store.notes import Note, NoteFile

ROOT = Path(__file__).parents[2]
FENCE = re.compile(
    r"(?P<skip><!-- not run by the tests: [^>]+ -->\n)?^```(?P<kind>\w+)[^\n]*\n(?P<text>.*?)^```", re.M | re.S
)

SAVED = re.compile(
    r"[Ss]ave this as\s+`(?P<name>[\w/]+\.(?:py|yaml))`.*?^```(?:python|yaml)\n(?P<text>.*?)^```", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """A fenced block, and where it stands."""

    file: Path
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.file.name}:{self.line}"


def blocks(*kinds: str, skipped: bool = False) -> list[Block]:
    found: list[Block] = []
    for file in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        if file.name == "pypi.md":  # the README again
            continue
        text = file.read_text()
        for match in FENCE.finditer(text):
            if match["kind"] in kinds and bool(match["skip"]) == skipped:
                found.append(Block(file, text.count("\n", 0, match.start()) + 1, match["kind"], match["text"]))
    return found


def is_recipe(block: Block) -> bool:
    return re.search(r"^async def \w+\(\s*run\b", block.text, re.M) is not None


def recipes() -> list[Block]:
    return [block for block in blocks("python") if is_recipe(block)]


def programs() -> list[Block]:
    return [block for block in blocks("python") if not is_recipe(block) and "__file__" not in block.text]


def simkit(*words: str) -> None:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, f"simkit {shlex.join(words)}\n{done.output}"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store as a reader has it: a few model calls, a harvest named `first` and a rollout with two trials."""
    folder = tmp_path_factory.mktemp("docs") / "simkit-store"
    common = ("--store", str(folder), "--quiet")
    simkit("run", "rollout", "--tasks", "2", "--max-turns", "1", "--model", "scripted/Which day?", *common)
    simkit("run", "josh", "--tasks", "6", "--beam", "4", "--name", "first", *common)
    simkit("run", "rollout", "--tasks", "6", "--trials", "2", *common)
    note_about_the_worst_and_the_best(Store(folder))
    return folder


def note_about_the_worst_and_the_best(store: Store) -> None:
    """Notes as a person writes them in the viewer, against what the reward says."""
    ranked = "select episode_id, final_branch_id from episodes where reward is not null order by reward, episode_id"
    rows = store.query(ranked).rows
    for label, (episode, branch) in (("good", rows[0]), ("wrong", rows[-1])):
        run, _, rest = episode.partition("/")
        task, _, trial = rest.rpartition("/")
        path, _, turn = branch.removeprefix(f"{episode}/").rpartition(".")
        note = Note(
            id=label,
            run_id=run,
            task_id=task,
            trial=int(trial),
            path=path,
            turn=int(turn),
            seq=None,
            label=label,
            text="",
            author="ann",
            digest="",
            at=1_800_000_000.0,
        )
        NoteFile(store.path).append(note)


@pytest.fixture
def own_store(store: Path, tmp_path: Path) -> Path:
    """A copy of that store, in which `last` is not a run of another page."""
    return shutil.copytree(store, tmp_path / "simkit-store")


def test_a_recipe_fits_into_the_readme_and_five_queries_have_a_page() -> None:
    assert len([block for block in blocks("sql") if block.file.name == "query.md"]) >= 5
    (recipe,) = [block for block in recipes() if block.file.name == "README.md"]
    assert len([line for line in recipe.text.splitlines() if line.strip()]) <= 25


@pytest.mark.parametrize("block", recipes(), ids=str)
def test_recipe(block: Block, tmp_path: Path) -> None:
    name = re.search(r"^async def (\w+)\(\s*run\b", block.text, re.M)
    assert name is not None
    file = tmp_path / f"{name[1]}.py"
    file.write_text(block.text)
    simkit("run", str(file), "--tasks", "2", "--store", str(tmp_path / "store"))


@pytest.mark.parametrize("block", programs(), ids=str)
def test_program(block: Block, own_store: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", block.text],
        cwd=own_store.parent,
        stdin=subprocess.DEVNULL,  # a server on stdio ends at once
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", blocks("sql"), ids=str)
def test_query(block: Block, store: Path) -> None:
    result = Store(store).query(block.text)
    assert result.columns
    assert result.rows, "the query is fine, but shows a reader nothing"


def pages_with_commands() -> list[Path]:
    return list(dict.fromkeys(block.file for block in blocks("sh") if commands(block)))


def commands(block: Block) -> list[str]:
    return [line for line in block.text.replace("\\\n", " ").splitlines() if line.startswith("simkit ")]


@pytest.mark.parametrize("page", pages_with_commands(), ids=lambda page: page.name)
def test_commands(page: Path, own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own_store.parent)
    for saved in SAVED.finditer(page.read_text()):
        Path(saved["name"]).parent.mkdir(exist_ok=True)
        Path(saved["name"]).write_text(saved["text"])
    for block in blocks("sh"):
        if block.file == page:
            for line in commands(block):
                simkit(*shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize("block", blocks("python", skipped=True), ids=str)
def test_names_in_programs_that_are_not_run_exist(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "simkit":
            exec(ast.unparse(node), {})
