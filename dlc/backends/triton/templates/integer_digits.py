"""Products of integers by matrix instructions for 8 bits: numbers in base 256, digit by digit.

With digits from -128 to 127 a number is d0 + 256 d1 + 65536 d2 + ..., and a product modulo 2^32 is the sum of
256^(i + j) di ej over i + j < 4: up to ten products of matrices of i8, each exact. Operands that are known to
be small have fewer digits: one for what was an i8, two for a u8 less a zero point. Matrix instructions
saturate, so that the depth must be such that no sum overflows.
"""

from __future__ import annotations

from dlc.ir.dtypes import DType
from dlc.lowering import expr as e

#: Digits of a 32-bit number.
MOST = 4
#: The depth up to which no sum of a power of the base leaves 32 bits: 4 * 128 * 128 * DEEPEST = 2^31.
DEEPEST = 1 << 15


def digits(value: e.Expr) -> int:
    """How many digits hold every value of an expression of type i32."""
    low, high = _range(value)
    count = 1
    while count < MOST and not (_least(count) <= low and high <= _greatest(count)):
        count += 1
    return count


def pairs(left: int, right: int) -> list[tuple[int, int]]:
    """The pairs of digits whose products count modulo 2^32."""
    return [(i, j) for i in range(left) for j in range(right) if i + j < MOST]


def _greatest(count: int) -> int:
    """127 in every digit."""
    return 127 * ((1 << 8 * count) - 1) // 255


def _least(count: int) -> int:
    return -128 * ((1 << 8 * count) - 1) // 255


def _range(value: e.Expr) -> tuple[int, int]:
    """An interval that holds the values of an integer expression; all of its type where nothing is known."""
    match value:
        case e.Const(_, number) if isinstance(number, int):
            return int(number), int(number)
        case e.Cast(dtype, operand, _) if operand.dtype.is_integer and operand.dtype.bits < dtype.bits:
            return _range(operand)
        case e.Select(_, _, then, otherwise):
            (a, b), (c, d) = _range(then), _range(otherwise)
            return min(a, c), max(b, d)
        case e.Binary(DType.I32, "sub" | "add" as fn, left, right):
            (a, b), (c, d) = _range(left), _range(right)
            low, high = (a - d, b - c) if fn == "sub" else (a + c, b + d)
            if low >= -(1 << 31) and high < 1 << 31:
                return low, high
    bits = value.dtype.bits
    if value.dtype in (DType.U8, DType.U16, DType.U32):
        return 0, (1 << bits) - 1
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
