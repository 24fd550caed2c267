"""Operators whose indices come from data, selection and sorting."""

from __future__ import annotations

import numpy as np

from dlc.fuzz.maker import ALL, BOOL, I32, I64, Declined, Maker, Tensor
from dlc.fuzz.sampling import Domain
from dlc.fuzz.table import operator


def _indices(m: Maker, shape: tuple[int, ...], extent: int, *, negative: bool = True) -> Tensor:
    """Indices into an axis of `extent`, as an input or a constant."""
    if extent == 0 and int(np.prod(shape)) > 0:
        raise Declined
    low = -extent if negative else 0
    array = m.chance.arrays.integers(low, max(extent, low + 1), shape)
    return _given(m, array.astype(m.chance.one_of([I64, I64, I32])))


def _given(m: Maker, array: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Tensor:
    """An array as an input or a constant."""
    if m.outer is not None or m.chance.maybe(0.5):
        return m.constant(array)
    tensor = Tensor(m.name("i"), array)
    m.inputs.append(tensor)
    return tensor


@operator("Gather", weight=3)
def gather(m: Maker, op: str) -> None:
    x = m.pick(m.types(op), (1, 2, 3, 4))
    axis = m.axis(x) if m.opset >= 11 else m.axis(x) % x.rank
    shape = m.chance.shape(m.chance.between(0, 2))
    indices = _indices(m, shape, x.shape[axis], negative=m.opset >= 11)
    m.add(op, [x, indices], rounds=False, attributes={"axis": axis})


@operator("GatherElements")
def gather_elements(m: Maker, op: str) -> None:
    x = m.pick(m.types(op), (1, 2, 3))
    axis = m.axis(x)
    shape = list(x.shape)
    shape[axis] = m.chance.extent()
    m.add(op, [x, _indices(m, tuple(shape), x.shape[axis])], rounds=False, attributes={"axis": axis})


@operator("GatherND")
def gather_nd(m: Maker, op: str) -> None:
    x = m.pick(m.types(op), (1, 2, 3, 4), fits=lambda t: 0 not in t.shape)
    batch = m.chance.between(0, min(1, x.rank - 1)) if m.opset >= 12 else 0
    depth = m.chance.between(1, x.rank - batch)
    shape = (*x.shape[:batch], *m.chance.shape(m.chance.between(0, 1)))
    if len(shape) == batch and batch:
        shape = (*shape, 2)
    columns = [m.chance.arrays.integers(-e, e, shape) for e in x.shape[batch : batch + depth]]
    indices = _given(m, np.stack(columns, axis=-1).astype(I64))
    m.add(op, [x, indices], rounds=False, attributes={"batch_dims": batch} if m.opset >= 12 else {})


@operator("ScatterElements")
def scatter_elements(m: Maker, op: str) -> None:
    x = m.pick(m.types(op), (1, 2, 3), fits=lambda t: 0 not in t.shape)
    axis = m.axis(x)
    reduction = m.chance.one_of(["none", "add", "mul", *(["min", "max"] if m.opset >= 18 else [])])
    shape = [m.chance.between(1, extent) for extent in x.shape]
    if m.opset < 16 or x.dtype == BOOL:
        reduction = "none"
    if reduction == "none":  # duplicates have no defined order
        lanes = [e for i, e in enumerate(shape) if i != axis % x.rank]
        rows = [m.chance.arrays.permutation(x.shape[axis])[: shape[axis]] for _ in range(int(np.prod(lanes)))]
        array = np.moveaxis(np.array(rows).reshape(*lanes, shape[axis]), -1, axis)
        indices = _given(m, array.astype(I64))
    else:
        indices = _indices(m, tuple(shape), x.shape[axis])
    attributes = {"axis": axis, **({"reduction": reduction} if m.opset >= 16 else {})}
    m.add(op, [x, indices, m.fresh(x.dtype, shape)], rounds=reduction != "none", attributes=attributes)


@operator("ScatterND")
def scatter_nd(m: Maker, op: str) -> None:
    x = m.pick(m.types(op), (1, 2, 3), fits=lambda t: 0 not in t.shape)
    depth = m.chance.between(1, x.rank)
    reduction = m.chance.one_of(["none", "add", "mul", *(["min", "max"] if m.opset >= 18 else [])])
    if m.opset < 16 or x.dtype == BOOL:
        reduction = "none"
    places = int(np.prod(x.shape[:depth]))
    flat = m.chance.arrays.permutation(places)[: m.chance.between(1, min(places, 5))]
    if reduction != "none" and m.chance.maybe(0.5):
        flat = m.chance.arrays.integers(0, places, 4)
    indices = np.stack(np.unravel_index(flat, x.shape[:depth]), axis=-1).astype(I64)
    updates = m.fresh(x.dtype, (len(flat), *x.shape[depth:]))
    attributes = {"reduction": reduction} if m.opset >= 16 else {}
    m.add(op, [x, _given(m, indices), updates], rounds=reduction != "none", attributes=attributes)


@operator("OneHot", since=9)
def one_hot(m: Maker, op: str) -> None:
    depth, rank = m.chance.between(1, 6), m.chance.between(0, 3)
    indices = _indices(m, m.chance.shape(rank), depth, negative=m.opset >= 11)
    values = m.fresh(m.dtype_of(ALL), [2])
    axis = m.chance.between(-rank - 1, rank)
    count = m.constant(np.array(depth, I64)) if m.chance.maybe(0.7) else m.listed([depth])
    m.add(op, [indices, count, values], rounds=False, attributes={"axis": axis})


@operator("TopK", weight=2)
def top_k(m: Maker, op: str) -> None:
    x = m.pick(m.types(op), (1, 2, 3), exact=True)
    axis = m.axis(x) if m.opset >= 11 else m.axis(x) % x.rank
    k = m.chance.between(0 if m.opset >= 10 else 1, x.shape[axis]) if x.shape[axis] else 0
    if m.opset < 10:
        if k == 0:
            raise Declined
        m.add(op, [x], outputs=2, rounds=False, attributes={"axis": axis, "k": k})
        return
    largest = {"largest": m.chance.between(0, 1)} if m.opset >= 11 else {}
    attributes = {"axis": axis, **largest}
    m.add(op, [x, m.listed([k])], outputs=2, rounds=False, attributes=attributes)


@operator("ArgMax ArgMin")
def arg_reduce(m: Maker, op: str) -> None:
    x = m.pick(m.types(op), (1, 2, 3, 4), exact=True, fits=lambda t: 0 not in t.shape)
    axis = m.axis(x) if m.opset >= 11 else m.axis(x) % x.rank
    attributes = {"axis": axis, "keepdims": m.chance.between(0, 1)}
    if m.opset >= 12:
        attributes["select_last_index"] = m.chance.between(0, 1)
    m.add(op, [x], rounds=False, attributes=attributes)


@operator("Scatter", since=9)
def scatter(m: Maker, op: str) -> None:
    x = m.pick(m.types(op), (1, 2, 3), fits=lambda t: 0 not in t.shape)
    axis = m.chance.between(0, x.rank - 1)
    shape = [m.chance.between(1, extent) for extent in x.shape]
    lines = [
        m.chance.arrays.permutation(x.shape[axis])[: shape[axis]]
        for _ in range(int(np.prod(shape)) // shape[axis])
    ]
    others = [extent for other, extent in enumerate(shape) if other != axis]
    array = np.moveaxis(np.array(lines).reshape(*others, shape[axis]), -1, axis)
    m.add(
        op,
        [x, _given(m, array.astype(I64)), m.fresh(x.dtype, shape)],
        rounds=False,
        attributes={"axis": axis},
    )


@operator("CumProd", since=26)
def cumulative_product(m: Maker, op: str) -> None:
    x = m.pick(m.types(op), (1, 2, 3), Domain(-2, 2))
    attributes = {"exclusive": m.chance.between(0, 1), "reverse": m.chance.between(0, 1)}
    m.add(op, [x, m.constant(np.array(m.axis(x), I64))], attributes=attributes)


@operator("CumSum", weight=2)
def cumulative_sum(m: Maker, op: str) -> None:
    x = m.pick(m.types(op), (1, 2, 3))
    attributes = {"exclusive": m.chance.between(0, 1), "reverse": m.chance.between(0, 1)}
    m.add(op, [x, m.constant(np.array(m.axis(x), I64))], attributes=attributes)


@operator("NonZero")
def nonzero(m: Maker, op: str) -> None:
    m.add(op, [m.pick(m.types(op), (1, 2, 3), exact=True)], rounds=False)


@operator("Compress")
def compress(m: Maker, op: str) -> None:
    x = m.pick(m.types(op), (1, 2, 3))
    axis = m.axis(x) if m.opset >= 11 else m.axis(x) % x.rank
    condition = m.fresh(BOOL, [m.chance.between(0, x.shape[axis])])
    m.add(op, [x, condition], rounds=False, attributes={"axis": axis})


@operator("Unique", weight=0.5)
def unique(m: Maker, op: str) -> None:
    x = m.pick(m.types(op), (1, 2), exact=True, fits=lambda t: 0 not in t.shape)
    attributes = {"sorted": 1, **({"axis": m.axis(x)} if m.chance.maybe(0.4) else {})}
    m.add(op, [x], outputs=4, rounds=False, attributes=attributes, optional=True)


@operator("ReverseSequence")
def reverse_sequence(m: Maker, op: str) -> None:
    x = m.pick(m.types(op), (2, 3), fits=lambda t: 0 not in t.shape)
    batch = m.chance.between(0, 1)
    lengths = _given(m, m.chance.arrays.integers(1, x.shape[1 - batch] + 1, x.shape[batch]).astype(I64))
    m.add(op, [x, lengths], rounds=False, attributes={"batch_axis": batch, "time_axis": 1 - batch})
