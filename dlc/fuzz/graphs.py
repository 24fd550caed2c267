"""One case of a campaign over random graphs."""

from __future__ import annotations

import sys

from dlc.fuzz.case import Case
from dlc.fuzz.generate import generate
from dlc.verify.examine import Examination, examine


def make_case(seed: int, index: int) -> Case:
    """The case."""
    return generate(seed, index)


def examine_case(seed: int, index: int) -> Examination:
    """The case generated, compiled, run and compared."""
    print("examining: generate", file=sys.stderr, flush=True)
    case = generate(seed, index)
    return examine(case.model, [case.inputs, *case.others], options=case.options)
