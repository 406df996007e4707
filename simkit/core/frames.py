"""Places in code: what a person wants to read of a frame, and which frames are the person's own."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from types import FrameType


def placed(frame: FrameType) -> str:
    """A frame as `file:line in function`."""
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def is_library(frame: FrameType) -> bool:
    """Whether a frame is of Python's own library, of an installed package, or of simkit itself."""
    file = frame.f_code.co_filename
    return file.startswith(("<", _HERE, _STANDARD)) or "/site-packages/" in file or "/dist-packages/" in file


def own(frames: list[FrameType]) -> FrameType | None:
    """The first frame that is no library's."""
    return next((frame for frame in frames if not is_library(frame)), None)


_STANDARD = sysconfig.get_paths()["stdlib"]
_HERE = str(Path(__file__).parents[1])
