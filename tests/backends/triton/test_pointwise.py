"""Operators that the template of points takes: movements, masks, gathers, arithmetic; blocks, types."""

from __future__ import annotations

from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("triton")

from dlc.backends.triton.emulate import emulate_kernel
from dlc.backends.triton.select import emit_kernel
from dlc.backends.triton.templates import pointwise
from dlc.errors import IndexFault
from dlc.ir.dims import Symbol, evaluate
from dlc.ir.dtypes import DType, from_numpy
from dlc.ir.ops.indexing import Gather, GatherElements, GatherND, OneHot
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
from dlc.ir.ops.pointwise import Binary, Cast, Clip, Compare, Unary, Where
from dlc.ir.types import TensorType
from dlc.lowering.evaluate import evaluate_kernel
from dlc.lowering.parse import parse
from dlc.lowering.tensors import Memory
from tests.helpers.gpu_nodes import GpuNode, check_gpu
from tests.lowering.kernels import poisoned

Array: TypeAlias = "np.ndarray[Any, Any]"

TYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int8, np.int32, np.int64, np.bool_]
each_type = pytest.mark.parametrize("dtype", TYPES, ids=lambda d: np.dtype(d).name)
either = pytest.mark.parametrize("symbolic", [False, True], ids=["static", "symbolic"])


both = pytest.mark.parametrize("block", [32, pointwise.BLOCK], indirect=True)


