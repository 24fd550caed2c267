"""Gather, Scatter and OneHot against the reference, onnxruntime and NumPy."""
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from dlc.errors import IndexFault, ModelError, ShapeError, UnsupportedError
from dlc.frontend.onnx.importer import import_model
from dlc.ir.dims import to_text
from dlc.ir.evaluate import evaluate
from tests.helpers.onnx_cases import check_node, feeds_of, one_node_model, run_evaluator, run_reference

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def ints(*values, dtype=np.int64):
    return np.array(values, dtype=dtype)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("indices, axis", [
    (0, 0), ([1, 0, 1], 0), ([[2, -1], [0, -3]], 1), ([-1], 2), ([], 1), (-4, -1), ([[1]], -3),
])
@pytest.mark.parametrize("opset", [7, 11, 13])
def test_gather(indices, axis, opset, dtype, symbolic):
    check_node("Gather", [X, np.array(indices, dtype=dtype)], 1, {"axis": axis}, opset, symbolic=symbolic)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_gather_is_that_of_numpy(data):
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    extent = shape[axis]
    indices = data.draw(st.lists(st.integers(-extent, extent - 1), max_size=5))
    x = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    inputs = [x, ints(*indices)]
    results = []
    for symbolic in (False, True):
        model = one_node_model("Gather", inputs, 1, {"axis": axis}, 13, symbolic=symbolic)
        results.append(run_evaluator(model, feeds_of(model, inputs))[0])
        np.testing.assert_array_equal(results[-1], np.take(x, np.array(indices, dtype=np.int64), axis=axis))


@pytest.mark.parametrize("op_type, inputs, attributes", [
    ("Gather", [X, ints(3)], {"axis": 1}), ("Gather", [X, ints(-4)], {"axis": 1}),
    ("GatherElements", [X, np.full((2, 3, 4), 4)], {"axis": 2}), ("GatherND", [X, ints([0, 3])], {}),
    ("ScatterElements", [X, np.full((1, 1, 1), -3), X[:1, :1, :1]], {}),
    ("ScatterND", [X, ints([2]), X[:1]], {}),
])
def test_an_index_out_of_range_is_an_error_of_the_run(op_type, inputs, attributes):
    model = one_node_model(op_type, inputs, 1, attributes, 18)
    graph = import_model(model).graph
    with pytest.raises(IndexFault, match="outside"):
        evaluate(graph, feeds_of(model, inputs))


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("shape, axis, reference", [
    ((2, 3, 4), 0, True), ((2, 5, 4), 1, True), ((2, 3, 0), -1, True),
    # The reference wants the other extents of x, the standard no more than them.
    ((1, 2, 3), 2, False), ((1, 3, 2), -2, False),
])
@pytest.mark.parametrize("opset", [11, 13])
def test_gather_elements(shape, axis, reference, opset, symbolic):
    extent = X.shape[axis]
    indices = np.random.default_rng(0).integers(-extent, extent, shape)
    check_node("GatherElements", [X, indices], 1, {"axis": axis}, opset, symbolic=symbolic,
               reference=reference)


@pytest.mark.parametrize("indices, batch_dims", [
    ([[0, 1], [1, -1]], 0), ([[0], [1]], 0), ([0, 2, -1], 0), (np.zeros((0, 2)), 0),
    ([[[1, 0]], [[2, 3]]], 1),
    ([[[1], [0]], [[2], [-3]]], 1), ([[[[0]], [[1]], [[2]]]] * 2, 2),
])
def test_gather_nd(indices, batch_dims):
    inputs = [X, np.array(indices, dtype=np.int64)]
    check_node("GatherND", inputs, 1, {"batch_dims": batch_dims}, 13)
    if not batch_dims:
        check_node("GatherND", inputs, 1, {}, 11)


@pytest.mark.parametrize("indices, batch_dims", [
    ([[0, 1], [1, -1]], 0), ([[0], [1]], 0), ([[[1], [0]]] * 2, 1),
])
def test_gather_nd_of_symbolic_indices(indices, batch_dims):
    """The declared rank of the result tells how many entries an index has."""
    inputs = [X, np.array(indices, dtype=np.int64)]
    model = one_node_model("GatherND", inputs, 1, {"batch_dims": batch_dims}, 13, symbolic=True)
    with pytest.raises(UnsupportedError, match="is open"):
        import_model(model)
    rank = X.ndim + inputs[1].ndim - 1 - batch_dims - inputs[1].shape[-1]
    for axis in range(rank):
        model.graph.output[0].type.tensor_type.shape.dim.add().dim_param = f"y{axis}"
    (y,) = run_evaluator(model, feeds_of(model, inputs))
    np.testing.assert_array_equal(y, run_reference(model, feeds_of(model, inputs))[0])
    with pytest.raises(ShapeError, match="is needed"):
        run_evaluator(model, feeds_of(model, [X, np.zeros((*inputs[1].shape[:-1], 3), np.int64)]))


