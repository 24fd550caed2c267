"""What the interpolating operators share: kernels of weights as expressions."""

from __future__ import annotations

import numpy as np

from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.draft import binary, cast, const
from dlc.lowering.rules.formulas import compare, select


def number(dim: Dim, dtype: DType) -> e.Expr:
    """A dim as a float."""
    return const(dim, dtype) if isinstance(dim, int) else cast(e.Iota(DType.I64, dim), dtype)


def linear_weight(distance: e.Expr) -> e.Expr:
    """The triangle kernel at a distance >= 0: max(1 - d, 0). NaN stays."""
    weight = binary("sub", const(1, distance.dtype), distance)
    return select(compare("lt", weight, 0), const(0, weight.dtype), weight)


def cubic_weight(distance: e.Expr, coefficient: float) -> e.Expr:
    """The cubic convolution kernel at a distance >= 0 (Keys 1981, equation 4, with free parameter a).

    In the order of operations of dlc.ir.ops.resize; NaN stays.
    """
    a, d = float(np.float32(coefficient)), distance

    def times(factor: float | e.Expr, x: e.Expr) -> e.Expr:
        return binary("mul", x, factor)

    near = binary("sub", times(a + 2, d), a + 3)
    near = binary("add", binary("mul", binary("mul", near, d), d), 1)
    far = binary("add", binary("mul", binary("sub", times(a, d), 5 * a), d), 8 * a)
    far = binary("sub", binary("mul", far, d), 4 * a)
    outer = select(compare("ge", d, 2), const(0, d.dtype), far)
    return select(compare("le", d, 1), near, outer)


def limited(x: e.Expr, low: e.Expr, high: e.Expr) -> e.Expr:
    """min(max(x, low), high)."""
    return binary("min", binary("max", x, low), high)


def inside(position: e.Expr, extent: Dim) -> e.Expr:
    """Whether 0 <= position < extent."""
    above = compare("ge", position, 0)
    return e.Binary(DType.BOOL, "and", above, compare("lt", position, e.Iota(position.dtype, extent)))


def position_within(position: e.Expr, extent: Dim) -> e.Expr:
    """An integer position moved to the nearest element of an axis."""
    last = e.Iota(position.dtype, extent - 1)
    return limited(position, const(0, position.dtype), last)
