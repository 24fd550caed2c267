"""Operators that only move elements, and the ways in which exporters compute shapes."""

from __future__ import annotations

import numpy as np

from dlc.fuzz.maker import ALL, F32, FLOATS, I32, I64, U32, Declined, Maker, Tensor
from dlc.fuzz.table import operator

#: No extent is as large.
_FAR = 1 << 31


def _any(m: Maker, op: str, least: int = 0, most: int = 5) -> Tensor:
    """A value of any type that the operator takes."""
    return m.pick(m.types(op), range(least, most + 1))


def _listed(m: Maker, values: list[int]) -> Tensor:
    """A constant of int64."""
    return m.constant(np.array(values, I64))


def _factored(m: Maker, count: int) -> list[int]:
    """A shape of `count` elements."""
    if count == 0:
        return m.chance.shuffled([0, *(m.chance.between(1, 3) for _ in range(m.chance.between(0, 2)))])
    shape: list[int] = []
    while count > 1 and len(shape) < 4:
        factor = m.chance.one_of([f for f in range(1, count + 1) if count % f == 0])
        shape.append(factor)
        count //= factor
    return m.chance.shuffled([*shape, *([count] if count > 1 else [])])


@operator("Reshape", weight=3)
def reshape(m: Maker, op: str) -> None:
    x = _any(m, op)
    shape = _factored(m, x.array.size)
    if shape and 0 not in shape and m.chance.maybe(0.5):
        shape[m.chance.between(0, len(shape) - 1)] = -1
    for axis, extent in enumerate(shape):
        if axis < x.rank and extent == x.shape[axis] and extent > 0 and m.chance.maybe(0.3):
            shape[axis] = 0
    attributes = {}
    if 0 in shape and x.array.size == 0:
        if m.opset < 14:
            raise Declined
        attributes["allowzero"] = 1
    m.add(op, [x, m.listed(shape)], rounds=False, attributes=attributes)


@operator("Size", weight=0.5)
def size(m: Maker, op: str) -> None:
    m.add(op, [_any(m, op)], rounds=False)


@operator("ConstantOfShape", since=9)
def constant_of_shape(m: Maker, op: str) -> None:
    from onnx import numpy_helper

    shape = m.listed(list(m.chance.shape(m.chance.between(0, 3))))
    value = numpy_helper.from_array(m.chance.array(m.dtype_of(ALL), [1]))
    m.add(op, [shape], rounds=False, attributes={"value": value} if m.chance.maybe(0.7) else {})


@operator("Shape", weight=3)
def shape_chain(m: Maker, op: str) -> None:
    """Reshape, Expand or ConstantOfShape by a shape that is computed from another value's."""
    x = m.pick(ALL, (1, 2, 3, 4))
    if m.opset >= 15 and m.chance.maybe(0.2):
        ends = {"start": m.chance.between(-x.rank - 1, x.rank), "end": m.chance.between(-x.rank - 1, x.rank)}
        m.add(op, [x], rounds=False, attributes=ends)
        return
    (extents,) = m.add(op, [x], rounds=False)
    axis = m.chance.between(0, x.rank - 1)
    index = m.constant(np.array(axis if m.chance.maybe(0.5) else axis - x.rank, I64))
    (extent,) = m.add("Gather", [extents, index], rounds=False)
    axes = _listed(m, [0])
    if m.opset < 13:
        (vector,) = m.add("Unsqueeze", [extent], rounds=False, attributes={"axes": [0]})
    else:
        (vector,) = m.add("Unsqueeze", [extent, axes], rounds=False)
    match m.chance.between(0, 2):
        case 0 if x.array.size > 0:
            parts = [vector, _listed(m, [-1])] if m.chance.maybe(0.5) else [_listed(m, [-1]), vector]
            (wanted,) = m.add("Concat", parts, rounds=False, attributes={"axis": 0})
            m.add("Reshape", [x, wanted], rounds=False)
        case 1:
            parts = [_listed(m, [m.chance.between(1, 3)]), vector]
            (wanted,) = m.add("Concat", parts, rounds=False, attributes={"axis": 0})
            single = m.fresh(m.dtype_of(FLOATS), [1])
            m.add("Expand", [single, wanted], rounds=False)
        case _:
            (wanted,) = m.add("Mul", [vector, _listed(m, [2])], rounds=False)
            m.add("ConstantOfShape", [wanted], rounds=False)


@operator("Flatten")
def flatten(m: Maker, op: str) -> None:
    x = _any(m, op)
    axis = m.chance.between(0, x.rank)
    if m.opset >= 11 and axis < x.rank and m.chance.maybe(0.5):
        axis -= x.rank
    m.add(op, [x], rounds=False, attributes={"axis": axis})


@operator("Squeeze")
def squeeze(m: Maker, op: str) -> None:
    x = m.pick(m.types(op), range(1, 6), fits=lambda t: 1 in t.shape)
    ones = [axis for axis, extent in enumerate(x.shape) if extent == 1]
    axes = m.chance.some_of(ones, least=1)
    if m.opset >= 13:
        if x.constant and m.chance.maybe(0.3):  # else it may drop other axes of other inputs
            m.add(op, [x], rounds=False)
            return
        m.add(op, [x, _listed(m, axes)], rounds=False)
    else:
        m.add(op, [x], rounds=False, attributes={"axes": axes})


