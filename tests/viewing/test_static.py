"""The files of the viewer's pages: what other projects wrote is as recorded, and text of models is never markup."""

import hashlib
import re
import tomllib
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[2] / "simkit" / "viewing" / "static"
VENDOR = STATIC / "vendor"
MODULES = sorted(STATIC.glob("*.js"))
OWN = [*MODULES, *sorted(STATIC.glob("*.css")), STATIC / "index.html"]

MARKUP = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "eval(", "new Function")
IMPORT = re.compile(r"import\s+(?:(?P<names>\{[^}]*\}|\w+)\s+from\s+)?'(?P<path>[^']+)';")
EXPORT = re.compile(r"^export (?:async )?(?:function|const|class) (\w+)", re.MULTILINE)


def test_vendored_modules_are_those_that_were_recorded() -> None:
    """A changed byte, an unlisted file or a missing licence fails; scripts/vendor renews all of them."""
    rows = tomllib.loads((VENDOR / "VENDORED.toml").read_text())["module"]
    assert {row["file"] for row in rows} == {each.name for each in VENDOR.glob("*.js")}
    licences = (VENDOR / "LICENSES").read_text()
    for row in rows:
        assert hashlib.sha256((VENDOR / row["file"]).read_bytes()).hexdigest() == row["sha256"], row["file"]
        assert f"{row['name']} {row['version']} ({row['licence']})" in licences


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_pages_never_parse_text_as_markup_and_name_no_other_host(path: Path) -> None:
    """Text of a model could become an element, a script or a request through each of these."""
    text = path.read_text()
    for word in MARKUP:
        assert word not in text, word
    assert not re.search(r"\bhttps?://|@import|\bsrcdoc\b", text)


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_files_of_the_pages_can_be_read(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) < 400
    assert [line for line in lines if len(line) > 120] == []


def exported(path: Path) -> set[str]:
    """Names that a module exports."""
    text = path.read_text()
    listed = re.findall(r"^export \{([^}]*)\}", text, re.MULTILINE)
    return {*EXPORT.findall(text), *(name.strip() for names in listed for name in names.split(",") if name.strip())}


def named(names: str) -> dict[str, str]:
    """Names between braces, each with the name that it has in the importing module."""
    pairs = (name.strip().partition(" as ") for name in names.strip("{}").split(",") if name.strip())
    return {name: own or name for name, _, own in pairs}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_modules_import_only_what_is_there(path: Path) -> None:
    """There is no build step that would notice a wrong name; the export also relies on this form of imports."""
    text = path.read_text()
    assert len(IMPORT.findall(text)) == len(re.findall(r"^import\b", text, re.MULTILINE))
    for found in IMPORT.finditer(text):
        target = (STATIC / found["path"]).resolve()
        assert target.is_file(), found["path"]
        if target.parent == STATIC:
            names = named(found["names"])
            assert set(names) <= exported(target), f"{path.name} imports what {target.name} does not export"
            body = text[: found.start()] + text[found.end() :]
            used = path.name == "html.js" or {each for each in names.values() if re.search(rf"\b{each}\b", body)}
            assert used == set(names.values()), f"{path.name} imports of {target.name} what it does not use"


def test_the_page_names_its_files() -> None:
    page = (STATIC / "index.html").read_text()
    files = re.findall(r'(?:href|src)="/static/([^"]+)"', page)
    assert sorted(files) == ["app.js", "pages.css", "style.css", "talk.css"]
    assert all((STATIC / each).is_file() for each in files)
