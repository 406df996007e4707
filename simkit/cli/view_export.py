"""`simkit view --export`: writes the pages of a run as a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from simkit.cli.output import say, say_json
from simkit.cli.program import open_store, print_notes


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFlags:
    """The flags of the command."""

    run: str
    episodes: tuple[str, ...] = ()
    out: Path
    compare: str | None = None
    all_branches: bool = False
    redact: tuple[str, ...] = ()
    json: bool = False


def export_pages(path: Path | None, flags: ExportFlags) -> None:
    """Write the pages of a run, and say what they lack.

    Raises:
        UsageError: a run, an episode or an expression is wrong, or the file cannot be written.
        StoreError: the store cannot be read.
    """
    from simkit.viewing.export import Choice, export

    with open_store(path).reading(allow_incomplete=True) as reader:
        runs = [reader.resolve(name).run_id for name in (flags.run, flags.compare) if name is not None]
        choice = Choice(
            run=runs[0],
            episodes=flags.episodes,
            compare=runs[1] if flags.compare is not None else None,
            all_branches=flags.all_branches,
            redact=flags.redact,
        )
        written = export(reader, choice, flags.out)
        notes = reader.state.of(runs).notes
    if flags.json:
        say_json({"page": str(written.page), "bytes": written.size, "left_out": list(written.left_out)})
    else:
        say(f"written: {written.page} ({written.size / 1e6:.1f} MB)")
        say(f"not in it: {'; '.join(written.left_out)}")
        if written.folder:
            say(f"too large for one file; look at it with: python -m http.server -d {written.page.parent}")
    print_notes(notes)
