"""What case models must give: the results of those who can judge, and how results are held against them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np

from dlc.verify.compare import compare_arrays
from dlc.verify.engines import Engine, OnnxRuntime, Reference
from dlc.verify.tolerances import Work, tolerance
from tests.helpers.control_models import CONTROL, Array, Case
from tests.helpers.loop_models import LOOPS
from tests.helpers.selection_models import SELECTIONS
from tests.helpers.sized_models import SIZED

CASES: tuple[Case, ...] = (*CONTROL, *LOOPS, *SIZED, *SELECTIONS)


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a case: its inputs, and the outputs in order by each judge's name."""

    feeds: Mapping[str, Array]
    verdicts: Mapping[str, Sequence[Array]]


@functools.cache
def runs(case: Case) -> tuple[Run, ...]:
    """All runs of a case, judged."""
    model = case.model()
    judges: list[Engine] = []
    if case.onnxruntime:
        judges.append(OnnxRuntime(model, threads=1))
    if case.reference:
        judges.append(Reference(model))
    names = [output.name for output in model.graph.output]
    made = []
    for feeds in case.feeds(np.random.default_rng(0)):
        verdicts = {}
        for judge in judges:
            results = judge.run(feeds)
            verdicts[judge.name] = [np.asarray(results[name]) for name in names]
        made.append(Run(feeds, verdicts))
    return tuple(made)


def assert_judged_right(run: Run, outputs: Sequence[Array]) -> None:
    """Outputs are, to rounding, what all judges say."""
    for judge, expected in run.verdicts.items():
        assert_close(outputs, expected, judge)


def assert_close(outputs: Sequence[Array], expected: Sequence[Array], judge: str = "expected") -> None:
    """Outputs agree in number, dtype and shape, and to rounding in value."""
    assert len(outputs) == len(expected)
    for index, (found, wanted) in enumerate(zip(outputs, expected, strict=True)):
        if is_unknown_stack(wanted):
            assert found.dtype == wanted.dtype and found.ndim == wanted.ndim and found.shape[0] == 0
            continue
        difference = compare_arrays(f"output {index}", found, wanted, tolerance(wanted.dtype, Work.MODEL))
        assert difference.agrees, f"{judge}: {difference}"


def is_unknown_stack(array: Array) -> bool:
    """Whether `array` may be the stack of a loop without iterations, for which onnxruntime takes every extent
    that its inference does not know as 0.
    """
    return array.ndim > 0 and array.shape[0] == 0
