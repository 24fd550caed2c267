"""Putting two kernels into one: a producer into its reader's loads, a reader onto its producer's store.

Both directions are rewriting of index expressions and change no value. A function returns the fused kernel,
or a `Declined` with the reason.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from dlc.ir.dims import (
    Dim,
    Symbol,
    free_symbols,
    known_equal,
    product,
    substitute as substitute_dim,
    terms_of,
)
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.draft import LoweredKernel
from dlc.lowering.inspect import loads, map_stage, roots, stage_axes, stages, used_axes
from dlc.lowering.kernel import (
    Access,
    Axis,
    Duplicates,
    Kernel,
    LocalTensor,
    Map,
    Param,
    Routine,
    Stage,
    Store,
    StoreMode,
)
from dlc.lowering.ranges import Space
from dlc.lowering.stores import is_injective


@dataclasses.dataclass(frozen=True)
class Declined:
    """Why two kernels were not fused."""

    reason: str


def single_store(kernel: Kernel) -> Store | None:
    """The store of a kernel that is nothing but one plain store."""
    match kernel.body:
        case (Store(mode=StoreMode.SET, duplicates=Duplicates.FORBIDDEN) as store,):
            return store
    return None


def _is_identity(store: Store) -> bool:
    """Whether a store writes element i at point i: its index is its axes."""
    return (
        not store.mask
        and tuple(entry.name if isinstance(entry, Symbol) else None for entry in store.index) == store.axes
    )


def is_movement(expr: e.Expr) -> bool:
    """Whether an expression only moves an element."""
    return (
        isinstance(expr, e.Load) and expr.other is None and not any(isinstance(i, e.Expr) for i in expr.index)
    )


def expression_cost(expr: e.Expr) -> int:
    """The number of operations in an expression, functions weighing more."""
    heavy = {"add", "sub", "mul", "max", "min", "and", "or", "abs", "neg"}
    cost = 0
    for node in e.walk(expr):
        match node:
            case e.Unary(_, fn, _):
                cost += 1 if fn in heavy else 10
            case e.Binary(_, fn, _, _):
                cost += 1 if fn in heavy else 8
            case e.Compare() | e.Select():
                cost += 1
    return cost


# --- a producer into its reader


def inline(producer: LoweredKernel, consumer: LoweredKernel, param: str) -> LoweredKernel | Declined:
    """The consumer with every load of `param` replaced by the producer's expression at that index."""
    store = single_store(producer.kernel)
    if store is None:
        return Declined("the producer is more than a map")
    if not _is_identity(store):
        return Declined("the producer does not store in the order of its axes")

    def replace(node: e.Expr) -> e.Expr | None:
        if not isinstance(node, e.Load) or node.param != param:
            return None
        return _at(store, node)

    try:
        body = tuple(
            map_stage(stage, lambda x: e.rewrite(x, replace), lambda d: d) for stage in consumer.kernel.body
        )
    except _NotSubstitutable as reason:
        return Declined(str(reason))
    return _combined(producer, consumer, body)


class _NotSubstitutable(Exception):
    """An index from data cannot stand where the producer computes with its axis."""


def _at(store: Store, load: e.Load) -> e.Expr:
    """The value that `store` gives to the element that `load` reads."""
    dims: dict[str, Dim] = {}
    data: dict[str, e.Expr] = {}
    for axis, entry in zip(store.axes, load.index, strict=True):
        if isinstance(entry, e.Expr):
            data[axis] = entry
        else:
            dims[axis] = entry
    value = _substitute_data(store.value, data) if data else store.value
    value = e.substitute(value, dims)
    if not load.mask:
        return value
    if isinstance(value, e.Load) and is_movement(value):
        return e.Load(value.dtype, value.param, value.index, load.mask, load.other)
    guarded = e.rewrite(value, lambda n: _guarded(n, load.mask))
    assert load.other is not None
    return e.Select(load.dtype, mask_expression(load.mask), guarded, load.other)


