"""Operands of integer products: 8-bit numbers, converted to i32, perhaps with a zero point subtracted.

    i32(x[i, k]) - i32(zero[])
    select(0 <= k - 1 < n, i32(x[i, k - 1 | 0 <= k - 1 < n | 0]) - i32(zero[]), 0)

The second one is what a padded operand looks like: beyond its ends it is 0 after the subtraction, so there
the number itself counts as the zero point.
"""

from __future__ import annotations

import dataclasses

from dlc.backends.cpu.templates.gemm_tile import Multiplication
from dlc.ir.dims import free_symbols
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.fuse import mask_expression
from dlc.lowering.inspect import expr_dims
from dlc.target import CpuTarget

_BYTES = (DType.U8, DType.I8)
#: What turning the sign bit over adds to a number: it makes unsigned of signed ones, and the other way round.
_TURNED = {DType.U8: -128, DType.I8: 128}


@dataclasses.dataclass(frozen=True)
class IntegerOperand:
    """`load` of u8 or i8 in i32 minus `zero` (None: nothing), an i32 expression."""

    load: e.Load
    zero: e.Expr | None

    @property
    def signed(self) -> bool:
        """Whether the numbers are i8."""
        return self.load.dtype is DType.I8

    @property
    def axes(self) -> set[str]:
        """The symbols that the zero point depends on."""
        dims = [] if self.zero is None else expr_dims(self.zero)
        return {symbol.name for dim in dims for symbol in free_symbols(dim)}

    def turned_zero(self) -> e.Expr:
        """The zero point of the numbers whose sign bit was turned over."""
        shift = e.Const(DType.I32, _TURNED[self.load.dtype])
        return shift if self.zero is None else e.Binary(DType.I32, "add", self.zero, shift)


def integer_operand(value: e.Expr) -> IntegerOperand | None:
    """`value` as 8-bit numbers minus a zero point, if it is that."""
    match value:
        case e.Select(_, condition, then, e.Const(DType.I32, 0)):
            return _padded(condition, then)
        case e.Cast(DType.I32, e.Load(dtype) as load) if dtype in _BYTES and not load.mask:
            return IntegerOperand(load, None)
        case e.Binary(DType.I32, "sub", e.Cast(DType.I32, e.Load(dtype) as load), zero):
            if dtype in _BYTES and not load.mask and not any(isinstance(n, e.Read) for n in e.walk(zero)):
                return IntegerOperand(load, zero)
    return None


def _padded(condition: e.Expr, value: e.Expr) -> IntegerOperand | None:
    """The operand that is `value` where `condition`, which is the mask of its load, and 0 elsewhere."""
    match value:
        case e.Cast(DType.I32, e.Load(dtype) as load) if dtype in _BYTES:
            outside: e.Expr = e.Const(dtype, 0)
            zero = None
        case e.Binary(
            DType.I32, "sub", e.Cast(DType.I32, e.Load(dtype) as load), e.Cast(DType.I32, e.Load() as point)
        ) if dtype in _BYTES and point.dtype is dtype:
            # Where the mask fails the zero point is read all the same, so it must not depend on the place.
            outside = e.Load(dtype, point.param, point.index)
            masked = {s.name for m in load.mask for d in (m.index, m.low, m.high) for s in free_symbols(d)}
            read = {s.name for d in expr_dims(outside) for s in free_symbols(d)}
            if point.mask not in ((), load.mask) or masked & read:
                return None
            zero = e.Cast(DType.I32, outside)
        case _:
            return None
    if not load.mask or mask_expression(load.mask) is not condition:
        return None
    return IntegerOperand(e.Load(dtype, load.param, load.index, load.mask, outside), zero)


def choose_multiplication(target: CpuTarget, left_signed: bool) -> Multiplication:
    """How `target` multiplies words of a left operand with words of a right one of the other signedness."""
    if not target.vnni:
        return Multiplication.WORDS16
    return Multiplication.SIGNED_UNSIGNED if left_signed else Multiplication.UNSIGNED_SIGNED


def numbers_of_word(multiplication: Multiplication) -> int:
    """How many numbers a word of 32 bits holds."""
    return 2 if multiplication is Multiplication.WORDS16 else 4
