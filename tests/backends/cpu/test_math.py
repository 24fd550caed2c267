"""Vector math: the largest error in units in the last place, and every special value, on every target."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest

from dlc.backends.cpu import math as vmath, types as t
from dlc.backends.cpu.math import coefficients
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.objects import compile_assembly, instruction_statistics
from dlc.errors import InternalError
from dlc.target import CpuTarget, resolve
from tests.backends.cpu.harness import TARGETS, Library, apply_lanes, each_target

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

Array = np.ndarray
Reference = Callable[[Array], Array]


def elementwise(f: Callable[[float], float]) -> Reference:
    return lambda x: np.array([f(float(v)) for v in x], dtype=x.dtype)


def sigmoid(x: Array) -> Array:
    return np.where(x < 0, np.exp(-np.abs(x)), 1) / (1 + np.exp(-np.abs(x)))


def softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


@dataclass(frozen=True)
class Case:
    """`f32` and `f64`: the permitted error in units in the last place, a little above the measured one.

    For f64 the reference of erf is the C library, whose own error is included.
    """

    name: str
    reference: Reference
    f32: float
    f64: float
    low: float = -20.0
    high: float = 20.0


CASES = [
    Case("exp", np.exp, 1.0, 1.0, -110, 90),
    Case("exp2", np.exp2, 1.0, 1.0, -155, 130),
    Case("expm1", np.expm1, 1.5, 1.7, -30, 90),
    Case("tanh", np.tanh, 2.5, 2.5, -12, 12),
    Case("sigmoid", sigmoid, 2.2, 2.2, -110, 50),
    Case("softplus", softplus, 1.6, 1.6, -110, 50),
    Case("sinh", np.sinh, 2.0, 2.3, -90, 90),
    Case("cosh", np.cosh, 1.7, 1.7, -90, 90),
    Case("log", np.log, 0.9, 0.9, 0, 100),
    Case("log2", np.log2, 1.8, 1.8, 0, 100),
    Case("log1p", np.log1p, 1.4, 1.4, -1, 100),
    Case("asinh", np.arcsinh, 1.6, 1.6, -100, 100),
    Case("acosh", np.arccosh, 1.8, 1.8, 1, 100),
    Case("atanh", np.arctanh, 2.0, 2.0, -1, 1),
    Case("erf", elementwise(math.erf), 2.5, 3.2, -4.5, 4.5),
    Case("sin", np.sin, 1.6, 1.7),
    Case("cos", np.cos, 1.6, 1.7),
    Case("tan", np.tan, 3.1, 3.3),
    Case("asin", np.arcsin, 1.9, 2.1, -1, 1),
    Case("acos", np.arccos, 1.4, 1.4, -1, 1),
    Case("atan", np.arctan, 1.8, 1.8),
]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, math.inf, -math.inf, math.nan, -math.nan, 1e30, -1e30]


def samples(case: Case, dtype: type) -> Array:
    """Dense in the function's interesting range, random over all bit patterns, and the special values."""
    rng = np.random.default_rng(0)
    integers = np.uint32 if dtype is np.float32 else np.uint64
    count = 30000 if case.name != "erf" or dtype is np.float32 else 5000
    patterns = rng.integers(0, np.iinfo(integers).max, count, integers).view(dtype)
    info = np.finfo(dtype)
    edges = [info.max, -info.max, info.tiny, -info.tiny, info.smallest_subnormal, -info.smallest_subnormal]
    edges += [info.tiny / 2, 1 + info.eps, 1 - info.eps, 90.0, -90.0, 710.0, -746.0, 89.0, 88.7, -103.9]
    dense = np.linspace(case.low, case.high, 2 * count)
    near = np.geomspace(1e-8, 1, 2000) * np.where(np.arange(2000) % 2, 1, -1)
    return np.concatenate([dense, near, 1 + near / 2, SPECIAL, edges, patterns]).astype(dtype)


