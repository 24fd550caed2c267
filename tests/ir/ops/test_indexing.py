"""Gather, Scatter and OneHot: inference with symbolic extents, rejections, faults, and plain oracles."""
import operator

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from dlc.errors import IndexFault
from dlc.ir.dims import Symbol, to_text
from dlc.ir.dtypes import DType
from dlc.ir.operator import InferenceError
from dlc.ir.ops.indexing import (
    Gather,
    GatherElements,
    GatherND,
    OneHot,
    ScatterElements,
    ScatterND,
)
from dlc.ir.types import TensorType
from tests.helpers.operators import run_one

N, M = Symbol("n"), Symbol("m")
X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def f32(*shape):
    return TensorType(DType.F32, shape)


def i64(*shape):
    return TensorType(DType.I64, shape)


def shape_of(op, *types):
    (type_,) = op.infer(types)
    return [to_text(dim) for dim in type_.shape]


def test_inference_with_symbolic_extents():
    assert shape_of(Gather(1), f32(N, 4, 5), i64(M, 2)) == ["n", "m", "2", "5"]
    assert shape_of(Gather(0), f32(N), i64()) == []
    assert shape_of(GatherElements(1), f32(N, 4), i64(N, M)) == ["n", "m"]
    assert shape_of(GatherND(1), f32(N, 4, 5, 6), i64(N, M, 2)) == ["n", "m", "6"]
    assert shape_of(ScatterElements(0, "add"), f32(N, 4), i64(M, 4), f32(M, 4)) == ["n", "4"]
    assert shape_of(ScatterND("none"), f32(N, 4), i64(M, 1), f32(M, 4)) == ["n", "4"]
    assert shape_of(OneHot(1, M), i64(N, 3), f32(2)) == ["n", "m", "3"]


@pytest.mark.parametrize("op, types, words", [
    (Gather(3), [f32(2, 3), i64(1)], "axis 3"), (Gather(0), [f32(), i64(1)], "axis 0"),
    (Gather(0), [f32(2), f32(1)], "i32 or i64"), (Gather(0), [f32(2), None], "absent"),
    (GatherElements(0), [f32(2, 3), i64(2)], "rank"),
    (GatherElements(0), [f32(2, 3), i64(2, 4)], "axis 1 of indices"),
    (GatherND(0), [f32(2, 3), i64()], "at least one axis"), (GatherND(0), [f32(2, 3), i64(1, 3)], "not fit"),
    (GatherND(2), [f32(2, 3), i64(2, 3)], "batch axes"), (GatherND(1), [f32(2, 3), i64(4, 1)], "axis 0"),
    (GatherND(0), [f32(2, 3), i64(4, N)], "must be a number"),
    (ScatterElements(0, "mean"), [f32(2), i64(1), f32(1)], "mean"),
    (ScatterElements(0, "add"), [f32(2), i64(1), i64(1)], "updates are i64"),
    (ScatterElements(0, "add"), [f32(2), i64(1), f32(2)], r"shape \[1\]"),
    (ScatterND("add"), [f32(2, 3), i64(4, 1), f32(4, 2)], r"shape \[4, 3\]"),
    (ScatterND("add"), [f32(2, 3), i64(4, 3), f32(4)], "do not fit"),
    (OneHot(0, 3), [f32(2), f32(2)], "integers"), (OneHot(0, 3), [i64(2), f32(3)], r"\[2\]"),
    (OneHot(2, 3), [i64(2), f32(2)], "axis 2"), (OneHot(0, -1), [i64(2), f32(2)], "depth"),
])
def test_rejections(op, types, words):
    with pytest.raises(InferenceError, match=words):
        op.infer(types)


