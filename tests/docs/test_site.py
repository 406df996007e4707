"""The pages of the documentation site: complete, with links that lead somewhere, and fresh references."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import pytest

import simkit
from site_pages.commands import commands
from site_pages.docstrings import markdown_of
from site_pages.interface import public_names
from site_pages.links import broken_links, outside_addresses
from site_pages.pages import write_pages
from site_pages.pypi import PAGE, package_page

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)(?:#[^)\s]*)?\)")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "pages"
    write_pages(folder)
    return folder


def navigation() -> list[str]:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    return re.findall(r"^ +- (?:[^:\n]+: )?(\S+\.md)$", text[text.index("\nnav:") :], re.M)


def targets(pages: Path, page: Path) -> set[Path]:
    found = LINK.findall(page.read_text("utf-8"))
    return {(page.parent / target).resolve() for target in found}


def test_each_entry_of_the_navigation_is_a_page(pages: Path) -> None:
    entries = navigation()
    assert len(entries) > 40
    assert [entry for entry in entries if not (pages / entry).is_file()] == []


def test_each_page_can_be_reached(pages: Path) -> None:
    todo = [pages / entry for entry in navigation()]
    reached = set(todo)
    while todo:
        for target in targets(pages, todo.pop()) - reached:
            if target.suffix == ".md" and target.is_file():
                reached.add(target)
                todo.append(target)
    assert sorted(str(page.relative_to(pages)) for page in set(pages.rglob("*.md")) - reached) == []


def test_links_of_pages_lead_to_files(pages: Path) -> None:
    missing = [
        f"{page.relative_to(pages)}: {target}"
        for page in sorted(pages.rglob("*.md"))
        for target in targets(pages, page)
        if not target.is_file()
    ]
    assert missing == []


def test_the_reference_has_every_command_and_flag(pages: Path) -> None:
    text = (pages / "reference" / "commands.md").read_text("utf-8")
    names = [name for name, _, _ in commands()]
    assert {"simkit run josh", "simkit sql", "simkit store pack"} < set(names)
    for name, command, context in commands():
        section = text[text.index(f"\n## {name}\n") :].split("\n## ", 2)[1]
        for parameter in cast("list[Any]", command.get_params(context)):
            if not getattr(parameter, "hidden", False) and "--help" not in parameter.opts:
                assert parameter.opts[0] in section, f"{name} {parameter.opts[0]}"


def test_every_column_has_a_comment(pages: Path) -> None:
    text = (pages / "reference" / "tables.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) > 250
    assert [row for row in rows if row.split(" | ")[2].strip(" |") == ""] == []
    assert [line for line in text.splitlines() if re.fullmatch(r"- `[^`]+`|(?:Table|View)\. ?", line)] == []


def test_every_public_name_has_a_place_in_the_reference() -> None:
    assert set(simkit.__all__) - set(public_names()) == set()


def test_docstrings_become_markdown() -> None:
    text = markdown_of(
        """A thing.

        Attributes:
            one, two: numbers
                of it.
            `three`: no entry

        More.
            code()
        """
    )
    assert "- `one`, `two`: numbers\n  of it." in text
    assert "**Attributes**" in text
    assert text.endswith("More.\n\n    code()")


def test_the_package_page_is_the_readme_of_now() -> None:
    page = package_page((ROOT / "README.md").read_text("utf-8"))
    assert PAGE.read_text("utf-8") == page, "write it again: PYTHONPATH=scripts python -m site_pages --pypi"
    assert "](docs/" not in page
    assert "![" not in page
    assert "](https://arxiv.org/abs/2409.04617)" in page


def test_messages_of_the_troubleshooting_page_exist() -> None:
    rooms = ("simkit", "agents", "users", "tools", "rewards", "recipes")
    code = "\n".join(path.read_text("utf-8") for room in rooms for path in sorted((ROOT / room).rglob("*.py")))
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # a text that goes on in the next line
    rows = re.findall(r"^\| `([^`]+)`", (ROOT / "docs" / "troubleshooting.md").read_text("utf-8"), re.M)
    assert len(rows) > 20
    parts = [part.strip() for row in rows for part in row.split("...") if part.strip()]
    assert [part for part in parts if part not in code] == []


def test_broken_links_and_foreign_scripts_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<a href="b.html#here">x</a><a href="b.html#gone">y</a><a href="c.html">z</a>')
    (tmp_path / "b.html").write_text('<h1 id="here">b</h1><a href="https://example.org">x</a><script src="//cdn/x.js">')
    assert broken_links(tmp_path) == ["a.html: b.html#gone", "a.html: c.html"]
    assert list(outside_addresses(tmp_path)) == ["b.html: //cdn/x.js"]


def test_the_site_is_built_and_works_from_the_disk(pages: Path, tmp_path: Path) -> None:
    if find_spec("zensical") is None:
        pytest.skip("zensical is not installed (extra `docs`); scripts/site installs it")
    import subprocess
    import sys

    from site_pages.finish import finish

    (tmp_path / "site").mkdir()
    pages.rename(tmp_path / "site" / "pages")
    try:
        (tmp_path / "mkdocs.yml").write_text((ROOT / "mkdocs.yml").read_text("utf-8"))
        command = [sys.executable, "-m", "zensical", "build", "--strict"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        (tmp_path / "site" / "pages").rename(pages)
    site = tmp_path / "site" / "html"
    finish(site)
    assert broken_links(site) == []
    assert list(outside_addresses(site)) == []
    assert "worker-from-disk.js" in (site / "reference" / "commands.html").read_text("utf-8")
