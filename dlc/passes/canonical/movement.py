"""Movements: none that moves nothing, one where two follow each other, none before a broadcast."""
from __future__ import annotations

from collections.abc import Sequence

from dlc.ir.builder import GraphBuilder
from dlc.ir.dims import Dim, known_equal, product
from dlc.ir.graph import Node, Value
from dlc.ir.operator import InferenceError
from dlc.ir.ops.common import broadcast_shapes
from dlc.ir.ops.movement import Concat, Expand, Pad, Reshape, Slice, Tile, Transpose
from dlc.ir.ops.pointwise import Activation, Binary, Cast, Clip, Compare, Unary, Where
from dlc.ir.ops.reduction import Reduce
from dlc.passes.match import broadcast_to, made_by, operand, same_type, used_once
from dlc.passes.rewrite import Outcome, Rule, rule


@rule(Reshape, Expand, Slice, Pad, Tile, Concat, Transpose)
def movement_of_nothing(node: Node, builder: GraphBuilder) -> Outcome:
    """A movement that leaves every element where it is -> its operand."""
    x = operand(node, 0)
    if not same_type(x.type, node.output.type):
        return None
    match node.op:
        case Reshape() | Expand() | Tile() | Concat() if len(node.inputs) == 1:
            return x
        case Slice(starts=starts, steps=steps):
            return x if all(s == 0 for s in starts) and all(s == 1 for s in steps) else None
        case Pad(before=before, after=after):
            return x if all(extent == 0 for extent in (*before, *after)) else None
        case Transpose(perm=perm):
            return x if perm == tuple(range(len(perm))) else None
    return None


@rule(Reshape)
def reshape_of_reshape(node: Node, builder: GraphBuilder) -> Outcome:
    """Reshape(Reshape(x)) -> Reshape(x)."""
    inner = made_by(operand(node, 0), Reshape)
    return None if inner is None else builder.add(node.op, operand(inner[1], 0))


@rule(Transpose)
def transpose_of_transpose(node: Node, builder: GraphBuilder) -> Outcome:
    """Transpose(Transpose(x)) -> one Transpose."""
    assert isinstance(node.op, Transpose)
    inner = made_by(operand(node, 0), Transpose)
    if inner is None:
        return None
    perm = tuple(inner[0].perm[axis] for axis in node.op.perm)
    return builder.add(Transpose(perm), operand(inner[1], 0))


@rule(Transpose)
def transpose_of_unit_axes(node: Node, builder: GraphBuilder) -> Outcome:
    """Transpose that moves axes of extent 1 only -> Reshape, which costs nothing."""
    assert isinstance(node.op, Transpose)
    x = operand(node, 0)
    moved = [axis for axis in node.op.perm if x.tensor.shape[axis] != 1]
    if moved != sorted(moved) or node.op.perm == tuple(range(len(node.op.perm))):
        return None
    return builder.add(Reshape(node.output.tensor.shape), x)


@rule(Reshape)
def transpose_of_merged_axes(node: Node, builder: GraphBuilder) -> Outcome:
    """Reshape(Transpose(Reshape(x))) -> Transpose(x), when axes are merged, moved as one, and split again."""
    assert isinstance(node.op, Reshape)
    transposed = made_by(operand(node, 0), Transpose)
    merged = None if transposed is None else made_by(operand(transposed[1], 0), Reshape)
    if transposed is None or merged is None:
        return None
    x = operand(merged[1], 0)
    groups = merged_axes(x.tensor.shape, merged[1].output.tensor.shape)
    if groups is None:
        return None
    perm = tuple(axis for group in transposed[0].perm for axis in groups[group])
    shape = [x.tensor.shape[axis] for axis in perm]
    same = len(shape) == len(node.op.shape) and all(map(known_equal, shape, node.op.shape))
    return builder.add(Transpose(perm), x) if same else None


@rule(Transpose)
def transpose_of_split_axes(node: Node, builder: GraphBuilder) -> Outcome:
    """Transpose(Reshape(Transpose(x))) -> Reshape(Transpose(x)), when split axes stay together."""
    assert isinstance(node.op, Transpose)
    split = made_by(operand(node, 0), Reshape)
    inner = None if split is None else made_by(operand(split[1], 0), Transpose)
    if split is None or inner is None:
        return None
    groups = merged_axes(operand(node, 0).tensor.shape, inner[1].output.tensor.shape)
    if groups is None:
        return None
    starts = {group[0]: index for index, group in enumerate(groups) if group}
    order: list[int] = []
    position = 0
    while position < len(node.op.perm):
        index = starts.get(node.op.perm[position])
        if index is None or node.op.perm[position:position + len(groups[index])] != tuple(groups[index]):
            return None
        order.append(index)
        position += len(groups[index])
    if len(order) != len(groups):
        return None
    perm = tuple(inner[0].perm[axis] for axis in order)
    return builder.add(Reshape(node.output.tensor.shape), builder.add(Transpose(perm), operand(inner[1], 0)))


