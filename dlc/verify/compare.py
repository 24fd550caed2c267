"""Elementwise comparison of what two engines computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np

from dlc.verify.tolerances import Tolerance, is_float

Array: TypeAlias = np.ndarray[Any, Any]
#: A tensor, a map to numbers or strings, a sequence of these, or the absent value of an optional.
Value: TypeAlias = Array | Mapping[Any, Any] | Sequence["Value"] | None


@dataclass(frozen=True)
class Difference:
    """How one tensor differs from the expected one.

    `problem` is a sentence when the two cannot be compared elementwise (dtype, shape, kind), else None. The
    statistics cover elements that are finite in both; `nonfinite` counts positions where NaN or an infinity
    stands in only one (NaN agrees with NaN, an infinity with the same infinity, -0 with 0). `max_ulp` counts
    representable numbers between the two, in the dtype of the expected tensor; it is 0 for integers.
    `worst` is the index of the element farthest beyond its tolerance, with both values as text; `first` that
    of the first element beyond it in row-major order, which tells more of a wrong index or a wrong tail.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    elements: int
    mismatched: int
    nonfinite: int
    max_abs: float
    max_rel: float
    max_ulp: int
    rms: float
    worst: tuple[int, ...] | None
    worst_values: tuple[str, str] | None
    tolerance: Tolerance
    problem: str | None = None
    first: tuple[int, ...] | None = None

    @property
    def agrees(self) -> bool:
        """Whether every element is within the tolerance."""
        return self.problem is None and self.mismatched == 0

    def to_dict(self) -> dict[str, Any]:
        """The difference as JSON-compatible data."""
        return {**asdict(self), "agrees": self.agrees}


def compare_values(name: str, actual: Value, expected: Value, tolerance: Tolerance) -> list[Difference]:
    """The differences of one output: one a tensor or map, so several for a sequence, named `name[index]`."""
    if expected is None or actual is None:
        if expected is None and actual is None:
            return []
        return [_incomparable(name, expected, tolerance, "a value is absent in one of the two")]
    if isinstance(expected, np.ndarray | np.generic) and isinstance(actual, np.ndarray | np.generic):
        return [compare_arrays(name, np.asarray(actual), np.asarray(expected), tolerance)]
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        return [_compare_maps(name, actual, expected, tolerance)]
    if not (isinstance(expected, Sequence) and isinstance(actual, Sequence)):
        return [_incomparable(name, expected, tolerance, "values of two kinds")]
    if len(actual) != len(expected):
        message = f"{len(actual)} elements in the sequence, {len(expected)} expected"
        return [_incomparable(name, expected, tolerance, message)]
    pairs = enumerate(zip(actual, expected))
    return [found for i, (a, e) in pairs for found in compare_values(f"{name}[{i}]", a, e, tolerance)]


def compare_arrays(name: str, actual: Array, expected: Array, tolerance: Tolerance) -> Difference:
    """The difference between two tensors. Nothing is broadcast or cast: shape and dtype must be equal."""
    if actual.dtype != expected.dtype and not (actual.dtype.kind in "OUT" and expected.dtype.kind in "OUT"):
        return _incomparable(name, expected, tolerance, f"dtype {actual.dtype}, {expected.dtype} expected")
    if actual.shape != expected.shape:
        shapes = f"shape {list(actual.shape)}, {list(expected.shape)} expected"
        return _incomparable(name, expected, tolerance, shapes)
    if expected.dtype.kind == "c":
        return _compare_floats(name, _parts(actual), _parts(expected), tolerance)
    if is_float(expected.dtype):
        return _compare_floats(name, actual, expected, tolerance)
    return _compare_exactly(name, actual, expected, tolerance)


def _compare_maps(
    name: str, actual: Mapping[Any, Any], expected: Mapping[Any, Any], tolerance: Tolerance
) -> Difference:
    """The difference between the values of two maps with the same keys; Python's floats count as float32."""
    keys = sorted(expected)
    if keys != sorted(actual):
        return _incomparable(name, None, tolerance, "maps with other keys")
    arrays = [np.array([values[key] for key in keys]) for values in (actual, expected)]
    one, other = (array.astype(np.float32) if array.dtype == np.float64 else array for array in arrays)
    return compare_arrays(name, one, other, tolerance)


def ulp_distance(actual: Array, expected: Array) -> Array:
    """Representable numbers between elements of two float tensors of one dtype, as uint64; -0 equals 0."""
    unsigned = np.dtype(f"u{expected.dtype.itemsize}")
    sign = np.uint64(1 << (8 * unsigned.itemsize - 1))

    def split(array: Array) -> tuple[Array, Array]:
        bits = np.ascontiguousarray(array).view(unsigned).astype(np.uint64)
        return bits & ~sign, (bits & sign) != 0

    (a, a_negative), (e, e_negative) = split(actual), split(expected)
    distance: Array = np.where(a_negative == e_negative, np.maximum(a, e) - np.minimum(a, e), a + e)
    return distance