def ulp_error(got: Array, exact: Array) -> Array:
    """|got - exact| in units in the last place of the result's format; 0 where both are infinite or NaN."""
    rounded = exact.astype(got.dtype)
    unit = np.spacing(np.abs(np.where(np.isfinite(rounded), rounded, np.finfo(got.dtype).max)))
    error = np.abs(got.astype(exact.dtype) - exact) / unit.astype(exact.dtype)
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    infinite = ~same & ~(np.isfinite(got) & np.isfinite(rounded))
    error = np.where(same, np.minimum(error, 0.5), np.where(infinite, np.inf, error))
    return np.nan_to_num(error, nan=0.0, posinf=np.inf)


def check(case: Case, got: Array, x: Array, exact: Array, bound: float) -> None:
    error = ulp_error(got, exact)
    worst = int(np.argmax(error))
    assert error[worst] <= bound, f"{case.name}({x[worst]!r}) = {got[worst]!r}, not {exact[worst]!r}"
    zero = (got == 0) & (exact == 0)
    assert (np.signbit(got) == np.signbit(exact))[zero].all(), f"{case.name}: sign of zero"


def apply(target: CpuTarget, name: str, *args: Array) -> Array:
    return apply_lanes(target, lambda b, *values: vmath.emit(b, name, *values), *args)


@each_target
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_f32(target: CpuTarget, case: Case) -> None:
    x = samples(case, np.float32)
    check(case, apply(target, case.name, x), x, case.reference(x.astype(np.float64)), case.f32)


@each_target
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_f64(target: CpuTarget, case: Case) -> None:
    x = samples(case, np.float64)
    exact = case.reference(x.astype(np.longdouble))
    check(case, apply(target, case.name, x), x, exact, case.f64)


def test_every_function_has_a_case() -> None:
    assert {case.name for case in CASES} | {"pow", "gelu", "gelu_tanh"} == set(vmath.FUNCTIONS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_targets_agree_bit_for_bit(case: Case, dtype: type) -> None:
    x = samples(case, dtype)[::7]
    results = [apply(resolve(name), case.name, x) for name in TARGETS]
    for other in results[1:]:
        known = ~np.isnan(results[0])
        np.testing.assert_array_equal(other.view(np.uint8), np.where(known, results[0], other).view(np.uint8))


POWERS = [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5, 1.5, -1.5, math.inf, -math.inf, math.nan]
POWERS += [1e30, -1e30, 2.0**24, 2.0**24 - 1, 2.0**25, 1e-40, -1e-40, 127.0, 128.0, -149.0, -150.0]


@each_target
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_powers(target: CpuTarget, dtype: type) -> None:
    x, y = (np.array(v, dtype) for v in zip(*itertools.product(POWERS, POWERS)))
    got = apply(target, "pow", x, y)
    expected = np.power(x.astype(np.float64), y.astype(np.float64)).astype(dtype)
    np.testing.assert_allclose(got, expected, rtol=0 if dtype is np.float32 else 5e-16, atol=0)
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got)[known], np.signbit(expected)[known])


@each_target
def test_powers_are_accurate(target: CpuTarget) -> None:
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.uniform(0, 4, 50000), 10 ** rng.uniform(-37, 37, 50000)]).astype(np.float32)
    y = np.concatenate([rng.uniform(-60, 60, 50000), rng.uniform(-3, 3, 50000)]).astype(np.float32)
    exact = np.power(x.astype(np.longdouble), y.astype(np.longdouble))
    assert ulp_error(apply(target, "pow", x, y), exact).max() <= 0.51
    x, y = x.astype(np.float64)[::10], y.astype(np.float64)[::10]
    exact = np.power(x.astype(np.longdouble), y.astype(np.longdouble))
    assert ulp_error(apply(target, "pow", x, y), exact).max() <= 1.0
    small = np.arange(-27, 28, dtype=np.float32)  # 27**5 is below 2**24: all powers are exact
    for power in (2.0, 3.0, 4.0, 5.0):
        got = apply(target, "pow", small, np.full_like(small, power))
        np.testing.assert_array_equal(got, (small.astype(np.float64) ** power).astype(np.float32))


