"""Reproduces dlc/backends/cpu/math/coefficients.py: python -m tests.backends.cpu.fit_coefficients.

Each table is the polynomial of smallest weighted maximum error for a function on an interval (Remez exchange
in multiple precision, mpmath), rounded to the table's type. Needs mpmath, a dependency of the tests only.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath as mp

mp.mp.dps = 60
TINY = mp.mpf(10) ** -18  # in place of 0, where the quotients below are 0 / 0

Function = Callable[[Any], Any]


def one(_: Any) -> Any:
    return mp.mpf(1)


@dataclass(frozen=True)
class Fit:
    """A polynomial in (x - `origin`) for `function` on [low, high], of minimal largest error times `weight`.

    `f32` and `f64` are the degrees of the tables in these types.
    """

    name: str
    meaning: str
    function: Function
    low: Any
    high: Any
    f32: int | None
    f64: int | None
    weight: Function = one
    origin: float = 0.0


def remez(fit: Fit, degree: int) -> tuple[list[Any], Any]:
    """Coefficients, lowest first, and the weighted maximum error."""
    low, high = mp.mpf(fit.low), mp.mpf(fit.high)
    middle, half = (low + high) / 2, (high - low) / 2
    nodes = [middle - half * mp.cos(mp.pi * k / (degree + 1)) for k in range(degree + 2)]
    samples = 16 * (degree + 2)
    grid = [middle - half * mp.cos(mp.pi * (k + mp.mpf(1) / 2) / samples) for k in range(samples)] + [high]
    table = [(x, fit.function(x), fit.weight(x)) for x in grid]
    for _ in range(12):
        # p(x) +- e / weight(x) = f(x), signs alternating; scaled, so that it is well conditioned.
        rows = [
            [((x - middle) / half) ** k for k in range(degree + 1)] + [(-1) ** n / fit.weight(x)]
            for n, x in enumerate(nodes)
        ]
        solution = mp.lu_solve(mp.matrix(rows), mp.matrix([fit.function(x) for x in nodes]))
        scaled = list(solution)[:-1]
        errors = [(w * (mp.polyval(scaled[::-1], (x - middle) / half) - y), x) for x, y, w in table]
        peaks = alternating_peaks(errors)
        largest = max(abs(e) for e, _ in errors)
        if len(peaks) != degree + 2 or largest < abs(solution[degree + 1]) * mp.mpf("1.001"):
            break
        nodes = [x for _, x in peaks]
    # From powers of (x - middle) / half to powers of x - origin, by Horner's rule on polynomials.
    result: list[Any] = [mp.mpf(0)]
    shift, scale = (mp.mpf(fit.origin) - middle) / half, 1 / half
    for c in reversed(scaled):
        longer = [mp.mpf(0)] * (len(result) + 1)
        for k, v in enumerate(result):
            longer[k] += v * shift
            longer[k + 1] += v * scale
        longer[0] += c
        result = longer
    return result[: degree + 1], largest


def alternating_peaks(errors: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """The largest error of each run of equal signs."""
    peaks = [errors[0]]
    for e, x in errors[1:]:
        if (e > 0) == (peaks[-1][0] > 0):
            if abs(e) > abs(peaks[-1][0]):
                peaks[-1] = (e, x)
        else:
            peaks.append((e, x))
    return peaks


def root(f: Callable[[Any, Any], Any]) -> Function:
    """f(z, sqrt(z)), kept away from z = 0."""
    return lambda z: f(mp.fabs(z) + TINY, mp.sqrt(mp.fabs(z) + TINY))


def away(f: Function) -> Function:
    return lambda x: f(x if abs(x) > TINY else TINY)


def minus_line(r: Any) -> Any:
    return (mp.exp(r) - 1 - r) / r**2


def power_tail(r: Any) -> Any:
    return (mp.power(2, r) - 1) / r


def cos_tail(z: Any, x: Any) -> Any:
    return (mp.cos(x) - 1 + z / 2) / z**2


def tail_of(f: Function) -> Callable[[Any, Any], Any]:
    """(f(x) / x - 1) / z of an odd function, with z = x^2."""
    return lambda z, x: (f(x) / x - 1) / z


def log_tail(f: Any) -> Any:
    return (mp.log(1 + f) - f + f * f / 2) / f**3


def atanh_tail(z: Any, s: Any) -> Any:
    return (mp.log((1 + s) / (1 - s)) / s - 2) / z


def log_erfc(x: Any) -> Any:
    return mp.log(mp.erfc(x))


def erfc_over_erf(x: Any) -> Any:
    """The relative error of 1 - exp(p) for an error of 1 in p."""
    return mp.erfc(x) / mp.erf(x)


R = mp.log(2) / 2 * mp.mpf("1.01")
LOW, HIGH = mp.sqrt(mp.mpf(1) / 2) - 1, mp.sqrt(2) - 1
FITS = [
    Fit("EXP", "(exp(r) - 1 - r) / r^2", away(minus_line), -R, R, 4, 10),
    Fit("EXP2", "(2^r - 1) / r", away(power_tail), -0.505, 0.505, 6, 11),
    Fit("EXP2_SHORT", "the same, for f32 results", away(power_tail), -0.505, 0.505, None, 7),
    Fit("LOG", "(log(1 + f) - f + f^2/2) / f^3", away(log_tail), LOW, HIGH, 8, None),
    Fit("ATANH", "(log((1 + s)/(1 - s))/s - 2) / z in z = s^2", root(atanh_tail), 0, 0.0296, None, 7),
    Fit("ATANH_SHORT", "the same, for f32 results", root(atanh_tail), 0, 0.0296, None, 4),
    Fit("SIN", "(sin(x)/x - 1) / z in z = x^2", root(tail_of(mp.sin)), 0, 0.62, 3, 6),
    Fit("COS", "(cos(x) - 1 + z/2) / z^2 in z = x^2", root(cos_tail), 0, 0.62, 3, 6),
    Fit("ASIN", "(asin(x)/x - 1) / z in z = x^2", root(tail_of(mp.asin)), 0, 0.25, 5, 13),
    Fit("ATAN", "(atan(x)/x - 1) / z in z = x^2", root(tail_of(mp.atan)), 0, 0.1716, 4, 11),
    Fit("ERF_SMALL", "erf(x)/x - 1 in z = x^2", root(lambda z, x: mp.erf(x) / x - 1), 0, 0.81, 6, 12),
    Fit("ERF_LARGE", "log(erfc(x)) in x - 2.4", log_erfc, 0.9, 4, 8, None, erfc_over_erf, 2.4),
    Fit("ERF_LARGE", "log(erfc(x)) in x - 3", log_erfc, 0.9, 6, None, 24, erfc_over_erf, 3.0),
]


def to_f32(number: Any) -> float:
    return float(struct.unpack("<f", struct.pack("<f", float(number)))[0])


def tables() -> dict[str, tuple[list[float], str]]:
    """Name of each table -> its coefficients and what they are."""
    result = {}
    for fit in FITS:
        for bits, degree in ((32, fit.f32), (64, fit.f64)):
            if degree is not None:
                exact, error = remez(fit, degree)
                numbers = [to_f32(c) if bits == 32 else float(c) for c in exact]
                result[f"{fit.name}_F{bits}"] = (numbers, f"{fit.meaning}; error {mp.nstr(error, 2)}")
    return result


HEADER = '''"""Coefficients of the vector math functions, lowest power first.

Written by tests/backends/cpu/fit_coefficients.py: weighted minimax polynomials (Remez exchange in 60 digits),
rounded to the type in the name. The comments state the function and the weighted error before that rounding.
"""
from __future__ import annotations

Coefficients = tuple[float, ...]
'''


def main() -> None:
    print(HEADER)
    for name, (numbers, meaning) in tables().items():
        print(f"# {meaning}\n{name}: Coefficients = (")
        for number in numbers:
            print(f"    {number!r},")
        print(")")


if __name__ == "__main__":
    main()
