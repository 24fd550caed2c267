"""Where does an answer go wrong first? Each neighbouring pair of a model's meanings is compared in its turn.

The levels, in the order of the way of a model: the imported graph against the reference; the graph before and
after each pass; each step of the program under the kernel evaluator against the graph; each launch of native
code against the kernel evaluator; each launch with its chunks in other orders and on other threads. The first
pair that disagrees names the culprit. `dlc.verify.bisect` runs them.
"""

from __future__ import annotations

from dlc.verify.bisection.report import BisectionReport, Culprit, Level

__all__ = ["BisectionReport", "Culprit", "Level"]
