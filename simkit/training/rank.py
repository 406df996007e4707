"""One process of a training: `python -m simkit.training.rank FOLDER`, started by `train_in_process` or its launcher."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

from simkit.errors import SimkitError
from simkit.plugins.extras import require
from simkit.run.contract import packed_error
from simkit.training.launch import JOB, SOCKET
from simkit.training.link import Failure, ParentLink
from simkit.training.play import ByParent
from simkit.training.trainer import train


def main(folder: Path) -> int:
    """Train, and tell the parent how it ended; the exit code is 1 after an error."""
    job, recorded = pickle.loads((folder / JOB).read_bytes())
    link = ParentLink(str(folder / SOCKET))
    link.hold()
    torch = require("torch", "train")
    if job.threads or not torch.cuda.is_available():
        torch.set_num_threads(job.threads or 1)
    try:
        trained = train(job, link.ask, ByParent(link) if recorded else None)
    except SimkitError as error:
        link.ask(Failure(packed_error(error)))
        return 1
    link.ask(trained)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
