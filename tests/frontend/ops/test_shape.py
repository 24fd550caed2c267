"""Reshape, Squeeze, Shape and their kin, and the pixel blocks, against the reference and onnxruntime."""
import numpy as np
import pytest

from dlc.errors import ModelError, UnsupportedError
from dlc.frontend.onnx.importer import import_model
from dlc.ir.dims import to_text
from tests.helpers.onnx_cases import check_node, one_node_model

X = np.arange(48, dtype=np.float32).reshape(2, 3, 8)


def ints(*values):
    return np.array(values, dtype=np.int64)


SHAPES = [(6, 8), (-1,), (0, 0, -1, 2), (2, -1), (48, 1, 1), (0, -1)]
RESHAPES = [*((shape, {}, opset) for shape in SHAPES for opset in (7, 13, 14, 21, 25)),
            *((shape, {"allowzero": 1}, opset) for shape in [(3, 2, 8), (3, -1)] for opset in (14, 21, 25))]


@pytest.mark.parametrize("shape, attributes, opset", RESHAPES)
def test_reshape(shape, attributes, opset):
    inputs = [X, ints(*shape)]
    check_node("Reshape", inputs, 1, attributes, opset)
    check_node("Reshape", inputs, 1, attributes, opset, constants=(1,))
    check_node("Reshape", inputs, 1, attributes, opset, constants=(1,), symbolic=True)


@pytest.mark.parametrize("shape, allowzero, result", [
    ((0, 3), 1, (0, 3)), ((0, 0), 0, (0, 4)), ((2, 0), 1, (2, 0)), ((4, 0, 0), 1, (4, 0, 0)),
])
def test_reshape_without_elements(shape, allowzero, result):
    empty = np.zeros((0, 4), dtype=np.float32)
    (y,) = check_node("Reshape", [empty, ints(*shape)], 1, {"allowzero": allowzero}, 21, constants=(1,))
    assert y.shape == result


