"""Models with control flow of their own: loops and branches that depend on data."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.helpers.drafts import FLOAT, INT64, Draft
from tests.models.architectures.registry import Operand, architecture

BATCHES = ({"batch": 3}, {"batch": 1}, {"batch": 20})


def _info(name: str, dtype: int, shape: list[int | str] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


@architecture(
    [
        Operand("state", ("batch", 18)),
        Operand("steps", (), {"kind": "constant", "value": 6}, "int64"),
    ],
    BATCHES,
    exporter="none",
    outputs=("last", "path"),
)
def differential() -> onnx.ModelProto:
    """A differential equation by Euler steps in a Loop, whose number of steps is an input."""
    d = Draft()
    body = [
        helper.make_node("MatMul", ["h", "inner"], ["a"]),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "outer"], ["c"]),
        helper.make_node("Mul", ["c", "size"], ["e"]),
        helper.make_node("Add", ["h", "e"], ["next"]),
        helper.make_node("ReduceMean", ["next"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("Identity", ["going"], ["on"]),
    ]
    inputs = [_info("i", INT64, []), _info("going", TensorProto.BOOL, []), _info("h", FLOAT, ["batch", 18])]
    outputs = [_info("on", TensorProto.BOOL, []), _info("next", FLOAT, None), _info("mean", FLOAT, None)]
    d.weight("inner", 18, 25)
    d.weight("outer", 25, 18)
    d.constant("size", 0.1)
    graph = helper.make_graph(body, "step", inputs, outputs)
    d.add("Loop", ["steps", "", "state"], ["last", "path"], body=graph)
    return d.model(
        [("state", FLOAT, ["batch", 18]), ("steps", INT64, [])],
        [("last", FLOAT, ["batch", 18]), ("path", FLOAT, ["count", "batch"])],
        17,
    )


@architecture([Operand("x", ("batch", 30))], BATCHES, exporter="none")
def early_exit() -> onnx.ModelProto:
    """A second network is asked only where the first one is unsure of some element of the batch."""
    d = Draft()
    first = d.add("Gemm", ["x", d.weight("w1", 30, 7), d.weight("b1", 7)], "first")
    sure = d.add(
        "ReduceMin", [d.add("ReduceMax", [d.add("Softmax", [first], "soft")], "top", axes=[1])], "sure"
    )
    limit = d.constant("limit", np.float32(0.45))
    condition = d.add("Greater", [d.add("Squeeze", [sure], "scalar"), limit], "condition")
    d.weight("w2", 30, 40)
    d.weight("w3", 40, 7)
    done = [helper.make_node("Identity", ["first"], ["early"])]
    more = [
        helper.make_node("MatMul", ["x", "w2"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("MatMul", ["active", "w3"], ["late"]),
    ]
    branches = {
        "then_branch": helper.make_graph(done, "done", [], [_info("early", FLOAT, None)]),
        "else_branch": helper.make_graph(more, "more", [], [_info("late", FLOAT, None)]),
    }
    d.add("If", [condition], "y", **branches)
    return d.model([("x", FLOAT, ["batch", 30])], [("y", FLOAT, ["batch", 7])], 17)
