"""Winograd's minimal filtering in one dimension, F(m, r): m outputs of r taps by m + r - 1 products.

    y = AT [(G w) * (BT x)]

The matrices are those of Cook and Toom: polynomials are multiplied at m + r - 2 finite points and at
infinity. With the points 0, 1, -1, 1/2, -2 F(4, 3) is two to three times as accurate as with the customary
0, +-1, +-2. Two-dimensional filtering nests them. (S. Winograd, Arithmetic Complexity of Computations, 1980;
A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural Networks, 2016.)
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from dlc.backends.cpu import types as t
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.ir.operator import Array

Matrix = tuple[tuple[Fraction, ...], ...]

#: Finite points by the number of outputs, for three taps.
_POINTS: dict[int, tuple[Fraction, ...]] = {
    2: (Fraction(0), Fraction(1), Fraction(-1)),
    4: (Fraction(0), Fraction(1), Fraction(-1), Fraction(1, 2), Fraction(-2)),
}

TAPS = 3


@dataclasses.dataclass(frozen=True)
class Transform:
    """The matrices of F(outputs, 3): `output` is AT [outputs, points], `weight` G [points, 3], `input` BT
    [points, points].
    """

    outputs: int
    output: Matrix
    weight: Matrix
    input: Matrix

    @property
    def points(self) -> int:
        """Products per tile and axis, which is also the number of inputs."""
        return len(self.input)

    def weights(self, w: Array) -> Array:
        """G w GT of weights [..., taps, n], the 3 x 3 taps in a row, as float64 [..., points, n]."""
        g = np.array(self.weight, np.float64)
        product: Array = np.kron(g, g) @ w.astype(np.float64)
        return product


@functools.cache
def transform(outputs: int) -> Transform:
    """F(outputs, 3) for 2 or 4 outputs."""
    points = _POINTS[outputs]
    last = len(points)
    output = [[point**i for point in points] + [Fraction(i == outputs - 1)] for i in range(outputs)]
    weight, inputs = [], []
    for j, point in enumerate(points):
        others = [other for k, other in enumerate(points) if k != j]
        scale = Fraction(1)
        for other in others:
            scale *= point - other
        weight.append([point**k / scale for k in range(TAPS)])
        inputs.append([*_roots(others), Fraction(0)])
    weight.append([Fraction(0)] * (TAPS - 1) + [Fraction(1)])
    inputs.append(_roots(points))
    assert len(inputs) == last + 1
    return Transform(outputs, _frozen(output), _frozen(weight), _frozen(inputs))


def _roots(roots: Sequence[Fraction]) -> list[Fraction]:
    """The coefficients, lowest first, of the product of (x - root)."""
    result = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *result]
        result = [high - root * low for high, low in zip(shifted, [*result, Fraction(0)], strict=True)]
    return result


def _frozen(rows: list[list[Fraction]]) -> Matrix:
    return tuple(tuple(row) for row in rows)


def apply(b: FunctionBuilder, matrix: Matrix, values: Sequence[t.Value]) -> list[t.Value]:
    """The products of the rows of `matrix` with `values`, vectors of float32, in as few operations as shared
    sums allow.

    Rows that differ in the signs of every other coefficient share both halves of their sums; columns that do
    so (the points +-p of an output transform) are added and subtracted first.
    """
    columns = list(zip(*matrix, strict=True))
    pairs = [(i, j) for i, j in _mirrored(columns) if columns[i][::2] == columns[j][::2]]
    if pairs:
        return _by_columns(b, matrix, values, pairs)
    results: list[t.Value | None] = [None] * len(matrix)
    for i, j in _mirrored(matrix):
        even = _sum(b, [(matrix[i][k], values[k]) for k in range(0, len(values), 2)])
        odd = _sum(b, [(matrix[i][k], values[k]) for k in range(1, len(values), 2)])
        same_even = all(matrix[i][k] == matrix[j][k] for k in range(0, len(values), 2))
        results[i] = b.fadd(even, odd)
        results[j] = b.fsub(even, odd) if same_even else b.fsub(odd, even)
    return [
        _sum(b, list(zip(row, values, strict=True))) if result is None else result
        for row, result in zip(matrix, results, strict=True)
    ]


def _by_columns(
    b: FunctionBuilder, matrix: Matrix, values: Sequence[t.Value], pairs: Sequence[tuple[int, int]]
) -> list[t.Value]:
    sums = {i: b.fadd(values[i], values[j]) for i, j in pairs}
    differences = {i: b.fsub(values[i], values[j]) for i, j in pairs}
    single = [k for k in range(len(values)) if all(k not in pair for pair in pairs)]
    results = []
    for number, row in enumerate(matrix):
        halves = sums if number % 2 == 0 else differences
        terms = [(row[i], half) for i, half in halves.items()] + [(row[k], values[k]) for k in single]
        results.append(_sum(b, terms))
    return results


def _mirrored(rows: Sequence[Sequence[Fraction]]) -> list[tuple[int, int]]:
    """Disjoint pairs of rows that are equal but for the signs of all odd, or of all even, coefficients."""
    pairs: list[tuple[int, int]] = []
    for i, row in enumerate(rows):
        if sum(c != 0 for c in row) < 2 or any(i in pair for pair in pairs):
            continue
        odd = [c if k % 2 == 0 else -c for k, c in enumerate(row)]
        even = [-c for c in odd]
        for j in range(i + 1, len(rows)):
            if list(rows[j]) in (odd, even) and not any(j in pair for pair in pairs):
                pairs.append((i, j))
                break
    return pairs


def _sum(b: FunctionBuilder, terms: Sequence[tuple[Fraction, t.Value]]) -> t.Value:
    """The sum of coefficient * value, beginning with a coefficient 1 if there is one."""
    present = sorted(
        (term for term in terms if term[0]), key=lambda term: (term[0] != 1, abs(term[0]) != 1)
    )
    coefficient, total = present[0]
    if coefficient != 1:
        total = b.fmul(total, b.const(total.type, float(coefficient)))
    for coefficient, value in present[1:]:
        if coefficient == 1:
            total = b.fadd(total, value)
        elif coefficient == -1:
            total = b.fsub(total, value)
        else:
            total = b.fma(value, b.const(value.type, float(coefficient)), total)
    return total
