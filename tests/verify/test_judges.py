"""Judges: whole models, nodes one by one, and corrections of the reference against hand-made results."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from dlc.errors import UnsupportedError
from dlc.verify.engines import OnnxRuntime, Reference
from dlc.verify.judges import Judge, exactly
from dlc.verify.node_by_node import NodeByNode

Array = np.ndarray[Any, Any]


def parse(text: str, opset: int = 17) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')


def reference(text: str, opset: int = 17, **inputs: Array) -> Array:
    (y,) = Reference(parse(text, opset)).run(inputs).values()
    assert isinstance(y, np.ndarray)
    return y


def test_a_judge_runs_what_it_can_as_a_whole() -> None:
    judge = Judge("onnxruntime", parse("g (float[n] x) => (float[n] y) { y = Neg (x) }"))
    assert judge.run({"x": np.ones(2, np.float32)})["y"].tolist() == [-1, -1]  # type: ignore[union-attr]
    assert judge.has_run and judge.as_whole and judge.substituted == frozenset()


def test_another_engine_runs_what_it_cannot() -> None:
    """onnxruntime has no Atanh in double precision; the rest is its own."""
    text = "g (double[n] x) => (double[n] y) { t = Identity (x) y = Atanh (t) }"
    judge = Judge("onnxruntime", parse(text))
    y = judge.run({"x": np.array([0.5])})["y"]
    assert isinstance(y, np.ndarray) and y.tolist() == [np.arctanh(0.5)]
    assert judge.substituted == {"Atanh"} and not judge.as_whole and not judge.has_run


def test_inputs_that_an_engine_refuses_are_refused() -> None:
    judge = Judge(
        "onnxruntime", parse("g (float[a, b] x, float[c, d] w) => (float[a, d] y) { y = MatMul (x, w) }")
    )
    x = np.ones((2, 3), np.float32)
    judge.run({"x": x, "w": np.ones((3, 2), np.float32)})
    with pytest.raises(UnsupportedError):
        judge.run({"x": x, "w": np.ones((4, 2), np.float32)})
    assert judge.has_run


def test_functions_are_inlined() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[2] x) => (float[2] y) { y = local.twice (x) }
        <domain: "local", opset_import: ["" : 17]> twice (a) => (b) { b = Add (a, a) }"""
    )
    for name in ("onnxruntime", "reference"):
        judge = Judge(name, model)
        assert judge.run({"x": np.ones(2, np.float32)})["y"].tolist() == [2, 2]  # type: ignore[union-attr]
        assert judge.substituted == frozenset()


def test_node_by_node_gives_bodies_what_they_capture() -> None:
    model = parse(
        """g (bool c, float[2] x) => (float[2] y) {
            a = Neg (x)
            y = If (c) <then_branch = t () => (float[2] p) { p = Exp (a) },
                        else_branch = e () => (float[2] q) { q = Identity (x) }> }"""
    )
    engine = NodeByNode(model, [Reference])
    x = np.array([1, 2], np.float32)
    for condition, expected in ((True, np.exp(-x)), (False, x)):
        y = engine.run({"c": np.array(condition), "x": x})["y"]
        np.testing.assert_allclose(np.asarray(y), expected, rtol=1e-6)


def test_what_nothing_runs_is_unsupported() -> None:
    model = parse("g (float[2] x) => (float[2] y) { y = Nothing (x) }")
    with pytest.raises(UnsupportedError, match="Nothing"):
        NodeByNode(model, [Reference]).run({"x": np.ones(2, np.float32)})
    assert exactly(model, {"x": np.ones(2, np.float32)}) is None


def test_float64() -> None:
    outputs = exactly(parse("g (float[1] x) => (float[1] y) { y = Exp (x) }"), {"x": np.ones(1, np.float32)})
    assert outputs is not None and np.asarray(outputs["y"])[0] == np.exp(1.0)


# --- corrections of the reference


def test_erf_in_double_precision() -> None:
    y = reference("g (double[1] x) => (double[1] y) { y = Erf (x) }", x=np.array([0.5]))
    assert abs(y[0] - 0.5204998778130465) < 1e-15


def test_hardmax_of_flattened_axes() -> None:
    x = np.array([[[1, 2], [3, 0]], [[5, 4], [0, 1]]], np.float32)
    y = reference("g (float[2,2,2] x) => (float[2,2,2] y) { y = Hardmax <axis = 1> (x) }", 11, x=x)
    assert y.reshape(2, 4).tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize("opset", [11, 18])
