"""How two values of a reduction combine, as Triton source: the helpers of `tl.reduce`."""

from __future__ import annotations

from dlc.ir.dtypes import DType
from dlc.lowering.kernel import Monoid

_ARG = '''
@triton.jit
def combine_{name}(a, i, b, j):
    """The {what} of two values with its index, the {which} of equal ones; NaN is beyond every number."""
    nan_a = a != a
    nan_b = b != b
    same = (a == b) | (nan_a & nan_b)
    better = tl.where(nan_a | nan_b, nan_a, a {sign} b)
    first = tl.where(same, i {order} j, better)
    return tl.where(first, a, b), tl.where(first, i, j)
'''

_PLAIN = '''
@triton.jit
def combine_sum(a, b):
    return a + b

@triton.jit
def combine_prod(a, b):
    return a * b

@triton.jit
def combine_max(a, b):
    return tl.maximum(a, b)

@triton.jit
def combine_min(a, b):
    return tl.minimum(a, b)

@triton.jit
def combine_max_nan(a, b):
    return tl.where((a != a) | (b != b), a + b, tl.maximum(a, b))

@triton.jit
def combine_min_nan(a, b):
    return tl.where((a != a) | (b != b), a + b, tl.minimum(a, b))

@triton.jit
def combine_and(a, b):
    return a & b

@triton.jit
def combine_or(a, b):
    return a | b
'''

#: The source of all of them.
COMBINERS = _PLAIN + "".join(
    _ARG.format(name=name, what=what, which=which, sign=sign, order=order)
    for name, what, which, sign, order in (
        ("argmax", "greater", "least", ">", "<"),
        ("argmin", "smaller", "least", "<", "<"),
        ("argmax_last", "greater", "greatest", ">", ">"),
        ("argmin_last", "smaller", "greatest", "<", ">"),
    )
)


def combiner(monoid: Monoid, dtype: DType) -> str:
    """The helper that combines two values, or pairs of them."""
    kind = "_nan" if dtype.is_float and monoid in (Monoid.MAX, Monoid.MIN) else ""
    return f"combine_{monoid.value}{kind}"