@each_target
@pytest.mark.parametrize("dtype,bound", [(np.float32, 4e-7), (np.float64, 1e-15)])
def test_gelu(target: CpuTarget, dtype: type, bound: float) -> None:
    x = np.linspace(-50, 50, 50001).astype(dtype)
    wide = x.astype(np.float64)
    scale = np.maximum(np.abs(wide), 1)
    exact = np.array([v * 0.5 * math.erfc(-v / math.sqrt(2)) for v in wide])
    assert (np.abs(apply(target, "gelu", x) - exact) / scale).max() < bound
    exact = 0.5 * wide * (1 + np.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)))
    assert (np.abs(apply(target, "gelu_tanh", x) - exact) / scale).max() < bound
    ends = np.array([math.inf, -math.inf, math.nan, 1e30, -1e30, 0.0, -0.0], dtype)
    for name in ("gelu", "gelu_tanh"):
        got = apply(target, name, ends)
        np.testing.assert_array_equal(got, np.array([math.inf, 0, math.nan, 1e30, 0, 0, 0], dtype))
        assert np.signbit(got)[[1, 4, 6]].all()


@each_target
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", ["exp", "tanh", "erf", "sin", "log"])
def test_small_floats_are_rounded_from_f32(target: CpuTarget, dtype: type, name: str) -> None:
    x = np.arange(65536, dtype=np.uint16).view(dtype)
    got, wide = apply(target, name, x), apply(target, name, x.astype(np.float32))
    np.testing.assert_array_equal(got.astype(np.float32), wide.astype(dtype).astype(np.float32))


@pytest.mark.parametrize("name", ["exp", "sin", "log1p", "pow"])
def test_scalars_and_other_widths(name: str) -> None:
    module = Module(resolve("x86-64-v3"))
    b = module.function("f", [("x", t.f32)], t.f32)
    args = b.params * (2 if name == "pow" else 1)
    wide = [b.splat(v, 8) for v in args]
    b.return_(b.fadd(vmath.emit(b, name, *args), b.extract(vmath.emit(b, name, *wide), 3)))
    reference = {"exp": math.exp, "sin": math.sin, "log1p": math.log1p, "pow": lambda v: v**v}[name]
    for v in (0.75, 3.5, 70000.0):
        if v < 80 or name in ("sin", "log1p"):
            assert Library(module).f(v) == pytest.approx(2 * reference(v), rel=1e-6)


@pytest.mark.parametrize("level", ["x86-64-v3", "x86-64-v4"])
def test_no_calls_and_no_spills(level: str) -> None:
    for name in ("exp", "tanh", "erf", "sigmoid", "log", "sqrt", "atan"):
        module = Module(resolve(level))
        b = module.function("f", [("x", t.ptr)])
        v = b.load(b.params[0], t.vector(16, t.f32))
        b.store(b.sqrt(v) if name == "sqrt" else vmath.emit(b, name, v), b.params[0])
        stats = instruction_statistics(compile_assembly(module.text(), module.target), "f")
        assert stats.calls == 0 and stats.spills == 0, name


def test_wrong_uses_are_refused() -> None:
    b = Module(resolve("x86-64-v3")).function("f", [("x", t.f32), ("n", t.i32), ("y", t.f64)])
    x, n, y = b.params
    for name, args in (("lgamma", (x,)), ("exp", (n,)), ("pow", (x, y))):
        with pytest.raises(InternalError):
            vmath.emit(b, name, *args)


def test_coefficients_are_reproduced() -> None:
    pytest.importorskip("mpmath")
    from tests.backends.cpu.fit_coefficients import tables

    for name, (numbers, _) in tables().items():
        assert tuple(numbers) == getattr(coefficients, name)
