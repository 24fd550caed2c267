"""What one node computes, by the ONNX reference or onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dlc.fuzz.case import Array
from dlc.verify.engines import Reference
from dlc.verify.judges import JUDGES
from dlc.verify.node_by_node import EngineFactory, run_node
from dlc.verify.protos import subgraphs

if TYPE_CHECKING:
    import onnx

#: The IR version that goes with the opsets in use: the last before types that old runtimes refuse.
IR_VERSION = 8


def evaluate_node(node: onnx.NodeProto, operands: Mapping[str, Array], opset: int) -> list[Array] | None:
    """The outputs that the node names, each a tensor of the type and rank that the standard gives it.

    None if neither engine can run it, or none of these tensors comes out.
    """
    from onnx import helper

    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        helper.make_graph([], "none", [], []), opset_imports=opsets, ir_version=ir_version(opset)
    )
    engines: list[EngineFactory] = [Reference, JUDGES["onnxruntime"]]
    if any(subgraphs(node)):  # the reference stacks the scalars of iterations to a matrix
        engines.reverse()
    for engine in engines:
        results = run_node(node, operands, model, [engine])
        if results is not None and _has_right_types(node, operands, results, opset):
            return [results[name] for name in node.output if name]
    return None


def _has_right_types(
    node: onnx.NodeProto, operands: Mapping[str, Array], results: Mapping[str, Array], opset: int
) -> bool:
    """Whether the results have the element types and ranks of the standard, as far as it tells."""
    from onnx import defs, helper
    from onnx.checker import ValidationError
    from onnx.shape_inference import InferenceError, infer_node_outputs

    if any(subgraphs(node)):  # whose operators have been looked at
        return True
    number = helper.np_dtype_to_tensor_dtype
    types = {
        name: helper.make_tensor_type_proto(number(array.dtype), array.shape)
        for name, array in operands.items()
    }
    try:
        schema = defs.get_schema(node.op_type, opset, "")
        inferred = infer_node_outputs(schema, node, types, opset_imports=[helper.make_opsetid("", opset)])
    except (defs.SchemaError, InferenceError, ValidationError):
        return False
    tensors = {name: type_.tensor_type for name, type_ in inferred.items() if name in results}
    return all(
        type_.elem_type == number(results[name].dtype)
        and (not type_.HasField("shape") or len(type_.shape.dim) == results[name].ndim)
        for name, type_ in tensors.items()
    )


def ir_version(opset: int) -> int:
    """An IR version that knows the types of `opset`."""
    return IR_VERSION if opset < 19 else 9 if opset < 21 else 10
