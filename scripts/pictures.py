"""Pictures of the viewer's pages over a store with the runs `demo`, `before` and `after`: see scripts/pictures."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # for `support`

from simkit.store import Store
from support.browser import Theme, missing, opened_browser, served, visiting

ROOT = Path(__file__).parents[1]
LARGEST = 150_000
"""Maximum bytes of a picture."""

WIDEST = """
    select task_id from episode_scores where run = 'demo' and success order by branches desc, task_id limit 1
"""
WORST = "select task_id, trial from episode_scores where run = 'before' and reward > 0 order by reward, task_id limit 1"


def pictures(store: Path) -> dict[str, tuple[str, Theme]]:
    """The path and the theme of each picture."""
    with Store(store).reading() as reader:
        ids = {run.name: run.run_id for run in reader.runs()}
        (tree,) = reader.query(WIDEST).rows[0]
        task, trial = reader.query(WORST).rows[0]
    return {
        "tree": (f"/runs/{ids['demo']}/{tree}/0", "light"),
        "run": (f"/runs/{ids['demo']}", "dark"),
        "compare": (f"/compare?a={ids['before']}&b={ids['after']}", "light"),
        "why": (f"/runs/{ids['before']}/{task}/{trial}?pane=why", "dark"),
    }


def small(picture: bytes) -> bytes:
    """A picture, with few colours where it would be too large."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    few = (
        image.quantize(colours, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE) for colours in (256, 64)
    )
    for each in (image, *few):
        out = io.BytesIO()
        each.save(out, "png", optimize=True)
        if out.tell() <= LARGEST:
            return out.getvalue()
    raise ValueError(f"a picture has more than {LARGEST:,} bytes with 64 colours")


def main() -> None:
    """Draw all pictures."""
    if (reason := missing()) is not None:
        sys.exit(reason)
    store = Path(sys.argv[1])
    with opened_browser() as browser, served(store) as address:
        for name, (path, theme) in pictures(store).items():
            with visiting(browser, address, theme, 1280) as visit:
                page = visit.open(path)
                place = ROOT / "docs" / f"viewer-{name}.png"
                place.write_bytes(small(page.screenshot()))
                print(f"{place.relative_to(ROOT)}: {place.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
