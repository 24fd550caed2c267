"""Matrix products, convolutions, recurrent layers and attention."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc.fuzz.maker import BOOL, F16, F32, F64, FLOATS, I32, I64, Declined, Maker, Tensor
from dlc.fuzz.table import operator


@operator("MatMul", weight=4)
def matmul(m: Maker, op: str) -> None:
    a = m.pick(m.types(op), (1, 2, 3, 4))
    depth = a.shape[-1]

    def fits(b: Tensor) -> bool:
        if b.rank == 0 or b.shape[-2 if b.rank > 1 else -1] != depth:
            return False
        try:
            batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        except ValueError:
            return False
        return int(np.prod(batch)) * max(a.shape[-2:][0], 1) * b.shape[-1] <= m.chance.most_elements

    known = [t for t in m.visible() if t.dtype == a.dtype and fits(t)]
    if known and m.chance.maybe(0.5):
        b = m.chance.one_of(known)
    else:
        batch = [1 if m.chance.maybe(0.3) else e for e in a.shape[:-2]]
        batch = batch[m.chance.between(0, len(batch)) :]
        b = m.fresh(a.dtype, [*batch, depth, m.chance.extent()] if m.chance.maybe(0.8) else [depth])
    m.add(op, [a, b])


@operator("Gemm", weight=3)
def gemm(m: Maker, op: str) -> None:
    a = m.pick(m.types(op) if m.opset >= 9 else (F32, F64), (2,))
    attributes: dict[str, Any] = {}
    if m.chance.maybe(0.4):
        attributes["transA"] = m.chance.between(0, 1)
    if m.chance.maybe(0.6):
        attributes["transB"] = m.chance.between(0, 1)
    for name in ("alpha", "beta"):
        if m.chance.maybe(0.3):
            attributes[name] = m.chance.one_of([0.5, 2.0, -1.0, 0.0] if a.dtype in FLOATS else [1.0, 2.0])
    rows, depth = a.shape[::-1] if attributes.get("transA") else a.shape
    columns = m.chance.extent()
    b = m.fresh(a.dtype, (columns, depth) if attributes.get("transB") else (depth, columns))
    c = m.fresh(a.dtype, m.chance.one_of([(rows, columns), (columns,), (1, columns), (rows, 1), (1,), ()]))
    m.add(op, [a, b, c] if m.opset < 11 or m.chance.maybe(0.8) else [a, b], attributes=attributes)


@operator("Conv", weight=4)
def convolution(m: Maker, op: str) -> None:
    x = m.pick((F32, F32, F64, F16), (3, 4, 5), fits=lambda t: 0 not in t.shape and t.array.size <= 4096)
    spatial, channels = x.rank - 2, x.shape[1]
    groups = m.chance.one_of([g for g in (1, 1, 2, 3, channels) if channels % g == 0])
    outputs = groups * m.chance.one_of([1, 2, 3, 8, 16])
    kernel = [m.chance.between(1, min(3, extent)) for extent in x.shape[2:]]
    attributes: dict[str, Any] = {"group": groups} if groups > 1 else {}
    if m.chance.maybe(0.5):
        attributes["kernel_shape"] = kernel
    if m.chance.maybe(0.4):
        attributes["strides"] = [m.chance.between(1, 3) for _ in range(spatial)]
    match m.chance.between(0, 3):
        case 0:
            attributes["pads"] = [m.chance.between(0, 2) for _ in range(2 * spatial)]
        case 1:
            attributes["auto_pad"] = m.chance.one_of(["SAME_UPPER", "SAME_LOWER", "VALID"])
    if m.chance.maybe(0.2) and all((k - 1) * 2 < e for k, e in zip(kernel, x.shape[2:])):
        attributes["dilations"] = [2] * spatial
    w = m.fresh(x.dtype, (outputs, channels // groups, *kernel))
    bias = m.fresh(x.dtype, (outputs,)) if m.chance.maybe(0.6) else None
    m.add(op, [x, w, bias], attributes=attributes)


@operator("ConvTranspose")
def transposed_convolution(m: Maker, op: str) -> None:
    x = m.pick((F32,), (3, 4, 5), fits=lambda t: 0 not in t.shape and t.array.size <= 2048)
    spatial, channels = x.rank - 2, x.shape[1]
    groups = m.chance.one_of([g for g in (1, 1, 2, channels) if channels % g == 0])
    kernel = [m.chance.between(1, 3) for _ in range(spatial)]
    strides = [m.chance.between(1, 3) for _ in range(spatial)]
    attributes: dict[str, Any] = {"strides": strides, "group": groups}
    if m.chance.maybe(0.3):
        attributes["output_padding"] = [m.chance.between(0, s - 1) for s in strides]
    if m.chance.maybe(0.3):
        attributes["pads"] = [m.chance.between(0, (k - 1) // 2) for _ in range(2) for k in kernel]
    elif m.chance.maybe(0.2) and all(k >= s for k, s in zip(kernel, strides)):
        attributes["auto_pad"] = m.chance.one_of(["SAME_UPPER", "SAME_LOWER", "VALID"])
    if m.chance.maybe(0.3):
        attributes["dilations"] = [m.chance.between(1, 2) for _ in range(spatial)]
    w = m.fresh(F32, (channels, m.chance.between(1, 3), *kernel))
    bias = m.fresh(F32, (groups * w.shape[1],)) if m.chance.maybe(0.6) else None
    m.add(op, [x, w, bias], attributes=attributes)


_EQUATIONS = [
    *("ij,jk->ik", "bij,bkj->bik", "ij,ij->i", "bij->bji", "ii->i", "i,j->ij", "...ij,...jk->...ik"),
    *(
        "ij->",
        "bij,jk",
        "ij,jk,kb->ib",
        "bij,bij->b",
        "i,i",
        "bii->b",
        "ijk,ji->k",
        "bi,i,ij->bj",
        " i j , j k -> i k",
    ),
]


@operator("Einsum")
def einsum(m: Maker, op: str) -> None:
    equation = m.chance.one_of(_EQUATIONS)
    extents = {letter: m.chance.between(1, 5) for letter in "bijk"}
    terms = equation.split("->")[0].replace("...", "").replace(" ", "").split(",")
    shapes = [tuple(extents[letter] for letter in term) for term in terms]
    m.add(op, [m.pick((F32,), shape=shape, fresh=0.3) for shape in shapes], attributes={"equation": equation})


@operator("LSTM GRU RNN")
def recurrent(m: Maker, op: str) -> None:
    steps, batch, size, hidden = (m.chance.between(1, 4) for _ in range(4))
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    direction = m.chance.one_of(["forward", "reverse", "bidirectional"])
    count = 2 if direction == "bidirectional" else 1
    x = m.pick((F32,), shape=(steps, batch, size), fresh=0.3)
    weights = [m.fresh(F32, (count, gates * hidden, size)), m.fresh(F32, (count, gates * hidden, hidden))]
    bias = m.fresh(F32, (count, 2 * gates * hidden)) if m.chance.maybe(0.6) else None
    lengths = None
    if m.chance.maybe(0.3):
        lengths = m.constant(m.chance.arrays.integers(1, steps + 1, batch).astype(I32))
    states = [m.fresh(F32, (count, batch, hidden)) if m.chance.maybe(0.4) else None]
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
    if op == "GRU":
        attributes["linear_before_reset"] = m.chance.between(0, 1)
    if m.chance.maybe(0.2):
        attributes["clip"] = 0.75
    if op == "LSTM":
        states.append(m.fresh(F32, (count, batch, hidden)) if m.chance.maybe(0.4) else None)
        states.append(m.fresh(F32, (count, 3 * hidden)) if m.chance.maybe(0.3) else None)
    if op == "RNN" and m.chance.maybe(0.3):
        attributes["activations"] = [m.chance.one_of(["Tanh", "Relu", "Sigmoid"]) for _ in range(count)]
    outputs = 3 if op == "LSTM" else 2
    operands = [x, *weights, bias, lengths, *states]
    m.add(op, operands, outputs=outputs, attributes=attributes, optional=True)


@operator("Attention", weight=2, since=23)
def attention(m: Maker, op: str) -> None:
    batch, heads, queries, keys = (m.chance.between(1, 3) for _ in range(4))
    size, values = m.chance.one_of([2, 4, 8]), m.chance.one_of([2, 4])
    shared = m.chance.one_of([h for h in (1, heads) if heads % h == 0])
    q = m.pick((F32,), shape=(batch, heads, queries, size), fresh=0.4)
    k, v = m.fresh(F32, (batch, shared, keys, size)), m.fresh(F32, (batch, shared, keys, values))
    shape = m.chance.one_of([(queries, keys), (batch, 1, queries, keys)])
    mask = m.fresh(m.chance.one_of([F32, BOOL]), shape) if m.chance.maybe(0.4) else None
    attributes: dict[str, Any] = {"is_causal": 1} if m.chance.maybe(0.3) else {}
    if m.chance.maybe(0.3):
        attributes["scale"] = 0.5
    if m.chance.maybe(0.2):
        attributes["softcap"] = 2.0
    if mask is not None and mask.dtype == BOOL and not mask.array.any(axis=-1).all():
        raise Declined  # a query that may look at nothing has no softmax
    m.add(op, [q, k, v, mask], attributes=attributes)


@operator("RotaryEmbedding", since=23)
def rotary_embedding(m: Maker, op: str) -> None:
    batch, heads, length, size = (m.chance.between(1, 3) for _ in range(4))
    x = m.pick((F32,), shape=(batch, heads, length, 2 * size), fresh=0.5)
    attributes: dict[str, Any] = {"interleaved": m.chance.between(0, 1)}
    if m.chance.maybe(0.5):
        tables = [m.fresh(F32, (length + 2, size)) for _ in range(2)]
        positions = m.chance.arrays.integers(0, length + 2, (batch, length)).astype(I64)
        m.add(op, [x, *tables, m.constant(positions)], attributes=attributes)
    else:
        m.add(op, [x, *(m.fresh(F32, (batch, length, size)) for _ in range(2))], attributes=attributes)


@operator("MatMulInteger")
def integer_matmul(m: Maker, op: str) -> None:
    a = m.pick(m.types(op), (2, 3))
    b = m.fresh(m.dtype_of(m.types(op, 1)), (a.shape[-1], m.chance.extent()))
    zeros = [m.fresh(t.dtype, ()) if m.chance.maybe(0.5) else None for t in (a, b)]
    m.add(op, [a, b, *zeros], rounds=False, largest=1e9)


@operator("Det")
def determinant(m: Maker, op: str) -> None:
    size = m.chance.between(1, 4)
    array = np.eye(size, dtype=np.float32) * 4 + m.chance.arrays.uniform(-1, 1, (2, size, size))
    if m.outer is not None:
        raise Declined
    m.add(op, [m.constant(array.astype(np.float32))])
