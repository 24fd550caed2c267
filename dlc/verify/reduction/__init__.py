"""Shrinking a model that shows a fault: candidates, and the steps that propose them."""

from __future__ import annotations

from dlc.verify.reduction.candidate import Candidate
from dlc.verify.reduction.search import Search

__all__ = ["Candidate", "Search"]
