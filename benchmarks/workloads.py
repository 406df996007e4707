"""The workloads simkit is made for, played by the whole product against the load server, with ratios side by side.

    python benchmarks/workloads.py [w1 w2 ...] [--repeat N]

w1  200 conversations at once, beside a bare aiohttp loop that makes the same calls
w2  JOSH at beam 8, beside its critical path
w3  10,000 conversations in one process, 2,000 requests in flight
w4  CPU a call for more conversations, longer ones, wider beams
w5  faults of the endpoint, an endpoint that goes away for a while, and one that goes for good
budget  (W7) a budget of money with 200 calls in flight, through the command line, and more of it on resume

Everything goes through `simkit.Run` with store, journal, loader and live display on; agent and user are played by a
model over HTTP, and the server runs in a process of its own. `pip install aiohttp uvloop` for w1.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping

from workload_bare import w1
from workload_budget import budget
from workload_faults import w5
from workload_scale import w3, w4
from workload_trees import w2

WORKLOADS: Mapping[str, Callable[[int], None]] = {"w1": w1, "w2": w2, "w3": w3, "w4": w4, "w5": w5, "budget": budget}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"of {', '.join(WORKLOADS)}; all when none")
    parser.add_argument("--repeat", type=int, default=3, help="measurements of each side; medians are shown")
    given = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for name in given.workloads or WORKLOADS:
        if name not in WORKLOADS:
            parser.error(f"there is no workload {name}; choose among {', '.join(WORKLOADS)}")
        WORKLOADS[name](given.repeat)


if __name__ == "__main__":
    main()
