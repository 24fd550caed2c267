"""Kernels of data movement: one store whose value is a load at a transformed index."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.ir.dims import Dim, Symbol, known_equal, maximum, minimum, product
from dlc.ir.dtypes import DType
from dlc.ir.graph import Node
from dlc.ir.ops.movement import Concat, DimTensor, Expand, Pad, Range, Reshape, Slice, Tile, Transpose, Trilu
from dlc.lowering import expr as e
from dlc.lowering.draft import Draft, binary, broadcast_index, cast, const
from dlc.lowering.expr import InRange
from dlc.lowering.rules.formulas import compare, select
from dlc.lowering.rules.registry import NotLowered, rule


@rule(Reshape)
def reshape(draft: Draft, node: Node) -> None:
    """The same elements in row-major order under another shape."""
    source, target = draft.operand(0), node.outputs[0]
    axes = draft.axes_of(target.tensor.shape)
    index = reshaped_index(axes, target.tensor.shape, source.tensor.shape)
    draft.store(target, axes, draft.load(source, index))


def reshaped_index(index: Sequence[Symbol], shape: Sequence[Dim], source: Sequence[Dim]) -> list[Dim]:
    """The index into `source` of the element that row-major reshaping puts at `index` of `shape`.

    The shapes are cut into the smallest groups of axes with equal products, so that each index depends on few
    axes: merging and splitting stay affine or a division, whatever the other axes do. A source without
    elements is read at no point.
    """
    if 0 in source:
        return [0] * len(source)
    result: list[Dim] = []
    i = j = 0
    while i < len(shape) or j < len(source):
        begin_i, begin_j = i, j
        i, j = min(i + 1, len(shape)), min(j + 1, len(source))
        while not known_equal(product(shape[begin_i:i]), product(source[begin_j:j])):
            left, right = product(shape[begin_i:i]), product(source[begin_j:j])
            smaller = isinstance(left, int) and isinstance(right, int) and left < right
            if i < len(shape) and (smaller or j == len(source)):
                i += 1
            elif j < len(source) and (not smaller):
                j += 1
            elif i < len(shape):
                i += 1
            else:
                i, j = len(shape), len(source)
                break
        position: Dim = 0
        for axis in range(begin_i, i):
            position = position * shape[axis] + index[axis]
        step: Dim = 1
        group: list[Dim] = []
        for axis in reversed(range(begin_j, j)):
            leading = axis == begin_j
            group.append(position // step if leading else (position // step) % source[axis])
            step = step * source[axis]
        result.extend(reversed(group))
    return result


@rule(Transpose)
def transpose(draft: Draft, node: Node) -> None:
    """y[i] = x[i permuted]."""
    assert isinstance(node.op, Transpose)
    source, target = draft.operand(0), node.outputs[0]
    axes = draft.axes_of(target.tensor.shape)
    index: list[Dim] = [0] * len(axes)
    for position, axis in enumerate(node.op.perm):
        index[axis] = axes[position]
    draft.store(target, axes, draft.load(source, index))


@rule(Expand)
def expand(draft: Draft, node: Node) -> None:
    """NumPy broadcasting to a shape."""
    source, target = draft.operand(0), node.outputs[0]
    axes = draft.axes_of(target.tensor.shape)
    draft.store(target, axes, draft.load(source, broadcast_index(source.tensor, axes, target.tensor.shape)))


@rule(Slice)
def slice_(draft: Draft, node: Node) -> None:
    """y[i] = x[start + i * step]."""
    assert isinstance(node.op, Slice)
    source, target = draft.operand(0), node.outputs[0]
    axes = draft.axes_of(target.tensor.shape)
    index = [start + at * step for start, at, step in zip(node.op.starts, axes, node.op.steps, strict=True)]
    draft.store(target, axes, draft.load(source, index))


@rule(Tile)
def tile(draft: Draft, node: Node) -> None:
    """y[i] = x[i mod extent]."""
    source, target = draft.operand(0), node.outputs[0]
    axes = draft.axes_of(target.tensor.shape)
    index = [
        at if known_equal(extent, whole) else at % extent
        for at, extent, whole in zip(axes, source.tensor.shape, target.tensor.shape, strict=True)
    ]
    draft.store(target, axes, draft.load(source, index))


@rule(Concat)
def concat(draft: Draft, node: Node) -> None:
    """One store for each operand, into its part of the result."""
    assert isinstance(node.op, Concat)
    offset: Dim = 0
    for source in node.operands:
        axes = draft.axes_of(source.tensor.shape)
        index: list[Dim] = list(axes)
        index[node.op.axis] = index[node.op.axis] + offset
        draft.store(node.outputs[0], axes, draft.load(source, axes), index)
        offset = offset + source.tensor.shape[node.op.axis]


@rule(Pad)
def pad(draft: Draft, node: Node) -> None:
    """y[i] = x[i - before] inside; outside a constant, the edge, the mirror image or the periodic image."""
    assert isinstance(node.op, Pad)
    source, target, op = draft.operand(0), node.outputs[0], node.op
    axes = draft.axes_of(target.tensor.shape)
    inside = [at - before for at, before in zip(axes, op.before, strict=True)]
    shape = source.tensor.shape
    if op.mode == "constant":
        mask = [InRange(at, 0, extent) for at, extent in zip(inside, shape, strict=True)]
        filler = draft.optional(1)
        other = (
            const(0, source.tensor.dtype) if filler is None else draft.load(filler, [0] * filler.tensor.rank)
        )
        draft.store(target, axes, draft.load(source, inside, mask, other))
        return
    index: list[Dim] = []
    for at, extent, before, after in zip(inside, shape, op.before, op.after, strict=True):
        if known_equal(before, 0) and known_equal(after, 0):
            index.append(at)
            continue
        match op.mode:
            case "edge":
                index.append(minimum(maximum(at, 0), extent - 1))
            case "wrap":
                index.append(at % maximum(extent, 1))
            case "reflect":
                period = maximum(2 * extent - 2, 1)
                folded = at % period
                index.append(minimum(folded, period - folded))
            case _:
                raise NotLowered(f"padding mode {op.mode!r}")
    draft.store(target, axes, draft.load(source, index))


@rule(Range)
def range_(draft: Draft, node: Node) -> None:
    """y[i] = start + i * delta, in the type of the result."""
    target = node.outputs[0]
    (i,) = draft.axes_of(target.tensor.shape)
    start, delta = (
        draft.load_arithmetic(draft.operand(k), [0] * draft.operand(k).tensor.rank) for k in (0, 1)
    )
    step = binary("mul", cast(e.Iota(DType.I64, i), delta.dtype, e.CastMode.WRAP), delta)
    draft.store(target, [i], binary("add", start, step))


@rule(DimTensor)
def dim_tensor(draft: Draft, node: Node) -> None:
    """One store for each dim."""
    assert isinstance(node.op, DimTensor)
    target = node.outputs[0]
    for position, dim in enumerate(node.op.dims):
        index = reshaped_position(position, node.op.shape)
        draft.store(target, [], e.Iota(DType.I64, dim), index)


def reshaped_position(position: int, shape: Sequence[int]) -> list[Dim]:
    """The index in `shape` of flat `position`."""
    index: list[Dim] = []
    for extent in reversed(shape):
        index.append(position % extent)
        position //= extent
    return list(reversed(index))


@rule(Trilu)
def trilu(draft: Draft, node: Node) -> None:
    """The elements on and above (below) diagonal k; 0 elsewhere."""
    assert isinstance(node.op, Trilu)
    source, target = draft.operand(0), node.outputs[0]
    axes = draft.axes_of(target.tensor.shape)
    diagonal = e.Iota(DType.I64, axes[-1] - axes[-2])
    bound = e.Iota(DType.I64, node.op.k)
    keep = compare("ge" if node.op.upper else "le", diagonal, bound)
    draft.store(target, axes, select(keep, draft.load(source, axes), const(0, source.tensor.dtype)))
