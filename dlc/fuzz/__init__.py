"""Fuzzing: random valid graphs compared with two other engines, and damaged files that must end in an error.

Everything follows from a seed: case number i of seed s is the same model with the same inputs on every run.
`dlc fuzz` is the command; `operators/` says how each operator is used, one file a family.
"""

from __future__ import annotations

from dlc.fuzz.campaign import Campaign, Finding, fuzz_bytes, fuzz_graphs
from dlc.fuzz.case import Case

__all__ = ["Campaign", "Case", "Finding", "fuzz_bytes", "fuzz_graphs"]
