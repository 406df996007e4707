"""Locations in code: readable descriptions of frames, and detection of the user's own frames."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from types import FrameType


def placed(frame: FrameType) -> str:
    """A frame as `file:line in function`."""
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def is_library(frame: FrameType) -> bool:
    """Whether a frame belongs to Python's standard library, an installed package, or simkit itself."""
    file = frame.f_code.co_filename
    if file.startswith("<"):
        return not file.startswith(("<ipython-input", "<stdin>"))  # typed by the author
    return file.startswith((_HERE, _STANDARD)) or "/site-packages/" in file or "/dist-packages/" in file


def own(frames: list[FrameType]) -> FrameType | None:
    """The first frame that does not belong to a library; None if all do."""
    return next((frame for frame in frames if not is_library(frame)), None)


_STANDARD = sysconfig.get_paths()["stdlib"]
_HERE = str(Path(__file__).parents[1])
