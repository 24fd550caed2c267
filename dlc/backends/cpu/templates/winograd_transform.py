"""Winograd's minimal filtering in one dimension, F(m, r): m outputs of r taps by m + r - 1 products.

    y = AT [(G w) * (BT x)]

The matrices are those of Cook and Toom: polynomials are multiplied at m + r - 1 points, one of them infinity.
With the points 0, 1, -1, 1/2, -2 F(4, 3) is two to three times as accurate as with the customary 0, +-1, +-2.
Two-dimensional filtering nests them. (S. Winograd, Arithmetic Complexity of Computations, 1980; A. Lavin and
S. Gray, Fast Algorithms for Convolutional Neural Networks, 2016.)

Several filters whose outputs are added need one output transform if they share its matrix AT. A single tap
can take part: its products at m of the points, those whose columns of AT are invertible, make m outputs.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from fractions import Fraction

import numpy as np

from dlc.backends.cpu import types as t
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.ir.operator import Array

Matrix = tuple[tuple[Fraction, ...], ...]

#: Points by the numbers of outputs and taps; None is infinity. Those of a single tap come first.
_POINTS: dict[tuple[int, int], tuple[Fraction | None, ...]] = {
    (2, 3): (Fraction(0), Fraction(1), Fraction(-1), None),
    (4, 3): (Fraction(0), Fraction(1), Fraction(-1), Fraction(1, 2), Fraction(-2), None),
    (2, 2): (Fraction(0), None, Fraction(1)),
    (4, 2): (Fraction(0), Fraction(1), Fraction(-1), None, Fraction(2)),
}


@dataclasses.dataclass(frozen=True)
class Filter:
    """The matrices of one filter: `weight` G [products, taps], `input` BT [products, inputs]."""

    weight: Matrix
    input: Matrix

    @property
    def products(self) -> int:
        """Products of a tile, at the first points of the transform."""
        return len(self.input)

    @property
    def inputs(self) -> int:
        """Inputs of a tile."""
        return len(self.input[0])


@dataclasses.dataclass(frozen=True)
class Transform:
    """Filters of `taps` taps, and of one, that share the matrix `output`, AT [outputs, points]."""

    output: Matrix
    taps: Filter
    single: Filter

    @property
    def outputs(self) -> int:
        """Outputs of a tile."""
        return len(self.output)

    @property
    def points(self) -> int:
        """Points, at which products are added before the output transform."""
        return len(self.output[0])


@functools.cache
def transform(outputs: int, taps: int) -> Transform:
    """F(outputs, taps) for 2 or 4 outputs of 2 or 3 taps."""
    points = _POINTS[outputs, taps]
    finite = [point for point in points if point is not None]
    columns = [_powers(point, outputs) for point in points]
    weight, inputs = [], []
    for point in points:
        others = [other for other in finite if other != point]
        if point is None:
            weight.append(_powers(None, taps))
            inputs.append(_roots(others))
            continue
        scale = Fraction(1)
        for other in others:
            scale *= point - other
        weight.append([power / scale for power in _powers(point, taps)])
        inputs.append([*_roots(others), Fraction(0)])
    output = _frozen(zip(*columns, strict=True))
    square = _inverse([row[:outputs] for row in output])
    single = Filter(tuple((Fraction(1),) for _ in range(outputs)), square)
    return Transform(output, Filter(_frozen(weight), _frozen(inputs)), single)


def transform_weights(rows: Filter, columns: Filter, w: Array) -> Array:
    """G w GT of weights [..., row taps * column taps, n], as float64 [..., products, n]."""
    matrix = np.kron(np.array(rows.weight, np.float64), np.array(columns.weight, np.float64))
    product: Array = matrix @ w.astype(np.float64)
    return product


def _powers(point: Fraction | None, count: int) -> list[Fraction]:
    """1, point, point^2...; of infinity the last power alone."""
    if point is None:
        return [Fraction(i == count - 1) for i in range(count)]
    return [point**i for i in range(count)]


def _roots(roots: Sequence[Fraction]) -> list[Fraction]:
    """The coefficients, lowest first, of the product of (x - root)."""
    result = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *result]
        result = [high - root * low for high, low in zip(shifted, [*result, Fraction(0)], strict=True)]
    return result


def _inverse(matrix: Sequence[Sequence[Fraction]]) -> Matrix:
    """The inverse of a square matrix, by elimination."""
    size = len(matrix)
    rows = [[*row, *(Fraction(i == j) for j in range(size))] for i, row in enumerate(matrix)]
    for column in range(size):
        pivot = next(i for i in range(column, size) if rows[i][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [value / rows[column][column] for value in rows[column]]
        for i in range(size):
            if i != column:
                factor = rows[i][column]
                rows[i] = [a - factor * b for a, b in zip(rows[i], rows[column], strict=True)]
    return _frozen(row[size:] for row in rows)


def _frozen(rows: Iterable[Sequence[Fraction]]) -> Matrix:
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
