"""Nothing is printed around `simkit/cli/output.py`, which keeps control characters off the terminal."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("simkit", "agents", "users", "tools", "rewards", "recipes")
STREAMS = ("sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__", "sys.stdout.buffer", "sys.stderr.buffer")
CALLS = {
    *("print", "input", "pprint", "pprint.pprint", "traceback.print_exc", "traceback.print_exception"),
    *(f"typer.{way}" for way in ("echo", "secho", "style", "prompt", "confirm", "progressbar")),
    *(f"{stream}.{way}" for stream in STREAMS for way in ("write", "writelines")),
    *(f"console.{way}" for way in ("print", "log", "input", "out")),
}
IMPORTS = {"rich.print", "rich.console.Console", "rich.text.Text", "rich.table.Table", "rich.markdown.Markdown"}
ALLOWED = {
    ("users/human.py", "sys.stdout.write"),  # what it is given has been through `visible`
    ("simkit/core/child_process.py", "sys.stderr.write"),  # what workers say, through `visible`
    ("simkit/testing/server.py", "sys.stdout.write"),  # its own address
    ("simkit/cli/progress.py", "rich.console.Console"),  # draws what `text_line` made
    ("simkit/cli/app.py", "typer.style"),  # names of its own commands and flags
}


def name(node: ast.expr) -> str:
    """A dotted name; empty for anything else."""
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute():
            return f"{name(node.value)}.{node.attr}"
        case _:
            return ""


def for_types_only(tree: ast.Module) -> set[ast.AST]:
    """What stands under `if TYPE_CHECKING`."""
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and name(node.test) == "TYPE_CHECKING"]
    return {inner for block in blocks for inner in ast.walk(block)}


def printing(source: str) -> set[str]:
    """The ways of printing that a module uses."""
    tree = ast.parse(source)
    found: set[str] = set()
    for node in set(ast.walk(tree)) - for_types_only(tree):
        if isinstance(node, ast.Call):
            found |= {name(node.func)} & CALLS
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} & IMPORTS
    return found


def test_only_the_output_module_prints() -> None:
    files = [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]
    assert len(files) > 150
    found = {(str(file.relative_to(ROOT)), way) for file in files for way in printing(file.read_text())}
    assert {way for file, way in found if file == "simkit/cli/output.py"} >= {"typer.echo", "rich.text.Text"}
    assert {(file, way) for file, way in found if file != "simkit/cli/output.py"} == ALLOWED


def test_the_check_sees_every_way_of_printing() -> None:
    source = "import sys\nfrom rich.text import Text\nprint(1)\nsys.stderr.write('x')\nif TYPE_CHECKING:\n    input()"
    assert printing(source) == {"print", "sys.stderr.write", "rich.text.Text"}
