"""One process of a training: `python -m simkit.training.rank FOLDER`, started by `train_in_process` or its launcher."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

from simkit.errors import SimkitError, UsageError
from simkit.plugins.extras import require
from simkit.training.jobs import TrainingJob
from simkit.training.launch import JOB, SOCKET
from simkit.training.link import ParentLink
from simkit.training.trainer import train


def main(folder: Path) -> int:
    """Train, and tell the parent how it ended; the exit code is 1 after an error."""
    job: TrainingJob = pickle.loads((folder / JOB).read_bytes())
    link = ParentLink(str(folder / SOCKET))
    link.hold()
    torch = require("torch", "train")
    if job.threads or not torch.cuda.is_available():
        torch.set_num_threads(job.threads or 1)
    try:
        trained = train(job, link.ask)
    except SimkitError as error:
        link.ask(error if isinstance(error, UsageError) else UsageError(str(error)))
        return 1
    link.ask(trained)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
