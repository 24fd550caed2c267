"""The benchmark harness: dlc next to other engines, each in its own process, rounds alternating between them.

Times do not travel between machines, ratios do: a result is the median over rounds of the ratio between two
engines' median times in the same round, with its quartiles.
"""

from dlc.bench.measure import BenchPlan, measure
from dlc.bench.regression import Regression, compare_reports
from dlc.bench.results import BenchReport, CaseResult, EngineResult, Ratio

__all__ = [
    "BenchPlan",
    "BenchReport",
    "CaseResult",
    "EngineResult",
    "Ratio",
    "Regression",
    "compare_reports",
    "measure",
]