def _substitute_data(value: e.Expr, data: dict[str, e.Expr]) -> e.Expr:
    """Axes replaced by expressions; only whole index entries can be."""

    def leaf(node: e.Expr) -> e.Expr | None:
        if isinstance(node, e.Load):
            index: list[e.Index] = []
            for entry in node.index:
                if isinstance(entry, Symbol) and entry.name in data:
                    index.append(data[entry.name])
                    continue
                if not isinstance(entry, e.Expr) and any(s.name in data for s in free_symbols(entry)):
                    raise _NotSubstitutable("an index from data meets index arithmetic")
                index.append(entry)
            for m in node.mask:
                if any(s.name in data for d in (m.index, m.low, m.high) for s in free_symbols(d)):
                    raise _NotSubstitutable("an index from data meets a mask")
            return e.Load(node.dtype, node.param, tuple(index), node.mask, node.other)
        if isinstance(node, e.Iota) and isinstance(node.index, Symbol) and node.index.name in data:
            return e.Cast(node.dtype, data[node.index.name], e.CastMode.WRAP)
        if isinstance(node, e.Iota) and any(s.name in data for s in free_symbols(node.index)):
            raise _NotSubstitutable("an index from data meets index arithmetic")
        return None

    return e.rewrite(value, leaf)


def _guarded(node: e.Expr, mask: tuple[e.InRange, ...]) -> e.Expr | None:
    """A load that is only done where `mask` holds."""
    if not isinstance(node, e.Load):
        return None
    if node.other is not None:
        return e.Load(node.dtype, node.param, node.index, (*node.mask, *mask), node.other)
    return e.Load(node.dtype, node.param, node.index, mask, zero(node))


def zero(node: e.Expr) -> e.Const:
    """The zero of an expression's type."""
    return e.Const(node.dtype, False if node.dtype.text == "bool" else 0.0 if node.dtype.is_float else 0)


def mask_expression(mask: Sequence[e.InRange]) -> e.Expr:
    """The conjunction of range conditions as a bool expression."""
    result: e.Expr | None = None
    for m in mask:
        at, low, high = (e.Iota(DType.I64, d) for d in (m.index, m.low, m.high))
        for condition in (e.Compare(DType.BOOL, "ge", at, low), e.Compare(DType.BOOL, "lt", at, high)):
            result = condition if result is None else e.Binary(DType.BOOL, "and", result, condition)
    assert result is not None
    return result


def reads_in_stages(kernel: Kernel, param: str) -> int:
    """In how many stages a parameter is read."""
    return sum(
        any(isinstance(node, e.Load) and node.param == param for node in e.walk(*roots(stage)))
        for stage in stages(kernel.body)
    )


def recomputes(kernel: Kernel, param: str) -> bool:
    """Whether some element of `param` may be read at more than one point of a stage."""
    for stage in stages(kernel.body):
        found = [node for node in e.walk(*roots(stage)) if isinstance(node, e.Load) and node.param == param]
        points = Space({axis: kernel.extent(axis) for axis in stage_axes(stage)})
        if len(found) > 1 or any(not _reads_once(node, points) for node in found):
            return True
    return False


def _reads_once(load: e.Load, points: Space) -> bool:
    """Whether different points provably read different elements."""
    dims = [entry for entry in load.index if not isinstance(entry, e.Expr)]
    return len(dims) == len(load.index) and is_injective(dims, points)


# --- a reader onto its producer's store