def test_batch_dims_before_opset_12():
    with pytest.raises(ModelError, match="came with opset 12"):
        import_model(one_node_model("GatherND", [X, ints([1, 1], [2, 2])], 1, {"batch_dims": 1}, 11))


SCATTERS = [((2, 3, 4), 0), ((1, 2, 4), 1), ((2, 3, 1), -1), ((2, 0, 4), 1)]


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("shape, axis", SCATTERS)
@pytest.mark.parametrize("op_type, opset", [
    ("Scatter", 9), ("Scatter", 10), ("ScatterElements", 11), ("ScatterElements", 18),
])
def test_scatter_elements(op_type, opset, shape, axis, symbolic):
    indices = np.zeros(shape, dtype=np.int64)
    indices += np.arange(shape[axis]).reshape([-1 if side == axis % 3 else 1 for side in range(3)])
    updates = -1 - np.arange(indices.size, dtype=np.float32).reshape(shape)
    # The reference has no Scatter.
    check_node(op_type, [X, indices, updates], 1, {"axis": axis}, opset, symbolic=symbolic,
               reference=op_type != "Scatter")


@pytest.mark.parametrize("reduction, opset", [
    ("add", 16), ("mul", 16), ("add", 18), ("mul", 18), ("min", 18), ("max", 18),
])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
def test_scatter_with_reductions_of_duplicates(reduction, opset, dtype):
    rng = np.random.default_rng(1)
    indices = rng.integers(-3, 3, (2, 5, 4))
    updates, x = rng.integers(-3, 4, (2, 5, 4)).astype(dtype), X.astype(dtype)
    check_node("ScatterElements", [x, indices, updates], 1, {"axis": 1, "reduction": reduction}, opset)
    tuples = rng.integers(-2, 2, (6, 2))
    check_node("ScatterND", [x, tuples, updates.reshape(-1, 4)[:6]], 1, {"reduction": reduction}, opset)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_narrow_floats_are_summed_in_float32(dtype):
    x = np.array([2048], dtype=dtype)
    inputs = [x, np.zeros(64, dtype=np.int64), np.ones(64, dtype=dtype)]
    model = one_node_model("ScatterElements", inputs, 1, {"reduction": "add"}, 18)
    (y,) = run_evaluator(model, feeds_of(model, inputs))
    assert y.dtype == x.dtype and float(y[0]) == float(dtype(2048 + 64))


def test_the_last_of_duplicate_writes_stays():
    check_node("ScatterElements", [X[0, 0], ints(1, 1, 1), np.float32([7, 8, 9])], 1, {}, 18)
    check_node("ScatterND", [X, ints([0], [0]), X[::-1]], 1, {}, 18)


def test_nan_wins_in_scattered_minima_and_maxima():
    for reduction in ("min", "max"):
        inputs = [np.float32([1, np.nan]), ints(0, 1), np.float32([np.nan, 2])]
        model = one_node_model("ScatterElements", inputs, 1, {"reduction": reduction}, 18)
        assert np.isnan(run_evaluator(model, feeds_of(model, inputs))[0]).all()


@pytest.mark.parametrize("indices, shape", [
    ([[0, 1, 2], [1, -1, 0]], (2,)), ([[1], [0]], (2, 3, 4)), ([1, 2], (4,)),
    ([[[0, 0]], [[1, 1]]], (2, 1, 4)),
    (np.zeros((0, 1)), (0, 3, 4)), (np.zeros((1, 0)), (1, 2, 3, 4)),
])
@pytest.mark.parametrize("opset", [11, 13, 16, 18])
def test_scatter_nd(indices, shape, opset):
    indices = np.array(indices, dtype=np.int64)
    updates = -1 - np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    # onnxruntime refuses empty index tuples.
    check_node("ScatterND", [X, indices, updates], 1, {}, opset, onnxruntime=bool(indices.shape[-1]))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_scatter_nd_of_symbolic_indices(depth):
    """The ranks tell how many entries an index has."""
    updates = -np.ones((2, 3, 4)[depth:], dtype=np.float32)[None]
    inputs = [X, ints([0, 1, 2][:depth]), updates]
    check_node("ScatterND", inputs, 1, {}, 13, symbolic=True)
    model = one_node_model("ScatterND", inputs, 1, {}, 13, symbolic=True)
    with pytest.raises(ShapeError, match="is needed"):
        run_evaluator(model, feeds_of(model, [X, ints([0] * (depth + 1)), updates]))


