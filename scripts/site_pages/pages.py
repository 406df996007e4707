"""All pages of the site, with their paths: documents, examples and references."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from site_pages.commands import commands_page
from site_pages.interface import interface_pages
from site_pages.pypi import PAGE, ROOT
from site_pages.tables import tables_page

DOCUMENTS: Mapping[str, str] = {
    "README.md": "index.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "AGENTS.md": "project/agents.md",
}
"""Documents outside docs/, and their pages."""

_LINK = re.compile(r"(?<!\\)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")
_SHOWN = {
    ".md": "markdown",
    ".py": "python",
    ".toml": "toml",
    ".yaml": "yaml",
    ".sh": "sh",
    ".sql": "sql",
    ".json": "json",
}
_MARK = re.compile(r"<!-- not run by the tests: [^>]+ -->\n")


def write_pages(folder: Path) -> list[Path]:
    """Write all pages and their pictures to an empty folder; what it held is deleted."""
    shutil.rmtree(folder, ignore_errors=True)
    written: list[Path] = []
    for path, text in all_pages():
        page = folder / path
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, "utf-8")
        written.append(page)
    for picture in pictures():
        copy = folder / picture.relative_to(ROOT / "docs")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, copy)
    return written


def all_pages() -> Iterator[tuple[str, str]]:
    """Each page with its path in the site."""
    places = page_of_file()
    for name, page in places.items():
        yield page, moved((ROOT / name).read_text("utf-8"), name, places)
    for example in examples():
        yield f"examples/{example.name}.md", example_page(example, places)
    yield "reference/commands.md", commands_page()
    yield "reference/tables.md", tables_page()
    for name, text in interface_pages():
        yield f"reference/api/{name}.md", text


def page_of_file() -> dict[str, str]:
    """The page of each document of the checkout."""
    docs = [path for path in sorted((ROOT / "docs").rglob("*.md")) if path != PAGE]
    places = {str(path.relative_to(ROOT)): str(path.relative_to(ROOT / "docs")) for path in docs}
    return {name: page for name, page in DOCUMENTS.items() if (ROOT / name).exists()} | places


def pictures() -> list[Path]:
    """Files of docs/ that pages show."""
    return [path for path in sorted((ROOT / "docs").rglob("*")) if path.suffix in {".png", ".svg"}]


def examples() -> list[Path]:
    """Folders of complete small projects."""
    return [path for path in sorted((ROOT / "examples").iterdir()) if path.is_dir() and any(path.iterdir())]


def moved(text: str, name: str, places: Mapping[str, str]) -> str:
    """A document as a page: links lead to pages of the site, and files that have no page are only named."""
    page = Path(places.get(name, name))

    def link(match: re.Match[str]) -> str:
        target = (ROOT / Path(name).parent / match[1]).resolve()
        place = _place_of(str(target.relative_to(ROOT)), places) if target.is_relative_to(ROOT) else ""
        return f"]({relative(place, page)}{match[2] or ''})" if place else "](#)"

    text = _MARK.sub("", text)
    return re.sub(r"\[([^\[\]]*)\]\(#\)", r"\1", _outside_code(text, lambda part: _LINK.sub(link, part)))


def _place_of(file: str, places: Mapping[str, str]) -> str:
    """The page or picture of a file of the checkout; empty if the site does not have it."""
    examples_of = {f"examples/{each.name}": f"examples/{each.name}.md" for each in examples()}
    found = places.get(file) or examples_of.get("/".join(Path(file).parts[:2]))
    return found or (file.removeprefix("docs/") if file.startswith("docs/") else "")


def relative(place: str, page: Path) -> str:
    """The path from a page to another one."""
    return str(Path(*[".."] * (len(page.parts) - 1), place))


def example_page(folder: Path, places: Mapping[str, str]) -> str:
    """An example: its description, then its files."""
    readme = folder / "README.md"
    name = str(readme.relative_to(ROOT))
    page = f"examples/{folder.name}.md"
    told = moved(readme.read_text("utf-8"), name, {**places, name: page}) if readme.exists() else f"# {folder.name}\n"
    parts = [told.rstrip(), "", f"The files are in `examples/{folder.name}` of the source."]
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in _SHOWN and path != readme and "__pycache__" not in path.parts:
            text = path.read_text("utf-8").rstrip()
            parts += ["", f"## {path.relative_to(folder)}", "", f"````{_SHOWN[path.suffix]}", text, "````"]
    return "\n".join(parts) + "\n"


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    """The text with its parts outside fenced code changed."""
    parts = re.split(r"(^```.*?^```[^\n]*$)", text, flags=re.M | re.S)
    return "".join(part if part.startswith("```") else change(part) for part in parts)
