"""Questions about kernels: which dims, loads and expressions they contain; and rebuilding them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from dlc.ir.dims import Dim, free_symbols
from dlc.lowering import expr as e
from dlc.lowering.kernel import (
    Contract,
    Kernel,
    LocalTensor,
    Map,
    Recur,
    Reduce,
    Routine,
    Stage,
    State,
    Store,
)


def stages(body: tuple[Stage, ...]) -> Iterator[Stage]:
    """Every stage, those inside recurrences after the recurrence itself."""
    for stage in body:
        yield stage
        if isinstance(stage, Recur):
            yield from stages(stage.body)


def roots(stage: Stage) -> tuple[e.Expr, ...]:
    """The expressions that a stage evaluates, data-dependent store indices included."""
    match stage:
        case Map(_, value):
            return (value,)
        case Store():
            return (stage.value, *(entry for entry in stage.index if isinstance(entry, e.Expr)))
        case Reduce():
            return stage.values
        case Contract():
            return (stage.left, stage.right)
        case Recur():
            return tuple(x for state in stage.states for x in (state.start, state.next))
    return ()


def defined_locals(stage: Stage) -> tuple[LocalTensor, ...]:
    """The locals that a stage itself defines, not those of the stages inside it."""
    match stage:
        case Map(out, _):
            return (out,)
        case Contract():
            return (stage.out,)
        case Reduce(outs, _, _, _):
            return outs
        case Recur():
            return tuple(state.local for state in stage.states)
    return ()


def loads(body: tuple[Stage, ...]) -> Iterator[e.Load]:
    """Every distinct load."""
    seen: set[e.Load] = set()
    for stage in stages(body):
        for node in e.walk(*roots(stage)):
            if isinstance(node, e.Load) and node not in seen:
                seen.add(node)
                yield node


def expr_dims(root: e.Expr) -> Iterator[Dim]:
    """Every Dim in an expression."""
    for node in e.walk(root):
        yield from node_dims(node)


def node_dims(node: e.Expr) -> Iterator[Dim]:
    """The Dims of an expression itself, not those of its operands."""
    match node:
        case e.Load() | e.Read():
            yield from (entry for entry in node.index if not isinstance(entry, e.Expr))
            yield from mask_dims(node.mask)
        case e.Iota():
            yield node.index


def mask_dims(mask: Sequence[e.InRange]) -> Iterator[Dim]:
    """Every Dim in the conditions of a mask."""
    for condition in mask:
        yield from (condition.index, condition.low, condition.high)


def stage_dims(stage: Stage) -> Iterator[Dim]:
    """Every Dim in a stage (not those of the stages inside it)."""
    for root in roots(stage):
        yield from expr_dims(root)
    if isinstance(stage, Store):
        yield from (entry for entry in stage.index if not isinstance(entry, e.Expr))
        yield from mask_dims(stage.mask)
    if isinstance(stage, Contract):
        yield from (window.pad for window in stage.spec.windows)
    if isinstance(stage, Routine):
        yield from (value for _, value in stage.attributes if not isinstance(value, str | float | bool))


def kernel_dims(kernel: Kernel) -> Iterator[Dim]:
    """Every Dim in a kernel: shapes, strides, extents, indices, masks."""
    for param in kernel.params:
        yield from param.type.shape
        yield from param.physical_strides()
    for axis in kernel.axes:
        yield axis.extent
    for stage in stages(kernel.body):
        yield from stage_dims(stage)


def map_stage(
    stage: Stage,
    value: Callable[[e.Expr], e.Expr],
    dim: Callable[[Dim], Dim],
    axes: Callable[[tuple[str, ...]], tuple[str, ...]] = lambda a: a,
) -> Stage:
    """The stage with every expression, store index and list of axes mapped."""

    def local(tensor: LocalTensor) -> LocalTensor:
        return dataclasses.replace(tensor, axes=axes(tensor.axes))

    match stage:
        case Map(out, expr):
            return Map(local(out), value(expr))
        case Store():
            index = tuple(value(entry) if isinstance(entry, e.Expr) else dim(entry) for entry in stage.index)
            mask = e.map_mask(stage.mask, dim)
            return dataclasses.replace(
                stage, axes=axes(stage.axes), index=index, value=value(stage.value), mask=mask
            )
        case Reduce(outs, reduced, monoid, values):
            return Reduce(tuple(map(local, outs)), axes(reduced), monoid, tuple(map(value, values)))
        case Contract():
            spec = dataclasses.replace(
                stage.spec,
                batch=axes(stage.spec.batch),
                rows=axes(stage.spec.rows),
                columns=axes(stage.spec.columns),
                reduce=axes(stage.spec.reduce),
                windows=tuple(
                    dataclasses.replace(w, out=axes((w.out,))[0], tap=axes((w.tap,))[0], pad=dim(w.pad))
                    for w in stage.spec.windows
                ),
            )
            return Contract(local(stage.out), spec, value(stage.left), value(stage.right))
        case Recur():
            states = tuple(State(local(s.local), value(s.start), value(s.next)) for s in stage.states)
            body = tuple(map_stage(inner, value, dim, axes) for inner in stage.body)
            return Recur(axes((stage.axis,))[0], states, body, stage.reverse)
        case Routine():
            attributes = tuple(
                (key, v if isinstance(v, str | float | bool) else dim(v)) for key, v in stage.attributes
            )
            return dataclasses.replace(stage, attributes=attributes)
    raise TypeError(f"unknown stage {stage!r}")


def stage_axes(stage: Stage) -> tuple[str, ...]:
    """Every axis along which a stage works, those that it reduces or recurs along included."""
    match stage:
        case Map(out, _):
            return out.axes
        case Store():
            return stage.axes
        case Reduce(outs, axes, _, _):
            return (*outs[0].axes, *axes)
        case Contract():
            return (*stage.out.axes, *stage.spec.reduce)
        case Recur():
            return (*(a for s in stage.body for a in stage_axes(s)), stage.axis)
    return ()


def used_params(body: Sequence[Stage]) -> set[str]:
    """The names of the parameters that `body` reads or stores to."""
    used = {load.param for load in loads(tuple(body))}
    for stage in stages(tuple(body)):
        if isinstance(stage, Store):
            used.add(stage.param)
        if isinstance(stage, Routine):
            used.update(stage.params)
    return used


def used_axes(body: Sequence[Stage]) -> set[str]:
    """The names of the axes that `body` works along."""
    used: set[str] = set()
    for stage in stages(tuple(body)):
        used.update(stage_axes(stage))
        if isinstance(stage, Recur):
            used.add(stage.axis)
            used.update(axis for state in stage.states for axis in state.local.axes)
        if isinstance(stage, Routine):
            used.update(
                s.name
                for _, v in stage.attributes
                if not isinstance(v, str | float | bool)
                for s in free_symbols(v)
            )
    return used
