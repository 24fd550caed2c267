"""The one table of tolerances: how far two correct engines may be apart, by dtype and kind of work.

Two correct engines differ because floating-point sums are taken in different orders, functions are
approximated by different polynomials and intermediate results are rounded at different places. The table
states, in units of the dtype's machine epsilon, how much of that is accepted:

    |actual - expected| <= rtol * |expected| + atol * RMS(expected)

`atol` is relative to the root mean square of the expected tensor, so that scaling a model's output by a
power of two changes no verdict, and an element near zero in a tensor of large values is judged by the
tensor's scale: the rounding error of a sum is proportional to its largest terms, not to its result (N.
Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 4.2).

`factor` is c of the float64 test: where the exact result is known (the model evaluated in float64), an
engine is right when its greatest distance from it is at most c times that of the engine or naive float32
sum that it is compared with. A model whose weights amplify rounding makes two correct engines disagree
beyond rtol and atol; float64 then decides.

Rationale of the numbers
  wide (float32, float64): operators compute in their own dtype. One pointwise function costs up to 3 ulp here
      and about as much in other engines. A sum of K products has a random-walk error of about sqrt(K) / 2
      ulp of its scale, K <= 10^5 in practice. Winograd F(4x4, 3x3) amplifies by up to some 10 (A. Lavin, S.
      Gray, Fast Algorithms for Convolutional Neural Networks, 2016; B. Barabasz et al., Error Analysis and
      Improving the Accuracy of Winograd Convolution, 2020). Whole models: 8192 eps is 1e-3 in float32, the
      customary bound.
  narrow (float16, bfloat16, float8): sums are accumulated in float32 and rounded once when stored, so an
      operator is within one or two steps of its storage dtype; engines that keep fused intermediates in
      float32 differ from those that round each one.
  quantized model: one rounding that falls on the other side moves an 8-bit intermediate by a whole step,
      about 1/64 of its RMS, whatever the dtype of the model's outputs.
  exact: movement, comparison, selection and integer arithmetic have one right answer.

A number here changes only in a commit of its own that says why; it is never loosened to let a kernel pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import ml_dtypes
import numpy as np


class Work(Enum):
    """What produced a tensor, as far as its rounding error goes."""

    EXACT = "exact"
    POINTWISE = "pointwise"
    REDUCTION = "reduction"
    NORMALIZATION = "normalization"
    CONTRACTION = "contraction"
    WINOGRAD = "winograd"
    RECURRENT = "recurrent"
    MODEL = "model"
    QUANTIZED_MODEL = "quantized model"


@dataclass(frozen=True)
class Tolerance:
    """|actual - expected| <= rtol * |expected| + atol * scale, where scale is RMS(expected), or 1 if
    `absolute`.

    `factor` is c of the float64 test; 0 turns that test off.
    """

    rtol: float
    atol: float
    factor: float
    absolute: bool = False


#: (rtol, atol, factor) with rtol and atol in units of the dtype's eps.
_WIDE = {
    Work.POINTWISE: (16, 8, 4),
    Work.REDUCTION: (64, 64, 4),
    Work.NORMALIZATION: (128, 64, 4),
    Work.CONTRACTION: (128, 128, 4),
    Work.WINOGRAD: (1024, 1024, 16),
    Work.RECURRENT: (1024, 1024, 8),
    Work.MODEL: (8192, 8192, 8),
}
_NARROW = {
    Work.POINTWISE: (2, 1, 4),
    Work.REDUCTION: (2, 2, 4),
    Work.NORMALIZATION: (4, 2, 4),
    Work.CONTRACTION: (2, 2, 4),
    Work.WINOGRAD: (4, 4, 4),
    Work.RECURRENT: (16, 16, 8),
    Work.MODEL: (16, 16, 8),
}

#: Least rtol and atol of a quantized model: its own step counts, not its dtype's.
_QUANTIZED = 1 / 16
_EXACT = Tolerance(0.0, 0.0, 0.0)


def tolerance(dtype: np.dtype[Any], work: Work) -> Tolerance:
    """The table's entry for results of `dtype`; exact for everything that is not a floating-point number."""
    if work is Work.EXACT or not is_float(dtype):
        return _EXACT
    if work is Work.QUANTIZED_MODEL:
        plain = tolerance(dtype, Work.MODEL)
        return Tolerance(max(_QUANTIZED, plain.rtol), max(_QUANTIZED, plain.atol), plain.factor)
    eps = float(ml_dtypes.finfo(_real(dtype)).eps)
    rtol, atol, factor = (_WIDE if _real(dtype).itemsize >= 4 else _NARROW)[work]
    return Tolerance(rtol * eps, atol * eps, factor)


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether `dtype` is a floating-point or complex type, those of ml_dtypes included."""
    if dtype.kind in "fc":
        return True
    if dtype.kind != "V":
        return False
    try:
        ml_dtypes.finfo(dtype)
    except ValueError:
        return False
    return True


def _real(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of a complex number's parts; other dtypes unchanged."""
    return np.zeros((), dtype).real.dtype if dtype.kind == "c" else dtype
