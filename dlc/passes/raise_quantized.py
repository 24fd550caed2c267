"""Operators between DequantizeLinear and QuantizeLinear, on the integers themselves."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from dlc.passes.pass_base import Numerics, Property
from dlc.passes.quantized import elementwise, movement, products
from dlc.passes.rewrite import RewritePass, Rule


@dataclasses.dataclass(frozen=True)
class RaiseQuantized(RewritePass):
    """What stands between DequantizeLinear (dq) and QuantizeLinear (q) computes on integers, as onnxruntime's
    optimizer has it compute, to the byte (`dlc.ir.affine` has the arithmetic).

    Products: Conv and MatMul of dq(x) and dq(w), with a bias that is stored in i32 in units of both scales,
    become exact sums in i32 that are scaled once. Sums, products and averages of windows and of images become
    QLinearAdd, QLinearMul, QLinearAveragePool and QLinearGlobalAveragePool. A rounding goes before movements,
    maxima and clips, since it keeps the order of numbers; where it undoes dq(x), both go. Scales and zero
    points are constants, and nothing else reads the numbers before they are rounded.

    This rounds otherwise than the standard's reading of q and dq, in which the operator between computes in
    floats: numbers at a tie, or nearly, may be a step apart. Without `dot_products` of bytes on the target,
    products stay in floats, which are faster there.

    Example, with u8 %x, i8 %w, i32 %b and constants:

        %a = DequantizeLinear(axis=0, block_size=0, to=f32)(%x, %sx, %zx)
        %c = DequantizeLinear(axis=0, block_size=0, to=f32)(%w, %sw, _)
        %d = DequantizeLinear(axis=0, block_size=0, to=f32)(%b, %sb, _)
        %e = Conv(...)(%a, %c, %d)
        %y = QuantizeLinear(axis=0, block_size=0, to=u8, ...)(%e, %sy, %zy)

    becomes

        %f = Cast(to=i32)(%x)
        %g = Cast(to=i32)(%zx)
        %h = Binary(fn="sub")(%f, %g)
        %i = Cast(to=i32)(%w)
        %j = Conv(...)(%h, %i, %b)
        %k = Cast(to=f32)(%j)
        %l = Binary(fn="mul")(%k, %scale)                       # sx * sw / sy
        %y = QuantizeLinear(axis=0, block_size=0, to=u8, ...)(%l, %one, %zy)
    """

    dot_products: bool = True

    name: ClassVar[str] = "raise-quantized"
    numerics: ClassVar[Numerics] = Numerics.APPROXIMATES
    requires: ClassVar[frozenset[Property]] = frozenset({Property.CANONICAL})
    keeps: ClassVar[frozenset[Property]] = frozenset({Property.LIVE})

    def rules(self) -> Sequence[Rule]:
        fast = products.rounded_product, products.real_product
        chosen = fast if self.dot_products else (products.slow_product,)
        return *movement.RULES, *elementwise.RULES, *chosen
