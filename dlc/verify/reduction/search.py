"""Delta debugging: smaller candidates are tried as long as they show the same fault.

The nodes are reduced by the algorithm ddmin of A. Zeller and R. Hildebrandt, Simplifying and Isolating
Failure-Inducing Input, IEEE Transactions on Software Engineering 28 (2), 2002: ever smaller parts are left
out, until no single node can be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from dlc.verify.reduction import steps
from dlc.verify.reduction.candidate import Candidate

#: Whether a candidate shows the fault.
Check = Callable[[Candidate], bool]


class Search:
    """One reduction: what was tried and what is smallest so far. Candidates are as valid as the start."""

    def __init__(
        self, start: Candidate, check: Check, seconds: float, progress: Callable[[str], None]
    ) -> None:
        self.best = start
        self.tried = 0
        self._check = check
        self._deadline = time.monotonic() + seconds
        self._progress = progress
        self._seen: set[bytes] = set()
        self._only_valid = _is_valid(start)

    def run(self) -> Candidate:
        """The smallest candidate found: to a fixed point, or until the time is over."""
        self._apply(steps.tidy)
        while not self.is_over:
            before = self.best
            self._fewer_nodes()
            for step in (steps.fewer_outputs, steps.bypass, steps.smaller_extents):
                self._apply(step)
            if self.best is before:
                break
        for step in (steps.fewer_attributes, steps.smaller_extents, steps.simpler_numbers):
            self._apply(step)
        return self.best

    @property
    def is_over(self) -> bool:
        """Whether the time is."""
        return time.monotonic() > self._deadline

    def _try(self, candidate: Candidate) -> bool:
        """Whether a candidate shows the fault; then it is the best. One that was tried before does not."""
        candidate = candidate.trimmed()
        key = candidate.model.SerializeToString(deterministic=True)
        key += b"".join(array.tobytes() for array in candidate.inputs.values())
        if key in self._seen or self.is_over:
            return False
        self._seen.add(key)
        if self._only_valid and not _is_valid(candidate):
            return False
        self.tried += 1
        if not self._check(candidate):
            return False
        self.best = candidate
        nodes, elements, _ = candidate.size
        self._progress(f"{nodes} nodes, {elements} elements after {self.tried} models")
        return True

    def _apply(self, step: Callable[[Candidate], Iterator[Candidate]]) -> None:
        """One step again and again, as long as one of its proposals shows the fault."""
        while not self.is_over and any(self._try(candidate) for candidate in step(self.best)):
            pass

    def _fewer_nodes(self) -> None:
        """ddmin over the nodes; what a removed node made becomes an input."""
        whole = self.best
        values = whole.values()
        keep = list(range(len(whole.nodes)))
        parts = 2
        while len(keep) > 1 and not self.is_over:
            size = -(-len(keep) // parts)
            for start in range(0, len(keep), size):
                rest = keep[:start] + keep[start + size :]
                candidate = whole.cut(rest, values)
                if candidate is not None and self._try(candidate):
                    keep, parts = rest, max(parts - 1, 2)
                    break
            else:
                if size == 1:
                    return
                parts = min(2 * parts, len(keep))


def _is_valid(candidate: Candidate) -> bool:
    """Whether the ONNX checker accepts a model."""
    from onnx import checker

    try:
        checker.check_model(candidate.model)
    except checker.ValidationError:
        return False
    return True