def distance(actual: Array, exact: Array) -> float:
    """max |actual - exact| / RMS(exact) over finite elements: the measure of the float64 test.

    Infinite when the shapes differ or when NaN or infinities stand at other places; 0 for empty tensors.
    """
    if actual.shape != exact.shape:
        return float("inf")
    a, e = _wide(_parts(actual)), _wide(_parts(exact))
    finite = np.isfinite(e)
    # A narrow dtype overflows where float64 does not: that is the dtype's doing, and equal in both engines.
    if not np.array_equal(np.isnan(a), np.isnan(e)) or not np.isfinite(a[finite]).all():
        return float("inf")
    if not finite.any():
        return 0.0
    error, scale = float(np.max(np.abs(a[finite] - e[finite]))), rms(e)
    return error / scale if scale > 0 else (0.0 if error == 0 else float("inf"))


def rms(array: Array) -> float:
    """Root mean square of the finite elements (0 if there are none), safe against overflow of the squares."""
    values = np.abs(array[np.isfinite(array)])
    top = float(values.max(initial=0.0))
    return 0.0 if top == 0 else top * float(np.sqrt(np.mean(np.square(values / top))))


def _compare_floats(name: str, actual: Array, expected: Array, tolerance: Tolerance) -> Difference:
    a, e = _wide(actual), _wide(expected)
    finite = np.isfinite(a) & np.isfinite(e)
    same = (np.isnan(a) & np.isnan(e)) | (a == e)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.where(finite, np.abs(a - e), np.where(same, 0.0, np.inf))
    scale = 1.0 if tolerance.absolute else rms(e)
    allowed = tolerance.rtol * np.where(finite, np.abs(e), 0.0) + tolerance.atol * scale
    wrong = ~same & ~(error <= allowed)
    nonzero = finite & (e != 0)
    index = None
    if wrong.any():
        flat = int(np.argmax(np.where(wrong, error - allowed, -1.0)))
        index = tuple(int(i) for i in np.unravel_index(flat, e.shape))
    return Difference(
        name=name,
        dtype=str(expected.dtype),
        shape=expected.shape,
        elements=expected.size,
        mismatched=int(wrong.sum()),
        nonfinite=int((~finite & ~same).sum()),
        max_abs=float(error[finite].max(initial=0.0)),
        max_rel=float((error[nonzero] / np.abs(e[nonzero])).max(initial=0.0)),
        max_ulp=int(ulp_distance(actual[finite], expected[finite]).max(initial=0)),
        rms=rms(e),
        worst=index,
        worst_values=None if index is None else (str(actual[index]), str(expected[index])),
        tolerance=tolerance,
        first=_first(wrong),
    )


def _compare_exactly(name: str, actual: Array, expected: Array, tolerance: Tolerance) -> Difference:
    """Integers, booleans and strings: equal or not, with the size of the difference for integers."""
    wrong = np.asarray(actual != expected)
    largest = 0
    if expected.dtype.kind not in "OUTSb" and wrong.any():
        largest = max(abs(int(a) - int(e)) for a, e in zip(actual[wrong][:1000], expected[wrong][:1000]))
    worst = _first(wrong)
    return Difference(
        name=name,
        dtype=str(expected.dtype),
        shape=expected.shape,
        elements=expected.size,
        mismatched=int(wrong.sum()),
        nonfinite=0,
        max_abs=float(largest),
        max_rel=0.0,
        max_ulp=0,
        rms=0.0,
        worst=worst,
        worst_values=None if worst is None else (str(actual[worst]), str(expected[worst])),
        tolerance=tolerance,
        first=worst,
    )


def _first(wrong: Array) -> tuple[int, ...] | None:
    """The first index at which `wrong` is true."""
    if not wrong.any():
        return None
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))


def _incomparable(name: str, expected: Value, tolerance: Tolerance, problem: str) -> Difference:
    array = expected if isinstance(expected, np.ndarray) else np.empty(0)
    return Difference(
        name=name,
        dtype=str(array.dtype),
        shape=array.shape,
        elements=array.size,
        mismatched=array.size,
        nonfinite=0,
        max_abs=float("inf"),
        max_rel=float("inf"),
        max_ulp=0,
        rms=0.0,
        worst=None,
        worst_values=None,
        tolerance=tolerance,
        problem=problem,
    )


def _parts(array: Array) -> Array:
    """Complex numbers as pairs of reals in a last axis of 2; other arrays unchanged."""
    return np.stack([array.real, array.imag], axis=-1) if array.dtype.kind == "c" else array


def _wide(array: Array) -> Array:
    """The values in float64, exactly (all dtypes compared as floats are at most that wide)."""
    return array.astype(np.float64)
