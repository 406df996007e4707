"""Former place of `simkit.data.reading`, for programs that import from it."""

from simkit.data.reading import read_examples as read_examples
