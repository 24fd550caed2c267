"""The engines that dlc is compared with: onnxruntime, the ONNX reference evaluator, and float64.

Each engine is made from a ModelProto whose weights are loaded and runs named inputs to named outputs. An
engine that cannot run a model says so with UnsupportedError, so that the caller can turn to the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dlc.errors import UnsupportedError, printable
from dlc.verify.compare import Array, Value
from dlc.verify.protos import all_graphs, all_nodes, with_subgraphs
from dlc.verify.tolerances import is_float

if TYPE_CHECKING:
    import onnx

Values = Mapping[str, Value]


class Engine(Protocol):
    """Something that runs a model; `name` says what, with its version."""

    name: str

    def run(self, inputs: Values) -> dict[str, Value]:
        """The model's outputs by name."""
        ...


class OnnxRuntime:
    """onnxruntime's CPU provider, with its default optimizations."""

    def __init__(self, model: onnx.ModelProto, threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise UnsupportedError(
                "onnxruntime is not installed", hint="pip install onnxruntime", code="unsupported"
            ) from None
        self.name = f"onnxruntime {onnxruntime.__version__}"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors have no common base below Exception
            raise _cannot(self.name, error) from error
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Values) -> dict[str, Value]:
        try:
            return dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs))))
        except Exception as error:
            raise _cannot(self.name, error) from error


class Reference:
    """The evaluator that comes with ONNX: the standard's own meaning of each operator, in NumPy."""

    def __init__(self, model: onnx.ModelProto) -> None:
        import onnx
        from onnx.reference import ReferenceEvaluator

        from dlc.verify.reference_fixes import corrected_operators

        self.name = f"onnx reference {onnx.__version__}"
        try:
            self._evaluator = ReferenceEvaluator(model, new_ops=corrected_operators(model))
        except Exception as error:  # any operator's implementation may fail in its own way
            raise _cannot(self.name, error) from error

    def run(self, inputs: Values) -> dict[str, Value]:
        try:
            with np.errstate(all="ignore"):
                results = self._evaluator.run(None, dict(inputs))
        except Exception as error:
            raise _cannot(self.name, error) from error
        return dict(zip(self._evaluator.output_names, map(_as_array, results)))

    def intermediates(self, inputs: Values) -> dict[str, Value]:
        """All values of the main graph by name."""
        try:
            with np.errstate(all="ignore"):
                results = self._evaluator.run(None, dict(inputs), intermediate=True)
        except Exception as error:
            raise _cannot(self.name, error) from error
        return {name: _as_array(value) for name, value in dict(results).items()}


class Float64:
    """The model with all its floating-point numbers in float64, under the reference evaluator or `engine`.

    Its results are as good as exact for a model of float32 or narrower numbers, and so decide which of two
    engines is right. Quantization steps in the model stay: they are part of its meaning.
    """

    def __init__(
        self, model: onnx.ModelProto, engine: Callable[[onnx.ModelProto], Engine] | None = None
    ) -> None:
        self._engine = (engine or Reference)(to_float64(model))
        self.name = f"float64 under {self._engine.name}"

    def run(self, inputs: Values) -> dict[str, Value]:
        return self._engine.run({name: _widened(value) for name, value in inputs.items()})


def to_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every float tensor, type and float dtype attribute is float64 (functions included)."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for graph in all_graphs(copy.graph):
        for tensor in graph.initializer:
            _widen_tensor(tensor)
        for info in (*graph.input, *graph.output, *graph.value_info):
            _widen_type(info.type)
    for node in all_nodes(copy.graph):
        _widen_node(node)
    for function in copy.functions:
        for info in function.value_info:
            _widen_type(info.type)
        for outer in function.node:
            for node in with_subgraphs(outer):
                _widen_node(node)
    return copy


def _as_array(value: Any) -> Value:
    """NumPy's scalars as arrays of rank 0."""
    return np.asarray(value) if isinstance(value, np.generic) else value


def _cannot(engine: str, error: Exception) -> UnsupportedError:
    return UnsupportedError(f"{engine} cannot run this model: {printable(str(error), limit=500)}")


def _widened(value: Value) -> Value:
    if isinstance(value, np.ndarray):
        return value.astype(np.float64) if is_float(value.dtype) and value.dtype.kind != "c" else value
    return None if value is None else [_widened(item) for item in value]


def _float_types() -> set[int]:
    import onnx

    return {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    from onnx import numpy_helper

    if tensor.data_type in _float_types():
        array: Array = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float64), tensor.name))


def _widen_type(type_proto: onnx.TypeProto) -> None:
    import onnx

    match type_proto.WhichOneof("value"):
        case "tensor_type" if type_proto.tensor_type.elem_type in _float_types():
            type_proto.tensor_type.elem_type = onnx.TensorProto.DOUBLE
        case "sequence_type":
            _widen_type(type_proto.sequence_type.elem_type)
        case "optional_type":
            _widen_type(type_proto.optional_type.elem_type)


def _widen_node(node: onnx.NodeProto) -> None:
    from onnx import TensorProto, helper

    for attribute in node.attribute:
        if attribute.HasField("t"):
            _widen_tensor(attribute.t)
        for tensor in attribute.tensors:
            _widen_tensor(tensor)
        if attribute.name in ("to", "dtype", "output_datatype") and attribute.i in _float_types():
            attribute.i = TensorProto.DOUBLE
        if node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            value: Any = helper.get_attribute_value(attribute)
            attribute.CopyFrom(helper.make_attribute("value", _double_tensor(value)))
    if node.op_type == "ConstantOfShape" and not node.attribute:  # whose default is float32
        node.attribute.append(helper.make_attribute("value", _double_tensor([0.0])))


def _double_tensor(value: Any) -> onnx.TensorProto:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.asarray(value, np.float64))
