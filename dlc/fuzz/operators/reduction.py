"""Reductions, normalizations and pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc.fuzz.maker import F16, F32, F64, FLOATS, I8, I64, U8, Declined, Maker, Tensor
from dlc.fuzz.sampling import ANY, Domain
from dlc.fuzz.table import operator

_DOMAINS = {
    "ReduceLogSum": Domain(0.25, 100),
    "ReduceProd": Domain(-2, 2),
    "ReduceLogSumExp": Domain(-50, 50),
}

#: Opset from which the axes of a reduction are an operand.
_AXES_OPERAND = {"ReduceSum": 13}


@operator("ReduceSum ReduceMean ReduceMax ReduceMin", weight=2)
@operator("ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare")
def reduction(m: Maker, op: str) -> None:
    empty = op in ("ReduceSum", "ReduceL1", "ReduceSumSquare")
    types = m.types(op) & set(FLOATS) if "Log" in op else m.types(op)  # an integer's logarithm is none
    x = m.pick(types, range(5), _DOMAINS.get(op, ANY), fits=lambda t: empty or 0 not in t.shape)
    axes = m.chance.some_of(range(x.rank))
    if m.opset >= 11:
        axes = [axis - x.rank if m.chance.maybe(0.3) else axis for axis in axes]
    attributes: dict[str, Any] = {"keepdims": m.chance.between(0, 1)}
    operands: list[Any] = [x]
    if m.opset >= _AXES_OPERAND.get(op, 18):
        if m.chance.maybe(0.2):
            attributes["noop_with_empty_axes"] = m.chance.between(0, 1)
        if axes or m.chance.maybe(0.3):
            operands.append(m.constant(np.array(axes, I64)))
    elif axes:
        attributes["axes"] = axes
    m.add(op, operands, rounds=op not in ("ReduceMax", "ReduceMin"), attributes=attributes)


@operator("Softmax LogSoftmax", weight=2)
def softmax(m: Maker, op: str) -> None:
    x = m.pick(m.types(op), (1, 2, 3, 4))
    attributes = {"axis": m.axis(x) if m.opset >= 11 else m.axis(x) % x.rank} if m.chance.maybe(0.8) else {}
    if not attributes and m.opset < 13 and x.rank == 1:
        raise Declined  # the default axis 1 is none of a vector's
    m.add(op, [x], attributes=attributes)


@operator("Hardmax")
def hardmax(m: Maker, op: str) -> None:
    x = m.pick(m.types(op), (1, 2, 3), exact=True, fits=lambda t: 0 not in t.shape)
    m.add(op, [x], attributes={"axis": m.axis(x) if m.opset >= 11 else m.axis(x) % x.rank})


def _require_spread(x: Tensor) -> None:
    """Declined for values of no variance, whose normalization shows nothing but their rounding."""
    if np.std(x.array.astype(np.float64)) < 0.1:
        raise Declined


@operator("LayerNormalization RMSNormalization", weight=2)
def layer_norm(m: Maker, op: str) -> None:
    x = m.pick((F32, F32, F64, F16), (1, 2, 3, 4), fits=lambda t: 0 not in t.shape)
    _require_spread(x)
    axis = m.chance.between(0, x.rank - 1)
    shape = x.shape[axis:]
    if int(np.prod(shape)) < 2:
        raise Declined
    scale, bias = m.fresh(x.dtype, shape), m.fresh(x.dtype, shape)
    operands = [x, scale, bias] if op == "LayerNormalization" and m.chance.maybe(0.7) else [x, scale]
    axis -= x.rank if m.chance.maybe(0.5) else 0
    attributes = {"axis": axis, "epsilon": m.chance.one_of([1e-5, 0.125])}
    statistics = op == "LayerNormalization" and x.dtype == F32 and m.chance.maybe(0.3)
    m.add(op, operands, outputs=3 if statistics else 1, attributes=attributes)


@operator("BatchNormalization", weight=2)
def batch_norm(m: Maker, op: str) -> None:
    x = m.pick((F32, F32, F64, F16), (2, 3, 4))
    c = [x.shape[1]]
    stats = [m.fresh(x.dtype, c, domain) for domain in (ANY, ANY, ANY, Domain(0.25, 4))]
    m.add(op, [x, *stats], attributes={"epsilon": m.chance.one_of([1e-5, 0.125])})


@operator("InstanceNormalization")
def instance_norm(m: Maker, op: str) -> None:
    x = m.pick((F32,), (3, 4), fits=lambda t: 0 not in t.shape and int(np.prod(t.shape[2:])) > 1)
    operands = [x, m.fresh(F32, [x.shape[1]]), m.fresh(F32, [x.shape[1]])]
    m.add(op, operands, attributes={"epsilon": 0.125})


@operator("GroupNormalization", since=21)
def group_norm(m: Maker, op: str) -> None:
    groups, each = m.chance.between(1, 3), m.chance.between(1, 3)
    x = m.fresh(F32, (m.chance.between(1, 2), groups * each, m.chance.between(2, 5), m.chance.between(1, 4)))
    operands = [x, m.fresh(F32, [groups * each]), m.fresh(F32, [groups * each])]
    m.add(op, operands, attributes={"num_groups": groups, "epsilon": 0.125})


@operator("LRN")
def local_response(m: Maker, op: str) -> None:
    x = m.pick((F32,), (4,), fits=lambda t: 0 not in t.shape)
    m.add(op, [x], attributes={"size": m.chance.one_of([1, 3, 5]), "alpha": 0.5, "beta": 0.75, "bias": 1.5})


@operator("LpNormalization")
def lp_norm(m: Maker, op: str) -> None:
    x = m.pick((F32,), (1, 2, 3), Domain(-100, 100, gap=0.25))
    m.add(op, [x], attributes={"axis": m.axis(x), "p": m.chance.between(1, 2)})


@operator("MeanVarianceNormalization", weight=0.5)
def mean_variance(m: Maker, op: str) -> None:
    x = m.pick((F32,), (4,), fits=lambda t: 0 not in t.shape)
    _require_spread(x)
    m.add(op, [x], attributes={"axes": m.chance.one_of([[0, 2, 3], [1, 2, 3], [2, 3]])})


@operator("GlobalAveragePool GlobalMaxPool")
def global_pool(m: Maker, op: str) -> None:
    x = m.pick(FLOATS[:1], (3, 4), fits=lambda t: 0 not in t.shape)
    m.add(op, [x], rounds=op == "GlobalAveragePool")


@operator("GlobalLpPool", weight=0.5)
def global_lp_pool(m: Maker, op: str) -> None:
    x = m.pick(FLOATS[:1], (3, 4), Domain(-100, 100, gap=0.25), fits=lambda t: 0 not in t.shape)
    m.add(op, [x], attributes={"p": m.chance.between(1, 3)})


@operator("Dropout")
def dropout(m: Maker, op: str) -> None:
    """As in inference: the operand itself."""
    x = m.pick(m.types(op), range(5))
    if m.opset < 12:
        m.add(op, [x], rounds=False, attributes={"ratio": 0.25}, outputs=2 if m.opset >= 10 else 1)
        return
    ratio = m.constant(0.25, F32) if m.chance.maybe(0.5) else None
    m.add(op, [x, ratio], rounds=False, outputs=m.chance.between(1, 2))


@operator("MaxPool AveragePool", weight=2)
@operator("LpPool", weight=0.5)
def pool(m: Maker, op: str) -> None:
    types = (F32, F32, F16, *((I8, U8) if op == "MaxPool" and m.opset >= 12 else ()))
    x = m.pick(types, (3, 4, 5), fits=lambda t: 0 not in t.shape and t.array.size <= 4096)
    spatial = x.rank - 2
    kernel = [m.chance.between(1, min(3, extent)) for extent in x.shape[2:]]
    attributes: dict[str, Any] = {"kernel_shape": kernel}
    if m.chance.maybe(0.6):
        attributes["strides"] = [m.chance.between(1, 3) for _ in range(spatial)]
    strides = attributes.get("strides", [1] * spatial)
    match m.chance.between(0, 3):
        case 0:
            attributes["pads"] = [m.chance.between(0, k - 1) for _ in range(2) for k in kernel]
        case 1:
            same = ["SAME_UPPER", "SAME_LOWER"] if all(k >= s for k, s in zip(kernel, strides)) else []
            attributes["auto_pad"] = m.chance.one_of([*same, "VALID"])  # the padding would be negative
        case 2 if m.opset >= {"MaxPool": 10, "AveragePool": 19}.get(op, 18):
            most = [2 if 2 * (k - 1) < e else 1 for k, e in zip(kernel, x.shape[2:])]
            attributes["dilations"] = [m.chance.between(1, dilation) for dilation in most]
    if m.opset >= {"LpPool": 18}.get(op, 10) and m.chance.maybe(0.4) and "auto_pad" not in attributes:
        attributes["ceil_mode"] = 1
    if op == "AveragePool" and m.chance.maybe(0.4):
        attributes["count_include_pad"] = 1
    outputs = 2 if op == "MaxPool" and m.opset >= 8 and x.exact and m.chance.maybe(0.2) else 1
    m.add(op, [x], outputs=outputs, rounds=op != "MaxPool", attributes=attributes)
