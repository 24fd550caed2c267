"""Kernels of pointwise operators and conversions against the operators' own evaluation."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import pytest

from dlc.ir.dims import Guard, Relation, Symbol
from dlc.ir.dtypes import DType
from dlc.ir.graph import Graph
from dlc.ir.ops import scalar
from dlc.ir.ops.pointwise import Activation, Binary, BitCast, Cast, Clip, Compare, IsInf, Unary, Where
from dlc.ir.types import TensorType
from dlc.lowering.draft import Names
from dlc.lowering.evaluate import evaluate_kernel
from dlc.lowering.rules.registry import lower_node
from dlc.lowering.verify import verify_kernel
from dlc.verify.tolerances import Work
from tests.lowering.kernels import check_rule

Array: TypeAlias = "np.ndarray[Any, Any]"

SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    1.5,
    2.5,
    -2.5,
    1e-40,
    -1e-40,
    3e38,
    -3e38,
    math.inf,
    -math.inf,
    math.nan,
]
SHAPES: list[tuple[int, ...]] = [(), (1,), (7,), (3, 5), (2, 0, 3), (2, 1, 4)]


def random(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    """Numbers around 0."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def integers(*shape: int, dtype: Any = np.int32, low: int = -9, high: int = 10, seed: int = 0) -> Array:
    """Integers from low to high - 1."""
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


@pytest.mark.parametrize("fn", sorted(scalar.UNARY - {"not", "bitwise_not"}))
def test_unary_functions_of_special_values(fn: str) -> None:
    check_rule(Unary(fn), np.array(SPECIAL, np.float32))


@pytest.mark.parametrize("fn", sorted(scalar.UNARY - {"not", "bitwise_not"}))
@pytest.mark.parametrize("symbolic", [False, True])
def test_unary_functions(fn: str, symbolic: bool) -> None:
    check_rule(Unary(fn), random(3, 5), symbolic=symbolic)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("symbolic", [False, True])
def test_shapes(shape: tuple[int, ...], symbolic: bool) -> None:
    check_rule(Unary("tanh"), random(*shape), symbolic=symbolic)


@pytest.mark.parametrize("fn", ["abs", "neg", "sign", "relu"])
@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint8])
def test_unary_functions_of_integers(fn: str, dtype: Any) -> None:
    limits = np.iinfo(dtype)
    check_rule(Unary(fn), np.array([limits.min, limits.min + 1, 0, 1, 5, limits.max], dtype))


def test_logical_and_bitwise_not() -> None:
    check_rule(Unary("not"), np.array([True, False]))
    check_rule(Unary("bitwise_not"), integers(5, dtype=np.uint8, low=0, high=255))


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("fn", ["exp", "gelu", "round", "sigmoid"])
def test_other_float_types(fn: str, dtype: Any) -> None:
    check_rule(Unary(fn), random(4, 3, dtype=dtype))


ACTIVATIONS = [
    Activation("leaky_relu", 0.1),
    Activation("elu", 0.7),
    Activation("selu", 1.67, 1.05),
    Activation("celu", 0.8),
    Activation("hard_sigmoid", 0.2, 0.5),
    Activation("thresholded_relu", 0.3),
    Activation("swish", 1.3),
    Activation("shrink", 0.1, 0.4),
]


@pytest.mark.parametrize("op", ACTIVATIONS, ids=lambda op: op.fn)
def test_activations(op: Activation) -> None:
    check_rule(op, random(4, 6))
    check_rule(op, np.array(SPECIAL, np.float32))


@pytest.mark.parametrize(
    "op", [Clip(-0.5, 0.5), Clip(None, 0.25), Clip(0.0, None), Clip(), Clip(1.0, -1.0)], ids=str
)
def test_clip(op: Clip) -> None:
    check_rule(op, np.array([*SPECIAL, 0.3], np.float32))


def test_clip_of_integers() -> None:
    check_rule(Clip(-3, 4), integers(20))
    check_rule(Clip(2, None), integers(20, dtype=np.uint8, low=0))


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("negative", [False, True])
def test_is_inf(positive: bool, negative: bool) -> None:
    check_rule(IsInf(positive, negative), np.array(SPECIAL, np.float32))