def append(producer: LoweredKernel, consumer: LoweredKernel, param: str) -> LoweredKernel | Declined:
    """The producer with its store of `param` replaced by the consumer's store of a value made from it."""
    last = _final_store(producer.kernel, param)
    if last is None:
        return Declined("the producer stores its result in several pieces or not last")
    epilogue = single_store(consumer.kernel)
    if epilogue is None:
        return Declined("the reader is more than a map")
    reads = [node for node in e.walk(*roots(epilogue)) if isinstance(node, e.Load) and node.param == param]
    if len(reads) != 1 or reads[0].mask:
        return Declined("the reader reads the result at several places")
    index = reads[0].index
    if any(isinstance(entry, e.Expr) for entry in index):
        return Declined("the reader chooses elements by data")
    if not _covers(index, consumer.kernel, param):
        return Declined("the reader leaves out elements")
    target = _solve(index, last, consumer.kernel, epilogue.index)
    if target is None:
        return Declined("the reader's index cannot be inverted")
    mapping, free = target
    if free:
        return Declined("the reader repeats elements")
    value = e.substitute(epilogue.value, mapping)
    value = e.rewrite(value, lambda n: last.value if isinstance(n, e.Load) and n.param == param else None)
    new_index: list[e.Index] = []
    for entry in epilogue.index:
        if isinstance(entry, e.Expr):
            moved = e.substitute(entry, mapping)
            new_index.append(
                e.rewrite(moved, lambda n: last.value if isinstance(n, e.Load) and n.param == param else None)
            )
        else:
            new_index.append(substitute_dim(entry, mapping))
    mask = tuple(
        e.InRange(
            substitute_dim(m.index, mapping), substitute_dim(m.low, mapping), substitute_dim(m.high, mapping)
        )
        for m in epilogue.mask
    )
    store = Store(epilogue.param, last.axes, tuple(new_index), value, mask=e.simplify_mask(mask))
    body = tuple(store if stage is last else stage for stage in producer.kernel.body)
    return _combined(consumer, producer, body)


def _final_store(kernel: Kernel, param: str) -> Store | None:
    """The only store of `param`, if it is a plain one and nothing reads the parameter."""
    found = [stage for stage in stages(kernel.body) if isinstance(stage, Store) and stage.param == param]
    if len(found) != 1 or found[0] not in kernel.body or found[0].mode is not StoreMode.SET or found[0].mask:
        return None
    if any(isinstance(entry, e.Expr) for entry in found[0].index):
        return None
    return found[0]


def _covers(index: Sequence[e.Index], consumer: Kernel, param: str) -> bool:
    """Whether a load over all points of the consumer reads every element of the parameter."""
    axes = {axis.name: axis for axis in consumer.axes}
    for entry, extent in zip(index, consumer.param(param).type.shape, strict=True):
        assert not isinstance(entry, e.Expr)
        if isinstance(entry, int):
            if extent != 1:
                return False
            continue
        digits = _inverse_radix(entry, axes)
        if digits is None or not known_equal(product([size for _, size, _ in digits.values()]), extent):
            return False
    return True


def _solve(
    index: Sequence[e.Index], store: Store, consumer: Kernel, stored: Sequence[e.Index]
) -> tuple[dict[str, Dim], list[str]] | None:
    """The consumer's axes as functions of the producer's: its load index equals the producer's store index.

    Returns the substitution and the consumer axes that the index does not determine. One of extent 1 is 0: if
    the consumer stores with it where it reads 0 (`stored` is its store's index), it is the producer's there.
    """
    axes = {axis.name: axis for axis in consumer.axes}
    mapping: dict[str, Dim] = {}
    single: dict[str, Dim] = {}
    for place, (entry, at) in enumerate(zip(index, store.index, strict=True)):
        assert not isinstance(entry, e.Expr) and not isinstance(at, e.Expr)
        if isinstance(entry, int):
            alone = stored[place] if len(stored) == len(index) else None
            if isinstance(alone, Symbol):
                single[alone.name] = at
            continue
        parts = _inverse_radix(entry, axes)
        if parts is None:
            return None
        for name, (divisor, extent, outermost) in parts.items():
            if name in mapping:
                return None
            quotient = at // divisor if divisor != 1 else at
            mapping[name] = quotient if outermost else quotient % extent
    free = []
    for name, axis in axes.items():
        if name not in mapping:
            if axis.extent == 1:
                mapping[name] = single.get(name, 0)
            else:
                free.append(name)
    return mapping, free


