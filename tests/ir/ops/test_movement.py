"""Movement operators: inference with symbolic extents, rejections, and evaluation against NumPy."""
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from dlc.errors import IndexFault, ShapeError
from dlc.ir.dims import Symbol, evaluate, to_text
from dlc.ir.dtypes import DType
from dlc.ir.operator import InferenceError
from dlc.ir.ops.movement import (
    Concat,
    DimTensor,
    Expand,
    Pad,
    Range,
    Reshape,
    ReverseSequence,
    Slice,
    Tile,
    Transpose,
    Trilu,
)
from dlc.ir.types import TensorType
from tests.helpers.operators import run_one

N, M = Symbol("n"), Symbol("m")
X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def shape_of(op, *types):
    (type_,) = op.infer(types)
    return [to_text(dim) for dim in type_.shape]


def f32(*shape):
    return TensorType(DType.F32, shape)


def bind(**values):
    return lambda dim: evaluate(dim, values)


@pytest.mark.parametrize("op, expected", [
    (Transpose((2, 0, 1)), X.transpose(2, 0, 1)), (Tile((1, 0, 2)), np.tile(X, (1, 0, 2))),
    (Reshape((4, 6)), X.reshape(4, 6)), (Expand((5, 2, 3, 4)), np.broadcast_to(X, (5, 2, 3, 4))),
    (Slice((1, 2, 3), (1, 2, 3), (1, -2, -1)), X[1:, 2::-2, 3:0:-1]),
    (Trilu(True, -1), np.triu(X, -1)), (Trilu(False, 2), np.tril(X, 2)),
    (Pad((0, 1, 2), (1, 0, 3), "edge"), np.pad(X, [(0, 1), (1, 0), (2, 3)], "edge")),
])
def test_evaluation_is_that_of_numpy(op, expected):
    np.testing.assert_array_equal(op.evaluate([X], bind())[0], expected)


def test_results_share_no_memory_with_operands():
    everything = Slice((0, 0, 0), (2, 3, 4), (1, 1, 1))
    for op in (Transpose((0, 1, 2)), Expand((2, 3, 4)), everything, Trilu(True, 0)):
        assert not np.shares_memory(op.evaluate([X], bind())[0], X)


def test_inference_with_symbolic_extents():
    assert shape_of(Reshape((N * 12, 64)), f32(N, 12, 64)) == ["12*n", "64"]
    assert shape_of(Transpose((1, 0)), f32(N, 4)) == ["4", "n"]
    assert shape_of(Concat(0), f32(N, 4), f32(M, 4)) == ["m + n", "4"]
    assert shape_of(Concat(1), f32(N, 4), f32(7, 4)) == ["7", "8"]
    assert shape_of(Tile((2, M)), f32(N, 4)) == ["2*n", "4*m"]
    assert shape_of(Pad((N, 0), (1, 0), "constant"), f32(3, M)) == ["n + 4", "m"]
    assert shape_of(Slice((N, 0), (M, 2), (1, 1)), f32(9, 4)) == ["m", "2"]
    assert shape_of(DimTensor((N, M * 2), (2, 1))) == ["2", "1"]


def test_symbolic_attributes_are_evaluated():
    dim = bind(n=2, m=3)
    assert Reshape((N * M, 4)).evaluate([X], dim)[0].shape == (6, 4)
    assert DimTensor((N, M * N), (2,)).evaluate([], dim)[0].tolist() == [2, 6]
    assert Range(M).evaluate([np.int64(5), np.int64(-2)], dim)[0].tolist() == [5, 3, 1]
    assert Slice((0, 0, N), (2, 3, 1), (1, 1, 1)).evaluate([X], dim)[0].shape == (2, 3, 1)


@pytest.mark.parametrize("op, types, words", [
    (Reshape((5, 5)), [f32(2, 3)], "25 elements"), (Reshape((-1, 6)), [f32(2, 3)], "negative"),
    (Transpose((0, 0)), [f32(2, 3)], "permutation"), (Expand((2, 4)), [f32(2, 3)], "does not broadcast"),
    (Expand((3,)), [f32(2, 3)], "rank 2"), (Concat(0), [], "nothing"), (Concat(2), [f32(2, 3)], "outside"),
    (Concat(0), [f32(2, 3), f32(2, 4)], "axis 1 of operands 0 and 1: 3 and 4 differ"),
    (Concat(0), [f32(2), f32(2, 4)], "operand 1"),
    (Tile((2,)), [f32(2, 3)], "1 repeats"), (Slice((0,), (1,), (0,)), [f32(2)], "zero"),
    (Slice((1,), (3,), (1,)), [f32(3)], "do not exist"), (Slice((0,), (1,), (1,)), [f32(2, 3)], "2 entries"),
    (Pad((0,), (1,), "mirror"), [f32(2)], "mirror"), (Pad((0,), (-1,), "edge"), [f32(2)], "negative"),
    (Pad((1,), (0,), "edge"), [f32(0)], "without elements"),
    (Pad((1,), (0,), "constant"), [f32(2), f32(1)], "a scalar"), (Range(-1), [f32(), f32()], "negative"),
    (Range(3), [f32(), TensorType(DType.F64, ())], "one type"), (DimTensor((1, 2), (3,)), [], "do not fill"),
    (Trilu(True, 0), [f32(3)], "at least 2 axes"), (Transpose((0,)), [None], "absent"),
    (ReverseSequence(0, 2), [f32(2, 3, 4), TensorType(DType.I64, (2,))], "must be 0 and 1"),
    (ReverseSequence(0, 1), [f32(2, 3), TensorType(DType.I64, (3,))], r"must have the shape \[2\]"),
    (ReverseSequence(0, 1), [f32(2, 3), f32(2)], "integers"),
])
def test_rejections(op, types, words):
    with pytest.raises(InferenceError, match=words):
        op.infer(types)


