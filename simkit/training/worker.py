"""The process of a training: a pickled job on its input, lines of JSON on its output (see `simkit.training.aside`)."""

from __future__ import annotations

import os
import pickle
import sys
from typing import BinaryIO

from simkit.errors import SimkitError
from simkit.training.aside import Job, encoded
from simkit.training.grpo import GrpoJob, train_grpo
from simkit.training.jobs import Metrics, Trained
from simkit.training.trainer import train


def main() -> int:
    """Do the job and say what came of it; the exit code is 0 unless the libraries themselves failed."""
    out = _own_output()
    job: Job = pickle.load(sys.stdin.buffer)
    _set_threads(job.threads)

    def told(metrics: Metrics) -> None:
        out.write(encoded({"stage": metrics.stage, "step": metrics.step, "values": dict(metrics.values)}))

    try:
        trained: Trained = train_grpo(job, told) if isinstance(job, GrpoJob) else train(job, told)
    except SimkitError as error:
        out.write(encoded({"error": type(error).__name__, "message": str(error)}))
        return 0
    out.write(encoded({"trained": trained.to_json()}))
    return 0


def _own_output() -> BinaryIO:
    """The process's output, for us alone: whatever a library prints goes to its errors."""
    own = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return own


def _set_threads(threads: int) -> None:
    from simkit.plugins.extras import require

    torch = require("torch", "train")
    if threads or not torch.cuda.is_available():
        torch.set_num_threads(threads or 1)


if __name__ == "__main__":
    sys.exit(main())
