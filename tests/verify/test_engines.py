"""The engines that dlc is compared with agree with each other, and float64 is more exact than both."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dlc.errors import UnsupportedError
from dlc.models import digits_path
from dlc.verify import Work, compare_values, distance, tolerance
from dlc.verify.engines import Float64, OnnxRuntime, Reference, to_float64
from dlc.verify.inputs import model_inputs, random_inputs


def model_of(text: str, *, weights: tuple[onnx.TensorProto, ...] = ()) -> onnx.ModelProto:
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(weights)
    return model


NORM = model_of(
    """
    <ir_version: 7, opset_import: ["" : 9]>
    norm (float[n, 2, 3] x) => (float[n, 2, 3] y) { y = BatchNormalization <epsilon = 0.001> (x, s, b, m, v) }
    """,
    weights=tuple(
        numpy_helper.from_array(np.array(values, np.float32), name)
        for name, values in {"s": [2, 3], "b": [1, -1], "m": [5, 6], "v": [0.5, 4]}.items()
    ),
)

BRANCHES = model_of(
    """
    <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
    branches (float[n] x, bool flag) => (float[n] y) {
        half = Constant <value_float = 0.1> ()
        size = Shape (x)
        zeros = ConstantOfShape (size)
        chosen = If (flag) <
            then_branch = g1 () => (float[n] a) { c = Cast <to = 1> (flag)  a = Add (x, c) },
            else_branch = g2 () => (float[n] b) { k = Constant <value = float {3.3}> ()  b = Mul (x, k) }
        >
        moved = local.Shift (chosen, half)
        y = Add (moved, zeros)
    }
    <domain: "local", opset_import: ["" : 17]>
    Shift (a, b) => (c) { one = Constant <value_floats = [1.0]> ()  d = Add (a, b)  c = Add (d, one) }
    """
)

DEQUANTIZE = model_of(
    """
    <ir_version: 8, opset_import: ["" : 13]>
    dequantize (int8[2, 3] x) => (float[2, 3] y) { y = DequantizeLinear <axis = 0> (x, s, z) }
    """,
    weights=(
        numpy_helper.from_array(np.array([0.5, 0.25], np.float32), "s"),
        numpy_helper.from_array(np.array([1, -2], np.int8), "z"),
    ),
)


@pytest.mark.parametrize(
    ("model", "bindings"),
    [(NORM, {"n": 4}), (BRANCHES, {"n": 4}), (DEQUANTIZE, {}), (onnx.load(digits_path()), {"batch": 3})],
    ids=["norm", "branches", "dequantize", "digits"],
)
def test_engines_agree(model: onnx.ModelProto, bindings: dict[str, int]) -> None:
    values = random_inputs(model_inputs(model), bindings=bindings)
    expected = OnnxRuntime(model, threads=1).run(values)
    actual = Reference(model).run(values)
    exact = Float64(model).run(values)
    assert list(actual) == list(expected) == list(exact)
    for name, value in expected.items():
        assert isinstance(value, np.ndarray) and isinstance(exact[name], np.ndarray)
        assert exact[name].dtype == np.float64
        (found,) = compare_values(name, actual[name], value, tolerance(value.dtype, Work.CONTRACTION))
        assert found.agrees, found
        assert distance(value, exact[name]) < 1e-5


def test_float64_reaches_every_constant() -> None:
    values = {"x": np.array([1.0]), "flag": np.array(False)}
    (y,) = Float64(BRANCHES).run(values).values()
    # Constants written in float32 keep their float32 values; the arithmetic on them is exact to float64.
    expected = np.float64(np.float32(3.3)) + np.float64(np.float32(0.1)) + 1.0
    np.testing.assert_allclose(y, [expected], rtol=1e-15)


def test_to_float64_leaves_the_original_alone() -> None:
    before = BRANCHES.SerializeToString()
    wide = to_float64(BRANCHES)
    assert BRANCHES.SerializeToString() == before
    assert wide.graph.input[0].type.tensor_type.elem_type == TensorProto.DOUBLE
    assert wide.graph.input[1].type.tensor_type.elem_type == TensorProto.BOOL


@pytest.mark.parametrize("engine", [OnnxRuntime, Reference])
def test_what_an_engine_cannot_run_is_unsupported(engine: type) -> None:
    unknown = helper.make_model(
        helper.make_graph(
            [helper.make_node("NoSuchOperator", ["x"], ["y"], domain="nowhere")],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        ),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("nowhere", 1)],
        ir_version=8,
    )
    with pytest.raises(UnsupportedError, match="cannot run this model"):
        engine(unknown).run({"x": np.zeros(1, np.float32)})