def merged_axes(shape: Sequence[Dim], merged: Sequence[Dim]) -> list[list[int]] | None:
    """For each axis of `merged` the neighbouring axes of `shape` that make it; None if it is no merging."""
    groups: list[list[int]] = []
    axis = 0
    for wanted in merged:
        group: list[int] = []
        while axis < len(shape) and not known_equal(product([shape[at] for at in group]), wanted):
            group.append(axis)
            axis += 1
        if not known_equal(product([shape[at] for at in group]), wanted):
            return None
        groups.append(group)
    rest = list(range(axis, len(shape)))
    if any(shape[at] != 1 for at in rest) or (rest and not groups):
        return None
    if rest:
        groups[-1] += rest
    return groups


@rule(Binary, Compare, Where)
def broadcast_without_expand(node: Node, builder: GraphBuilder) -> Outcome:
    """add(Expand(x), y) -> add(x, y) when y alone has the extents."""
    for index, value in enumerate(node.inputs):
        expanded = made_by(value, Expand)
        if expanded is None:
            continue
        operands = [*node.inputs[:index], operand(expanded[1], 0), *node.inputs[index + 1:]]
        if _fits(node, operands):
            return builder.add(node.op, *operands)
    return None


def _fits(node: Node, operands: Sequence[Value | None]) -> bool:
    """Whether the operator gives the same type for other operands."""
    try:
        (type_,) = node.op.infer([None if value is None else value.type for value in operands])
    except InferenceError:
        return False
    return same_type(type_, node.output.type)


@rule(Binary, Unary, Activation, Cast, Clip, Compare, Where)
def expand_last(node: Node, builder: GraphBuilder) -> Outcome:
    """neg(Expand(x)) -> Expand(neg(x)), and so with more operands when none of them needs the extents."""
    operands = [value if (made := made_by(value, Expand)) is None else operand(made[1], 0)
                for value in node.operands]
    if operands == list(node.operands) or len(operands) != len(node.inputs):
        return None
    small = broadcast_shapes(*(value.tensor.shape for value in operands))
    large = node.output.tensor.shape
    if len(small) == len(large) and all(map(known_equal, small, large)):
        return None
    return broadcast_to(builder, builder.add(node.op, *operands), node.output.tensor)


@rule(Expand)
def expand_of_expand(node: Node, builder: GraphBuilder) -> Outcome:
    """Expand(Expand(x)) -> Expand(x)."""
    inner = made_by(operand(node, 0), Expand)
    return None if inner is None else builder.add(node.op, operand(inner[1], 0))


@rule(Concat)
def concat_of_concat(node: Node, builder: GraphBuilder) -> Outcome:
    """Concat(Concat(x, y), z) -> Concat(x, y, z) on one axis; operands without elements drop out."""
    assert isinstance(node.op, Concat)
    axis = node.op.axis
    operands: list[Value] = []
    for value in node.operands:
        inner = made_by(value, Concat)
        if inner is not None and inner[0].axis == axis and used_once(builder.graph, value):
            operands += inner[1].operands
        elif value.tensor.shape[axis] != 0 or len(node.inputs) == 1:
            operands.append(value)
    if operands == list(node.operands) or not operands:
        return None
    return builder.add(node.op, *operands) if len(operands) > 1 else operands


@rule(Reduce)
def reduce_of_unit_axes(node: Node, builder: GraphBuilder) -> Outcome:
    """A sum, mean, product, maximum or minimum over axes of extent 1 -> Reshape."""
    assert isinstance(node.op, Reduce)
    x = operand(node, 0)
    if node.op.fn not in ("sum", "mean", "prod", "max", "min"):
        return None
    result = node.output.tensor
    if any(x.tensor.shape[axis] != 1 for axis in node.op.axes) or x.tensor.dtype is not result.dtype:
        return None
    return x if same_type(x.type, result) else builder.add(Reshape(result.shape), x)


RULES: tuple[Rule, ...] = (movement_of_nothing, reshape_of_reshape, expand_of_expand, transpose_of_transpose,
                           transpose_of_unit_axes, transpose_of_merged_axes, transpose_of_split_axes,
                           broadcast_without_expand,
                           expand_last, concat_of_concat, reduce_of_unit_axes)
