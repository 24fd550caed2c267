"""Attention as a kernel says it: scores, a softmax over the keys, a weighted sum of values.

`attention_form` recognizes the stages and takes the formula of the scores apart: conditions that bound the
keys of a query (causality, windows, lengths) become ranges, the rest stays an expression.
"""
from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from dlc.backends.cpu import access
from dlc.backends.cpu.templates.template import Declined
from dlc.ir.dims import Dim, Symbol, free_symbols, is_nonnegative, linear
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.inspect import expr_dims
from dlc.lowering.kernel import Axis, Contract, Kernel, Map, Monoid, Param, Reduce, Stage, Store, StoreMode

#: Head sizes above this would need too much scratch memory for one block of rows.
MAX_WIDTH = 1024


@dataclasses.dataclass(frozen=True)
class Rows:
    """A matrix read where it lies: element (row, column) at `base + row * stride + column`, in elements.

    `base` speaks of batch and key head.
    """

    param: Param
    base: Dim
    stride: Dim


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Keys or values of one head: an expression over (key, feature) and, if it is a mere load, its place."""

    value: e.Expr
    rows: Rows | None


@dataclasses.dataclass(frozen=True)
class KeyBound:
    """A condition on the number of a key: below `bound`, or from `bound` on if `lower`.

    The bound is an integer expression that does not depend on the key and is no lower for a later query.
    """

    bound: e.Expr
    lower: bool


@dataclasses.dataclass(frozen=True)
class AttentionForm:
    """What the kernel computes, for each batch, key head, group and query:

    x = score where all `bounds` hold, else -inf, where `score` is an expression of the product `product` of
    query and key; y = store of (sum over keys of exp(x - max) * value, sum over keys of exp(x - max)).
    `mixed` and `total` are the names by which `store` reads these two.
    """

    kernel: Kernel
    batch: Axis
    key_head: Axis
    group: Axis | None
    query: Axis
    key: Axis
    width: Axis
    feature: Axis
    left: e.Expr
    keys: Matrix
    values: Matrix
    product: str
    score: e.Expr
    bounds: tuple[KeyBound, ...]
    mixed: str
    total: str
    store: Store

    @property
    def head_size(self) -> int:
        """Features of a query or key."""
        return extent_of(self.width)

    @property
    def value_size(self) -> int:
        """Features of a value."""
        return extent_of(self.feature)


def extent_of(axis: Axis) -> int:
    """The extent of an axis that is known at compile time."""
    assert isinstance(axis.extent, int)
    return axis.extent


def attention_form(kernel: Kernel) -> AttentionForm | Declined:
    """`kernel` as attention, or why it is none that the template takes."""
    match kernel.body:
        case (Contract() as scores, *maps, Reduce() as top, Map() as weight, Reduce() as total,
              Contract() as mixed, Store() as store):
            pass
        case _:
            return Declined("not scores, their softmax and a weighted sum")
    if any(param.type.layout is not None for param in kernel.params):
        return Declined("a blocked layout")
    reason = _check_shape(kernel, scores, mixed) or _check_softmax(scores, maps, top, weight, total, mixed)
    if reason is not None:
        return Declined(reason)
    key, feature = mixed.spec.reduce[0], mixed.spec.columns[0]
    if store.mode is not StoreMode.SET or set(store.axes) != set(mixed.out.axes):
        return Declined("the result is not stored once")
    x = _inlined(top.values[0], maps)
    query = kernel.axis(scores.spec.rows[-1])
    score, bounds = _split_bounds(x, kernel.axis(key).symbol, query.symbol)
    group = kernel.axis(scores.spec.rows[0]) if len(scores.spec.rows) == 2 else None
    width = scores.spec.reduce[0]
    return AttentionForm(
        kernel, kernel.axis(scores.spec.batch[0]), kernel.axis(scores.spec.batch[1]), group, query,
        kernel.axis(key), kernel.axis(width), kernel.axis(feature), scores.left,
        _matrix(kernel, scores.right, key, width), _matrix(kernel, mixed.right, key, feature),
        scores.out.name, score, bounds, mixed.out.name, total.outs[0].name, store)


def _check_shape(kernel: Kernel, scores: Contract, mixed: Contract) -> str | None:
    """Why the two contractions are not those of attention; None when they are."""
    first, second = scores.spec, mixed.spec
    if first.windows or second.windows or len(first.batch) != 2 or len(first.rows) not in (1, 2):
        return "other axes than batch, heads, queries and keys"
    if (first.batch, first.rows) != (second.batch, second.rows) or first.columns != second.reduce:
        return "the products are over different axes"
    if any(len(axes) != 1 for axes in (first.columns, first.reduce, second.columns)):
        return "heads of several axes"
    operands = (scores.left, scores.right, mixed.right)
    if {scores.out.dtype, mixed.out.dtype, *(operand.dtype for operand in operands)} != {DType.F32}:
        return "not computed in f32"
    for axis in (first.reduce[0], second.columns[0]):
        extent = kernel.extent(axis)
        if not isinstance(extent, int) or not 0 < extent <= MAX_WIDTH:
            return "the size of a head is not known, or too large"
    return None


def _check_softmax(scores: Contract, maps: Sequence[Stage], top: Reduce, weight: Map, total: Reduce,
                   mixed: Contract) -> str | None:
    """Why the stages between the contractions are no softmax over the keys; None when they are."""
    previous = scores.out
    for stage in maps:
        if not isinstance(stage, Map) or stage.out.axes != scores.out.axes:
            return "a stage between the products that is no map over the scores"
        previous = stage.out
    x = _only_read(top.values[0], previous.name)
    if top.monoid is not Monoid.MAX or top.axes != scores.spec.columns or x is None:
        return "no maximum over the keys"
    row = e.Read(DType.F32, top.outs[0].name, x.index[:-1])
    infinite = e.Compare(DType.BOOL, "eq", row, e.Const(DType.F32, -math.inf))
    shift = e.Select(DType.F32, infinite, e.Const(DType.F32, 0.0), row)
    if weight.value is not e.Unary(DType.F32, "exp", e.Binary(DType.F32, "sub", x, shift)):
        return "no exponential of the scores less their maximum"
    if (total.monoid is not Monoid.SUM or total.axes != scores.spec.columns
            or _only_read(total.values[0], weight.out.name) is None):
        return "no sum over the keys"
    if _only_read(mixed.left, weight.out.name) is None:
        return "the second product is not that of the weights"
    return None


def _only_read(value: e.Expr, local: str) -> e.Read | None:
    """`value` if it is nothing but a read of `local` at its axes."""
    return value if isinstance(value, e.Read) and value.local == local and not value.mask else None


def _inlined(x: e.Expr, maps: Sequence[Stage]) -> e.Expr:
    """`x`, which reads the last of `maps`, as an expression of the product."""
    values: dict[str, e.Expr] = {}

    def leaf(node: e.Expr) -> e.Expr | None:
        return values.get(node.local) if isinstance(node, e.Read) else None

    for stage in maps:
        assert isinstance(stage, Map)
        values[stage.out.name] = e.rewrite(stage.value, leaf)
    return e.rewrite(x, leaf)


def _split_bounds(x: e.Expr, key: Symbol, query: Symbol) -> tuple[e.Expr, tuple[KeyBound, ...]]:
    """`x` without the conditions on the key's number that make it -inf, and these conditions."""
    match x:
        case e.Select(_, condition, score, e.Const(value=value)) if value == -math.inf:
            pass
        case _:
            return x, ()
    bounds: list[KeyBound] = []
    rest: e.Expr | None = None
    for part in _conjuncts(condition):
        match part:
            case e.Compare(_, "lt" | "ge" as fn, e.Iota(_, index), bound) if index == key and _monotonic(
                    bound, key, query):
                bounds.append(KeyBound(bound, fn == "ge"))
            case _:
                rest = part if rest is None else e.Binary(DType.BOOL, "and", rest, part)
    if rest is not None:
        score = e.Select(DType.F32, rest, score, e.Const(DType.F32, -math.inf))
    return score, tuple(bounds)


