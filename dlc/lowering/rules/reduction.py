"""Kernels of reductions, arg-reductions and cumulative sums."""

from __future__ import annotations

import math
from collections.abc import Callable

from dlc.ir.dims import Dim, Symbol, product
from dlc.ir.dtypes import DType
from dlc.ir.graph import Node
from dlc.ir.ops.reduction import ArgReduce, Cumulative, Reduce, TopK
from dlc.lowering import expr as e
from dlc.lowering.draft import Draft, binary, cast, const, unary
from dlc.lowering.kernel import Access, AxisKind, Monoid, State, Store
from dlc.lowering.rules.formulas import compare, select
from dlc.lowering.rules.registry import rule


def split_axes(
    draft: Draft, shape: tuple[Dim, ...], reduced: tuple[int, ...], kind: AxisKind = AxisKind.REDUCE
) -> tuple[list[Symbol], list[Symbol], list[Symbol]]:
    """One axis for each extent of `shape`: (all, the kept ones, the reduced ones)."""
    everything = [
        draft.axis(extent, kind if axis in reduced else AxisKind.PARALLEL)
        for axis, extent in enumerate(shape)
    ]
    return (
        everything,
        [a for i, a in enumerate(everything) if i not in reduced],
        [everything[i] for i in reduced],
    )


def result_index(everything: list[Symbol], reduced: tuple[int, ...], keepdims: bool) -> list[Dim]:
    """Where the result of a reduction is stored: reduced axes at 0 when kept, absent otherwise."""
    if keepdims:
        return [0 if axis in reduced else at for axis, at in enumerate(everything)]
    return [at for axis, at in enumerate(everything) if axis not in reduced]


@rule(Reduce)
def reduce(draft: Draft, node: Node) -> None:
    """y[kept] = monoid over the reduced axes of f(x)."""
    assert isinstance(node.op, Reduce)
    source = draft.operand(0)
    shape, axes = source.tensor.shape, node.op.axes
    everything, kept, reduced = split_axes(draft, shape, axes)
    x = draft.load_arithmetic(source, everything)
    count = product([shape[axis] for axis in axes])
    draft.store(
        node.outputs[0],
        kept,
        reduced_value(draft, node.op.fn, x, reduced, kept, count),
        result_index(everything, axes, node.op.keepdims),
    )


def reduced_value(
    draft: Draft, fn: str, x: e.Expr, reduced: list[Symbol], kept: list[Symbol], count: Dim
) -> e.Expr:
    """The reduction `fn` of `x` over `reduced`."""

    def total(value: e.Expr) -> e.Expr:
        return draft.reduce(Monoid.SUM, reduced, value, kept)

    match fn:
        case "sum":
            return total(x)
        case "mean":
            return divide_by_count(total(x), count)
        case "max" | "min":
            logical = x.dtype is DType.BOOL
            monoid = {"max": Monoid.OR, "min": Monoid.AND}[fn] if logical else Monoid(fn)
            return draft.reduce(monoid, reduced, x, kept)
        case "prod":
            return draft.reduce(Monoid.PROD, reduced, x, kept)
        case "l1":
            return total(unary("abs", x))
        case "l2":
            if x.dtype.is_float:
                return unary("sqrt", total(binary("mul", x, x)))
            wide = cast(x, DType.F64)
            return cast(unary("sqrt", total(binary("mul", wide, wide))), x.dtype, e.CastMode.WRAP)
        case "sum_square":
            return total(binary("mul", x, x))
        case "log_sum":
            return in_float(x, lambda value: unary("log", total(value)))
        case "log_sum_exp":
            return in_float(x, lambda value: log_sum_exp(draft, value, reduced, kept))
    raise KeyError(fn)


def in_float(x: e.Expr, compute: Callable[[e.Expr], e.Expr]) -> e.Expr:
    """`compute` on floats; integers go through f64."""
    if x.dtype.is_float:
        return compute(x)
    return cast(compute(cast(x, DType.F64)), x.dtype, e.CastMode.WRAP)


def log_sum_exp(draft: Draft, x: e.Expr, reduced: list[Symbol], kept: list[Symbol]) -> e.Expr:
    """log(sum(exp(x))), shifted by the maximum where that is finite."""
    top = draft.reduce(Monoid.MAX, reduced, x, kept)
    finite = compare("lt", unary("abs", top), math.inf)
    shift = select(finite, top, const(0, x.dtype))
    total = draft.reduce(Monoid.SUM, reduced, unary("exp", binary("sub", x, shift)), kept)
    return binary("add", unary("log", total), shift)


def divide_by_count(total: e.Expr, count: Dim) -> e.Expr:
    """The mean of `count` numbers of sum `total`; floats divide by the count as a float."""
    number = (
        const(count, total.dtype)
        if isinstance(count, int)
        else cast(e.Iota(DType.I64, count), total.dtype, e.CastMode.WRAP)
    )
    return binary("div", total, number)


@rule(ArgReduce)
def arg_reduce(draft: Draft, node: Node) -> None:
    """y[kept] = the index of the extreme element; the first (or last) of equal ones; NaN is extreme."""
    assert isinstance(node.op, ArgReduce)
    source, axis = draft.operand(0), node.op.axis
    everything, kept, reduced = split_axes(draft, source.tensor.shape, (axis,))
    x = draft.load_arithmetic(source, everything)
    monoid = Monoid(f"arg{node.op.fn}" + ("_last" if node.op.select_last else ""))
    _, index = draft.reduce_all(monoid, reduced, (x, e.Iota(DType.I64, everything[axis])), kept)
    draft.store(node.outputs[0], kept, index, result_index(everything, (axis,), node.op.keepdims))


@rule(Cumulative)
def cumulative(draft: Draft, node: Node) -> None:
    """y[.., i, ..] = the sum (or product) of x up to i: a recurrence along the axis."""
    assert isinstance(node.op, Cumulative)
    op, source = node.op, draft.operand(0)
    everything, kept, _ = split_axes(draft, source.tensor.shape, (op.axis,), AxisKind.SEQUENTIAL)
    x = draft.load_arithmetic(source, everything)
    fn, start = ("add", 0) if op.fn == "sum" else ("mul", 1)
    local = draft.local(x.dtype, kept)
    before = e.Read(x.dtype, local.name, tuple(kept))
    after = e.Binary(x.dtype, fn, before, x)
    body = Store(
        draft.param(node.outputs[0], Access.WRITE),
        tuple(a.name for a in kept),
        tuple(everything),
        cast(before if op.exclusive else after, node.outputs[0].tensor.dtype),
    )
    draft.recur(everything[op.axis], (State(local, const(start, x.dtype), after),), (body,), op.reverse)


@rule(TopK)
def top_k(draft: Draft, node: Node) -> None:
    """The k best elements along an axis and their positions: a routine."""
    assert isinstance(node.op, TopK)
    op, (values, indices) = node.op, node.outputs
    params = [
        draft.param(draft.operand(0)),
        draft.param(values, Access.WRITE),
        draft.param(indices, Access.WRITE),
    ]
    axis = op.axis % values.tensor.rank
    draft.routine("top_k", params, axis=axis, k=op.k, largest=op.largest, sorted=op.sorted)
