"""One case of a campaign over random graphs."""

from __future__ import annotations

from dlc.fuzz.case import Case
from dlc.fuzz.generate import generate
from dlc.verify.examine import Examination, examine, judge_alone, stage


def make_case(seed: int, index: int) -> Case:
    """The case."""
    return generate(seed, index)


def examine_case(seed: int, index: int, ours: bool = True) -> Examination:
    """The case generated, compiled, run and compared; without `ours`, only what the judges do."""
    stage("generate")
    case = generate(seed, index)
    inputs = [case.inputs, *case.others]
    return examine(case.model, inputs, options=case.options) if ours else judge_alone(case.model, inputs)
