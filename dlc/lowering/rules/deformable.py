"""Kernels of DeformConv: samples at displaced taps into a temporary, then a contraction."""

from __future__ import annotations

import itertools

from dlc.ir.dims import Dim, product
from dlc.ir.dtypes import DType
from dlc.ir.graph import Node, Value
from dlc.ir.ops.deformable import DeformConv
from dlc.lowering import expr as e
from dlc.lowering.draft import Draft, arithmetic_dtype, binary, cast, const, unary
from dlc.lowering.expr import Index
from dlc.lowering.kernel import AxisKind, Contraction
from dlc.lowering.rules.formulas import select
from dlc.lowering.rules.interpolation import inside, position_within
from dlc.lowering.rules.registry import rule


@rule(DeformConv)
def deform_conv(draft: Draft, node: Node) -> None:
    """y[n, g, o, p] = sum over c, k of w[g, o, c, k] * s[n, g, c, k, p] + b[g, o], s being samples of x."""
    assert isinstance(node.op, DeformConv)
    op, w, target, bias = node.op, draft.operand(1), node.outputs[0], draft.optional(3)
    samples = _samples(draft, op)
    outputs, each, *kernel = w.tensor.shape
    batch, _, *positions = target.tensor.shape
    per_group = outputs // op.groups
    n, g, o = draft.axis(batch), draft.axis(op.groups), draft.axis(per_group)
    p = draft.axes_of(positions)
    c = draft.axis(each, AxisKind.REDUCE)
    k = draft.axes_of(kernel, AxisKind.REDUCE)
    feature = g * per_group + o
    spec = Contraction(
        (n.name, g.name),
        (o.name,),
        tuple(axis.name for axis in p),
        (c.name, *(axis.name for axis in k)),
    )
    left = draft.load_arithmetic(w, [feature, c, *k])
    right = draft.load(samples, [n, g * each + c, *k, *p])
    outer = [n, g, o, *p]
    y: e.Expr = draft.contract(spec, left, right, outer)
    if bias is not None:
        y = binary("add", y, cast(draft.load(bias, [feature]), y.dtype))
    draft.store(target, outer, y, [n, feature, *p])


def _samples(draft: Draft, op: DeformConv) -> Value:
    """The samples [N, C, K..., out...] of x at the displaced taps, times the mask."""
    x, w, offset, mask = draft.operand(0), draft.operand(1), draft.operand(2), draft.optional(4)
    wide = arithmetic_dtype(x.tensor.dtype)
    batch, channels, *space = x.tensor.shape
    kernel, positions = w.tensor.shape[2:], draft.node.outputs[0].tensor.shape[2:]
    samples = draft.temporary("samples", wide, [batch, channels, *kernel, *positions])
    n, c = draft.axis(batch), draft.axis(channels)
    k, p = draft.axes_of(kernel), draft.axes_of(positions)
    group = c // (channels // op.offset_groups)
    tap: Dim = 0
    for extent, axis in zip(kernel, k, strict=True):
        tap = tap * extent + axis
    tap = group * product(kernel) + tap
    rank = len(space)
    at = []
    for i in range(rank):
        start = p[i] * op.strides[i] - op.pads[i][0] + k[i] * op.dilations[i]
        moved = cast(draft.load(offset, [n, tap * rank + i, *p]), wide)
        at.append(binary("add", cast(e.Iota(DType.I64, start), wide), moved))
    value = _sample(draft, x, [n, c], at, wide)
    if mask is not None:
        value = binary("mul", value, cast(draft.load(mask, [n, tap, *p]), wide))
    draft.store(samples, [n, c, *k, *p], value)
    return samples


def _sample(draft: Draft, x: Value, plane: list[Index], at: list[e.Expr], dtype: DType) -> e.Expr:
    """Linear interpolation of a plane of x at positions along its axes; elements outside count as 0."""
    space = x.tensor.shape[2:]
    low = [unary("floor", position) for position in at]
    first = [cast(cast(floor, DType.I32, e.CastMode.SATURATE), DType.I64, e.CastMode.WRAP) for floor in low]
    total: e.Expr | None = None
    for corner in itertools.product((0, 1), repeat=len(space)):
        weight: e.Expr | None = None
        index = list(plane)
        for axis, step in enumerate(corner):
            share = binary("sub", at[axis], low[axis])
            if not step:
                share = binary("sub", const(1, dtype), share)
            position = binary("add", first[axis], step)
            share = select(inside(position, space[axis]), share, const(0, dtype))
            weight = share if weight is None else binary("mul", weight, share)
            index.append(position_within(position, space[axis]))
        assert weight is not None
        term = binary("mul", cast(draft.load(x, index), dtype), weight)
        total = term if total is None else binary("add", total, term)
    assert total is not None
    return total
