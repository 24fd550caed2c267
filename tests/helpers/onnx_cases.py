"""One-node ONNX models, the graph evaluator on them, and its judges: the ONNX reference and onnxruntime."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import helper

Array: TypeAlias = "np.ndarray[Any, Any]"

#: (relative, absolute) tolerance of single operators, by dtype name; others have to agree exactly.
TOLERANCES = {
    "float64": (1e-12, 1e-13),
    "float32": (1e-5, 1e-6),
    "float16": (2e-3, 1e-3),
    "bfloat16": (1.6e-2, 8e-3),
}

#: The newest opset that the installed onnxruntime accepts as a released one.
ONNXRUNTIME_OPSET = 26


def one_node_model(
    op_type: str,
    inputs: Sequence[Array | None],
    outputs: int | Sequence[str] = 1,
    attributes: Mapping[str, Any] | None = None,
    opset: int = 21,
    *,
    domain: str = "",
    constants: Collection[int] = (),
    symbolic: bool = False,
) -> onnx.ModelProto:
    """A model of one node whose operands have the types of `inputs` (None: optional operand absent).

    Operands are named x0, x1, ...; those numbered in `constants` are initializers. `outputs` is a number (y0,
    y1, ...) or the names, "" for an output that is not wanted. With `symbolic` every extent is a symbol of
    its own. Attributes that are None are left out.
    """
    names = [f"y{index}" for index in range(outputs)] if isinstance(outputs, int) else list(outputs)
    operands = [f"x{index}" if array is not None else "" for index, array in enumerate(inputs)]
    while operands and not operands[-1]:
        operands.pop()
    present = {key: value for key, value in (attributes or {}).items() if value is not None}
    node = helper.make_node(op_type, operands, names, name=f"the_{op_type}", domain=domain, **present)
    values, initializers = [], []
    for index, array in enumerate(inputs):
        if array is None:
            continue
        if index in constants:
            initializers.append(onnx.numpy_helper.from_array(np.asarray(array), f"x{index}"))
            continue
        shape = [f"x{index}_{axis}" if symbolic else extent for axis, extent in enumerate(np.shape(array))]
        values.append(helper.make_tensor_value_info(f"x{index}", element_type(array), shape))
    results = [onnx.ValueInfoProto(name=name) for name in names if name]
    graph = helper.make_graph([node], op_type, values, results, initializers)
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=min(10, onnx.IR_VERSION))


def element_type(array: Array) -> int:
    """The ONNX element type of an array; object and str arrays hold strings."""
    dtype = np.asarray(array).dtype
    return onnx.TensorProto.STRING if dtype.kind in "OUS" else helper.np_dtype_to_tensor_dtype(dtype)


def feeds_of(model: onnx.ModelProto, inputs: Sequence[Array | None]) -> dict[str, Array]:
    """Those of `inputs` that `model` asks for, by name."""
    wanted = {value.name for value in model.graph.input}
    return {f"x{i}": np.asarray(a) for i, a in enumerate(inputs) if a is not None and f"x{i}" in wanted}


def run_reference(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """Outputs of the ONNX reference implementation."""
    from onnx.reference import ReferenceEvaluator

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return [np.asarray(y) for y in ReferenceEvaluator(model).run(None, dict(feeds))]


def run_onnxruntime(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array] | None:
    """Outputs of onnxruntime without graph optimizations; None where it has no kernel for the node's types.

    An opset newer than it knows counts as no kernel too.
    """
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

    if any(entry.domain == "" and entry.version > ONNXRUNTIME_OPSET for entry in model.opset_import):
        return None
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    with contextlib.suppress(NoKernel):
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return [np.asarray(y) for y in session.run(None, dict(feeds))]
    return None


def run_evaluator(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """Outputs of the graph evaluator for the imported model."""
    from dlc.frontend.onnx.importer import import_model
    from dlc.ir.evaluate import evaluate

    graph = import_model(model).graph
    results = evaluate(graph, dict(feeds))
    return [results[value.name] for value in graph.outputs]


def assert_agrees(
    actual: Sequence[Array], expected: Sequence[Array], tolerance: tuple[float, float] | None = None
) -> None:
    """Same number of arrays, dtypes and shapes; values within `tolerance` (relative, absolute)."""
    assert len(actual) == len(expected)
    for got, want in zip(actual, expected):
        want = np.asarray(want)
        assert got.dtype == want.dtype or {got.dtype.kind, want.dtype.kind} <= set("OUS")
        assert got.shape == want.shape
        relative, absolute = tolerance or TOLERANCES.get(want.dtype.name, (0.0, 0.0))
        if relative or absolute:
            np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), relative, absolute)
        elif want.dtype.kind in "Vf":  # NumPy does not find the NaN of all narrow floats
            np.testing.assert_array_equal(got.astype(np.float64), want.astype(np.float64))
        else:
            np.testing.assert_array_equal(got, want)


def check_node(
    op_type: str,
    inputs: Sequence[Array | None],
    outputs: int | Sequence[str] = 1,
    attributes: Mapping[str, Any] | None = None,
    opset: int = 21,
    *,
    domain: str = "",
    constants: Collection[int] = (),
    symbolic: bool = False,
    reference: bool = True,
    onnxruntime: bool = True,
    tolerance: tuple[float, float] | None = None,
) -> list[Array]:
    """Compare the evaluator with the reference and onnxruntime on a one-node model; returns its outputs.

    `reference=False` or `onnxruntime=False` leaves that judge out; the caller says why. Fails when neither is
    left.
    """
    model = one_node_model(
        op_type, inputs, outputs, attributes, opset, domain=domain, constants=constants, symbolic=symbolic
    )
    feeds = feeds_of(model, inputs)
    actual = run_evaluator(model, feeds)
    judges = [
        run_reference(model, feeds) if reference else None,
        run_onnxruntime(model, feeds) if onnxruntime else None,
    ]
    verdicts = [judge for judge in judges if judge is not None]
    assert verdicts, "no engine judged the result"
    for expected in verdicts:
        assert_agrees(actual, expected, tolerance)
    return actual


@functools.cache
def _all_backend_cases() -> tuple[Any, ...]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(collect_testcases(None))


def backend_node_cases(op_types: Collection[str], domain: str = "") -> list[Any]:
    """The cases of the ONNX backend node tests whose model is one node of one of `op_types`.

    Each has `name`, `model`, `data_sets` (pairs of input and output arrays), `rtol` and `atol`.
    """

    def wanted(case: Any) -> bool:
        nodes = case.model.graph.node
        return len(nodes) == 1 and nodes[0].op_type in op_types and nodes[0].domain == domain

    return [case for case in _all_backend_cases() if wanted(case)]


def check_backend_case(case: Any, constants: Collection[int] = ()) -> None:
    """Compare the evaluator with the outputs stored in a case of `backend_node_cases`.

    The operands numbered in `constants` become initializers, for what has to be known at compile time.
    """
    fixed = {name for index, name in enumerate(case.model.graph.node[0].input) if index in constants}
    for inputs, outputs in case.data_sets:
        feeds = {value.name: as_array(array) for value, array in zip(case.model.graph.input, inputs)}
        model = with_constants(case.model, {name: array for name, array in feeds.items() if name in fixed})
        actual = run_evaluator(model, {name: array for name, array in feeds.items() if name not in fixed})
        assert_agrees(actual, [as_array(array) for array in outputs], (case.rtol, case.atol))


def as_array(content: Any) -> Array:
    """A test case's content: an array, or a TensorProto for the types that NumPy does not have."""
    return (
        onnx.numpy_helper.to_array(content) if isinstance(content, onnx.TensorProto) else np.asarray(content)
    )


def with_constants(model: onnx.ModelProto, values: Mapping[str, Array]) -> onnx.ModelProto:
    """A copy of `model` whose inputs named in `values` are initializers instead."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = [value for value in copy.graph.input if value.name not in values]
    del copy.graph.input[:]
    copy.graph.input.extend(kept)
    copy.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in values.items())
    return copy


def ids(cases: Sequence[Any]) -> Iterator[str]:
    """Names of backend cases for pytest."""
    return (case.name for case in cases)