@operator("Unsqueeze")
def unsqueeze(m: Maker, op: str) -> None:
    x = _any(m, op, most=3)
    axes = m.chance.some_of(range(x.rank + 2), least=1)[:2]
    axes = [axis for axis in axes if axis < x.rank + len(axes)]
    if not axes:
        raise Declined
    if m.opset >= 13:
        m.add(op, [x, _listed(m, axes)], rounds=False)
    else:
        m.add(op, [x], rounds=False, attributes={"axes": axes})


@operator("Transpose", weight=3)
def transpose(m: Maker, op: str) -> None:
    x = _any(m, op)
    attributes = {"perm": m.chance.shuffled(range(x.rank))} if m.chance.maybe(0.8) and x.rank else {}
    m.add(op, [x], rounds=False, attributes=attributes)


@operator("Concat", weight=3)
def concat(m: Maker, op: str) -> None:
    x = _any(m, op, least=1)
    axis = m.axis(x)
    if m.opset < 11:
        axis %= x.rank
    operands = [x]
    for _ in range(m.chance.between(0, 2)):
        shape = list(x.shape)
        shape[axis] = m.chance.extent()

        def fits(t: Tensor, x: Tensor = x, axis: int = axis) -> bool:
            rest = [np.delete(np.array(s), axis).tolist() for s in (t.shape, x.shape) if len(s) == x.rank]
            return len(rest) == 2 and rest[0] == rest[1]

        known = [t for t in m.visible() if t.dtype == x.dtype and fits(t)]
        operands.append(m.chance.one_of(known) if m.chance.maybe(0.5) else m.fresh(x.dtype, shape))
    m.add(op, m.chance.shuffled(operands), rounds=False, attributes={"axis": axis})


