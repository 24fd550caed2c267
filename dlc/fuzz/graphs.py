"""One case of a campaign over random graphs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from dlc.fuzz.case import Case
from dlc.fuzz.generate import generate
from dlc.verify.examine import Examination, examine, judge_alone, stage


def make_case(seed: int, index: int, *, options: Mapping[str, Any]) -> Case:
    """The case, with further options of the compilation."""
    case = generate(seed, index)
    return dataclasses.replace(case, options={**case.options, **options})


def examine_case(seed: int, index: int, ours: bool = True, *, options: Mapping[str, Any]) -> Examination:
    """The case generated, compiled, run and compared; without `ours`, only what the judges do."""
    stage("generate")
    case = make_case(seed, index, options=options)
    inputs = [case.inputs, *case.others]
    return examine(case.model, inputs, options=case.options) if ours else judge_alone(case.model, inputs)