@pytest.mark.parametrize("op, inputs, error", [
    (Reshape((N, 5)), [X], ShapeError), (Expand((N, 2, 4)), [X], ShapeError),
    (Concat(0), [X, X[:, :2]], ShapeError), (Slice((N, 0, 0), (2, 3, 4), (1, 1, 1)), [X], IndexFault),
    (Slice((0, 0, 0), (-N, 3, 4), (1, 1, 1)), [X], IndexFault),
    (Pad((-N, 0, 0), (0, 0, 0), "constant"), [X], ShapeError),
    (Pad((N, 0, 0), (0, 0, 0), "wrap"), [X[:0]], ShapeError),
    (ReverseSequence(0, 1), [X, np.array([4, 0])], IndexFault),
    (ReverseSequence(0, 1), [X, np.array([-1, 0])], IndexFault),
])
def test_sizes_that_turn_out_wrong_in_a_run(op, inputs, error):
    with pytest.raises(error):
        op.evaluate(inputs, bind(n=1))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_pad_is_that_of_numpy(data):
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    pads = [(data.draw(st.integers(0, 9)), data.draw(st.integers(0, 9))) for _ in shape]
    mode = data.draw(st.sampled_from(["constant", "edge", "reflect", "wrap"]))
    x = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    y = run_one(Pad(tuple(p[0] for p in pads), tuple(p[1] for p in pads), mode), x)
    np.testing.assert_array_equal(y, np.pad(x, pads, mode=mode))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_slice_is_that_of_numpy(data):
    shape = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    starts = [data.draw(st.integers(0, extent - 1)) for extent in shape]
    steps = [data.draw(st.integers(-3, 3).filter(bool)) for _ in shape]
    most = [(extent - 1 - start) // step + 1 if step > 0 else start // -step + 1
            for extent, start, step in zip(shape, starts, steps)]
    extents = [data.draw(st.integers(0, count)) for count in most]
    x = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    (y,) = Slice(tuple(starts), tuple(extents), tuple(steps)).evaluate([x], bind())
    indices = [start + step * np.arange(extent) for start, step, extent in zip(starts, steps, extents)]
    np.testing.assert_array_equal(y, x[np.ix_(*indices)])


@pytest.mark.parametrize("dtype", list(DType), ids=repr)
def test_every_element_type(dtype):
    x = np.arange(6).reshape(2, 3).astype(dtype.numpy)
    for op in (Transpose((1, 0)), Pad((0, 1), (1, 0), "constant"), Tile((2, 1)), Trilu(False, 0),
               Slice((0, 2), (2, 3), (1, -1)), Expand((2, 2, 3)), Pad((1, 0), (0, 2), "reflect")):
        assert op.evaluate([x], bind())[0].dtype == dtype.numpy


def test_strings_are_padded_with_empty_ones():
    words = np.array(["a", "b"], dtype=object)
    assert Pad((1,), (1,), "constant").evaluate([words], bind())[0].tolist() == ["", "a", "b", ""]


def test_range_of_narrow_floats_rounds_once():
    (y,) = Range(3).evaluate(list(np.array([1, 0.01], dtype=ml_dtypes.bfloat16)), bind())
    step = np.float32(ml_dtypes.bfloat16(0.01))
    expected = (np.float32(1) + np.arange(3, dtype=np.float32) * step).astype(ml_dtypes.bfloat16)
    assert y.tolist() == expected.tolist()


def test_without_elements():
    empty = np.zeros((0, 3), dtype=np.float32)
    assert Transpose((1, 0)).evaluate([empty], bind())[0].shape == (3, 0)
    assert Reshape((3, 0, 7)).evaluate([empty], bind())[0].shape == (3, 0, 7)
    fours = Pad((1, 0), (1, 0), "constant").evaluate([empty, np.float32(4)], bind())[0]
    assert fours.tolist() == [[4, 4, 4], [4, 4, 4]]
    assert Concat(0).evaluate([empty, empty], bind())[0].shape == (0, 3)
    assert Range(0).evaluate([np.float32(1), np.float32(1)], bind())[0].shape == (0,)
