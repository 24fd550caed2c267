"""Elementwise comparison: special values, statistics, ulps, exact dtypes, and tolerances that bite."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as numpy_strategies

from dlc.verify import Tolerance, Work, compare_arrays, compare_values, distance, tolerance, ulp_distance
from dlc.verify.compare import rms

EXACT = Tolerance(0.0, 0.0, 0.0)
FLOATS = [np.dtype(name) for name in ("float16", "float32", "float64")]
FLOATS += [np.dtype(ml_dtypes.bfloat16), np.dtype(ml_dtypes.float8_e4m3fn)]
INEXACT = [work for work in Work if work is not Work.EXACT]

nan, inf = math.nan, math.inf


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("actual", "expected", "mismatched", "nonfinite"),
    [
        (f32(1, 2), f32(1, 2), 0, 0),
        (f32(nan, inf, -inf), f32(nan, inf, -inf), 0, 0),
        (f32(0.0), f32(-0.0), 0, 0),
        (f32(nan, 1), f32(1, nan), 2, 2),
        (f32(inf), f32(-inf), 1, 1),
        (f32(3e38), f32(inf), 1, 1),
        (f32(), f32(), 0, 0),
        (f32(1, 2.001), f32(1, 2), 1, 0),
    ],
)
def test_special_values(actual: np.ndarray, expected: np.ndarray, mismatched: int, nonfinite: int) -> None:
    found = compare_arrays("y", actual, expected, EXACT)
    assert (found.mismatched, found.nonfinite) == (mismatched, nonfinite)
    assert found.agrees == (mismatched == 0)


def test_statistics() -> None:
    expected = f32(3, -4, 0, 0).reshape(2, 2)
    actual = expected + f32(0.5, 1, 0, 0.25).reshape(2, 2)
    found = compare_arrays("y", actual, expected, EXACT)
    assert (found.max_abs, found.max_rel, found.rms) == (1.0, 0.25, 2.5)
    assert found.worst == (0, 1) and found.worst_values == ("-3.0", "-4.0")
    assert (found.mismatched, found.elements, found.shape) == (3, 4, (2, 2))


def test_atol_is_relative_to_the_scale_of_the_tensor_unless_absolute() -> None:
    expected, actual = f32(1000, 1000), f32(1000, 1005)
    assert compare_arrays("y", actual, expected, Tolerance(0, 0.01, 0)).agrees
    assert not compare_arrays("y", actual, expected, Tolerance(0, 0.01, 0, absolute=True)).agrees
    assert compare_arrays("y", actual, expected, Tolerance(0, 5, 0, absolute=True)).agrees


@pytest.mark.parametrize("power", [-60, -3, 7, 60])
def test_scaling_by_a_power_of_two_changes_no_verdict(power: int) -> None:
    rng = np.random.default_rng(5)
    expected = rng.standard_normal(1000).astype(np.float32)
    for size in (1e-6, 1e-4, 1e-3, 1e-2):
        actual = expected + (size * rng.standard_normal(1000)).astype(np.float32)
        plain = compare_arrays("y", actual, expected, tolerance(expected.dtype, Work.MODEL))
        scaled = [np.ldexp(array, power) for array in (actual, expected)]
        found = compare_arrays("y", *scaled, tolerance(expected.dtype, Work.MODEL))
        assert (found.mismatched, found.max_rel) == (plain.mismatched, plain.max_rel)


@pytest.mark.parametrize(
    ("actual", "expected", "words"),
    [
        (f32(1), np.array([1.0]), "dtype float32, float64 expected"),
        (np.zeros(1, np.int32), np.zeros(1, np.int64), "dtype int32"),
        (f32(1, 1), f32(1, 1).reshape(2, 1), "shape [2], [2, 1] expected"),
        (f32(1), f32(1).reshape(()), "shape [1], [] expected"),
        (None, f32(1), "absent"),
        ([f32(1)], f32(1), "values of two kinds"),
        ([f32(1)], [f32(1), f32(2)], "1 elements in the sequence, 2 expected"),
    ],
)
def test_what_cannot_be_compared_disagrees(actual: object, expected: object, words: str) -> None:
    (found,) = compare_values("y", actual, expected, tolerance(np.dtype(np.float32), Work.MODEL))
    assert not found.agrees and found.problem is not None and words in found.problem


def test_sequences_are_compared_element_by_element() -> None:
    found = compare_values("y", [f32(1), [f32(2)]], [f32(1), [f32(3)]], EXACT)
    assert [(item.name, item.agrees) for item in found] == [("y[0]", True), ("y[1][0]", False)]
    assert compare_values("y", None, None, EXACT) == []


def test_maps_are_compared_key_by_key() -> None:
    (found,) = compare_values("y", [{"a": 1.0, "b": 2.0}], [{"b": 2.0, "a": 1.0}], EXACT)
    assert found.agrees and found.name == "y[0]" and found.elements == 2
    (found,) = compare_values("y", {1: 1.0, 2: 2.5}, {1: 1.0, 2: 2.0}, EXACT)
    assert not found.agrees and found.mismatched == 1
    (found,) = compare_values("y", {1: 1.0}, {2: 1.0}, EXACT)
    assert found.problem == "maps with other keys"


@pytest.mark.parametrize(
    ("actual", "expected", "largest"),
    [
        (np.array([1, 2, 300]), np.array([1, 2, 3]), 297.0),
        (np.array([2**63 - 1]), np.array([-(2**63)]), float(2**64 - 1)),
        (np.array([0], np.uint8), np.array([255], np.uint8), 255.0),
        (np.array([True]), np.array([False]), 0.0),
        (np.array(["a"], object), np.array(["b"], object), 0.0),
        (np.array([3], ml_dtypes.int4), np.array([-8], ml_dtypes.int4), 11.0),
    ],
)
def test_integers_booleans_and_strings_are_exact(
    actual: np.ndarray, expected: np.ndarray, largest: float
) -> None:
    loose = Tolerance(1.0, 1.0, 8.0)
    found = compare_arrays("y", actual, expected, loose)
    assert found.mismatched == 1 and found.max_abs == largest and found.worst is not None
    assert compare_arrays("y", expected, expected, loose).agrees


def test_complex_numbers() -> None:
    expected = np.array([1 + 2j], np.complex64)
    bound = tolerance(expected.dtype, Work.POINTWISE)
    assert compare_arrays("y", expected, expected, bound).agrees
    assert not compare_arrays("y", expected + np.complex64(0.1j), expected, bound).agrees


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_ulp_distance_counts_representable_numbers(dtype: np.dtype) -> None:
    unsigned = np.dtype(f"u{dtype.itemsize}")
    steps = np.array([0, 1, 2, 5, 40], unsigned)
    one = np.ones(5, dtype).view(unsigned)
    np.testing.assert_array_equal(ulp_distance((one + steps).view(dtype), one.view(dtype)), steps)
    smallest = np.array([1], unsigned).view(dtype)
    assert ulp_distance(smallest, -smallest)[0] == 2 and ulp_distance(-0 * smallest, 0 * smallest)[0] == 0


@settings(deadline=None)
@given(numpy_strategies.arrays(np.float64, 5, elements=st.floats(-1e300, 1e300)))
def test_rms_does_not_overflow(values: np.ndarray) -> None:
    found = rms(values)
    assert 0 <= found <= np.abs(values).max() * (1 + 1e-12)
    assert found > 0 or np.abs(values).max() < 1e-300


@pytest.mark.parametrize("work", INEXACT)
@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float64)], ids=str)
def test_a_perturbation_of_ten_times_the_tolerance_fails(dtype: np.dtype, work: Work) -> None:
    bound = tolerance(dtype, work)
    expected = np.random.default_rng(0).standard_normal(500).astype(dtype)
    scale = rms(expected)
    for index in (0, 250, 499):
        allowed = bound.rtol * abs(float(expected[index])) + bound.atol * scale
        for factor, agrees in ((0.5, True), (10.0, False)):
            actual = expected.copy()
            actual[index] += dtype.type(factor * allowed)
            assert compare_arrays("y", actual, expected, bound).agrees is agrees


def test_the_table_is_ordered_and_exact_where_it_must_be() -> None:
    for dtype in FLOATS:
        assert tolerance(dtype, Work.EXACT) == EXACT
        for work in INEXACT:
            entry = tolerance(dtype, work)
            assert entry.rtol > 0 and entry.atol > 0 and entry.factor >= 4 and not entry.absolute
            assert entry.rtol >= tolerance(dtype, Work.POINTWISE).rtol
    for name in ("int8", "int64", "bool", "object"):
        assert tolerance(np.dtype(name), Work.MODEL) == EXACT
    assert tolerance(np.dtype(np.float32), Work.MODEL).rtol == pytest.approx(1e-3, rel=0.05)


def test_distance() -> None:
    exact = np.array([3.0, -4.0, 0.0, 0.0])
    assert distance(exact.astype(np.float32), exact) == 0
    assert distance(f32(3, -4, 0, 0.5), exact) == 0.2
    assert distance(f32(nan, -4, 0, 0), exact) == inf
    assert distance(f32(inf, -4, 0, 0), exact) == inf
    assert distance(f32(3, -4), exact) == inf
    assert distance(f32(nan, 1), np.array([nan, 1.0])) == 0
    assert distance(f32(), np.empty(0)) == 0