def test_reductions_keep_the_type(opset: int) -> None:
    text = "g (uint32[2,2] x) => (uint32 y) { y = ReduceSumSquare <keepdims = 0> (x) }"
    y = reference(text, opset, x=np.full((2, 2), 1 << 16, np.uint32))
    assert y.dtype == np.uint32 and y == 0


def test_reductions_keep_their_attributes() -> None:
    text = "g (float[2,3] x) => (float[2] y) { y = ReduceL1 <axes = [-1], keepdims = 0> (x) }"
    assert reference(text, 11, x=-np.ones((2, 3), np.float32)).tolist() == [3, 3]


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_rows_of_several_axes_before_opset_13(op_type: str, axis: int) -> None:
    text = f"g (float[2,3,4] x) => (float[2,3,4] y) {{ y = {op_type} <axis = {axis}> (x) }}"
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    (expected,) = OnnxRuntime(parse(text, 11)).run({"x": x}).values()
    np.testing.assert_allclose(reference(text, 11, x=x), np.asarray(expected), rtol=1e-6)


def test_the_error_function_of_integers_is_that_of_float32() -> None:
    text = "g (int32[n] x) => (int32[n] y) { y = Erf (x) }"
    assert reference(text, 11, x=np.array([-5, 1, 3, 4], np.int32)).tolist() == [-1, 0, 0, 1]


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_does_not_cancel(approximate: str) -> None:
    text = f'g (float[n] x) => (float[n] y) {{ y = Gelu <approximate = "{approximate}"> (x) }}'
    y = reference(text, 20, x=np.array([1, 0, -2, -8, -np.inf, np.inf], np.float32))
    near = {
        "none": [0.8413447, 0, -0.0455003, -4.976768e-15],
        "tanh": [0.8411920, 0, -0.0454023, -3.107783e-21],
    }
    np.testing.assert_allclose(y[:4], near[approximate], rtol=1e-6)
    assert np.isnan(y[4]) and y[5] == np.inf


def test_the_1_norm_is_of_absolute_values() -> None:
    text = "g (float[2] x) => (float[2] y) { y = LpNormalization <axis = 0, p = 1> (x) }"
    assert reference(text, x=np.array([-3, 1], np.float32)).tolist() == [-0.75, 0.25]


@pytest.mark.parametrize("opset", [10, 19, 21, 25])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_infinities_saturate(opset: int, dtype: str) -> None:
    text = f"g (float[4] x, float s, {dtype} z) => ({dtype}[4] y) {{ y = QuantizeLinear (x, s, z) }}"
    x = np.array([np.inf, -np.inf, 1, -1], np.float32)
    info = np.iinfo(dtype)
    y = reference(text, opset, x=x, s=np.array(0.25, np.float32), z=np.array(3, dtype))
    assert y.dtype == dtype and y.tolist() == [info.max, info.min, 7, max(-1, info.min)]