@pytest.fixture(autouse=True)
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The points of a program: few, so that there are several programs, or as many as users get."""
    points: int = getattr(request, "param", 32)
    monkeypatch.setattr(pointwise, "BLOCK", points)
    return points


def some(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    """Numbers that every type holds."""
    return np.random.default_rng(seed).integers(0, 2 if dtype is np.bool_ else 4, shape).astype(dtype)


def random(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def check(op: Any, *arrays: Array | None, **options: Any) -> GpuNode:
    return check_gpu(op, *arrays, template="pointwise", **options)


# --- movements


@both
@each_type
def test_movement_of_every_type(dtype: Any) -> None:
    x = some(3, 17, 5, dtype=dtype)
    check(Transpose((2, 0, 1)), x)
    check(Reshape((15, 17)), x)
    check(Concat(1), x, some(3, 2, 5, dtype=dtype))
    check(Slice((2, 16, 0), (1, 6, 5), (1, -3, 1)), x)
    check(Tile((2, 1, 3)), x)
    check(Expand((2, 3, 17, 5)), x)
    check(Pad((0, 1, 2), (3, 0, 1), "constant"), x, None)
    check(Trilu(True, 1), x)
    check(Gather(1), x, np.array([[0, -1], [16, 3]]))


@both
@either
@pytest.mark.parametrize("shape", [(2, 3, 4), (16, 1, 33), (5, 0, 2), (1, 1, 1)], ids=str)
def test_transpose(shape: tuple[int, ...], symbolic: bool) -> None:
    for perm in [(0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 1, 0), (1, 2, 0)]:
        check(Transpose(perm), random(*shape), symbolic=symbolic)


@both
@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 1023, 1024, 1025, 2049])
@either
def test_sizes_around_a_block(size: int, symbolic: bool) -> None:
    check(Unary("neg"), random(size), symbolic=symbolic)


def test_tensors_without_axes() -> None:
    check(Transpose(()), random())
    check(Unary("abs"), np.float32(-2))
    check(Binary("add"), np.float32(1), random(3))
    check(Where(), np.array(True), np.float32(1), np.float32(2))
    check(Expand((3, 2)), np.float32(7))
    check(Reshape(()), random(1))


@both
@either
def test_broadcasts(symbolic: bool) -> None:
    x, y, z = random(3, 1, 5), random(7, 1, seed=1), random(seed=2)
    check(Binary("add"), x, y, symbolic=symbolic)
    check(Binary("sub"), y, x, symbolic=symbolic)
    check(Binary("mul"), x, z, symbolic=symbolic)
    check(Where(), x > 0, y, z, symbolic=symbolic)
    check(Binary("max"), random(4, 0), random(4, 1), symbolic=symbolic)


@pytest.mark.parametrize("fits", [1, 7])
def test_an_extent_that_broadcasts_at_run_time(fits: int) -> None:
    node = GpuNode(Binary("add"), random(3, 7), random(7, seed=1), symbolic=[7, 3])
    for extent in (7, 1, 33):
        x, y = random(2, extent, seed=2), random(extent, seed=3)
        np.testing.assert_array_equal(node.run([x, y])[0], x + y)


@either
@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_pad(mode: str, symbolic: bool) -> None:
    x = random(4, 5)
    for before, after in (((0, 0), (0, 0)), ((1, 2), (3, 0)), ((9, 0), (0, 11))):
        check(Pad(before, after, mode), x, None, symbolic=symbolic)
    check(Pad((2, 3), (1, 1), mode), random(1, 2), None, symbolic=symbolic)


@each_type
def test_what_pads(dtype: Any) -> None:
    x = some(4, 5, dtype=dtype)
    for number in (0, 1, 3) if dtype is not np.bool_ else (False, True):
        check(Pad((1, 2), (3, 0), "constant"), x, np.array(number, dtype))
        check(Pad((1, 2), (3, 0), "constant"), x, np.array(number, dtype), constants=[1])
    if np.dtype(dtype).kind == "f":
        for special in (np.inf, -np.inf, np.nan, -0.0):
            check(Pad((0, 1), (0, 1), "constant"), x, np.array(special, dtype), constants=[1])


def test_pad_with_the_greatest_integers() -> None:
    for dtype in (np.int8, np.uint8, np.int64, np.uint64):
        for number in (np.iinfo(dtype).min, np.iinfo(dtype).max):
            check(Pad((1,), (1,), "constant"), some(3, dtype=dtype), np.array(number, dtype), constants=[1])


@either
def test_concat_into_one_buffer(symbolic: bool) -> None:
    parts = [random(3, n, 5, seed=n) for n in (2, 1, 16, 0, 7)]
    check(Concat(1), *parts, symbolic=symbolic)
    check(Concat(0), random(2), random(3))
    check(Concat(0), random(40, 3))


def test_symbolic_shapes() -> None:
    n, m = Symbol("s5"), Symbol("s7")
    x = random(5, 7)
    check(Reshape((n * m,)), x, symbolic=True)
    check(Expand((3, n, m)), x, symbolic=True)
    check(Tile((n, 2)), x, symbolic=True)
    check(Slice((n // 2, m - 1), (n - n // 2, m), (1, -1)), x, symbolic=True)
    check(Pad((n, 0), (1, m), "constant"), x, np.array(2.5, np.float32), symbolic=True)
    check(Trilu(False, m - n), x, symbolic=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32, np.int64])
def test_range(dtype: Any) -> None:
    check(Range(37), np.array(3, dtype), np.array(2, dtype))
    check(Range(9), np.array(5, dtype), np.array(-1, dtype))
    check(Range(0), np.array(5, dtype), np.array(1, dtype))


def test_numbers_of_dims() -> None:
    check(DimTensor((2, 3, 4, 5, 6, 7), (2, 3)))
    check(DimTensor((7,), ()))


def test_reversed_sequences() -> None:
    check(ReverseSequence(1, 0), random(5, 4, 3), np.array([0, 1, 5, 3]))
    check(ReverseSequence(0, 1), random(5, 4, 3), np.array([0, 1, 2, 4, 3], np.int32), symbolic=True)


# --- arithmetic


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float16, ml_dtypes.bfloat16], ids=lambda d: np.dtype(d).name
)
def test_arithmetic_of_floats(dtype: Any) -> None:
    x, y = random(5, 7, dtype=dtype), random(5, 7, dtype=dtype, seed=1)
    for fn in ("exp", "tanh", "sigmoid", "erf", "floor", "sqrt"):
        check(Unary(fn), np.abs(x))
    for fn in ("add", "sub", "mul", "div", "max", "min"):
        check(Binary(fn), x, y)
    for fn in ("lt", "eq"):
        check(Compare(fn), x, np.where(y > 0, x, y).astype(dtype))
    check(Clip(-0.5, 0.25), x)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64], ids=lambda d: np.dtype(d).name)
def test_arithmetic_of_integers_wraps(dtype: Any) -> None:
    limits = np.iinfo(dtype)
    x = np.array([limits.min, limits.max, 1, 3, limits.max // 2, limits.min], dtype)
    y = np.array([limits.max, limits.max, 2, 0, 3, limits.max], dtype)
    for fn in ("add", "sub", "mul", "div", "max", "min"):
        check(Binary(fn), x, y)
    check(Unary("abs"), x)
    check(Compare("ge"), x, y)


def test_logic() -> None:
    x, y = np.array([True, True, False, False]), np.array([True, False, True, False])
    for fn in ("and", "or", "xor"):
        check(Binary(fn), x, y)
    check(Unary("not"), x)
    check(Compare("eq"), x, y)


@pytest.mark.parametrize("target", TYPES, ids=lambda d: np.dtype(d).name)
@each_type
def test_casts(dtype: Any, target: Any) -> None:
    check(Cast(from_numpy(np.dtype(target))), some(3, 5, dtype=dtype))


def test_special_numbers_pass() -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 3e38], np.float32)
    check(Binary("max"), x, x[::-1].copy())
    check(Binary("min"), x, x[::-1].copy())
    check(Clip(-1.0, 1.0), x)
    check(Transpose((0,)), x)


# --- indices from data


@either
@pytest.mark.parametrize("indices", [np.int64, np.int32])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gather(axis: int, indices: Any, symbolic: bool) -> None:
    x = random(5, 6, 17)
    check(Gather(axis), x, np.array([[0, -1, 4], [3, -5, 2]], indices), symbolic=symbolic)
    check(Gather(axis), x, np.array(2, indices), symbolic=symbolic)
    check(Gather(axis), x, np.zeros((0, 2), indices), symbolic=symbolic)


@either
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gather_elements(axis: int, symbolic: bool) -> None:
    x = random(5, 6, 17)
    shape = [4, 5, 16]
    shape[axis] = 9
    at = np.random.default_rng(0).integers(-x.shape[axis], x.shape[axis], shape)
    check(GatherElements(axis), x, at, symbolic=symbolic)


@pytest.mark.parametrize(("batch", "width"), [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (2, 1), (1, 0)])
def test_gather_nd(batch: int, width: int) -> None:
    x = random(3, 4, 5)
    at = np.random.default_rng(1).integers(-3, 3, (*(3, 4, 2)[: batch + 1], 7, width))
    check(GatherND(batch), x, at)


@pytest.mark.parametrize("values", [np.float32, np.int64, np.bool_, np.float16])
def test_one_hot(values: Any) -> None:
    at = np.array([[0, 1, 5], [-1, -7, 4]])
    for axis in range(3):
        check(OneHot(axis, 6), at, np.array([0, 1]).astype(values))


FAULTS: list[tuple[Any, Array, list[int]]] = [
    (Gather(0), np.zeros(70, np.int64), [69, 4]),
    (Gather(1), np.zeros((2, 40), np.int32), [5]),
    (GatherElements(1), np.zeros((4, 17), np.int64), [5]),
    (GatherND(0), np.zeros((9, 2), np.int64), [9]),
]


@both
@pytest.mark.parametrize(("op", "at", "bad"), FAULTS, ids=[type(f[0]).__name__ for f in FAULTS])
def test_bad_indices_are_faults_wherever_they_stand(op: Any, at: Array, bad: list[int]) -> None:
    """One bad index among good ones, in the first program or the last; good ones alone are none."""
    x = random(4, 5)
    node = GpuNode(op, x, at)
    node.run()
    for position in (0, at.size - 1):
        for index in (*bad, -6, 1 << 30):
            wrong = at.copy()
            wrong.flat[position] = index
            with pytest.raises(IndexFault):
                node.run([x, wrong])


def test_an_index_beyond_32_bits_is_a_fault() -> None:
    x = random(4, 5)
    node = GpuNode(Gather(0), x, np.zeros(3, np.int64))
    for index in (1 << 32, (1 << 32) + 1, -(1 << 40), np.iinfo(np.int64).min):
        with pytest.raises(IndexFault):
            node.run([x, np.array([0, index, 1])])


# --- layouts of parameters


LAYOUTS = {
    "channels_last": "<0.2.3.1 pad(undefined)>",
    "blocked": "<0.1.2.3.1b16 pad(undefined)>",
    "halos": "<0.2.3.1 halo(2, 1, 2, zero) halo(3, 1, 1, zero) pad(undefined)>",
}


@pytest.mark.parametrize("left", LAYOUTS)
@pytest.mark.parametrize("right", LAYOUTS)
def test_layouts(left: str, right: str) -> None:
    text = f"""kernel moved {{
  symbol h
  symbol n
  read x: f32[n, 20, h, 5]{LAYOUTS[left]}
  write y: f32[n, 20, h, 5]{LAYOUTS[right]}
  axis b: n
  axis c: 20
  axis i: h
  axis j: 5
  for b, c, i, j: y[b, c, i, j] = x[b, c, i, j] + 1.0
}}
"""
    kernel = parse(text)
    for n, h in ((1, 3), (2, 1), (3, 7), (0, 2), (2, 0)):
        symbols = {"n": n, "h": h}
        x = random(n, 20, h, 5)
        tensors = {}
        for param in kernel.params:
            physical = tuple(evaluate(extent, symbols) for extent in param.type.physical_shape)
            room = poisoned(TensorType(DType.F32, physical), {})
            tensors[param.name] = Memory(room, param.type, x.shape)
        tensors["x"].assign(x)
        before = tensors["y"].physical.copy()
        emulate_kernel(emit_kernel(kernel), {k: t.physical.reshape(-1) for k, t in tensors.items()}, symbols)
        np.testing.assert_array_equal(tensors["y"].whole(), x + 1)
        # Nothing but the elements is written: the others are NaN as before.
        assert np.isnan(before).all()
        assert np.count_nonzero(~np.isnan(tensors["y"].physical)) == x.size
        evaluated = {"x": x, "y": np.zeros_like(x)}
        evaluate_kernel(kernel, evaluated, symbols)
        np.testing.assert_array_equal(evaluated["y"], x + 1)
