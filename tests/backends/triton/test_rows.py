"""Operators that the template of rows takes: reductions, softmax, norms; rows in registers and in loops."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("triton")

from dlc.backends.triton.emulate import emulate_kernel
from dlc.backends.triton.select import emit_kernel
from dlc.backends.triton.templates import rows
from dlc.ir.dims import evaluate
from dlc.ir.dtypes import DType
from dlc.ir.ops.contraction import MatMul
from dlc.ir.ops.normalization import (
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    LogSoftmax,
    LpNorm,
    RMSNorm,
    Softmax,
)
from dlc.ir.ops.reduction import ArgReduce, Reduce
from dlc.ir.types import TensorType
from dlc.lowering.evaluate import evaluate_kernel
from dlc.lowering.parse import parse
from dlc.lowering.tensors import Memory
from dlc.verify.tolerances import Work
from tests.helpers.gpu_nodes import GpuNode, assert_agrees, check_gpu
from tests.lowering.kernels import poisoned

Array: TypeAlias = "np.ndarray[Any, Any]"

FUNCTIONS = ["sum", "mean", "max", "min", "prod", "l1", "l2", "sum_square", "log_sum", "log_sum_exp"]
either = pytest.mark.parametrize("symbolic", [False, True], ids=["static", "symbolic"])
narrow = pytest.mark.parametrize(
    "dtype", [np.float16, ml_dtypes.bfloat16, np.float64], ids=lambda d: np.dtype(d).name
)
#: (RESIDENT, POINTS): rows in registers, many programs; every row in a loop; what users get.
SMALL, LOOPED, REAL = (16, 32), (0, 32), (rows.RESIDENT, rows.POINTS)
each_way = pytest.mark.parametrize("ways", [SMALL, LOOPED], indirect=True, ids=["small", "looped"])
as_users_get = pytest.mark.parametrize("ways", [REAL], indirect=True, ids=["real"])


@pytest.fixture(autouse=True)
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """The longest row that is kept in registers, and the points of a program."""
    resident, points = getattr(request, "param", SMALL)
    monkeypatch.setattr(rows, "RESIDENT", resident)
    monkeypatch.setattr(rows, "POINTS", points)
    yield resident, points


def random(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def integers(*shape: int, dtype: Any = np.int32, low: int = -8, high: int = 8, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def check(op: Any, *arrays: Array | None, **options: Any) -> GpuNode:
    """As `check_gpu`; what is computed before or after the rows may be pointwise."""
    node = check_gpu(op, *arrays, **options)
    assert "rows" in node.templates and set(node.templates) <= {"rows", "pointwise"}, node.templates
    return node


# --- reductions


@each_way
@pytest.mark.parametrize("fn", FUNCTIONS)
def test_reductions(fn: str, ways: tuple[int, int]) -> None:
    x = np.abs(random(3, 5, 4)) + np.float32(0.1)
    for axes in [(1,), (0, 2), (0, 1, 2)]:
        check(Reduce(fn, axes, False), x)
    check(Reduce(fn, (0, 2), False), x, symbolic=True)


@each_way
@pytest.mark.parametrize("length", [1, 7, 15, 16, 17, 31, 32, 33])
@pytest.mark.parametrize("fn", ["sum", "max"])
def test_lengths_of_rows(fn: str, length: int, ways: tuple[int, int]) -> None:
    for count in (1, 9):
        check(Reduce(fn, (1,), False), random(count, length))
        check(Reduce(fn, (0,), False), random(length, count))


@as_users_get
@pytest.mark.parametrize("length", [1, 7, 1023, 1024, 1025])
def test_lengths_of_rows_of_one_binary(length: int, ways: tuple[int, int]) -> None:
    """A symbolic row is walked in blocks of 1024, or of 32 where its elements lie apart."""
    x = random(3, length)
    along = GpuNode(Reduce("sum", (1,), False), random(3, 7), symbolic=True)
    assert_agrees(along.run([x]), [x.sum(axis=1)], Work.REDUCTION)
    across = GpuNode(Reduce("sum", (0,), False), random(7, 3), symbolic=True)
    assert_agrees(across.run([x.T.copy()]), [x.sum(axis=1)], Work.REDUCTION)


@pytest.mark.parametrize("length", [31, 32, 33])
def test_rows_across_memory(length: int) -> None:
    node = GpuNode(Reduce("max", (0,), False), random(7, 3), symbolic=True)
    x = random(length, 65)
    np.testing.assert_array_equal(node.run([x])[0], x.max(axis=0))


@either
@pytest.mark.parametrize("fn", FUNCTIONS)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)], ids=str)
def test_reductions_over_nothing(fn: str, shape: tuple[int, ...], symbolic: bool) -> None:
    for op in (Reduce(fn, (0,), True), Reduce(fn, (0, 1), False)):
        node = GpuNode(op, random(*shape), symbolic=symbolic)
        assert_agrees(node.run(), node.expected(), Work.REDUCTION)
    if symbolic:
        x = np.zeros(shape, np.float32)
        node = GpuNode(Reduce(fn, (0,), True), random(2, 5), symbolic=True)
        assert_agrees(node.run([x]), Reduce(fn, (0,), True).evaluate([x], int), Work.REDUCTION)


@pytest.mark.parametrize("fn", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_reductions_of_integers(fn: str, dtype: Any) -> None:
    check(Reduce(fn, (1,), True), integers(3, 5, dtype=dtype, low=1))


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_sums_of_integers_wrap(dtype: Any) -> None:
    x = np.full((2, 3), np.iinfo(dtype).max, dtype)
    check(Reduce("sum", (1,), False), x)
    check(Reduce("prod", (1,), False), x)


@pytest.mark.parametrize("fn", ["max", "min"])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64], ids=lambda d: np.dtype(d).name)
def test_extremes_of_integers(fn: str, dtype: Any) -> None:
    limits = np.iinfo(dtype)
    check(Reduce(fn, (1,), False), np.array([[limits.max] * 3, [limits.min] * 3, [1, 2, 0]], dtype))


@narrow
@pytest.mark.parametrize("fn", ["sum", "mean", "max", "min", "l2", "log_sum_exp"])
def test_reductions_of_other_floats(fn: str, dtype: Any) -> None:
    check(Reduce(fn, (0,), False), random(9, 4, dtype=dtype))
    check(Reduce(fn, (1,), False), random(3, 70, dtype=dtype), symbolic=True)


@each_way
@pytest.mark.parametrize("fn", ["max", "min", "log_sum_exp"])
def test_reductions_of_special_values(fn: str, ways: tuple[int, int]) -> None:
    table = [[1, math.nan], [-math.inf, -math.inf], [math.inf, 1], [math.inf, -math.inf], [0.0, -0.0]]
    x = np.array(table, np.float32)
    check(Reduce(fn, (1,), False), x)
    check(Reduce(fn, (1,), False), np.repeat(x, 17, axis=1))
    check(Reduce(fn, (0,), False), x)


@each_way
@pytest.mark.parametrize("fn", ["max", "min"])
def test_reductions_of_bools(fn: str, ways: tuple[int, int]) -> None:
    x = np.array([[True, False, True], [True] * 3, [False] * 3])
    check(Reduce(fn, (1,), False), x)
    check(Reduce(fn, (0,), True), x, symbolic=True)


# --- the places of extremes


@each_way
@pytest.mark.parametrize("fn", ["max", "min"])
@pytest.mark.parametrize("last", [False, True])
def test_places_of_equal_extremes(fn: str, last: bool, ways: tuple[int, int]) -> None:
    x = integers(4, 37, low=0, high=3)
    check(ArgReduce(fn, 1, True, last), x)
    check(ArgReduce(fn, 0, False, last), x.astype(np.float32), symbolic=True)
    check(ArgReduce(fn, 1, False, last), np.zeros((3, 33), np.int8))


@each_way
@pytest.mark.parametrize("fn", ["max", "min"])
@pytest.mark.parametrize("last", [False, True])
def test_places_of_special_values(fn: str, last: bool, ways: tuple[int, int]) -> None:
    table = [
        [1, math.nan, math.nan],
        [-math.inf] * 3,
        [math.inf] * 3,
        [math.inf, 1, math.inf],
        [0.0, -0.0, 0],
    ]
    x = np.array(table, np.float32)
    check(ArgReduce(fn, 1, False, last), x)
    check(ArgReduce(fn, 1, False, last), np.tile(x, 13), symbolic=True)
    limits = np.array([[127, 127, 127], [-128, -128, -128]], np.int8)
    check(ArgReduce(fn, 1, False, last), limits)


def test_places_of_other_types() -> None:
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float64, np.int64, np.uint8):
        check(ArgReduce("max", 1, False, False), integers(5, 19, low=0, dtype=dtype))


# --- softmax


@each_way
@either
def test_softmax(symbolic: bool, ways: tuple[int, int]) -> None:
    for axis in range(3):
        check(Softmax(axis), random(3, 5, 4), symbolic=symbolic)
    check(LogSoftmax(1), random(3, 37), symbolic=symbolic)


@as_users_get
@pytest.mark.parametrize("length", [1, 7, 1023, 1024, 1025, 2100])
def test_softmax_of_one_binary(length: int, ways: tuple[int, int]) -> None:
    node = GpuNode(Softmax(1), random(5, 7), symbolic=True)
    x = random(3, length)
    assert_agrees(node.run([x]), Softmax(1).evaluate([x], int), Work.NORMALIZATION)


@pytest.mark.parametrize("length", [1, 7, 15, 16, 17, 31, 33])
def test_softmax_of_static_rows(length: int) -> None:
    check(Softmax(1), random(3, length))


@each_way
def test_softmax_of_special_values(ways: tuple[int, int]) -> None:
    table = [[1, math.nan], [-math.inf, -math.inf], [math.inf, 1], [-math.inf, 5], [88.0, -88.0]]
    check(Softmax(1), np.array(table, np.float32))
    check(LogSoftmax(1), np.array(table, np.float32))
    check_gpu(Softmax(1), np.zeros((0, 3), np.float32))
    check_gpu(Softmax(1), np.zeros((3, 0), np.float32))


@narrow
def test_softmax_of_other_types(dtype: Any) -> None:
    check(Softmax(1), random(3, 37, dtype=dtype))
    check(Softmax(1), random(3, 37, dtype=dtype), symbolic=True)


# --- norms


@each_way
@either
def test_layer_norm(symbolic: bool, ways: tuple[int, int]) -> None:
    x = random(3, 5, 4)
    for axis in (1, 2):
        scale, shift = random(*x.shape[axis:], seed=1), random(*x.shape[axis:], seed=2)
        check(LayerNorm(axis, 1e-5, True), x, scale, shift, symbolic=symbolic)
        check(LayerNorm(axis, 1e-5, False), x, scale, None, symbolic=symbolic)


@as_users_get
@pytest.mark.parametrize("length", [1, 7, 1023, 1024, 1025])
def test_norms_of_one_binary(length: int, ways: tuple[int, int]) -> None:
    x, scale, shift = random(3, length), random(length, seed=1), random(length, seed=2)
    norm = GpuNode(LayerNorm(1, 1e-5), random(5, 7), random(7), random(7), symbolic=True)
    assert_agrees(
        norm.run([x, scale, shift]), LayerNorm(1, 1e-5).evaluate([x, scale, shift], int), Work.NORMALIZATION
    )
    rms = GpuNode(RMSNorm(1, 1e-6), random(5, 7), random(7), symbolic=True)
    assert_agrees(rms.run([x, scale]), RMSNorm(1, 1e-6).evaluate([x, scale], int), Work.NORMALIZATION)


@pytest.mark.parametrize("length", [1, 7, 15, 16, 17, 33])
def test_norms_of_static_rows(length: int) -> None:
    x, scale, shift = random(5, length), random(length, seed=1), random(length, seed=2)
    check(LayerNorm(1, 1e-5), x, scale, shift)
    check(RMSNorm(1, 1e-6), x, scale)


@narrow
def test_norms_of_other_types(dtype: Any) -> None:
    x, scale, shift = (random(*shape, dtype=dtype) for shape in ((6, 19), (19,), (19,)))
    check(LayerNorm(1, 1e-5), x, scale, shift)
    check(RMSNorm(1, 1e-6), x, scale, symbolic=True)


@each_way
@either
def test_norms_of_channels(symbolic: bool, ways: tuple[int, int]) -> None:
    x = random(2, 6, 3, 5)
    scale, shift = random(6, seed=1), random(6, seed=2)
    check(InstanceNorm(1e-5), x, scale, shift, symbolic=symbolic)
    check(GroupNorm(3, 1e-5), x, scale, shift, symbolic=[2, 3, 5] if symbolic else False)
    check(GroupNorm(1, 1e-5), x, scale, shift)
    check(GroupNorm(6, 1e-5), x, scale, shift)


@either
def test_vector_norms(symbolic: bool) -> None:
    x = random(3, 6, 5)
    check(LpNorm(1, 1), x, symbolic=symbolic)
    check(LpNorm(2, 2), x, symbolic=symbolic)
    check(LpNorm(1, 2), np.zeros((3, 4), np.float32))


def test_norms_of_nothing() -> None:
    for shape in ((0, 4), (3, 0)):
        width = shape[1]
        node = GpuNode(LayerNorm(1, 1e-5), random(*shape), random(width), random(width))
        assert [result.shape for result in node.run()] == [shape]


# --- products of few rows, and kernels that users' graphs become in parts


@either
@pytest.mark.parametrize("shapes", [((1, 37), (37, 20)), ((20, 37), (37, 1)), ((3, 5), (5, 4))], ids=str)
def test_products_with_few_rows_or_columns(shapes: Any, symbolic: bool) -> None:
    left, right = random(*shapes[0]), random(*shapes[1], seed=1)
    check_gpu(MatMul(), left, right, symbolic=[37, 5] if symbolic else False)


def test_a_vector_by_a_vector() -> None:
    check_gpu(MatMul(), random(40), random(40, seed=1))
    check_gpu(MatMul(), random(0), random(0))


@pytest.mark.parametrize("index", ["i32", "i64"])
@pytest.mark.parametrize("monoid", ["argmax", "argmin", "argmax_last", "argmin_last"])
def test_arg_kinds_of_kernels(monoid: str, index: str) -> None:
    """Indices of both types, of rows that a kernel gives the numbers of."""
    text = f"""kernel places {{
  symbol n
  read x: f32[4, n]
  write y: f32[4]
  write at: {index}[4]
  axis i: 4
  axis j: n reduce
  for i: (best: f32, place: {index}) = {monoid} over j of (x[i, j], {index}(iota(j)))
  for i: y[i] = best[i]
  for i: at[i] = place[i]
}}
"""
    kernel = parse(text)
    for length in (1, 5, 40, 1030):
        x = integers(4, length, low=0, high=3).astype(np.float32)
        x[1, length // 2 :] = np.nan
        x[2] = -np.inf
        expected = {"x": x, "y": np.zeros(4, np.float32), "at": np.zeros(4, f"int{index[1:]}")}
        actual = {name: array.copy() for name, array in expected.items()}
        evaluate_kernel(kernel, expected, {"n": length})
        emulate_kernel(emit_kernel(kernel), {k: a.reshape(-1) for k, a in actual.items()}, {"n": length})
        for name, array in expected.items():
            np.testing.assert_array_equal(actual[name], array)


LAYOUTS = {
    "channels_last": "<0.2.3.1 pad(undefined)>",
    "blocked": "<0.1.2.3.1b16 pad(undefined)>",
    "halos": "<0.2.3.1 halo(2, 1, 2, zero) halo(3, 1, 1, zero) pad(undefined)>",
}


@each_way
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_in_layouts(layout: str, ways: tuple[int, int]) -> None:
    """Sums over places and over channels of one tensor in memory, the difference to them in its layout."""
    text = f"""kernel sums {{
  symbol h
  symbol n
  read x: f32[n, 20, h, 3]{LAYOUTS[layout]}
  write y: f32[n, 20, h, 3]{LAYOUTS[layout]}
  axis b: n
  axis c: 20
  axis i: h
  axis j: 3
  for REST: total: f32 = sum over REDUCED of x[b, c, i, j]
  for b, c, i, j: y[b, c, i, j] = x[b, c, i, j] - total[REST]
}}
"""
    for rest, reduced in (("b, c", "i, j"), ("b, i, j", "c"), ("b", "c, i, j")):
        kernel = parse(text.replace("REST", rest).replace("REDUCED", reduced))
        axes = tuple("bcij".index(name) for name in reduced.split(", "))
        for n, h in ((1, 1), (2, 5), (0, 3), (3, 0)):
            symbols = {"n": n, "h": h}
            x = random(n, 20, h, 3)
            tensors = {}
            for param in kernel.params:
                physical = tuple(evaluate(extent, symbols) for extent in param.type.physical_shape)
                tensors[param.name] = Memory(
                    poisoned(TensorType(DType.F32, physical), {}), param.type, x.shape
                )
            tensors["x"].assign(x)
            memory = {name: tensor.physical.reshape(-1) for name, tensor in tensors.items()}
            emulate_kernel(emit_kernel(kernel), memory, symbols)
            wide = x.astype(np.float64)
            expected = (wide - wide.sum(axis=axes, keepdims=True)).astype(np.float32)
            assert_agrees([tensors["y"].whole()], [expected], Work.REDUCTION)
            assert np.count_nonzero(~np.isnan(memory["y"])) == x.size
