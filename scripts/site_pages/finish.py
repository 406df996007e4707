"""The built site, finished for reading from the disk: nothing is loaded from elsewhere, and the search works there."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

NAME = "worker-from-disk.js"

# A page that was opened from the disk may not start a worker from a file. One from its own text may be started.
_SCRIPT = """if (location.protocol === "file:") {{
  const Started = Worker;
  const text = {text};
  window.Worker = function (_address, options) {{
    return new Started(URL.createObjectURL(new Blob([text], {{ type: "text/javascript" }})), options);
  }};
}}
"""
_SHIM = re.compile(r'<script src="https://unpkg\.com/iframe-worker/shim"[^>]*></script>')


def finish(site: Path) -> None:
    """Put a script of the site in the place of the one that the theme loads from a server.

    Raises:
        FileNotFoundError: the theme has no worker for the search.
        ValueError: no page loads the script any more, so that this step should be left out.
    """
    scripts = site / "assets" / "javascripts"
    (worker,) = scripts.glob("workers/search*.js")
    (scripts / NAME).write_text(_SCRIPT.format(text=json.dumps(worker.read_text("utf-8"))), "utf-8")
    changed = 0
    for page in sorted(site.rglob("*.html")):
        address = os.path.relpath(scripts / NAME, page.parent)
        text, found = _SHIM.subn(f'<script src="{address}"></script>', page.read_text("utf-8"))
        page.write_text(text, "utf-8")
        changed += found
    if not changed:
        raise ValueError("no page of the site loads a script for workers; leave this step out")
