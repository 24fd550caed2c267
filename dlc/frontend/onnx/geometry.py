"""What importers of operators on shapes share: axes, guards, arithmetic on extents of unknown sign."""
from __future__ import annotations

from collections.abc import Sequence

from dlc.frontend.onnx.axes import front_axis
from dlc.frontend.onnx.context import NodeContext
from dlc.ir.dims import Dim, Guard, Relation, bounds, known_equal, maximum, minimum, to_text
from dlc.ir.graph import Value
from dlc.ir.operator import InferenceError
from dlc.ir.ops.common import broadcast_shapes
from dlc.ir.ops.movement import Reshape, Transpose

#: Exporters write ends of slices from here on (INT32_MAX, INT64_MAX) to mean "to the end".
FAR = 2**31 - 1


def many_axes(ctx: NodeContext, axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """`axes` counted from the front, in the given order; ModelError for one that is absent or named twice."""
    result = tuple(front_axis(ctx, axis, rank) for axis in axes)
    if len(set(result)) < len(result):
        ctx.fail(f"axes {list(axes)} name an axis twice")
    return result


def only_since(ctx: NodeContext, opset: int, *keys: str) -> None:
    """ModelError when the node has one of the attributes `keys`, which came with `opset`, before that."""
    for key in keys:
        if ctx.opset < opset and ctx.has(key):
            ctx.fail(f"attribute {key!r} came with opset {opset}, but the model is of opset {ctx.opset}")


def static_ints(ctx: NodeContext, index: int, what: str) -> tuple[int, ...]:
    """The content of operand `index`, which must be known at compile time; UnsupportedError otherwise."""
    content = ctx.known_dims(index)
    values = [] if content is None else content.reshape(-1).tolist()
    if content is None or not all(isinstance(value, int) for value in values):
        ctx.unsupported(f"{what} are computed at run time", "make them constants of the model")
    return tuple(values)


def require(ctx: NodeContext, relation: Relation, left: Dim, right: Dim, message: str) -> None:
    """Let the graph check that ``left relation right`` holds when sizes are bound, unless that is known.

    ModelError with `message` when it is known to fail.
    """
    guard = Guard(relation, left, right, message, ctx.name)
    match guard.known():
        case False:
            ctx.fail(message)
        case None:
            ctx.importer.graph.guards.append(guard)


def require_equal(ctx: NodeContext, left: Dim, right: Dim, what: str) -> None:
    """:func:`require` that two extents are equal."""
    require(ctx, Relation.EQ, left, right, f"{what} must be equal: {to_text(left)} and {to_text(right)}")


def require_broadcast(ctx: NodeContext, left: Sequence[Dim], right: Sequence[Dim]) -> tuple[Dim, ...]:
    """The shape to which two shapes broadcast, with a check that they do where that is not known."""
    try:
        shape = broadcast_shapes(left, right)
    except InferenceError as error:
        ctx.fail(str(error))
    for a, b in zip(reversed(left), reversed(right)):
        if 1 not in (a, b) and not known_equal(a, b):
            require(ctx, Relation.EQ, (a - b) * (a - 1) * (b - 1), 0,
                    f"extents {to_text(a)} and {to_text(b)} do not broadcast")
    return shape


def reshape(ctx: NodeContext, x: Value, shape: Sequence[Dim], name: str | None = None) -> Value:
    """`x` under another shape; `x` itself when it has that shape already."""
    have = x.tensor.shape
    if len(have) == len(shape) and all(known_equal(a, b) for a, b in zip(have, shape)):
        return x
    operator = Reshape(tuple(shape))
    return ctx.add(operator, x) if name is None else ctx.builder.add(operator, x, names=[name])


def transposed(ctx: NodeContext, x: Value, perm: Sequence[int]) -> Value:
    """Axis i of the result is axis perm[i] of `x`; `x` itself for the identity."""
    return x if list(perm) == list(range(len(perm))) else ctx.add(Transpose(tuple(perm)), x)


def clamp(value: Dim, low: Dim, high: Dim) -> Dim:
    """`value` limited to low .. high; `high` counts when they cross."""
    return minimum(maximum(value, low), high)


def from_front(index: Dim, extent: Dim) -> Dim:
    """A position counted from the front, for an `index` that counts from the end where it is negative."""
    low, high = bounds(index)
    if low is not None and low >= 0:
        return index
    if high is not None and high < 0:
        return index + extent
    return index + extent * clamp(-index, 0, 1)
