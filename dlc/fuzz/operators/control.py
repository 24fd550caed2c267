"""If, Loop and Scan, whose bodies are small graphs of the same generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dlc.fuzz.maker import BOOL, F32, FLOATS, I64, Declined, Maker, Tensor
from dlc.fuzz.table import operator

if TYPE_CHECKING:
    import onnx


def _inner(m: Maker) -> Maker:
    """A maker for a body that sees the values of `m`; its names are those of the whole model."""
    if m.outer is not None and m.outer.outer is not None:
        raise Declined  # deep enough
    return Maker(m.chance, m.opset, outer=m, counter=m.counter)


def _grow(inner: Maker) -> None:
    """A few random nodes."""
    from dlc.fuzz.generate import add_random_node

    for _ in range(inner.chance.between(0, 2)):
        add_random_node(inner)


def _body(
    inner: Maker, name: str, inputs: list[onnx.ValueInfoProto], outputs: list[Tensor]
) -> onnx.GraphProto:
    """The graph of a body."""
    from onnx import helper, numpy_helper

    infos = [
        helper.make_tensor_value_info(t.name, helper.np_dtype_to_tensor_dtype(t.dtype), [None] * t.rank)
        for t in outputs
    ]
    weights = [numpy_helper.from_array(t.array, t.name) for t in inner.constants]
    return helper.make_graph(inner.nodes, name, inputs, infos, weights)


def _captures(m: Maker, inner: Maker) -> list[Tensor]:
    """The values of `m`, and around it, that the body reads."""
    return [tensor for tensor in m.visible() if tensor.name in inner.used]


def _condition(m: Maker) -> Tensor:
    """A truth that is an input, a constant, or computed."""
    if m.chance.maybe(0.6):
        return m.fresh(BOOL, ())
    x = m.pick((F32,), range(4), exact=True, fits=lambda t: 0 not in t.shape)
    (most,) = m.add("ReduceMax", [x], rounds=False, attributes={"keepdims": 0})
    (positive,) = m.add("Greater", [most, m.constant(0, F32)], rounds=False)
    return positive


@operator("If", weight=2, since=11)
def if_(m: Maker, op: str) -> None:
    condition = _condition(m)
    then = _inner(m)
    source = then.pick(FLOATS, (1, 2, 3), fresh=0.1)
    (first,) = then.add("Abs", [source])
    _grow(then)
    result = then.chance.one_of([t for t in then.computed if t.dtype.kind in "fiub"] or [first])
    (yes,) = then.add("Identity", [result])
    otherwise = _inner(m)
    shape = yes.shape if m.chance.maybe(0.8) else m.chance.shape(yes.rank)
    (no,) = otherwise.add("Identity", [otherwise.constant(m.chance.array(yes.dtype, shape))])
    _grow(otherwise)
    if any(node.op_type == "If" for node in (*then.nodes, *otherwise.nodes)) and m.chance.maybe(0.5):
        raise Declined
    branches = {
        "then_branch": _body(then, m.name("g"), [], [yes]),
        "else_branch": _body(otherwise, m.name("g"), [], [no]),
    }
    captures = {t.name: t for maker in (then, otherwise) for t in _captures(m, maker)}
    m.add(op, [condition], attributes=branches, captures=list(captures.values()))


@operator("Loop", weight=2, since=11)
def loop(m: Maker, op: str) -> None:
    from onnx import TensorProto, helper

    start = m.pick((F32,), (0, 1, 2, 3))
    inner = _inner(m)
    number, go_on, state = inner.name("k"), inner.name("k"), Tensor(inner.name("s"), start.array, exact=False)
    inputs = [
        helper.make_tensor_value_info(number, TensorProto.INT64, []),
        helper.make_tensor_value_info(go_on, TensorProto.BOOL, []),
        helper.make_tensor_value_info(state.name, TensorProto.FLOAT, [None] * state.rank),
    ]
    inner.computed.append(state)
    (half,) = inner.add("Mul", [state, inner.constant(0.5, F32)])
    other = inner.pick((F32,), shape=state.shape, fits=lambda t: t is not state, fresh=0.3)
    (following,) = inner.add("Add", [half, other])
    if inner.chance.maybe(0.5):
        count = Tensor(number, np.array(0, I64))
        (cast,) = inner.add("Cast", [count], attributes={"to": TensorProto.FLOAT})
        (following,) = inner.add("Add", [following, cast])
    _grow(inner)
    goes_by_count = inner.chance.maybe(0.7)
    if not goes_by_count:  # ends before its trips do
        counted = Tensor(number, np.array(0, I64))
        bound = inner.constant(inner.chance.between(0, 3), I64)
        (goes_on,) = inner.add("Less", [counted, bound], rounds=False)
    else:
        (goes_on,) = inner.add("Identity", [Tensor(go_on, np.array(True))])
    made = [t for t in inner.computed if t.name not in (state.name, goes_on.name)]
    stacked = [inner.add("Identity", [t])[0] for t in inner.chance.some_of(made)[:2]]
    (last,) = inner.add("Identity", [following])
    body = _body(inner, m.name("g"), inputs, [goes_on, last, *stacked])
    least = 1 if stacked else 0  # a stack of nothing has no shape
    most = m.chance.between(least, 4)
    trips = m.constant(np.array(most, I64)) if m.chance.maybe(0.7) else m.listed([most])
    # Without a condition the standard ignores that of the body; other engines do not.
    condition = None if goes_by_count and m.chance.maybe(0.5) else m.constant(np.array(True))
    captures = _captures(m, inner)
    attributes = {"body": body}
    m.add(op, [trips, condition, start], outputs=1 + len(stacked), attributes=attributes, captures=captures)


@operator("Scan", since=9)
def scan(m: Maker, op: str) -> None:
    from onnx import TensorProto, helper

    rows = m.pick((F32,), (2, 3), fits=lambda t: 0 not in t.shape)
    axis = m.chance.between(0, rows.rank - 1) if m.chance.maybe(0.3) else 0
    shape = tuple(np.delete(np.array(rows.shape), axis))
    state = m.fresh(F32, shape)
    inner = _inner(m)
    before = Tensor(inner.name("s"), state.array, exact=False)
    row = Tensor(inner.name("r"), rows.array.take(0, axis), exact=False)
    number = TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info(t.name, number, [None] * t.rank) for t in (before, row)]
    inner.computed += [before, row]
    (half,) = inner.add("Mul", [before, inner.constant(0.5, F32)])
    (after,) = inner.add("Add", [half, row])
    (shown,) = inner.add(m.chance.one_of(["Tanh", "Neg", "Sigmoid"]), [after])
    body = _body(inner, m.name("g"), inputs, [after, shown])
    attributes = {"body": body, "num_scan_inputs": 1}
    if m.chance.maybe(0.3):
        attributes["scan_input_directions"] = [1]
    if m.chance.maybe(0.3):
        attributes["scan_output_directions"] = [1]
    if axis:
        attributes["scan_input_axes"] = [axis]
    if m.chance.maybe(0.3):
        attributes["scan_output_axes"] = [m.chance.between(0, len(shape))]
    m.add(op, [state, rows], outputs=2, attributes=attributes, captures=_captures(m, inner))


@operator("Loop", since=13, variant="growing")
def growing_loop(m: Maker, op: str) -> None:
    """A loop whose state gets longer in each round."""
    from onnx import TensorProto, helper

    start = m.pick((F32,), (1, 2), fits=lambda t: 0 not in t.shape and t.array.size <= 64)
    inner = _inner(m)
    number, go_on, state = inner.name("k"), inner.name("k"), Tensor(inner.name("s"), start.array, exact=False)
    inputs = [
        helper.make_tensor_value_info(number, TensorProto.INT64, []),
        helper.make_tensor_value_info(go_on, TensorProto.BOOL, []),
        helper.make_tensor_value_info(state.name, TensorProto.FLOAT, [None] * state.rank),
    ]
    inner.computed.append(state)
    piece = m.fresh(F32, (inner.chance.between(1, 2), *state.shape[1:]))
    (longer,) = inner.add("Concat", [state, piece], rounds=False, attributes={"axis": 0})
    (total,) = inner.add("ReduceSum", [longer], attributes={"keepdims": 0})
    (goes_on,) = inner.add("Identity", [Tensor(go_on, np.array(True))])
    body = _body(inner, m.name("g"), inputs, [goes_on, longer, total])
    trips = m.listed([m.chance.between(1, 4)])
    m.add(op, [trips, None, start], outputs=2, attributes={"body": body}, captures=_captures(m, inner))