BROADCASTS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((3, 4), (3, 4)),
    ((3, 4), (4,)),
    ((3, 1), (1, 4)),
    ((), (2, 3)),
    ((2, 3, 4), (3, 1)),
    ((0, 3), (1, 3)),
    ((0,), (1,)),
]


@pytest.mark.parametrize("fn", ["add", "sub", "mul", "div", "max", "min", "mod", "fmod", "prelu"])
def test_binary_functions(fn: str) -> None:
    left, right = np.meshgrid(np.array(SPECIAL, np.float32), np.array(SPECIAL, np.float32))
    check_rule(Binary(fn), left, right)


@pytest.mark.parametrize("shapes", BROADCASTS, ids=str)
@pytest.mark.parametrize("symbolic", [False, True])
def test_broadcasting(shapes: tuple[tuple[int, ...], tuple[int, ...]], symbolic: bool) -> None:
    left, right = (random(*shape, seed=seed) for seed, shape in enumerate(shapes))
    check_rule(Binary("sub"), left, right, symbolic=symbolic)


@pytest.mark.parametrize("fn", ["add", "sub", "mul", "div", "mod", "fmod", "max", "min", "pow"])
@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8])
def test_binary_functions_of_integers(fn: str, dtype: Any) -> None:
    limits = np.iinfo(dtype)
    numbers = np.array([limits.min, limits.min + 1, 0, 1, 2, 3, 7, limits.max], dtype)
    if fn == "pow":
        numbers = numbers[2:7]
    left, right = np.meshgrid(numbers, numbers)
    check_rule(Binary(fn), left, right)


@pytest.mark.parametrize("fn", ["bitwise_and", "bitwise_or", "bitwise_xor", "shift_left", "shift_right"])
@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint8, np.uint64])
def test_bit_functions(fn: str, dtype: Any) -> None:
    limits = np.iinfo(dtype)
    numbers = np.array([limits.min, 0, 1, 3, 7, 8, 31, limits.max], dtype)
    left, right = np.meshgrid(numbers, numbers)
    check_rule(Binary(fn), left, right)


@pytest.mark.parametrize("fn", ["and", "or", "xor"])
def test_logical_functions(fn: str) -> None:
    left, right = np.meshgrid([True, False], [True, False])
    check_rule(Binary(fn), left, right)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0, 3.0, -1.0, -2.0, 2.5])
def test_powers_with_a_constant_exponent(exponent: float) -> None:
    base = np.abs(random(3, 4)) + np.float32(0.1)
    lowered = check_rule(Binary("pow"), base, np.array(exponent, np.float32), constants=[1])
    assert len(lowered.kernel.params) == 2


def test_powers_of_mixed_types() -> None:
    check_rule(Binary("pow"), integers(6, low=0, high=5), np.array([0, 1, 2, 3, 2, 1], np.float32))
    check_rule(Binary("pow"), np.abs(random(6)) + np.float32(0.5), integers(6, low=-2, high=3))


@pytest.mark.parametrize("fn", ["eq", "lt", "le", "gt", "ge"])
def test_comparisons(fn: str) -> None:
    left, right = np.meshgrid(np.array(SPECIAL, np.float32), np.array(SPECIAL, np.float32))
    check_rule(Compare(fn), left, right)
    check_rule(Compare(fn), integers(3, 4), integers(4, seed=1))
    check_rule(Compare(fn), random(3, 4, dtype=np.float16), random(4, dtype=np.float16, seed=1))


def test_comparison_of_bools() -> None:
    left, right = np.meshgrid([True, False], [True, False])
    check_rule(Compare("eq"), left, right)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_, np.float16])
@pytest.mark.parametrize("symbolic", [False, True])
def test_where(dtype: Any, symbolic: bool) -> None:
    condition = integers(3, 1, low=0, high=2) > 0
    x, y = integers(4, dtype=dtype, low=0, high=2), integers(2, 1, 4, dtype=dtype, low=0, high=2, seed=1)
    check_rule(Where(), condition, x, y, symbolic=symbolic)


