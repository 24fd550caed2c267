"""Operators that draw random numbers, from the counter-based generator of `dlc.ir.ops.random`.

A run draws the same numbers each time. Nodes with the attribute `seed` draw what follows from the seed, the
others what follows from their place among the model's random nodes; the iterations of loops draw different
numbers. Numbers are those of no other engine: the standard leaves the generator open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import require, reshape
from dlc.frontend.onnx.registry import importer
from dlc.ir.dims import Dim, Relation, to_text
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.common import FLOATS, INTEGERS, NUMBERS
from dlc.ir.ops.movement import Expand, Slice
from dlc.ir.ops.normalization import Softmax
from dlc.ir.ops.pointwise import Binary, Cast, Compare, Unary, Where
from dlc.ir.ops.random import Random
from dlc.ir.ops.reduction import Cumulative, Reduce

#: Bits of the significand: so many random bits make a number in [0, 1) that the type holds exactly.
_DIGITS = {DType.F64: 53, DType.F32: 24, DType.F16: 11, DType.BF16: 8}

#: Set in the keys of nodes without a seed.
_UNSEEDED = 1 << 63


class _Source:
    """Where the random numbers of one node come from."""

    def __init__(self, ctx: NodeContext) -> None:
        self._ctx = ctx
        self._key = self._seed() if ctx.has("seed") else _UNSEEDED | ctx.importer.next_stream()

    def _seed(self) -> int:
        """The key for the attribute `seed`, a float or (in Dropout) an integer."""
        seed = self._ctx.attributes["seed"]
        if isinstance(seed, int):
            return seed & ((1 << 64) - 1)
        return int(np.float32(self._ctx.float("seed")).view(np.uint32))

    def bits(self, shape: Sequence[Dim], second: bool = False) -> Value:
        """u64 random bits, the first or an independent second tensor of them."""
        return self._ctx.add(Random(tuple(shape), self._key, self._ctx.importer.draw, second))

    def uniform(self, shape: Sequence[Dim], dtype: DType, second: bool = False) -> Value:
        """Numbers in [0, 1) that `dtype` holds exactly: f64 for f64, f32 for all others."""
        return _fraction(self._ctx, self.bits(shape, second), _DIGITS[dtype])

    def normal(self, shape: Sequence[Dim], wide: DType) -> Value:
        """Numbers of the standard normal distribution in f32 or f64, by the method of Box and Muller."""
        ctx = self._ctx
        radius_bits = self.bits(shape)
        # 1 - u is in (0, 1], so that its logarithm is finite: at most 8.6 (5.8 in f32) standard deviations.
        one = ctx.const(1, wide)
        first = ctx.add(Binary("sub"), one, _fraction(ctx, radius_bits, _DIGITS[wide]))
        squared = ctx.add(Binary("mul"), ctx.add(Unary("log"), first), ctx.const(-2, wide))
        angle = ctx.add(Binary("mul"), self.uniform(shape, wide, second=True), ctx.const(2 * math.pi, wide))
        return ctx.add(Binary("mul"), ctx.add(Unary("sqrt"), squared), ctx.add(Unary("cos"), angle))


def _fraction(ctx: NodeContext, bits: Value, digits: int) -> Value:
    """The upper `digits` bits as a number in [0, 1): f64 for more than 24, else f32."""
    wide = DType.F64 if digits > _DIGITS[DType.F32] else DType.F32
    upper = ctx.add(Binary("shift_right"), bits, ctx.const(64 - digits, DType.U64))
    # As a signed number, which hardware converts directly.
    number = ctx.add(Cast(wide), ctx.add(Cast(DType.I64), upper))
    return ctx.add(Binary("mul"), number, ctx.const(2.0**-digits, wide))


@importer("RandomUniform")
def random_uniform(ctx: NodeContext) -> Value:
    """Numbers between `low` and `high` in the shape that an attribute gives."""
    return _uniform(ctx, ctx.ints("shape"), ctx.dtype("dtype", DType.F32))


@importer("RandomUniformLike")
def random_uniform_like(ctx: NodeContext) -> Value:
    """The same in the shape, and by default the type, of the operand."""
    x = ctx.required(0).tensor
    return _uniform(ctx, x.shape, ctx.dtype("dtype", x.dtype))


def _uniform(ctx: NodeContext, shape: Sequence[Dim], dtype: DType) -> Value:
    wide = _wide(ctx, dtype, shape)
    low, high = ctx.float("low", 0.0), ctx.float("high", 1.0)
    unit = _Source(ctx).uniform(shape, dtype)
    return _cast(ctx, _scaled(ctx, unit, high - low, low, wide), dtype)


@importer("RandomNormal")
def random_normal(ctx: NodeContext) -> Value:
    """Numbers with `mean` and the standard deviation `scale` in the shape that an attribute gives."""
    return _normal(ctx, ctx.ints("shape"), ctx.dtype("dtype", DType.F32))


@importer("RandomNormalLike")
def random_normal_like(ctx: NodeContext) -> Value:
    """The same in the shape, and by default the type, of the operand."""
    x = ctx.required(0).tensor
    return _normal(ctx, x.shape, ctx.dtype("dtype", x.dtype))


def _normal(ctx: NodeContext, shape: Sequence[Dim], dtype: DType) -> Value:
    wide = _wide(ctx, dtype, shape)
    unit = _Source(ctx).normal(shape, wide)
    return _cast(ctx, _scaled(ctx, unit, ctx.float("scale", 1.0), ctx.float("mean", 0.0), wide), dtype)


def _wide(ctx: NodeContext, dtype: DType, shape: Sequence[Dim]) -> DType:
    """The type to compute in, after a check of what is asked for."""
    if dtype not in FLOATS:
        ctx.fail(f"random numbers are floating-point numbers, not {dtype.text}")
    if any(isinstance(extent, int) and extent < 0 for extent in shape):
        ctx.fail(f"the shape {list(shape)} has a negative extent")
    return DType.F64 if dtype is DType.F64 else DType.F32


def _scaled(ctx: NodeContext, x: Value, factor: float, term: float, wide: DType) -> Value:
    """x * factor + term."""
    if factor != 1:
        x = ctx.add(Binary("mul"), x, ctx.const(factor, wide))
    return ctx.add(Binary("add"), x, ctx.const(term, wide)) if term else x


@importer("Bernoulli", since=15)
def bernoulli(ctx: NodeContext) -> Value:
    """1 with the probability that the operand gives, else 0."""
    p = ctx.required(0)
    dtype = ctx.dtype("dtype", p.tensor.dtype)
    if p.tensor.dtype not in FLOATS or dtype not in NUMBERS | {DType.BOOL}:
        ctx.fail(f"draws of type {dtype.text} from {p.type} are not possible")
    unit = _Source(ctx).uniform(p.tensor.shape, DType.F64)
    return _cast(ctx, ctx.add(Compare("lt"), unit, _cast(ctx, p, DType.F64)), dtype)


@importer("Multinomial", since=7)
def multinomial(ctx: NodeContext) -> Value:
    """Classes drawn for each row of logarithms of unnormalized probabilities.

    The class of a random number is the number of cumulated probabilities that it reaches. All is computed in
    float64 with 48 random bits, so that the number stays below the sum, and a class of probability 0 is never
    drawn.
    """
    x, samples = ctx.required(0), ctx.int("sample_size", 1)
    dtype = ctx.dtype("dtype", DType.I32)
    if x.tensor.rank != 2 or x.tensor.dtype not in FLOATS:
        ctx.fail(f"the operand must be a matrix of floating-point numbers, but is {x.type}")
    if dtype not in INTEGERS or samples < 1:
        ctx.fail(f"{samples} samples of type {dtype.text} cannot be drawn")
    batch, classes = x.tensor.shape
    require(ctx, Relation.LE, 1, classes, f"there must be classes to draw from, not {to_text(classes)}")
    probabilities = ctx.add(Softmax(1), _cast(ctx, x, DType.F64))
    reached = ctx.add(Cumulative("sum", 1, exclusive=False, reverse=False), probabilities)
    total = ctx.add(Slice((0, classes - 1), (batch, 1), (1, 1)), reached)
    unit = _fraction(ctx, _Source(ctx).bits((batch, samples)), 48)
    number = reshape(ctx, ctx.add(Binary("mul"), unit, total), (batch, samples, 1))
    below = ctx.add(Compare("le"), reshape(ctx, reached, (batch, 1, classes)), number)
    return _cast(ctx, ctx.add(Reduce("sum", (2,), keepdims=False), ctx.add(Cast(DType.I64), below)), dtype)


@importer("Dropout")
def dropout_is_test(ctx: NodeContext) -> tuple[Value, ...]:
    """`is_test` says whether nothing is dropped; the mask has the type of the data."""
    x, ratio = ctx.required(0), _ratio_attribute(ctx)
    dtype = x.tensor.dtype
    if ctx.int("is_test", 0):
        return _kept(ctx, dtype)
    return _dropped(ctx, ctx.const(ratio, DType.F32), None, dtype)


@importer("Dropout", since=7)
def dropout_mask_like_data(ctx: NodeContext) -> tuple[Value, ...]:
    """Inference only: `ratio` has no effect, and the mask has the type of the data."""
    _ratio_attribute(ctx)
    return _kept(ctx, ctx.required(0).tensor.dtype)


@importer("Dropout", since=10)
def dropout_ratio_attribute(ctx: NodeContext) -> tuple[Value, ...]:
    """Inference only: `ratio` has no effect, and the mask is bool."""
    _ratio_attribute(ctx)
    return _kept(ctx, DType.BOOL)


@importer("Dropout", since=12)
def dropout(ctx: NodeContext) -> tuple[Value, ...]:
    """The identity, unless `training_mode` is true and the ratio is not 0."""
    ctx.int("seed", 0)
    training = None if ctx.optional(2) is None else ctx.single(2)
    known = ctx.constant(2)
    if training is None or (known is not None and not known.item()):
        return _kept(ctx, DType.BOOL)
    ratio = ctx.const(0.5, DType.F32) if ctx.optional(1) is None else ctx.single(1)
    number = ctx.importer.constant(ratio)
    if number is not None and not 0 <= float(number.item()) < 1:
        ctx.fail(f"the ratio must be in [0, 1), but is {float(number.item()):g}")
    if number is not None and not number.item():
        return _kept(ctx, DType.BOOL)
    return _dropped(ctx, ratio, None if known is not None else training, DType.BOOL)


def _ratio_attribute(ctx: NodeContext) -> float:
    return ctx.float("ratio", 0.5)


def _kept(ctx: NodeContext, mask: DType) -> tuple[Value, ...]:
    """The data, and a mask of ones when the node wants one."""
    x = ctx.required(0)
    if not ctx.wants(1):
        return (x,)
    return (x, ctx.builder.add(Expand(x.tensor.shape), ctx.const(1, mask)))


def _dropped(ctx: NodeContext, ratio: Value, training: Value | None, mask: DType) -> tuple[Value, ...]:
    """data * mask / (1 - ratio), computed in float32 (float64 for float64), and the mask.

    `ratio` and `training` hold one element; None stands for true. An element is kept where its random number
    is not below the ratio.
    """
    x = ctx.required(0)
    wide = DType.F64 if x.tensor.dtype is DType.F64 else DType.F32
    share = _cast(ctx, reshape(ctx, ratio, ()), wide)
    kept = ctx.add(Compare("ge"), _Source(ctx).uniform(x.tensor.shape, wide), share)
    factor = ctx.add(Binary("div"), ctx.const(1, wide), ctx.add(Binary("sub"), ctx.const(1, wide), share))
    scaled = ctx.add(Binary("mul"), _cast(ctx, x, wide), factor)
    y = _cast(ctx, ctx.add(Binary("mul"), scaled, ctx.add(Cast(wide), kept)), x.tensor.dtype)
    if training is not None:
        condition = reshape(ctx, training, ())
        y = ctx.add(Where(), condition, y, x)
        kept = ctx.add(Binary("or"), kept, ctx.add(Unary("not"), condition))
    return (y, _cast(ctx, kept, mask))


def _cast(ctx: NodeContext, x: Value, to: DType) -> Value:
    return x if x.tensor.dtype is to else ctx.add(Cast(to), x)
