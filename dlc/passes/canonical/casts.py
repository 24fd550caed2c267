"""Casts: none to the type that is there, none through a wider type."""
from __future__ import annotations

from dlc.ir.builder import GraphBuilder
from dlc.ir.dtypes import DType, Kind
from dlc.ir.graph import Node
from dlc.ir.ops.pointwise import Cast
from dlc.passes.match import made_by, operand
from dlc.passes.rewrite import Outcome, Rule, rule

#: Bits of the significand, the hidden one included, and of the exponent.
FLOATS = {DType.F64: (53, 11), DType.F32: (24, 8), DType.F16: (11, 5), DType.BF16: (8, 8)}


@rule(Cast)
def cast_to_same(node: Node, builder: GraphBuilder) -> Outcome:
    """Cast to the operand's own type -> the operand."""
    x = operand(node, 0)
    return x if x.tensor.dtype is node.output.tensor.dtype else None


@rule(Cast)
def cast_of_lossless_cast(node: Node, builder: GraphBuilder) -> Outcome:
    """Cast(Cast(x, wide), t) -> Cast(x, t) when the wide type holds every value of x."""
    inner = made_by(operand(node, 0), Cast)
    if inner is None:
        return None
    x = operand(inner[1], 0)
    return builder.add(node.op, x) if is_lossless(x.tensor.dtype, inner[0].to) else None


def is_lossless(narrow: DType, wide: DType) -> bool:
    """Whether every value of `narrow` is a value of `wide`, so that a further cast sees the same number."""
    if narrow is wide:
        return True
    if narrow.kind is Kind.BOOL:
        return wide.kind in (Kind.FLOAT, Kind.SIGNED, Kind.UNSIGNED)
    if narrow in FLOATS:
        return wide in FLOATS and all(a <= b for a, b in zip(FLOATS[narrow], FLOATS[wide], strict=True))
    if not narrow.is_integer:
        return False
    digits = narrow.bits - (narrow.kind is Kind.SIGNED)
    if wide in FLOATS:
        significand, exponent = FLOATS[wide]
        return digits <= significand and digits < 1 << (exponent - 1)
    if not wide.is_integer or (narrow.kind is Kind.SIGNED and wide.kind is Kind.UNSIGNED):
        return False
    return digits <= wide.bits - (wide.kind is Kind.SIGNED)


RULES: tuple[Rule, ...] = (cast_to_same, cast_of_lossless_cast)
