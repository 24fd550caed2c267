"""How operands of contractions lie in memory: by how many elements a thread can load them at once.

Loads of 4 bytes and more are copied to shared memory asynchronously, steps ahead; narrower ones, and operands
that are computed, go through registers, and each step waits for them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from dlc.backends.triton import tiles
from dlc.ir.dims import Dim, free_symbols, linear, terms_of
from dlc.lowering import expr as e
from dlc.lowering.inspect import mask_dims
from dlc.lowering.kernel import Axis, Kernel

#: Bytes of the widest load of a thread, and of the narrowest asynchronous copy.
_WIDEST, _NARROWEST_COPY = 16, 4


@dataclasses.dataclass(frozen=True)
class Access:
    """How the elements of an operand's tile are loaded.

    `bits` of an element in memory, all of its loads together; `vector` elements that lie side by side, one
    after the other along the depth if `is_deep`; `is_async` if they need not pass through registers.
    """

    bits: int
    vector: int
    is_deep: bool
    is_async: bool


def operand_access(part: Kernel, operand: e.Expr, side: Sequence[Axis], inner: Sequence[Axis]) -> Access:
    """How an operand is loaded that varies along the axes `side` and, within a step, `inner`."""
    loads = [node for node in e.walk(operand) if isinstance(node, e.Load)]
    along = {axis.name for axis in (*side, *inner)}
    full = [load for load in loads if _speaks_of(load, along)]
    if not full:
        return Access(8, _WIDEST, True, False)
    found = [_vector(part, load, side, inner) for load in full]
    vector, is_deep = min(found)
    bits = sum(load.dtype.bits for load in full)
    is_async = isinstance(operand, e.Load) and vector * operand.dtype.bits >= 8 * _NARROWEST_COPY
    return Access(bits, vector, is_deep, is_async and _pads_with_zero(operand))


def _pads_with_zero(operand: e.Expr) -> bool:
    return isinstance(operand, e.Load) and (
        operand.other is None or (isinstance(operand.other, e.Const) and operand.other.value == 0)
    )


def _speaks_of(load: e.Load, names: set[str]) -> bool:
    dims = [entry for entry in load.index if not isinstance(entry, e.Expr)]
    return any(symbol.name in names for dim in dims for symbol in free_symbols(dim))


def _vector(part: Kernel, load: e.Load, side: Sequence[Axis], inner: Sequence[Axis]) -> tuple[int, bool]:
    """The elements that a thread loads at once, and whether they lie along the depth."""
    index = [entry for entry in load.index if not isinstance(entry, e.Expr)]
    if len(index) < len(load.index):
        return 1, True
    offset = tiles.offset_of(part.param(load.param), index)
    most = _WIDEST * 8 // max(load.dtype.bits, 8)
    widths = {is_deep: _run_width(offset, axes, load) for axes, is_deep in ((inner, True), (side, False))}
    is_deep = widths[True] >= widths[False]
    return max(1, min(widths[is_deep], most)), is_deep


def _run_width(offset: Dim, axes: Sequence[Axis], load: e.Load) -> int:
    """The greatest power of two of elements side by side along the last of `axes`, from an aligned one on.

    0 if those along it do not lie side by side.
    """
    moving = [axis for axis in axes if axis.extent != 1]
    masked = {symbol.name for dim in mask_dims(load.mask) for symbol in free_symbols(dim)}
    run: Dim = 1
    rest = offset
    for axis in reversed(moving):
        found = linear(rest, axis.symbol)
        if found is None or found[0] != run:
            break
        if axis.name in masked:
            return 1
        run, rest = run * axis.extent, found[1]
    if run == 1:
        return 0
    terms, constant = terms_of(rest)
    numbers = [factor for _, factor in terms] + [constant, _factor(run)]
    common = math.gcd(*numbers)
    return common & -common


def _factor(dim: Dim) -> int:
    """A number that divides `dim`."""
    terms, constant = terms_of(dim)
    return math.gcd(constant, *(factor for _, factor in terms))

