"""Comparison of a report with an older one: which cases became slower?"""

from __future__ import annotations

from dataclasses import dataclass

from dlc.bench.results import BenchReport, CaseResult


@dataclass(frozen=True)
class Regression:
    """One case in both reports: `score` is new over old, so below 1 is slower than before.

    Where both reports timed the same other engine, the ratios to it are compared (which cancels a slower
    machine); otherwise the times (`by` is then "time"). `score` is None when the case runs in only one of
    them.
    """

    case: CaseResult
    by: str
    old: float | None
    new: float | None

    @property
    def score(self) -> float | None:
        """New over old, as a speed; None if one is missing."""
        return None if self.old is None or self.new is None else self.new / self.old

    def fails(self, below: float) -> bool:
        """Whether the speed fell below this share of the old one, or the case no longer runs."""
        return self.old is not None and (self.score is None or self.score < below)


def compare_reports(old: BenchReport, new: BenchReport) -> list[Regression]:
    """The cases of the old report, each with its counterpart in the new one where there is one."""
    found = {case.key: case for case in new.cases}
    return [_compare(case, found[case.key]) for case in old.cases if case.key in found]


def _compare(old: CaseResult, new: CaseResult) -> Regression:
    for engine in new.engines[1:]:
        before, now = old.ratio(engine.engine), new.ratio(engine.engine)
        if before is not None and now is not None:
            return Regression(new, engine.engine, before.median, now.median)
    before_seconds, now_seconds = old.engines[0].seconds, new.engines[0].seconds
    return Regression(
        new,
        "time",
        None if before_seconds is None else 1 / before_seconds,
        None if now_seconds is None else 1 / now_seconds,
    )
