"""Former place of `simkit.data.checks` and `simkit.data.rules`, for programs that import from it."""

from simkit.data.checks import Finding as Finding
from simkit.data.checks import check as check
from simkit.data.rules import good_answers as good_answers
