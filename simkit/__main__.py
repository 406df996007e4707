"""`python -m simkit`."""

from __future__ import annotations

from simkit.cli import main

if __name__ == "__main__":
    main()