@pytest.mark.parametrize("opset", [7, 14, 22])
@pytest.mark.parametrize("op_type, gates", [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_cells_are_run_where_nothing_is_ignored(op_type: str, gates: int, opset: int) -> None:
    def model(attributes: str = "", lengths: str = "") -> onnx.ModelProto:
        operands = f"float[2,1,3] x, float[1,{2 * gates},3] w, float[1,{2 * gates},2] r, int32[1] n"
        node = f"y = {op_type} <hidden_size = 2{attributes}> (x, w, r{lengths})"
        return parse(f"g ({operands}) => (float[2,1,1,2] y) {{ {node} }}", opset)

    rng = np.random.default_rng(0)
    shapes = {"x": (2, 1, 3), "w": (1, 2 * gates, 3), "r": (1, 2 * gates, 2)}
    values: dict[str, Array] = {n: rng.standard_normal(shape).astype("f4") for n, shape in shapes.items()}
    values["n"] = np.array([1], np.int32)
    (expected,) = OnnxRuntime(model()).run(values).values()
    (actual,) = Reference(model()).run(values).values()
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=1e-4, atol=1e-6)
    for ignoring in (model(", clip = 0.5"), model(lengths=', "", n')):
        with pytest.raises(UnsupportedError, match="ignores"):
            Reference(ignoring).run(values)


def test_a_depth_may_be_a_vector() -> None:
    text = "g (int64[2] x, int64[1] d, float[2] v) => (float[2,3] y) { y = OneHot (x, d, v) }"
    y = reference(text, x=np.array([1, -1]), d=np.array([3]), v=np.array([2, 5], np.float32))
    assert y.tolist() == [[2, 5, 2], [2, 2, 5]]


def test_the_first_operand_of_a_mean_broadcasts() -> None:
    text = "g (float[1] x, float[2] y) => (float[2] z) { z = Mean (x, y) }"
    assert reference(text, x=np.ones(1, np.float32), y=np.array([3, 4], np.float32)).tolist() == [2, 2.5]


def test_global_pooling_of_one_axis() -> None:
    text = "g (float[1,2,3] x) => (float[1,2,1] y) { y = GlobalMaxPool (x) }"
    y = reference(text, x=np.arange(6, dtype=np.float32).reshape(1, 2, 3))
    assert y.tolist() == [[[2], [5]]]


@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
def test_iterations_are_stacked(shape: tuple[int, ...]) -> None:
    dims = ", ".join(map(str, shape))
    kind = f"float[{dims}]" if shape else "float"
    text = f"""g (int64 n, bool c, {kind} x) => (float y) {{
        last, y = Loop (n, c, x) <body = b (int64 i, bool go, {kind} s) => (bool on, {kind} t, {kind} u)
        {{ on = Identity (go) t = Add (s, s) u = Identity (s) }}> }}"""
    x = np.ones(shape, np.float32)
    outputs = Reference(parse(text)).run({"n": np.array(3), "c": np.array(True), "x": x})
    np.testing.assert_array_equal(np.asarray(outputs["y"]), np.stack([x, 2 * x, 4 * x]))


POOLS = [
    "kernel_shape = [2]",
    "kernel_shape = [3], pads = [1, 2], strides = [2], ceil_mode = 1",
    'kernel_shape = [2], auto_pad = "SAME_LOWER", strides = [2]',
    "kernel_shape = [2, 3], pads = [1, 0, 0, 2], dilations = [2, 1]",
    'kernel_shape = [2, 3], strides = [2, 1], auto_pad = "SAME_UPPER"',
    'kernel_shape = [2, 3], strides = [2, 3], auto_pad = "VALID"',
    "kernel_shape = [2, 1], strides = [3, 2], ceil_mode = 1, pads = [0, 0, 1, 0], storage_order = 1",
    'kernel_shape = [2, 2, 2], auto_pad = "SAME_LOWER", storage_order = 1',
]


@pytest.mark.parametrize("dtype", ["float", "uint8"])
@pytest.mark.parametrize("attributes", POOLS)
def test_max_pool_is_that_of_onnxruntime(attributes: str, dtype: str) -> None:
    spatial = (6, 5, 4)[: attributes.split("]")[0].count(",") + 1]
    dims = ", ".join(map(str, (2, 3, *spatial)))
    text = f"g ({dtype}[{dims}] x) => ({dtype} y, int64 i) {{ y, i = MaxPool <{attributes}> (x) }}"
    x = np.random.default_rng(1).integers(0, 5, (2, 3, *spatial))
    values = {"x": x.astype("float32" if dtype == "float" else "uint8")}
    model = parse(text)
    for info in model.graph.output:
        info.type.tensor_type.ClearField("shape")
    actual, expected = Reference(model).run(values), OnnxRuntime(model).run(values)
    for name in expected:
        np.testing.assert_array_equal(np.asarray(actual[name]), np.asarray(expected[name]), strict=True)


def test_max_pool_of_nan_and_of_nothing() -> None:
    text = "g (float[1,1,4] x) => (float[1,1,3] y) { y = MaxPool <kernel_shape = [2]> (x) }"
    y = reference(text, x=np.array([[[1, 2, np.nan, -np.inf]]], np.float32))
    np.testing.assert_array_equal(y, np.array([[[2, np.nan, np.nan]]], np.float32))
    text = """g (float[1,1,1] x) => (float[1,1,1] y, int64[1,1,1] i)
        { y, i = MaxPool <kernel_shape = [2], dilations = [2], pads = [1, 1]> (x) }"""
    outputs = Reference(parse(text)).run({"x": np.zeros((1, 1, 1), np.float32)})
    assert np.asarray(outputs["y"]) == -np.inf and np.asarray(outputs["i"]) == -1
    text = "g (float[1,1,1] x) => (float[1,1,1] y) { y = MaxPool <kernel_shape = [3]> (x) }"
    with pytest.raises(UnsupportedError, match="larger than the padded input"):
        reference(text, x=np.zeros((1, 1, 1), np.float32))