@operator("Split", weight=2)
def split(m: Maker, op: str) -> None:
    x = _any(m, op, least=1)
    axis = m.axis(x)
    if m.opset < 11:
        axis %= x.rank
    extent, count = x.shape[axis], m.chance.between(1, 3)
    cuts = sorted(m.chance.between(0, extent) for _ in range(count - 1))
    sizes = [b - a for a, b in zip([0, *cuts], [*cuts, extent])]
    if m.opset >= 18 and m.chance.maybe(0.4) and -(-extent // count) * (count - 1) <= extent:
        m.add(op, [x], outputs=count, rounds=False, attributes={"axis": axis, "num_outputs": count})
    elif m.opset >= 13:
        m.add(op, [x, m.listed(sizes)], outputs=count, rounds=False, attributes={"axis": axis})
    else:
        m.add(op, [x], outputs=count, rounds=False, attributes={"axis": axis, "split": sizes})


@operator("Slice", weight=3)
def slice_(m: Maker, op: str) -> None:
    x = _any(m, op, least=1)
    axes = m.chance.some_of(range(x.rank), least=1)
    starts, ends, steps = [], [], []
    for axis in axes:
        extent = x.shape[axis]
        step = m.chance.one_of([1, 1, 1, 2, 3, -1, -2]) if m.opset >= 10 else 1
        # Further below, NumPy and the standard differ for negative steps.
        low, high = sorted(m.chance.between(-extent, extent + 2) for _ in range(2))
        low, high = (low, high) if m.chance.maybe(0.5) else (m.chance.between(0, extent), 1 << 40)
        starts.append(low if step > 0 else high)
        ends.append(high if step > 0 else m.chance.one_of([low, -(1 << 40)]))
        steps.append(step)
    if m.opset < 10:
        m.add(op, [x], rounds=False, attributes={"axes": axes, "starts": starts, "ends": ends})
        return
    axes = [axis - x.rank if m.chance.maybe(0.2) else axis for axis in axes]
    # An input of sizes must hold sizes: "as far as possible" is for constants.
    bounds = [(_listed(m, part) if max(map(abs, part)) > _FAR else m.listed(part)) for part in (starts, ends)]
    if axes == list(range(x.rank)) and set(steps) == {1} and m.chance.maybe(0.5):
        m.add(op, [x, *bounds], rounds=False)
        return
    m.add(op, [x, *bounds, _listed(m, axes), _listed(m, steps)], rounds=False)


@operator("Pad", weight=2)
def pad(m: Maker, op: str) -> None:
    x = _any(m, op, least=1)
    mode = m.chance.one_of(["constant", "constant", "reflect", "edge", *(["wrap"] if m.opset >= 19 else [])])
    low = -1 if mode == "constant" else 0
    most = [2 if e or mode == "constant" else 0 for e in x.shape]
    if mode == "reflect":
        most = [max(0, min(2, e - 1)) for e in x.shape]
    pads = [m.chance.between(max(low, -(e // 2)), t) for _ in range(2) for e, t in zip(x.shape, most)]
    if m.opset < 11:
        attributes = {"mode": mode, "pads": pads, **({"value": 0.5} if m.chance.maybe(0.5) else {})}
        m.add(op, [x], rounds=False, attributes=attributes)
        return
    value = m.constant(1, x.dtype) if m.chance.maybe(0.5) else None
    if m.opset >= 18 and m.chance.maybe(0.3):
        axes = m.chance.shuffled(range(x.rank))[: m.chance.between(1, x.rank)]
        pads = [pads[axis] for axis in axes] + [pads[axis + x.rank] for axis in axes]
        axes = [axis - x.rank if m.chance.maybe(0.3) else axis for axis in axes]
        m.add(op, [x, m.listed(pads), value, _listed(m, axes)], rounds=False, attributes={"mode": mode})
        return
    m.add(op, [x, m.listed(pads), value], rounds=False, attributes={"mode": mode})


@operator("Tile")
def tile(m: Maker, op: str) -> None:
    x = _any(m, op, least=1, most=4)
    m.add(op, [x, m.listed([m.chance.one_of([1, 1, 2, 3, 0]) for _ in x.shape])], rounds=False)


@operator("Expand", weight=2)
def expand(m: Maker, op: str) -> None:
    x = _any(m, op, most=4)
    shape = [m.chance.extent() if extent == 1 else m.chance.one_of([1, extent]) for extent in x.shape]
    shape = [m.chance.between(1, 3), *shape] if m.chance.maybe(0.3) else shape
    m.add(op, [x, m.listed(shape)], rounds=False)


@operator("CenterCropPad", since=18)
def crop_or_pad(m: Maker, op: str) -> None:
    x = _any(m, op, least=1, most=4)
    axes = m.chance.some_of(range(x.rank), least=1)
    shape = m.listed([max(0, x.shape[axis] + m.chance.between(-3, 3)) for axis in axes])
    axes = [axis - x.rank if m.chance.maybe(0.3) else axis for axis in axes]
    m.add(op, [x, shape], rounds=False, attributes={"axes": axes})


@operator("TensorScatter", since=24)
def tensor_scatter(m: Maker, op: str) -> None:
    """Updates of a few positions of a cache."""
    batch, length, width = m.chance.between(1, 3), m.chance.between(2, 6), m.chance.between(1, 4)
    heads = [m.chance.between(1, 3)] if m.chance.maybe(0.5) else []
    cache = m.pick((F32,), shape=(batch, *heads, length, width), fresh=0.6)
    count = m.chance.between(1, length)
    update = m.fresh(F32, (batch, *heads, count, width))
    mode = m.chance.one_of(["linear", "circular"])
    last = length - count if mode == "linear" else length - 1
    at = m.listed(m.chance.arrays.integers(0, last + 1, batch).tolist()) if m.chance.maybe(0.7) else None
    m.add(op, [cache, update, at], rounds=False, attributes={"mode": mode})


@operator("BitCast", since=26)
def bit_cast(m: Maker, op: str) -> None:
    """Integers of the same size; the bits of a float would not be tame."""
    from onnx import helper

    to = m.chance.one_of([I32, U32])
    x = m.pick((U32 if to == I32 else I32,), range(4))
    m.add(op, [x], rounds=False, attributes={"to": helper.np_dtype_to_tensor_dtype(to)}, largest=2.0**32)


@operator("DepthToSpace SpaceToDepth")
def blocks(m: Maker, op: str) -> None:
    block = m.chance.between(1, 3)
    n, c, h, w = (m.chance.between(1, most) for most in (2, 3, 4, 4))
    deep = op == "DepthToSpace"
    shape = (n, c * block * block, h, w) if deep else (n, c, h * block, w * block)
    x = m.pick(m.types(op), shape=shape, fresh=0.5)
    mode = {"mode": m.chance.one_of(["DCR", "CRD"])} if deep and m.opset >= 11 else {}
    m.add(op, [x], rounds=False, attributes={"blocksize": block, **mode})


@operator("Trilu")
def triangle(m: Maker, op: str) -> None:
    x = m.pick(m.types(op), (2, 3, 4))
    k = m.constant(np.array(m.chance.between(-5, 5), I64)) if m.chance.maybe(0.6) else None
    m.add(op, [x, k], rounds=False, attributes={"upper": m.chance.between(0, 1)})


@operator("EyeLike")
def eye(m: Maker, op: str) -> None:
    m.add(op, [m.pick(m.types(op), (2,))], rounds=False, attributes={"k": m.chance.between(-2, 2)})


@operator("Range")
def range_(m: Maker, op: str) -> None:
    start, count, step = m.chance.between(-5, 5), m.chance.between(0, 9), m.chance.one_of([1, 2, -1])
    dtype = m.dtype_of(m.types(op))
    ends = [start, start + count * step, step]
    if dtype == I64 and m.chance.maybe(0.3) and m.opset >= 13:
        axes = _listed(m, [0])
        scalars = [m.add("Squeeze", [m.listed([end]), axes], rounds=False)[0] for end in ends]
        m.add(op, scalars, rounds=False)
        return
    m.add(op, [m.constant(np.array(end, dtype)) for end in ends], rounds=False)