@pytest.mark.parametrize("op_type, attributes, opset, words", [
    ("ScatterElements", {"reduction": "add"}, 13, "opset 13"),
    ("ScatterElements", {"reduction": "max"}, 16, "opset 16"),
    ("ScatterElements", {"reduction": "mean"}, 18, "mean"), ("Scatter", {}, 11, "removed"),
    ("ScatterElements", {"axis": 3}, 18, "outside"),
])
def test_impossible_scatters(op_type, attributes, opset, words):
    with pytest.raises(ModelError, match=words):
        import_model(one_node_model(op_type, [X, np.zeros((2, 3, 4), np.int64), X], 1, attributes, opset))


@pytest.mark.parametrize("mode", ["linear", "circular"])
@pytest.mark.parametrize("start", [None, (0, 2, 1)])
@pytest.mark.parametrize("symbolic", [False, True])
def test_tensor_scatter(mode, start, symbolic):
    cache = np.zeros((3, 2, 5, 4), dtype=np.float32)
    updates = 1 + np.arange(72, dtype=np.float32).reshape(3, 2, 3, 4)
    inputs = [cache, updates, None if start is None else ints(*start)]
    check_node("TensorScatter", inputs, 1, {"mode": mode}, 24, symbolic=symbolic)


def test_tensor_scatter_wraps_around():
    cache, updates = np.zeros((1, 4), np.float32), np.float32([[1, 2, 3]])
    (y,) = check_node("TensorScatter", [cache, updates, ints(2)], 1, {"axis": 1, "mode": "circular"}, 24)
    assert y.tolist() == [[3, 0, 1, 2]]


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("axis", [-1, 0, 1, None, -2])
@pytest.mark.parametrize("opset", [9, 11, 28])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.float32])
def test_one_hot(axis, opset, dtype, symbolic):
    inputs = [np.array([[0, 2], [3, 1]], dtype=dtype), np.array(4), np.float32([-1, 5])]
    if axis == -2 and opset < 11:
        axis = -1
    check_node("OneHot", inputs, 1, {"axis": axis}, opset, constants=(1,), symbolic=symbolic)
    check_node("OneHot", inputs, 1, {"axis": axis}, opset)


def test_one_hot_out_of_range():
    inputs = [ints(-1, -4, -5, 4, 1), ints(4), ints(0, 1)]
    # The reference fails on a depth of rank 1, and wraps all indices.
    (y,) = check_node("OneHot", inputs, 1, {}, 11, constants=(1,), reference=False)
    assert y.sum(axis=1).tolist() == [1, 1, 0, 0, 1]
    model = one_node_model("OneHot", inputs, 1, {}, 9)
    # Opset 9: a negative index is out of range. onnxruntime wraps it there too.
    assert run_evaluator(model, feeds_of(model, inputs))[0].sum(axis=1).tolist() == [0, 0, 0, 0, 1]


def test_contents_of_shapes_pass_through_a_gather():
    from onnx import helper, numpy_helper

    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Gather", ["s", "i"], ["g"]),
             helper.make_node("Concat", ["g", "rest"], ["t"], axis=0),
             helper.make_node("Reshape", ["x", "t"], ["y"])]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, ["n", 3, "m"])],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(ints(2, 0), "i"), numpy_helper.from_array(ints(-1), "rest")])
    imported = import_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])).graph
    assert [to_text(dim) for dim in imported.outputs[0].tensor.shape] == ["m", "n", "3"]
    assert [node.op.name for node in imported.nodes] == ["Reshape"]


def test_strings_are_not_combined():
    inputs = [np.array(["a", "b"], dtype=object), np.array([0]), np.array(["c"], dtype=object)]
    with pytest.raises(ModelError, match="does not combine strings"):
        import_model(one_node_model("ScatterElements", inputs, 1, {"reduction": "add"}, 18))
    columns = np.full((1, 5, 5), "a", dtype=object)
    inputs = [columns, np.array([5, 5]), np.array([1, 5])]
    with pytest.raises(ModelError, match="strings"):
        import_model(one_node_model("Col2Im", inputs, 1, {}, 18, constants=(1, 2)))
