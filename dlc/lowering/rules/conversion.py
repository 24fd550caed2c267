"""Kernels of conversions between element types."""

from __future__ import annotations

from dlc.ir.dtypes import DType
from dlc.ir.graph import Node
from dlc.ir.ops.pointwise import BitCast, Cast
from dlc.lowering import expr as e
from dlc.lowering.draft import Draft, binary, cast, const, unary
from dlc.lowering.rules.formulas import compare, select
from dlc.lowering.rules.registry import rule

#: Fraction bits and exponent bias of an f64.
_FRACTION, _BIAS = 52, 1023
#: The bits of two f32 but their signs: none is set in a complex 0.
_WITHOUT_SIGNS = 0x7FFF_FFFF_7FFF_FFFF


@rule(Cast)
def cast_elements(draft: Draft, node: Node) -> None:
    """y[i] = x[i] in another type."""
    assert isinstance(node.op, Cast)
    op, target = node.op, node.outputs[0]
    axes = draft.axes_of(target.tensor.shape)
    x = draft.load(draft.operand(0), axes)
    if x.dtype is DType.C64:
        parts = binary("and", cast(x, DType.I64, e.CastMode.BITS), _WITHOUT_SIGNS)
        draft.store(target, axes, compare("ne", parts, 0))
        return
    draft.store(target, axes, convert(x, op.to, op.saturate, op.round_mode))


@rule(BitCast)
def bit_cast(draft: Draft, node: Node) -> None:
    """y[i] = the bits of x[i] read as another type."""
    assert isinstance(node.op, BitCast)
    target = node.outputs[0]
    axes = draft.axes_of(target.tensor.shape)
    draft.store(target, axes, cast(draft.load(draft.operand(0), axes), node.op.to, e.CastMode.BITS))


def convert(x: e.Expr, to: DType, saturate: bool = True, round_mode: str = "up") -> e.Expr:
    """ONNX Cast: floats to integers truncate and wrap, anything to bool is != 0.

    `saturate` gives the largest number for what is beyond the range of an 8-bit float; `round_mode` ("up",
    "down", "nearest") is for f8e8m0.
    """
    if to is DType.F8E8M0 and x.dtype is not to:
        return _power_of_two(cast(x, DType.F64), saturate, round_mode)
    if to.is_float:
        return cast(x, to, e.CastMode.SATURATE if saturate and to.bits < 16 else e.CastMode.RNE)
    return cast(x, to, e.CastMode.WRAP)


def _power_of_two(x: e.Expr, saturate: bool, round_mode: str) -> e.Expr:
    """The f8e8m0 code of an f64: its exponent, by `round_mode` one higher; the sign is dropped."""
    bits = cast(x, DType.I64, e.CastMode.BITS)
    magnitude = binary("and", bits, (1 << 63) - 1)
    fraction = binary("and", bits, (1 << _FRACTION) - 1)
    # 0 and the denormals of f64 come out below every exponent of f8e8m0, infinity above.
    power = binary("sub", binary("shift_right", magnitude, _FRACTION), _BIAS)
    least = {"up": 1, "nearest": 1 << (_FRACTION - 1)}.get(round_mode)
    if least is not None:
        power = binary("add", power, cast(compare("ge", fraction, least), DType.I64))
    nearest = binary("min", binary("max", power, -127), 127)
    invalid = unary("is_nan", x)
    if not saturate:
        invalid = e.Binary(DType.BOOL, "or", invalid, compare("ne", nearest, power))
    code = select(invalid, const(255, DType.I64), binary("add", nearest, 127))
    return cast(cast(code, DType.U8), DType.F8E8M0, e.CastMode.BITS)
