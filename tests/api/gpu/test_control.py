"""Branches, loops, scans and sizes of the run as GPU programs under Triton's interpreter."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

from tests.helpers.control_models import Case
from tests.helpers.gpu_models import interpreted
from tests.helpers.judged import CASES, assert_judged_right, runs

#: These take long under the interpreter; others have the same routines.
LONG = {"nms", "nms_centers", "nms_ties", "top_k_axes", "top_k_ties", "unique_kinds"}


@pytest.mark.parametrize("case", [case for case in CASES if case.name not in LONG], ids=lambda c: c.name)
def test_gpu_programs_mean_what_the_model_does(case: Case) -> None:
    """All inputs of a case on one model, whose memories keep what the runs before left in them."""
    with interpreted(case.model()) as model:
        for run in runs(case):
            assert_judged_right(run, model.run(None, run.feeds))
        first = runs(case)[0]
        assert_judged_right(first, model.run(None, first.feeds))
