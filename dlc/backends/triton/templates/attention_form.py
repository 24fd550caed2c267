"""Attention as a kernel says it: scores, a softmax over the keys, a weighted sum of values.

`attention_form` recognises the stages and takes the formula of the scores apart: conditions that bound the
keys of a query (causality, windows, lengths) become ranges of keys, the rest stays an expression.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from dlc.backends.triton import tiles
from dlc.backends.triton.templates.attention_bounds import NEVER, KeyBound, split_bounds, symbols_of
from dlc.backends.triton.templates.template import Declined
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.inspect import roots
from dlc.lowering.kernel import (
    Axis,
    Contract,
    Duplicates,
    Kernel,
    LocalTensor,
    Map,
    Monoid,
    Reduce,
    Store,
    StoreMode,
)

#: Features of a head beyond which a block of queries does not fit the registers.
MAX_WIDTH = 512
#: Types that matrix instructions take as they are, with sums in f32.
NARROW = (DType.F16, DType.BF16)


@dataclasses.dataclass(frozen=True)
class Form:
    """What the kernel computes at each point of `batch` and `rows`, the queries, over all `keys`:

    product = sum over width of left * right, operands of type `operand`;
    x = slope * score where all `bounds` hold, else -inf; `score` reads the local `product`;
    weight = exp(x - shift), where `shift` is an expression of the local `top`, the maximum of x;
    total = sum of weight, mixed = sum of weight * values, which are of type `operand_of_values`;
    and the stores, of `total` and `mixed`. Maps are by name.
    """

    product: str
    left: e.Expr
    right: e.Expr
    operand: DType
    slope: float
    score: e.Expr
    bounds: tuple[KeyBound, ...]
    top: str
    shift: e.Expr
    total: str
    mixed: str
    values: e.Expr
    operand_of_values: DType
    stores: tuple[Store, ...]
    maps: Mapping[str, Map]
    batch: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    keys: tuple[Axis, ...]
    width: tuple[Axis, ...]
    features: tuple[Axis, ...]

    @property
    def masked(self) -> e.Expr:
        """`score` with all conditions."""
        score = self.score
        key = e.Iota(DType.I64, self.keys[0].symbol)
        for each in self.bounds:
            holds = e.Compare(DType.BOOL, "ge" if each.lower else "lt", key, each.bound)
            score = e.Select(DType.F32, holds, score, NEVER)
        return score

    @property
    def has_matrix_mask(self) -> bool:
        """Whether something is loaded for each query and key."""
        along = [{axis.name for axis in axes} for axes in (self.rows, self.keys)]
        loads = (symbols_of(node) for node in e.walk(self.score) if isinstance(node, e.Load))
        return any(all(names & found for names in along) for found in loads)


@dataclasses.dataclass(frozen=True)
class _Stages:
    """The stages of a part by their role."""

    scores: Contract
    top: Reduce
    total: Reduce
    mixed: Contract
    stores: tuple[Store, ...]
    maps: Mapping[str, Map]


def attention_form(part: Kernel) -> Form | Declined:
    """`part` as attention, or why it is none that the template takes."""
    found = _stages(part)
    reason = found if isinstance(found, str) else _unlike(part, found)
    if reason is not None or isinstance(found, str):
        return Declined(reason or "")
    first, second = found.scores.spec, found.mixed.spec
    x, weight = (_inlined(value, found.maps) for value in (found.top.values[0], found.mixed.left))
    operands = tuple(
        _inlined(value, found.maps) for value in (found.scores.left, found.scores.right, found.mixed.right)
    )
    if _inlined(found.total.values[0], found.maps) is not weight:
        return Declined("the sum is not that of the weights")
    top = found.top.outs[0]
    shift = _shift(weight, x, top, {found.scores.out.name, *first.columns})
    if shift is None:
        return Declined("the weights are no exponentials of the scores less an expression of their maximum")
    product, total, mixed = found.scores.out, found.total.outs[0], found.mixed.out
    ends = [root for store in found.stores for root in roots(store)]
    for group, outs in (([x], [product]), ([shift], [top]), (ends, [total, mixed]), (operands, [])):
        for node in e.walk(*(_inlined(value, found.maps) for value in group)):
            if isinstance(node, e.Read) and not _is_at(part, node, outs):
                return Declined(f"{node.local} is read elsewhere than attention does")
    score, bounds = split_bounds(x, [part.axis(name).symbol for name in first.columns])
    left, right, operand, factor = _operands(operands[0], operands[1], set(first.reduce))
    slope = 1.0
    if factor is not None:
        if isinstance(factor, e.Const) and factor.value > 0 and _is_homogeneous(score, product.name):
            slope = float(factor.value)
        else:
            score = _scaled(score, product.name, factor)
    values, narrow = _narrowed(operands[2])
    bounding = {name for bound in bounds for name in symbols_of(bound.bound)}
    return Form(
        product=product.name,
        left=left,
        right=right,
        operand=operand,
        slope=slope,
        score=score,
        bounds=bounds,
        top=top.name,
        shift=shift,
        total=total.name,
        mixed=mixed.name,
        values=values,
        operand_of_values=narrow,
        stores=found.stores,
        maps=found.maps,
        batch=tuple(map(part.axis, first.batch)),
        # Queries that see the same keys are neighbours, so that a block of them has few keys to look at.
        rows=tuple(part.axis(name) for name in sorted(first.rows, key=lambda name: name not in bounding)),
        keys=tuple(map(part.axis, first.columns)),
        width=tuple(map(part.axis, first.reduce)),
        features=tuple(map(part.axis, second.columns)),
    )


# --- stages


def _stages(part: Kernel) -> _Stages | str:
    """The stages by role, or why they are not those of attention."""
    contracts: list[Contract] = []
    reduces: dict[Monoid, Reduce] = {}
    stores: list[Store] = []
    maps: dict[str, Map] = {}
    for stage in part.body:
        match stage:
            case Contract():
                contracts.append(stage)
            case Reduce(monoid=Monoid.MAX | Monoid.SUM as monoid) if monoid not in reduces:
                reduces[monoid] = stage
            case Map(out, _):
                maps[out.name] = stage
            case Store(mode=StoreMode.SET, duplicates=Duplicates.FORBIDDEN):
                stores.append(stage)
            case _:
                return f"a {type(stage).__name__} is no stage of attention"
    if len(contracts) != 2 or len(reduces) != 2 or not stores:
        return "not scores, their softmax, a weighted sum and stores"
    return _Stages(contracts[0], reduces[Monoid.MAX], reduces[Monoid.SUM], contracts[1], tuple(stores), maps)


def _unlike(part: Kernel, found: _Stages) -> str | None:
    """Why axes and types are not those of attention; None when they are."""
    first, second = found.scores.spec, found.mixed.spec
    if first.windows or second.windows:
        return "windows"
    if (set(first.batch), set(first.rows)) != (set(second.batch), set(second.rows)):
        return "the products have different rows"
    if set(first.columns) != set(second.reduce):
        return "the second product is not over the keys"
    rows = {*first.batch, *first.rows}
    for reduce in (found.top, found.total):
        if set(reduce.axes) != set(first.columns) or set(reduce.outs[0].axes) != rows:
            return "no softmax over the keys"
    for store in found.stores:
        if set(store.axes) != {*rows, *second.columns}:
            return f"the store to {store.param} walks other axes"
    if {found.scores.out.dtype, found.mixed.out.dtype} != {DType.F32}:
        return "not computed in f32"
    for axes in (first.reduce, second.columns):
        extent = tiles.extent_of([part.axis(name) for name in axes])
        if not isinstance(extent, int) or extent > MAX_WIDTH:
            return "the size of a head is not known, or too large"
    return None


def _is_at(part: Kernel, node: e.Read, outs: Iterable[LocalTensor]) -> bool:
    """Whether a local is read just where it is computed."""
    found = {out.name: out for out in outs}.get(node.local)
    return (
        found is not None
        and not node.mask
        and node.index == tuple(part.axis(axis).symbol for axis in found.axes)
    )


def _shift(weight: e.Expr, x: e.Expr, top: LocalTensor, varying: set[str]) -> e.Expr | None:
    """What the weights exp(x - shift) subtract, if it depends on the maximum and not on the key."""
    match weight:
        case e.Unary(_, "exp", e.Binary(_, "sub", scores, shift)) if scores is x:
            reads = {node.local for node in e.walk(shift) if isinstance(node, e.Read)}
            return shift if reads == {top.name} and not varying & symbols_of(shift) else None
    return None


def _inlined(value: e.Expr, maps: Mapping[str, Map]) -> e.Expr:
    """`value` with what maps compute in place of reads of them."""

    def leaf(node: e.Expr) -> e.Expr | None:
        if not isinstance(node, e.Read) or node.mask or node.local not in maps:
            return None
        stage = maps[node.local]
        return _inlined(e.substitute(stage.value, dict(zip(stage.out.axes, node.index, strict=True))), maps)

    return e.rewrite(value, leaf)


# --- operands


def _narrowed(value: e.Expr) -> tuple[e.Expr, DType]:
    """An operand without the conversion that matrix instructions make themselves, and its type."""
    match value:
        case e.Cast(DType.F32, inner, _) if inner.dtype in NARROW:
            return inner, inner.dtype
    return value, value.dtype


def _operands(left: e.Expr, right: e.Expr, varying: set[str]) -> tuple[e.Expr, e.Expr, DType, e.Expr | None]:
    """Both operands and their type; and by what the product must be multiplied, if anything.

    Where that makes both narrow, factors which do not depend on the summed axes are taken out of them.
    """
    (one, factor), (other, more) = (_peeled(value, varying) for value in (left, right))
    one, kind = _narrowed(one)
    other, kind_of_other = _narrowed(other)
    if kind is not kind_of_other or kind not in NARROW:
        return left, right, DType.F32, None
    if factor is not None and more is not None:
        factor = e.Binary(DType.F32, "mul", factor, more)
    return one, other, kind, factor or more


def _peeled(value: e.Expr, varying: set[str]) -> tuple[e.Expr, e.Expr | None]:
    """`value` as a product of what depends on the axes `varying` and a factor that does not."""
    match value:
        case e.Binary(DType.F32, "mul", left, right):
            for core, factor in ((left, right), (right, left)):
                if not varying & symbols_of(factor):
                    core, more = _peeled(core, varying)
                    return core, factor if more is None else e.Binary(DType.F32, "mul", more, factor)
    return value, None


def _scaled(score: e.Expr, product: str, factor: e.Expr) -> e.Expr:
    """`score` of the product times `factor`."""

    def leaf(node: e.Expr) -> e.Expr | None:
        if isinstance(node, e.Read) and node.local == product:
            return e.Binary(DType.F32, "mul", node, factor)
        return None

    return e.rewrite(score, leaf)


def _is_homogeneous(score: e.Expr, product: str) -> bool:
    """Whether a positive factor of the product is one of the score."""
    match score:
        case e.Read(_, local):
            return local == product
        case e.Select(_, condition, inner, otherwise) if otherwise is NEVER:
            reads = {node.local for node in e.walk(condition) if isinstance(node, e.Read)}
            return product not in reads and _is_homogeneous(inner, product)
    return False