def _conjuncts(condition: e.Expr) -> list[e.Expr]:
    match condition:
        case e.Binary(_, "and", left, right):
            return _conjuncts(left) + _conjuncts(right)
    return [condition]


def _monotonic(bound: e.Expr, key: Symbol, query: Symbol) -> bool:
    """Whether a bound is the same for all keys and no lower for a later query."""
    match bound:
        case e.Iota(_, index):
            affine = linear(index, query)
            return key not in free_symbols(index) and affine is not None and is_nonnegative(affine[0])
        case e.Binary(_, "add", left, right):
            one_moves = not all(_depends(part, query) for part in (left, right))
            return one_moves and _monotonic(left, key, query) and _monotonic(right, key, query)
    return not _depends(bound, key) and not _depends(bound, query)


def _depends(value: e.Expr, axis: Symbol) -> bool:
    return any(axis in free_symbols(dim) for dim in expr_dims(value))


def _matrix(kernel: Kernel, value: e.Expr, row: str, column: str) -> Matrix:
    """Keys or values: read in place where the features of a key are contiguous."""
    if not isinstance(value, e.Load) or value.mask or value.dtype is not DType.F32:
        return Matrix(value, None)
    dims = [entry for entry in value.index if not isinstance(entry, e.Expr)]
    if len(dims) != len(value.index):
        return Matrix(value, None)
    param = kernel.param(value.param)
    inner = linear(access.offset(param, dims), kernel.axis(column).symbol)
    outer = None if inner is None else linear(inner[1], kernel.axis(row).symbol)
    if inner is None or inner[0] != 1 or outer is None:
        return Matrix(value, None)
    stride, base = outer
    axes = {kernel.axis(name).symbol for name in (row, column)}
    if axes & free_symbols(stride) or axes & free_symbols(base):
        return Matrix(value, None)
    return Matrix(value, Rows(param, base, stride))
