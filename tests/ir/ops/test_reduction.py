"""Reductions against plain Python loops: axes, empty operands, NaN, wrapping, ties, accumulation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as npst

from dlc.errors import InputError
from dlc.ir.dims import Symbol
from dlc.ir.dtypes import DType
from dlc.ir.operator import InferenceError
from dlc.ir.ops.reduction import ArgReduce, Cumulative, Reduce, TopK
from dlc.ir.types import TensorType
from tests.helpers.operators import Array, run, run_one


def log(x: float) -> float:
    return math.log(x) if x > 0 else (-math.inf if x == 0 else math.nan)


REDUCTIONS: dict[str, Callable[[list[float]], float]] = {
    "sum": math.fsum,
    "mean": lambda values: math.fsum(values) / len(values) if values else math.nan,
    "max": lambda values: max(values, default=-math.inf),
    "min": lambda values: min(values, default=math.inf),
    "prod": math.prod,
    "l1": lambda values: math.fsum(map(abs, values)),
    "l2": lambda values: math.sqrt(math.fsum(x * x for x in values)),
    "sum_square": lambda values: math.fsum(x * x for x in values),
    "log_sum": lambda values: log(math.fsum(values)),
    "log_sum_exp": lambda values: log(math.fsum(map(math.exp, values))),
}


def slow_reduce(
    function: Callable[[list[float]], float], x: Array, axes: Iterable[int], keepdims: bool
) -> Array:
    """`function` of the list of elements behind each output position."""
    axes = tuple(axes)
    shape = [1 if axis in axes else extent for axis, extent in enumerate(x.shape)]
    result = np.empty(shape, np.float64)
    for position in np.ndindex(*shape):
        behind = x[tuple(slice(None) if axis in axes else at for axis, at in enumerate(position))]
        result[position] = function([float(value) for value in np.asarray(behind).reshape(-1)])
    return result if keepdims else result.reshape([e for axis, e in enumerate(x.shape) if axis not in axes])


@pytest.mark.parametrize("fn", sorted(REDUCTIONS))
@given(npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3), st.data(), st.booleans())
@settings(max_examples=25)
def test_any_axes(fn: str, shape: tuple[int, ...], data: st.DataObject, keepdims: bool) -> None:
    axes = tuple(sorted(data.draw(st.sets(st.sampled_from(range(len(shape)))) if shape else st.just(set()))))
    x = np.random.default_rng(1).uniform(-2, 2, shape)
    got = run_one(Reduce(fn, axes, keepdims), x)
    np.testing.assert_allclose(got, slow_reduce(REDUCTIONS[fn], x, axes, keepdims), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("fn", sorted(REDUCTIONS))
@pytest.mark.parametrize("dtype", [DType.F32, DType.F16, DType.BF16], ids=lambda t: t.text)
def test_narrow_floats_round_once(fn: str, dtype: DType) -> None:
    x = np.random.default_rng(2).uniform(0.5, 1.5, (3, 20)).astype(dtype.numpy)
    wanted = slow_reduce(REDUCTIONS[fn], x.astype(np.float64), (1,), False)
    got = run_one(Reduce(fn, (1,), False), x).astype(np.float64)
    unit = {DType.F32: 2.0**-24, DType.F16: 2.0**-11, DType.BF16: 2.0**-8}[dtype]
    # Half a unit in the last place, and what squares, roots and products lose in float32.
    np.testing.assert_allclose(got, wanted, rtol=unit + 24 * 2.0**-24)


def test_long_sums_keep_their_accuracy() -> None:
    x = np.full(1_000_000, 0.1, np.float32)
    # Rounding every partial sum would end at 100958 and, in f16, at 32.
    assert run_one(Reduce("sum", (0,)), x)[0] == np.float32(float(np.float32(0.1)) * 1_000_000)
    assert run_one(Reduce("sum", (0,)), np.full(5000, 0.01, np.float16))[0] == np.float16(50)


@pytest.mark.parametrize(
    "fn", ["sum", "mean", "max", "min", "prod", "l1", "l2", "sum_square", "log_sum", "log_sum_exp"]
)
def test_nan_stays(fn: str) -> None:
    x = np.array([[1.0, np.nan, 3.0], [1, 2, 3], [np.nan, np.nan, np.nan]], np.float32)
    got = run_one(Reduce(fn, (1,), False), x)
    assert np.isnan(got).tolist() == [True, False, True]


def test_infinities() -> None:
    x = np.array([[np.inf, 1.0], [-np.inf, 1.0], [np.inf, -np.inf], [-np.inf, -np.inf]])

    def reduced(fn: str) -> list[float]:
        return run_one(Reduce(fn, (1,), False), x).tolist()

    np.testing.assert_array_equal(reduced("log_sum_exp"), [np.inf, 1.0, np.inf, -np.inf])
    np.testing.assert_array_equal(reduced("sum"), [np.inf, -np.inf, np.nan, -np.inf])
    np.testing.assert_array_equal(reduced("max"), [np.inf, 1.0, np.inf, -np.inf])
    np.testing.assert_array_equal(reduced("l2"), [np.inf] * 4)


def test_log_sum_exp_neither_overflows_nor_underflows() -> None:
    x = np.array([[1000.0, 1000.0], [-1000.0, -1000.0]], np.float32)
    got = run_one(Reduce("log_sum_exp", (1,), False), x)
    np.testing.assert_allclose(got, [1000 + math.log(2), -1000 + math.log(2)], rtol=1e-7)


@pytest.mark.parametrize(
    ("fn", "wanted"),
    [
        ("sum", 0),
        ("l1", 0),
        ("l2", 0),
        ("sum_square", 0),
        ("prod", 1),
        ("mean", math.nan),
        ("max", -math.inf),
        ("min", math.inf),
        ("log_sum", -math.inf),
        ("log_sum_exp", -math.inf),
    ],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_no_elements(fn: str, wanted: float, dtype: type) -> None:
    got = run_one(Reduce(fn, (1,), False), np.zeros((2, 0, 3), dtype))
    np.testing.assert_array_equal(got.astype(np.float64), np.full((2, 3), wanted))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_no_integers(dtype: type) -> None:
    info = np.iinfo(dtype)
    wanted = {
        "sum": 0,
        "prod": 1,
        "mean": 0,
        "max": info.min,
        "min": info.max,
        "l1": 0,
        "l2": 0,
        "sum_square": 0,
    }
    for fn, value in wanted.items():
        assert run_one(Reduce(fn, (0,), False), np.zeros(0, dtype)) == value, fn


def test_integers_wrap_and_truncate() -> None:
    x = np.array([[100, 100], [-100, -100], [3, 4], [-3, -4]], np.int8)

    def reduced(fn: str) -> list[int]:
        return run_one(Reduce(fn, (1,), False), x).tolist()

    assert reduced("sum") == [-56, 56, 7, -7]
    assert reduced("prod") == [16, 16, 12, 12]
    assert reduced("mean") == [-28, 28, 3, -3]
    assert reduced("l2") == [141 - 256, 141 - 256, 5, 5]
    assert reduced("log_sum_exp") == [100, -99, 4, -2]
    assert run_one(Reduce("l1", (), True), np.array([-5, 5, -128], np.int8)).tolist() == [5, 5, -128]


def test_bool_maximum_is_or() -> None:
    x = np.array([[True, False], [False, False], [True, True]])
    assert run_one(Reduce("max", (1,), False), x).tolist() == [True, False, True]
    assert run_one(Reduce("min", (1,), False), x).tolist() == [False, False, True]
    assert run_one(Reduce("max", (0,), False), np.zeros((0, 1), np.bool_)).tolist() == [False]
    assert run_one(Reduce("min", (0,), False), np.zeros((0, 1), np.bool_)).tolist() == [True]


TIED = np.array([[1, 3, 3, 0], [2, 2, 2, 2], [5, 1, 0, 0]])


@pytest.mark.parametrize(
    "dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int64, np.uint8]
)
def test_positions_of_extremes(dtype: type) -> None:
    x = TIED.astype(dtype)
    assert run_one(ArgReduce("max", 1, False), x).tolist() == [1, 0, 0]
    assert run_one(ArgReduce("max", 1, False, True), x).tolist() == [2, 3, 0]
    assert run_one(ArgReduce("min", 1, True), x).tolist() == [[3], [0], [2]]
    assert run_one(ArgReduce("min", 1, False, True), x).tolist() == [3, 3, 3]
    assert run_one(ArgReduce("max", 0, False), x).tolist() == [2, 0, 0, 1]


def test_positions_of_nan_and_of_nothing() -> None:
    x = np.array([1, np.nan, 5, np.nan, -np.inf])
    assert run_one(ArgReduce("max", 0, False), x) == 1
    assert run_one(ArgReduce("min", 0, False), x) == 1
    assert run_one(ArgReduce("max", 0, False, True), x) == 3
    assert run_one(ArgReduce("max", 1), np.zeros((0, 3))).shape == (0, 1)
    with pytest.raises(InferenceError, match="no elements"):
        ArgReduce("max", 0).infer([TensorType(DType.F32, (0, 3))])
    with pytest.raises(InputError, match="no elements"):
        ArgReduce("max", 0).evaluate([np.zeros((0, 3))], int)


def slow_cumulative(x: list[int], fn: str, exclusive: bool, reverse: bool) -> list[int]:
    items = x[::-1] if reverse else x
    running = list(itertools.accumulate(items, (lambda a, b: a + b) if fn == "sum" else (lambda a, b: a * b)))
    if exclusive:
        running = [0 if fn == "sum" else 1, *running][: len(items)]
    return running[::-1] if reverse else running


@given(
    st.lists(st.integers(-3, 3), max_size=8), st.sampled_from(["sum", "prod"]), st.booleans(), st.booleans()
)
@settings(max_examples=80)
def test_cumulative(numbers: list[int], fn: str, exclusive: bool, reverse: bool) -> None:
    wanted = slow_cumulative(numbers, fn, exclusive, reverse)
    for axis, shape in ((0, (-1,)), (1, (1, -1)), (0, (-1, 1))):
        operator = Cumulative(fn, axis, exclusive, reverse)
        for dtype in (np.int64, np.float64):
            x = np.array(numbers, dtype).reshape(shape)
            np.testing.assert_array_equal(run_one(operator, x).reshape(-1), np.array(wanted, dtype))


def test_cumulative_wraps_and_accumulates_in_float64() -> None:
    assert run_one(Cumulative("sum", 0), np.array([100, 100, 100], np.int8)).tolist() == [100, -56, 44]
    halves = run_one(Cumulative("sum", 0), np.full(4000, 0.1, np.float16))
    assert halves[-1] == np.float16(float(np.float16(0.1)) * 4000)
    nans = run_one(Cumulative("sum", 0), np.array([1, np.nan, 2]))
    assert np.isnan(nans).tolist() == [False, True, True]


@given(
    npst.arrays(
        np.int64,
        npst.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5),
        elements=st.integers(-3, 3),
    ),
    st.data(),
    st.booleans(),
    st.sampled_from([np.int64, np.float32, np.float16, ml_dtypes.bfloat16, np.int8]),
)
@settings(max_examples=80)
def test_top_k_sorts_stably(x: Array, data: st.DataObject, largest: bool, dtype: type) -> None:
    axis = data.draw(st.integers(0, x.ndim - 1))
    k = data.draw(st.integers(0, x.shape[axis]))
    values, indices = run(TopK(axis, k, largest), x.astype(dtype))
    for row, got, at in zip(
        np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis]),
        np.moveaxis(values, axis, -1).reshape(-1, k) if k else [],
        np.moveaxis(indices, axis, -1).reshape(-1, k) if k else [],
    ):
        order = sorted(range(len(row)), key=lambda i: (-row[i] if largest else row[i], i))[:k]
        assert at.tolist() == order
        assert got.astype(np.float64).tolist() == [float(row[i]) for i in order]


def test_top_k_of_extremes() -> None:
    x = np.array([np.nan, 1, np.inf, -np.inf, np.nan, 0.0, -0.0], np.float32)
    assert run(TopK(0, 7), x)[1].tolist() == [0, 4, 2, 1, 5, 6, 3]
    assert run(TopK(0, 7, largest=False), x)[1].tolist() == [3, 5, 6, 1, 2, 0, 4]
    integers = np.array([-(2**63), 2**63 - 1, 0], np.int64)
    assert run(TopK(0, 3), integers)[1].tolist() == [1, 2, 0]
    unsigned = np.array([0, 2**64 - 1, 2**63], np.uint64)
    assert run(TopK(0, 3), unsigned)[1].tolist() == [1, 2, 0]
    assert run(TopK(0, 3, largest=False), unsigned)[1].tolist() == [0, 2, 1]


def test_k_of_a_symbol() -> None:
    k = Symbol("k")
    types = TopK(1, k).infer([TensorType(DType.F32, (2, 9))])
    assert [type_.shape for type_ in types if isinstance(type_, TensorType)] == [(2, k), (2, k)]
    values, _ = TopK(1, k).evaluate([np.arange(6.0).reshape(2, 3)], lambda dim: 2)
    assert values.tolist() == [[2, 1], [5, 4]]
    with pytest.raises(InputError, match="k = 4 elements cannot be chosen out of 3"):
        TopK(1, k).evaluate([np.arange(6.0).reshape(2, 3)], lambda dim: 4)


F32, BOOL = TensorType(DType.F32, (2, 3)), TensorType(DType.BOOL, (2, 3))


@pytest.mark.parametrize(
    ("op", "operand", "reason"),
    [
        (Reduce("sum", (2,)), F32, "axis 2 is outside"),
        (Reduce("sum", (0,)), BOOL, "operand of sum must be of one of the types"),
        (ArgReduce("max", 2), F32, "axis 2 is outside"),
        (Cumulative("sum", -3), F32, "axis -3 is outside"),
        (TopK(1, 4), F32, "k = 4 elements cannot be chosen out of 3"),
        (TopK(1, -1), F32, "k = -1 elements"),
        (TopK(0, 1), TensorType(DType.F32, ()), "axis 0 is outside"),
    ],
)
def test_unfit_operands_are_refused(op: Reduce, operand: TensorType, reason: str) -> None:
    with pytest.raises(InferenceError, match=reason):
        op.infer([operand])


@pytest.mark.parametrize(
    "make", [lambda: Reduce("median", ()), lambda: ArgReduce("sum", 0), lambda: Cumulative("max", 0)]
)
def test_unknown_functions_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="there is no"):
        make()


@pytest.mark.parametrize("axes", [(1, 0), (0, 0), (-1,)])
def test_axes_are_in_normal_form(axes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        Reduce("sum", axes)