@pytest.mark.parametrize("shape, result", [
    ((0, 0, 12, 64), ["n", "t", "12", "64"]), ((0, -1, 64), ["n", "12*t", "64"]), ((-1, 768), ["n*t", "768"]),
    ((-1, 0, 768), ["n", "t", "768"]), ((0, -1), ["n", "768*t"]),
])
def test_the_hole_of_a_reshape_is_solved_exactly(shape, result):
    model = one_node_model("Reshape", [np.zeros((1, 1, 768), np.float32), ints(*shape)], constants=(1,))
    for axis, name in enumerate(("n", "t")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    graph = import_model(model).graph
    assert [to_text(dim) for dim in graph.outputs[0].tensor.shape] == result
    assert not graph.guards


@pytest.mark.parametrize("shape, attributes, words", [
    ((5, 5), {}, "number of elements differs"), ((-1, -1), {}, "more than one -1"),
    ((-2, 24), {}, "negative"), ((7, -1), {}, "no multiple"), ((0, 0, 0, 0), {}, "no axis 3"),
    ((0, -1), {"allowzero": 1}, "allowzero"),
])
def test_impossible_reshapes_name_the_reason(shape, attributes, words):
    with pytest.raises(ModelError, match=words) as error:
        import_model(one_node_model("Reshape", [X, ints(*shape)], 1, attributes, 21, constants=(1,)))
    assert error.value.node == "the_Reshape"


def test_attributes_of_later_opsets_are_refused():
    with pytest.raises(ModelError, match="'allowzero' came with opset 14"):
        import_model(one_node_model("Reshape", [X, ints(48)], 1, {"allowzero": 0}, 13, constants=(1,)))


@pytest.mark.parametrize("axis, opset", [(0, 9), (1, 9), (3, 9), (0, 21), (2, 21), (-1, 11), (-3, 21)])
def test_flatten(axis, opset):
    check_node("Flatten", [X], 1, {"axis": axis}, opset)
    check_node("Flatten", [X], 1, {"axis": axis}, opset, symbolic=True)


def test_flatten_of_a_scalar():
    (y,) = check_node("Flatten", [np.float32(3)], 1, {"axis": 0}, 21)
    assert y.shape == (1, 1)


@pytest.mark.parametrize("axes, opset", [
    *((axes, opset) for axes in [(0,), (2,), (0, 2), None] for opset in (7, 11, 13, 21)),
    ((-2,), 11), ((-2, 0), 13), ((-2,), 21),
])
def test_squeeze(axes, opset):
    x = X.reshape(1, 6, 1, 8)
    if opset < 13:
        check_node("Squeeze", [x], 1, {"axes": axes}, opset)
    else:
        check_node("Squeeze", [x, None if axes is None else ints(*axes)], 1, {}, opset, constants=(1,))


def test_squeeze_of_symbolic_extents():
    x = X.reshape(1, 6, 1, 8)
    check_node("Squeeze", [x, ints(0, 2)], 1, {}, 21, constants=(1,), symbolic=True)


@pytest.mark.parametrize("axes, opset", [
    *((axes, opset) for axes in [(0,), (3,), (0, 4), (4, 1, 2)] for opset in (7, 11, 13, 21)),
    ((-1,), 11), ((-1, 0), 13), ((-1,), 21),
])
def test_unsqueeze(axes, opset):
    if opset < 13:
        # The reference inserts the axes of the old versions one by one, which fails for unsorted ones.
        check_node("Unsqueeze", [X], 1, {"axes": axes}, opset, reference=list(axes) == sorted(axes))
    else:
        check_node("Unsqueeze", [X, ints(*axes)], 1, {}, opset, constants=(1,))


@pytest.mark.parametrize("op_type, axes, words", [
    ("Squeeze", (1,), "cannot be squeezed"), ("Squeeze", (4,), "outside"), ("Squeeze", (0, -4), "twice"),
    ("Unsqueeze", (0, 0), "twice"), ("Unsqueeze", (5,), "outside"),
])
def test_impossible_axes(op_type, axes, words):
    with pytest.raises(ModelError, match=words):
        import_model(one_node_model(op_type, [X.reshape(1, 6, 1, 8), ints(*axes)], constants=(1,)))


def test_axes_computed_at_run_time_are_unsupported():
    with pytest.raises(UnsupportedError) as error:
        import_model(one_node_model("Squeeze", [X.reshape(1, 6, 1, 8), ints(0)]))
    (finding,) = error.value.findings
    assert finding.operator == "Squeeze" and "run time" in finding.reason


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("attributes, opset", [
    ({}, 7), ({}, 21), ({"start": 1}, 15), ({"end": -1}, 21), ({"start": -2, "end": 9}, 21),
    ({"start": 2, "end": 1}, 15),
])
def test_shape(attributes, opset, symbolic):
    check_node("Shape", [X], 1, attributes, opset, symbolic=symbolic)


@pytest.mark.parametrize("x", [X, np.float32(1), np.zeros((3, 0), np.int8)], ids=["3-d", "scalar", "empty"])
def test_size(x):
    check_node("Size", [x], opset=13)
    check_node("Size", [x], opset=13, symbolic=True)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("mode, opset", [(None, 7), (None, 13), ("DCR", 11), ("CRD", 11), ("CRD", 13)])
def test_depth_to_space(mode, opset, symbolic):
    x = np.arange(2 * 8 * 2 * 3, dtype=np.float32).reshape(2, 8, 2, 3)
    check_node("DepthToSpace", [x], 1, {"blocksize": 2, "mode": mode}, opset, symbolic=symbolic)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("mode, opset", [(None, 7), (None, 13), ("DCR", 28), ("CRD", 28)])
def test_space_to_depth(mode, opset, symbolic):
    x = np.arange(2 * 3 * 4 * 6, dtype=np.float32).reshape(2, 3, 4, 6)
    check_node("SpaceToDepth", [x], 1, {"blocksize": 2, "mode": mode}, opset, symbolic=symbolic)


def test_blocks_that_do_not_divide_the_image():
    model = one_node_model("SpaceToDepth", [np.zeros((1, 1, 4, 6), np.float32)], 1, {"blocksize": 4}, 13)
    with pytest.raises(ModelError, match="multiple of blocksize 4"):
        import_model(model)