@pytest.mark.parametrize("index", [3, -4, 2**40, -(2**63)])
def test_faults(index):
    at = np.array([index])
    for op, inputs in [(Gather(1), [X, at]), (GatherElements(1), [X, at.reshape(1, 1, 1)]),
                       (ScatterElements(1, "add"), [X, at.reshape(1, 1, 1), X[:1, :1, :1]]),
                       (GatherND(1), [X, at.reshape(1, 1).repeat(2, 0)]),
                       (ScatterND("none"), [X[0], at.reshape(1, 1), X[0, :1]])]:
        with pytest.raises(IndexFault, match=r"outside \[-3, 3\)"):
            op.evaluate(inputs, int)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_gather_and_scatter_elements_one_by_one(data):
    shape = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    axis = data.draw(st.integers(0, len(shape) - 1))
    outer = [data.draw(st.integers(0, 5 if side == axis else extent)) for side, extent in enumerate(shape)]
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    indices = rng.integers(-shape[axis], shape[axis], outer)
    x, updates = rng.integers(-9, 9, shape), rng.integers(-9, 9, outer)
    reduction = data.draw(st.sampled_from(["none", "add", "mul", "min", "max"]))
    combine = {"none": lambda old, new: new, "add": operator.add, "mul": operator.mul, "min": min,
               "max": max}[reduction]
    gathered, scattered = np.empty(outer, dtype=np.int64), x.copy()
    for position in np.ndindex(*outer):
        source = (*position[:axis], indices[position], *position[axis + 1:])
        gathered[position] = x[source]
        scattered[source] = combine(scattered[source], updates[position])
    np.testing.assert_array_equal(run_one(GatherElements(axis), x, indices), gathered)
    np.testing.assert_array_equal(run_one(ScatterElements(axis, reduction), x, indices, updates), scattered)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_gather_and_scatter_tuples_one_by_one(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
    batch = data.draw(st.integers(0, len(shape) - 1))
    width = data.draw(st.integers(0, len(shape) - batch))
    outer = (*shape[:batch], *data.draw(st.lists(st.integers(0, 3), max_size=2)))
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    columns = [rng.integers(-shape[batch + entry], shape[batch + entry], outer) for entry in range(width)]
    indices = np.stack(columns, axis=-1) if columns else np.zeros((*outer, 0), dtype=np.int64)
    x = rng.integers(-9, 9, shape)
    expected = np.empty((*outer, *shape[batch + width:]), dtype=np.int64)
    for position in np.ndindex(*outer):
        expected[position] = x[(*position[:batch], *indices[position])]
    np.testing.assert_array_equal(GatherND(batch).evaluate([x, indices], int)[0], expected)
    if not batch:
        updates, scattered = rng.integers(-9, 9, expected.shape), x.copy()
        for position in np.ndindex(*outer):
            scattered[tuple(indices[position])] += updates[position]
        np.testing.assert_array_equal(ScatterND("add").evaluate([x, indices, updates], int)[0], scattered)


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16])
@pytest.mark.parametrize("reduction, start, expected", [("add", 256, 556), ("mul", 1, 1), ("max", -5, 1)])
def test_narrow_floats_are_combined_in_float32(dtype, reduction, start, expected):
    x = np.array([start]).astype(dtype.numpy)
    updates = np.ones(300).astype(dtype.numpy)
    y = run_one(ScatterElements(0, reduction), x, np.zeros(300, dtype=np.int64), updates)
    assert float(y[0]) == float(np.array(expected).astype(dtype.numpy))


def test_scatter_leaves_its_operand_alone():
    before = X.copy()
    ScatterElements(0, "none").evaluate([X, np.zeros((1, 1, 1), np.int64), X[1:, :1, :1]], int)
    np.testing.assert_array_equal(X, before)


def test_one_hot_wraps_once():
    indices = np.array([0, 2, -1, -3, 3, -4])
    y = run_one(OneHot(1, 3), indices, np.array([5, 7], dtype=np.int8))
    assert [np.flatnonzero(line == 7).tolist() for line in y] == [[0], [2], [2], [0], [], []]
