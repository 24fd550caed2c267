"""Is a compiled model still right? Comparison with other engines, tolerances, and float64 as the judge.

`dlc.verify` is both this package and the function that it exists for: the module is callable, so that
`dlc.verify("model.onnx")` works whether or not a submodule was imported before.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from dlc.verify.compare import Difference, compare_arrays, compare_values, distance, ulp_distance
from dlc.verify.result import OutputResult, Verdict, Verification
from dlc.verify.tolerances import Tolerance, Work, tolerance
from dlc.verify.verification import verify

__all__ = [
    "Difference",
    "OutputResult",
    "Tolerance",
    "Verdict",
    "Verification",
    "Work",
    "compare_arrays",
    "compare_values",
    "distance",
    "tolerance",
    "ulp_distance",
    "verify",
]


class _CallableModule(ModuleType):
    """The package as a function."""

    def __call__(self, *args: Any, **kwargs: Any) -> Verification:
        """See :func:`dlc.verify.verification.verify`."""
        return verify(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
