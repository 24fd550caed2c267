"""Quantized ONNX models of few layers, and what onnxruntime and dlc make of them."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from dlc.frontend.onnx.importer import import_model
from dlc.ir.evaluate import evaluate
from dlc.ir.graph import Graph
from dlc.passes.canonicalize import Canonicalize
from dlc.passes.constant_folding import ConstantFolding
from dlc.passes.cse import CommonSubexpressions
from dlc.passes.dead_code import DeadCode
from dlc.passes.manager import Pipeline, Report
from dlc.passes.pipeline import default_pipeline
from dlc.passes.raise_quantized import RaiseQuantized

Array: TypeAlias = "np.ndarray[Any, Any]"

f32 = np.float32


class Layers:
    """Nodes between DequantizeLinear and QuantizeLinear; the model's inputs are stored integers or f32."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []

    def name(self, what: str) -> str:
        """A name that nothing has yet."""
        return f"{what}{len(self.nodes) + len(self.weights) + len(self.inputs)}"

    def input(self, dtype: Any, shape: Sequence[int | str]) -> str:
        """An input of the model."""
        name = self.name("x")
        element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.inputs.append(helper.make_tensor_value_info(name, element, shape))
        return name

    def constant(self, data: Any, dtype: Any = None) -> str:
        """An initializer."""
        name = self.name("c")
        self.weights.append(numpy_helper.from_array(np.asarray(data, dtype), name))
        return name

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """A node of one result."""
        name = self.name("v")
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], **attributes))
        return name

    def real(self, stored: str, scale: Any, zero: Any = None, axis: int | None = None) -> str:
        """DequantizeLinear; `zero` is a number of a type, or an array."""
        operands = [stored, self.constant(scale, f32)] + ([] if zero is None else [self.constant(zero)])
        return self.add("DequantizeLinear", *operands, **({} if axis is None else {"axis": axis}))

    def stored(self, real: str, scale: Any, zero: Any) -> str:
        """QuantizeLinear."""
        return self.add("QuantizeLinear", real, self.constant(scale, f32), self.constant(zero))

    def model(self, *outputs: str) -> onnx.ModelProto:
        """The model with these results."""
        results = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph(self.nodes, "g", self.inputs, results, self.weights)
        opsets = [helper.make_opsetid("", 17)]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        return onnx.shape_inference.infer_shapes(made)


def onnxruntime_results(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """What onnxruntime answers with all optimizations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))


def raised(model: onnx.ModelProto, *, dot_products: bool = True) -> tuple[Graph, Report]:
    """The graph after the pass, checked, and after what folds constants again; and what passes did."""
    graph = import_model(model).graph
    again = ConstantFolding(), CommonSubexpressions(), DeadCode(), Canonicalize()
    tidy = default_pipeline(1).without("assign-layouts").passes
    report = Pipeline((*tidy, RaiseQuantized(dot_products), *again)).run(graph, check=True)
    return graph, report


def results(graph: Graph, feeds: Mapping[str, Array]) -> list[Array]:
    """What `graph` computes, by the evaluator."""
    found = evaluate(graph, dict(feeds))
    return [found[graph.output_name(index)] for index in range(len(graph.outputs))]


def random_feeds(model: onnx.ModelProto, seed: int = 0, **sizes: int) -> dict[str, Array]:
    """Arrays for the inputs: all integers of the type, or normally distributed floats."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for info in model.graph.input:
        type_ = info.type.tensor_type
        shape = [sizes[dim.dim_param] if dim.dim_param else dim.dim_value for dim in type_.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(type_.elem_type)
        if dtype.kind == "f":
            feeds[info.name] = rng.standard_normal(shape).astype(dtype)
        else:
            limits = np.iinfo(dtype)
            feeds[info.name] = rng.integers(limits.min, limits.max + 1, shape).astype(dtype)
    return feeds
