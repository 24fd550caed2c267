"""Transposition, joining, splitting, repetition and order against the reference and onnxruntime."""
import ml_dtypes
import numpy as np
import pytest

from dlc.errors import IndexFault, InputError, ModelError
from dlc.frontend.onnx.importer import import_model
from dlc.ir.dims import to_text
from dlc.ir.evaluate import evaluate
from tests.helpers.onnx_cases import check_node, one_node_model

X = np.arange(48, dtype=np.float32).reshape(2, 3, 8)
DTYPES = [np.float64, np.float32, np.float16, np.int64, np.int32, np.int16, np.int8, np.uint64, np.uint32,
          np.uint16, np.uint8, np.bool_]


def ints(*values):
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_every_element_type_moves(dtype):
    check_node("Transpose", [X.astype(dtype)], 1, {"perm": (2, 0, 1)}, 21)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.complex64], ids=lambda dtype: np.dtype(dtype).name)
def test_element_types_that_onnxruntime_cannot_take_from_numpy(dtype):
    check_node("Transpose", [X.astype(dtype)], 1, {"perm": (2, 0, 1)}, 21, onnxruntime=False)


def test_strings_move():
    words = np.array([["a", "bc"], ["", "d"]], dtype=object)
    check_node("Transpose", [words], 1, {}, 21)
    check_node("Concat", [words, words], 1, {"axis": 1}, 21)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("perm", [None, (0, 1, 2), (1, 2, 0)])
@pytest.mark.parametrize("opset", [7, 13, 25])
def test_transpose(perm, opset, symbolic):
    check_node("Transpose", [X], 1, {"perm": perm}, opset, symbolic=symbolic)


def test_transpose_of_a_scalar():
    check_node("Transpose", [np.float32(2)], 1, {}, 21)


@pytest.mark.parametrize("frozen", [(), (1,)], ids=["run-time", "constant"])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (1, 4), (1,), (5, 3, 4), (2, 1, 1)])
def test_expand(shape, frozen):
    for x in (np.arange(3, dtype=np.int32).reshape(3, 1), np.arange(12, dtype=np.int32).reshape(3, 4)):
        check_node("Expand", [x, ints(*shape)], 1, {}, 13, constants=frozen)


def test_expand_of_symbolic_extents():
    x = np.arange(3, dtype=np.int32).reshape(3, 1)
    check_node("Expand", [x, ints(2, 1, 4)], 1, {}, 13, constants=(1,), symbolic=True)
    check_node("Expand", [x, ints(2, 3, 4)], 1, {}, 13, constants=(1,), symbolic=True)


def test_expand_that_does_not_fit():
    with pytest.raises(ModelError, match="broadcast"):
        import_model(one_node_model("Expand", [X, ints(2, 5, 8)], constants=(1,)))
    graph = import_model(one_node_model("Expand", [X, ints(2, 5, 8)], constants=(1,), symbolic=True)).graph
    with pytest.raises(InputError, match="broadcast"):
        evaluate(graph, {"x0": X})


@pytest.mark.parametrize("frozen", [(), (1,)], ids=["run-time", "constant"])
@pytest.mark.parametrize("repeats", [(1, 1, 1), (2, 1, 3), (1, 0, 2)])
@pytest.mark.parametrize("opset", [7, 13])
def test_tile(repeats, opset, frozen):
    check_node("Tile", [X, ints(*repeats)], 1, {}, opset, constants=frozen, symbolic=bool(frozen))


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("opset", [7, 11, 13])
def test_concat(axis, opset, symbolic):
    if axis < 0:
        opset = max(opset, 11)
    parts = [np.full([4 if side == axis % 3 else 2 for side in range(3)], i, np.float32) for i in range(3)]
    check_node("Concat", parts, 1, {"axis": axis}, opset, symbolic=symbolic)


def test_concat_of_unlike_operands():
    with pytest.raises(ModelError, match="axis 1 must be equal: 3 and 2"):
        import_model(one_node_model("Concat", [X, X[:, :2]], 1, {"axis": 0}))
    graph = import_model(one_node_model("Concat", [X, X], 1, {"axis": 0}, symbolic=True)).graph
    with pytest.raises(InputError):
        evaluate(graph, {"x0": X, "x1": X[:, :2]})


@pytest.mark.parametrize("opset", [7, 11, 13, 18, 21])
@pytest.mark.parametrize("axis, split", [(0, (1, 1)), (2, (3, 5)), (2, (0, 8)), (2, (2, 4, 2)), (1, (3,))])
def test_split_by_extents(axis, split, opset):
    if opset < 13:
        check_node("Split", [X], len(split), {"axis": axis, "split": split}, opset)
    else:
        inputs = [X, ints(*split)]
        check_node("Split", inputs, len(split), {"axis": axis}, opset, constants=(1,), symbolic=True)
        check_node("Split", inputs, len(split), {"axis": axis}, opset)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("opset", [7, 13])
def test_split_in_equal_parts(opset, symbolic):
    check_node("Split", [X], 4, {"axis": 2}, opset, symbolic=symbolic)
    check_node("Split", [X], 2, {}, opset, symbolic=symbolic)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_split_in_uneven_parts(count, symbolic):
    x = np.arange(9, dtype=np.float32)
    check_node("Split", [x], count, {"num_outputs": count}, 18, symbolic=symbolic)


def test_a_part_too_many_is_empty():
    model = one_node_model("Split", [np.arange(5, dtype=np.float32)], 4, {"num_outputs": 4}, 18)
    graph = import_model(model).graph
    assert [to_text(value.tensor.shape[0]) for value in graph.outputs] == ["2", "2", "1", "0"]


@pytest.mark.parametrize("inputs, count, attributes, opset, words", [
    ([X, ints(3, 4)], 2, {"axis": 2}, 13, "sum of the parts"),
    ([X], 3, {"axis": 2}, 13, "multiple of 3 parts"),
    ([X, ints(4, 4)], 3, {"axis": 2}, 13, "for 3 outputs"),
    ([X], 2, {"num_outputs": 3}, 18, "num_outputs is 3"),
    ([X, ints(4, 4)], 2, {"axis": 2, "num_outputs": 2}, 18, "exclude each other"),
    ([X], 2, {"num_outputs": 2}, 13, "came with opset 18"),
])
def test_impossible_splits(inputs, count, attributes, opset, words):
    with pytest.raises(ModelError, match=words):
        import_model(one_node_model("Split", inputs, count, attributes, opset, constants=(1,)))


@pytest.mark.parametrize("upper", [0, 1, None])
@pytest.mark.parametrize("k", [None, 0, 1, -2, 9, -9])
def test_trilu(k, upper):
    inputs = [X.astype(np.int64), None if k is None else np.array(k, dtype=np.int64)]
    check_node("Trilu", inputs, 1, {"upper": upper}, 14)
    check_node("Trilu", inputs, 1, {"upper": upper}, 14, constants=(1,), symbolic=True)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("batch, time, lengths", [(1, 0, (1, 2, 0)), (0, 1, (3, 2)), (None, None, (2, 1, 2))])
def test_reverse_sequence(batch, time, lengths, symbolic):
    attributes = {"batch_axis": batch, "time_axis": time}
    check_node("ReverseSequence", [X, ints(*lengths)], 1, attributes, 10, symbolic=symbolic)


def test_a_sequence_longer_than_its_axis():
    graph = import_model(one_node_model("ReverseSequence", [X, ints(1, 1, 3)], opset=10)).graph
    with pytest.raises(IndexFault, match="length 3"):
        evaluate(graph, {"x0": X, "x1": ints(1, 1, 3)})