def test_an_operand_that_may_be_broadcast_is_read_where_it_is_only_at_run_time() -> None:
    """The guard of broadcasting says n == m, n == 1 or m == 1; the kernel serves all three."""
    n, m = Symbol("n"), Symbol("m")
    graph = Graph()
    left, right = (graph.add_input(name, TensorType(DType.F32, (s,))) for name, s in (("x", n), ("y", m)))
    from dlc.ir.builder import GraphBuilder

    GraphBuilder(graph).add(Binary("add"), left, right)
    (node,) = graph.nodes
    lowered = lower_node(node, Names(["n", "m"]))
    differ = (n - m) * (n - 1) * (m - 1)
    verify_kernel(lowered.kernel, [Guard(Relation.EQ, differ, 0, "extents do not broadcast")])
    for first, second in ((3, 3), (1, 3), (3, 1), (1, 1), (0, 1), (0, 0)):
        x, y = random(first), random(second, seed=1)
        out = np.full_like(x + y, np.nan)
        arrays = {"x": x, "y": y, "add": out}
        named = {name: arrays.get(value.name, out) for name, value in lowered.values.items()}
        evaluate_kernel(lowered.kernel, named, {"n": first, "m": second})
        np.testing.assert_array_equal(out, x + y)


CASTS = [
    (np.float32, np.float16),
    (np.float32, ml_dtypes.bfloat16),
    (np.float64, np.float32),
    (np.float32, np.int8),
    (np.float32, np.int32),
    (np.float32, np.int64),
    (np.float32, np.uint8),
    (np.float16, np.int16),
    (np.float32, np.bool_),
    (ml_dtypes.bfloat16, np.float64),
]


@pytest.mark.parametrize(("source", "target"), CASTS)
def test_casts_of_floats(source: Any, target: Any) -> None:
    from dlc.ir.dtypes import from_numpy

    values = [*SPECIAL, 127.9, 128.0, 255.5, 256.0, -128.5, -129.0, 1e10, -1e10, 0.3]
    with np.errstate(over="ignore"):
        x = np.array(values, np.float64).astype(source)
    check_rule(Cast(from_numpy(np.dtype(target))), x, work=Work.EXACT)


@pytest.mark.parametrize("source", [np.int8, np.uint8, np.int32, np.int64, np.bool_])
@pytest.mark.parametrize("target", [np.int8, np.uint8, np.int64, np.float32, np.float16, np.bool_])
def test_casts_of_integers(source: Any, target: Any) -> None:
    from dlc.ir.dtypes import from_numpy

    x = np.array([0, 1, 2, 127, -1, -128, 255, 256, 70000], np.int64).astype(source)
    check_rule(Cast(from_numpy(np.dtype(target))), x, work=Work.EXACT)


@pytest.mark.parametrize("to", [DType.F8E4M3FN, DType.F8E5M2, DType.F8E4M3FNUZ, DType.F8E5M2FNUZ])
@pytest.mark.parametrize("saturate", [False, True])
def test_casts_to_small_floats(to: DType, saturate: bool) -> None:
    x = np.array([*SPECIAL, 448.0, 460.0, 500.0, 57344.0, 0.001, 0.3], np.float32)
    check_rule(Cast(to, saturate), x, work=Work.EXACT)
    check_rule(Cast(DType.F32), x.astype(to.numpy), work=Work.EXACT)


@pytest.mark.parametrize("round_mode", ["up", "down", "nearest"])
def test_casts_to_powers_of_two(round_mode: str) -> None:
    x = np.array([0.0, 1.0, 1.5, 1.25, 3.0, 1e-40, 3e38, math.inf, math.nan], np.float32)
    check_rule(Cast(DType.F8E8M0, True, round_mode), x, work=Work.EXACT)


@pytest.mark.parametrize("to", [DType.I4, DType.U4])
def test_casts_to_sub_byte_integers(to: DType) -> None:
    check_rule(Cast(to), integers(12, dtype=np.int32, low=-8, high=16), work=Work.EXACT)


def test_bit_casts() -> None:
    check_rule(BitCast(DType.I32), np.array(SPECIAL, np.float32), work=Work.EXACT)
    check_rule(BitCast(DType.F16), integers(9, dtype=np.uint16, low=0, high=1 << 15), work=Work.EXACT)
