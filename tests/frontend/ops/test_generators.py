"""Constants, ranges and identities against the reference and onnxruntime."""
import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from dlc.errors import ModelError, UnsupportedError
from dlc.frontend.onnx.importer import import_model
from dlc.ir.dims import to_text
from tests.helpers.onnx_cases import check_node, feeds_of, one_node_model, run_evaluator

CONSTANTS = [
    ("value", numpy_helper.from_array(np.arange(6, dtype=np.float16).reshape(2, 3)), 7),
    ("value", numpy_helper.from_array(np.array(["a", "b"], dtype=object)), 9),
    ("value_int", 7, 12), ("value_ints", [1, 2, 3], 13), ("value_float", 1.5, 12),
    ("value_floats", [0.5, -1.0], 13),
    ("value_string", "word", 12), ("value_strings", ["a", "bc"], 21),
]


@pytest.mark.parametrize("key, value, opset", CONSTANTS)
def test_constant(key, value, opset):
    check_node("Constant", [], 1, {key: value}, opset)


def test_a_sparse_constant_becomes_dense():
    values = numpy_helper.from_array(np.float32([3, 4]), "v")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([1, 5]), "i"), [2, 3])
    (y,) = run_evaluator(one_node_model("Constant", [], 1, {"sparse_value": sparse}, 11), {})
    assert y.tolist() == [[0, 3, 0], [0, 0, 4]]


def test_constant_needs_one_value():
    for attributes in ({}, {"value_int": 1, "value_float": 2.0}):
        with pytest.raises(ModelError, match="exactly one"):
            import_model(one_node_model("Constant", [], 1, attributes, 13))


@pytest.mark.parametrize("frozen", [(), (0,)], ids=["run-time", "constant"])
@pytest.mark.parametrize("value", [None, np.int64([7]), np.array([True]), np.float16([1.5])])
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 2)])
@pytest.mark.parametrize("opset", [9, 21])
def test_constant_of_shape(shape, value, opset, frozen):
    attribute = None if value is None else numpy_helper.from_array(value)
    inputs = [np.array(shape, dtype=np.int64)]
    check_node("ConstantOfShape", inputs, 1, {"value": attribute}, opset, constants=frozen)


@pytest.mark.parametrize("frozen", [(), (0, 1, 2), (2,)], ids=["run-time", "constant", "constant-delta"])
@pytest.mark.parametrize("start, limit, delta", [
    (0, 5, 1), (3, 10, 3), (10, 0, -4), (5, 5, 1), (5, 2, 1), (-3, 4, 2), (2, -9, -1),
])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int16, np.float32, np.float64])
def test_range(start, limit, delta, dtype, frozen):
    inputs = [np.array(value, dtype=dtype) for value in (start, limit, delta)]
    check_node("Range", inputs, 1, {}, 11, constants=frozen)


@pytest.mark.parametrize("start, limit, delta", [(0.5, 3.0, 0.25), (1.0, 2.0, 0.1), (0.0, -1.0, -0.3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_range_of_fractions(start, limit, delta, dtype):
    inputs = [np.array(value, dtype=dtype) for value in (start, limit, delta)]
    check_node("Range", inputs, 1, {}, 11, constants=(0, 1, 2))
    check_node("Range", inputs, 1, {}, 11)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_range_of_narrow_floats(dtype):
    inputs = [np.array(value, dtype=dtype) for value in (0, 4096, 512)]
    check_node("Range", inputs, 1, {}, 27)


def test_range_of_an_extent_is_symbolic():
    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Squeeze", ["s"], ["n"]),
             helper.make_node("Range", ["zero", "n", "two"], ["y"])]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, ["n"])],
        [helper.make_tensor_value_info("y", 7, None)],
        [numpy_helper.from_array(np.array(value), name) for name, value in (("zero", 0), ("two", 2))])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    (y,) = import_model(model).graph.outputs
    assert to_text(y.tensor.shape[0]) == "floordiv(n + 1, 2)"
    assert run_evaluator(model, {"x": np.zeros(5, np.float32)})[0].tolist() == [0, 2, 4]


@pytest.mark.parametrize("dtype, words", [(np.int64, "delta is 0"), (np.float32, "finite")])
def test_endless_ranges(dtype, words):
    inputs = [np.array(value, dtype=dtype) for value in (0, 5, 0)]
    with pytest.raises(ModelError, match=words):
        import_model(one_node_model("Range", inputs, opset=11, constants=(0, 1, 2)))


def test_a_range_computed_in_another_type():
    inputs = [np.array(value, dtype=np.float16) for value in (0, 5, 1)]
    with pytest.raises(UnsupportedError, match="stash_type"):
        import_model(one_node_model("Range", inputs, 1, {"stash_type": 10}, 27))


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("k", [None, 0, 2, -1, 7])
@pytest.mark.parametrize("dtype", [None, TensorProto.DOUBLE, TensorProto.BOOL, TensorProto.INT32])
@pytest.mark.parametrize("opset", [9, 22])
def test_eye_like(k, dtype, opset, symbolic):
    x = np.ones((3, 5), dtype=np.int64)
    check_node("EyeLike", [x], 1, {"k": k, "dtype": dtype}, opset, symbolic=symbolic)


def test_eye_like_of_bfloat16():
    x = np.zeros((2, 2), dtype=np.float32)
    inputs = [x]
    model = one_node_model("EyeLike", inputs, 1, {"dtype": TensorProto.BFLOAT16}, 22)
    (y,) = run_evaluator(model, feeds_of(model, inputs))
    assert y.dtype == ml_dtypes.bfloat16 and (y.astype(np.float32) == np.eye(2)).all()
