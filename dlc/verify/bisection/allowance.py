"""How far apart two right evaluations may be: for a model as a whole, and for a single kernel."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from dlc.ir.dtypes import DType
from dlc.ir.graph import Graph
from dlc.ir.types import TensorType
from dlc.lowering import expr as e
from dlc.lowering.inspect import loads, roots, stages
from dlc.lowering.kernel import Contract, Kernel, Recur, Reduce
from dlc.passes.pipeline import PRECISIONS
from dlc.verify.compare import Array, Difference, compare_arrays
from dlc.verify.tolerances import Tolerance, Work, is_float, tolerance

#: Equal numbers, the sign of zero aside.
EXACT = Tolerance(0.0, 0.0, 0.0)

#: The share of elements that may be one step off where floats are rounded to integers: to the other side.
ROUNDED = 0.02

_QUANTIZED = frozenset({"QuantizeLinear", "DequantizeLinear"})
_ROUNDING = frozenset({"round", "floor", "ceil"})


@dataclass(frozen=True)
class Allowance:
    """The tolerances of a whole model.

    `narrowest` is the narrowest float type in it, which rounds what its wider outputs come from; in a
    `quantized` model one rounding that falls on the other side moves a value by a whole step.
    """

    narrowest: DType
    quantized: bool

    def tolerance(self, array: Array) -> Tolerance:
        """The tolerance for one of the model's values."""
        if not is_float(array.dtype):
            return EXACT
        work = Work.QUANTIZED_MODEL if self.quantized else Work.MODEL
        return max((tolerance(d, work) for d in (array.dtype, self.narrowest.numpy)), key=lambda t: t.rtol)

    def difference(self, name: str, actual: Array, expected: Array, notes: list[str]) -> Difference | None:
        """The difference, unless it is within the tolerance, or one of rounding, which is noted."""
        found = different(name, actual, expected, self.tolerance(expected))
        if found is not None and _is_step(found):
            notes.append(rounding_note(found))
            return None
        return found


def allowance(graph: Graph, precision: str = "model") -> Allowance:
    """The allowance for the model of `graph`, as imported, which is compiled with the option `precision`."""
    types = [value.type for value in graph.values()]
    floats = {type_.dtype for type_ in types if isinstance(type_, TensorType) and type_.dtype.is_float}
    if precision in PRECISIONS:
        floats.add(PRECISIONS[precision])

    def coarseness(dtype: DType) -> tuple[float, str]:
        return float(ml_dtypes.finfo(dtype.numpy).eps), dtype.text

    narrowest = max(floats or {DType.F32}, key=coarseness)
    return Allowance(narrowest, any(node.op.name in _QUANTIZED for node in graph.nodes))


def different(name: str, actual: Array, expected: Array, allowed: Tolerance) -> Difference | None:
    """The difference of two arrays, if it is more than is allowed."""
    found = compare_arrays(name, actual, expected, allowed)
    return None if found.agrees else found


def work_of_kernel(kernel: Kernel) -> Work:
    """The row of the table of tolerances for a kernel, by its hardest stage."""
    kinds = {type(stage) for stage in stages(kernel.body)}
    if Recur in kinds:
        return Work.RECURRENT
    if Contract in kinds:
        windows = any(isinstance(s, Contract) and s.spec.windows for s in stages(kernel.body))
        return Work.WINOGRAD if windows else Work.CONTRACTION
    return Work.NORMALIZATION if Reduce in kinds else Work.POINTWISE


def is_rounding(kernel: Kernel, found: Difference, actual: Array, expected: Array) -> bool:
    """Whether a kernel's result differs only where a number was rounded to the other of two integers."""
    few = found.mismatched <= max(1, int(ROUNDED * found.elements))
    if not few or not _rounds(kernel):
        return False
    if not is_float(expected.dtype):
        return _is_step(found)
    return different(found.name, actual, expected, tolerance(expected.dtype, Work.QUANTIZED_MODEL)) is None


def rounding_note(found: Difference) -> str:
    """What to say of a difference of rounding."""
    return f"{found.name}: {found.mismatched} of {found.elements} elements were rounded to the other side"


def _is_step(found: Difference) -> bool:
    """Whether a few integers are off by one, or a few truth values are others."""
    if found.problem is not None or is_float(np.dtype(found.dtype)):
        return False
    return found.max_abs <= 1 and found.mismatched <= max(1, int(ROUNDED * found.elements))


def _rounds(kernel: Kernel) -> bool:
    """Whether a kernel makes integers or truth values of floats."""
    dtypes = {load.dtype for load in loads(kernel.body)}
    if not any(dtype.is_float for dtype in dtypes):
        return False
    for stage in stages(kernel.body):
        for node in e.walk(*roots(stage)):
            match node:
                case e.Unary(_, fn) if fn in _ROUNDING:
                    return True
                case e.Cast(dtype, operand) if not dtype.is_float and operand.dtype.is_float:
                    return True
    return any(not param.type.dtype.is_float for param in kernel.writes)
