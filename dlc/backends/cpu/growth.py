"""Growing a storage to a size that depends on data: the size must not wrap around on its way."""

from __future__ import annotations

from dlc.backends.cpu import types as t
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.expressions import ExpressionEmitter
from dlc.ir.dims import Broadcast, Dim, FloorDiv, Max, Min, Mod, Product, Sum, Symbol

#: Sizes are refused from here on; all that is smaller is exact in i64.
_LARGEST = float(1 << 60)


def emit_growth(
    b: FunctionBuilder, context: t.Value, storage: int, size: Dim, emitter: ExpressionEmitter
) -> None:
    """Make growing storage `storage` at least `size` bytes long, through dlc_grow.

    A size that is negative, or in whose computation any number might leave i64, is asked for as -1, which
    dlc_grow refuses as too large.
    """
    number = emitter.dim(size)
    if not isinstance(size, int):
        fits = b.fcmp("olt", _magnitude(b, size, emitter), _LARGEST)
        sound = b.and_(fits, b.icmp("sge", number, 0))
        number = b.select(b.value(sound, t.i1), number, b.const(t.i64, -1))
    b.call("dlc_grow", [context, b.const(t.i64, storage), number], t.ptr)


def _magnitude(b: FunctionBuilder, dim: Dim, emitter: ExpressionEmitter) -> t.Value:
    """A bound, in f64, of the absolute values of all numbers in the computation of `dim`."""
    match dim:
        case int():
            return b.const(t.f64, float(abs(dim)))
        case Symbol():
            return b.fabs(b.sitofp(emitter.dim(dim), t.f64))
        case Sum(terms, constant):
            total = b.const(t.f64, float(abs(constant)))
            for term, coefficient in terms:
                part = b.fmul(_magnitude(b, term, emitter), float(abs(coefficient)))
                total = b.fadd(total, part)
            return total
        case Product(factors):
            product = b.const(t.f64, 1.0)
            for factor in factors:
                # A factor of 0 must not hide what the others come to.
                product = b.fmul(product, b.fadd(_magnitude(b, factor, emitter), 1.0))
            return product
        case FloorDiv(dividend, divisor) | Mod(dividend, divisor):
            return b.fadd(_magnitude(b, dividend, emitter), _magnitude(b, divisor, emitter))
        case Min(args) | Max(args) | Broadcast(args):
            total = b.const(t.f64, 0.0)
            for arg in args:
                total = b.fadd(total, _magnitude(b, arg, emitter))
            return total
    raise TypeError(f"{type(dim).__name__} is no kind of dim")