def _inverse_radix(entry: Dim, axes: dict[str, Axis]) -> dict[str, tuple[int, Dim, bool]] | None:
    """An index entry as mixed-radix digits: axis -> (place value, extent, whether it leads)."""
    if isinstance(entry, int):
        return {}
    if isinstance(entry, Symbol):
        return {entry.name: (1, axes[entry.name].extent, True)} if entry.name in axes else None
    terms, constant = terms_of(entry)
    if constant:
        return None
    digits: list[tuple[int, Symbol]] = []
    for monomial, factor in terms:
        if not isinstance(monomial, Symbol) or monomial.name not in axes or factor <= 0:
            return None
        digits.append((factor, monomial))
    digits.sort(key=lambda digit: digit[0])
    place: Dim = 1
    result: dict[str, tuple[int, Dim, bool]] = {}
    for position, (factor, symbol) in enumerate(digits):
        if not known_equal(place, factor):
            return None
        extent = axes[symbol.name].extent
        leading = position == len(digits) - 1
        if not leading and not isinstance(extent, int):
            return None
        result[symbol.name] = (factor, extent, leading)
        place = place * extent
    return result


# --- assembling


def _combined(source: LoweredKernel, target: LoweredKernel, body: tuple[Stage, ...]) -> LoweredKernel:
    """A kernel of `body` with the parameters and axes that it needs, from both kernels."""
    reads = {load.param for load in loads(body)}
    writes = {stage.param for stage in stages(body) if isinstance(stage, Store)}
    updates = {
        stage.param for stage in stages(body) if isinstance(stage, Store) and stage.mode is not StoreMode.SET
    }
    routine = {name for stage in stages(body) if isinstance(stage, Routine) for name in stage.params}
    values = {**target.values, **source.values}
    params: list[Param] = []
    for param in dict.fromkeys((*target.kernel.params, *source.kernel.params)):
        name = param.name
        if name in (p.name for p in params):
            continue
        if name in updates or (name in reads and name in writes):
            params.append(dataclasses.replace(param, access=Access.UPDATE))
        elif name in writes:
            params.append(dataclasses.replace(param, access=Access.WRITE))
        elif name in reads or name in routine:
            params.append(dataclasses.replace(param, access=Access.READ) if name in reads else param)
    used = used_axes(body)
    axes = [axis for axis in dict.fromkeys((*target.kernel.axes, *source.kernel.axes)) if axis.name in used]
    kernel = Kernel(
        _joined_name(source.kernel, target.kernel),
        tuple(params),
        tuple(axes),
        body,
        tuple(dict.fromkeys((*target.kernel.origins, *source.kernel.origins))),
    )
    names = {param.name for param in params}
    return LoweredKernel(kernel, {name: value for name, value in values.items() if name in names})


def _joined_name(source: Kernel, target: Kernel) -> str:
    parts = list(dict.fromkeys([*target.name.split("_"), *source.name.split("_")]))
    return "_".join(parts[:4])


def realize(consumer: LoweredKernel, param: str, local: str) -> LoweredKernel:
    """The consumer with all loads of `param` read from a local that one new first stage fills.

    All loads must have one and the same index, made of axes of the kernel.
    """
    (load,) = {node for node in loads(consumer.kernel.body) if node.param == param}
    axes = tuple(entry.name for entry in load.index if isinstance(entry, Symbol))
    tensor = LocalTensor(local, load.dtype, axes)
    read = e.Read(load.dtype, local, tuple(consumer.kernel.axis(axis).symbol for axis in axes))
    body = tuple(
        map_stage(stage, lambda x: e.rewrite(x, lambda n: read if n is load else None), lambda d: d)
        for stage in consumer.kernel.body
    )
    kernel = dataclasses.replace(consumer.kernel, body=(Map(tensor, load), *body))
    return LoweredKernel(kernel, consumer.values)
