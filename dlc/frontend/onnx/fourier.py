"""Discrete Fourier transforms as matrix products and twiddle factors, over axes of (real, imaginary) pairs.

A transform of n points is a product with the matrix of its cosines and sines, n * n multiplications; where
that matrix would be large, n = a * b is split as in Cooley and Tukey (1965): b transforms of a points, a
multiplication with twiddle factors, a transforms of b points. A large prime number of points becomes a
convolution of a power of two (Bluestein 1970). Where n is known only at run time there is one product with a
matrix that the run computes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import reshape, transposed
from dlc.ir.dims import Dim, known_equal, maximum, minimum
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.operator import Array
from dlc.ir.ops.contraction import MatMul
from dlc.ir.ops.indexing import Gather
from dlc.ir.ops.movement import Concat, DimTensor, Pad, Range, Slice
from dlc.ir.ops.pointwise import Binary, Cast, Unary

#: The most elements of a matrix of cosines and sines that is not split.
MOST_ELEMENTS = 1 << 20


@dataclasses.dataclass(frozen=True)
class Transform:
    """y[k] = sum over j of x[j] exp(-2 pi i j k / n) for k < `bins`; for `inverse` +2 pi i and / n.

    `real` says that the n points of the result are real: x then holds the first n // 2 + 1 points of a
    spectrum whose others are their conjugates.
    """

    n: Dim
    bins: Dim
    inverse: bool = False
    real: bool = False

    @property
    def points(self) -> Dim:
        """The number of points of the operand."""
        return self.n // 2 + 1 if self.real else self.n


class Fourier:
    """Adds transforms to the graph of `ctx`'s node."""

    def __init__(self, ctx: NodeContext) -> None:
        self.ctx = ctx
        self.add = ctx.builder.add

    def apply(self, x: Value, transform: Transform) -> Value:
        """The transform of x [..., points, 1 or 2] along its axis before the last; f32 or f64.

        Pairs hold the real and the imaginary part; a result has 1 for the second where it is real.
        """
        n, bins = transform.n, transform.bins
        if not isinstance(n, int) or not isinstance(bins, int):
            return self._product(x, transform, self._computed_matrix(x, transform))
        fixed = dataclasses.replace(transform, n=n, bins=bins)
        outputs = bins * (1 if transform.real else 2)
        points, parts = fixed.points, x.tensor.shape[-1]
        assert isinstance(points, int) and isinstance(parts, int)
        if points * parts * outputs <= MOST_ELEMENTS:
            return self._product(x, fixed, self.ctx.const(_matrix(n, bins, parts, fixed), x.tensor.dtype))
        self.ctx.importer.limits.check(
            "folded_tensor_bytes", n * 16, f"bytes of the twiddle factors of {n} points", node=self.ctx.name
        )
        if transform.real:
            whole = self.apply(self._whole_spectrum(x, n), Transform(n, n, inverse=True))
            return self._window(whole, -1, 0, 1)
        y = self._split(x, n, transform.inverse)
        return y if bins == n else self._window(y, -2, 0, bins)

    # --- one matrix product

    def _product(self, x: Value, transform: Transform, matrix: Value) -> Value:
        """x [..., points, parts] times the matrix [points * parts, bins * parts of the result]."""
        *outer, points, parts = x.tensor.shape
        y = self.add(MatMul(), reshape(self.ctx, x, (*outer, points * parts), "rows"), matrix)
        return reshape(self.ctx, y, (*outer, transform.bins, 1 if transform.real else 2), "transformed")

    def _computed_matrix(self, x: Value, transform: Transform) -> Value:
        """The matrix of :func:`_matrix` for extents that the run tells."""
        n, bins, points = transform.n, transform.bins, transform.points
        parts, dtype = x.tensor.shape[-1], x.tensor.dtype
        assert isinstance(parts, int)
        product = self.add(Binary("mul"), self._line(points, 1), self._line(bins, 0))
        phase = self.add(Binary("mod"), product, self.add(DimTensor((maximum(n, 1),), ())))
        cosine, sine = (self._circle(fn, n, dtype, transform.inverse) for fn in ("cos", "sin"))
        cosine, sine = (self.add(Gather(0), table, phase) for table in (cosine, sine))
        if transform.real:
            return self._real_matrix(cosine, sine, transform)
        turn = -1.0 if transform.inverse else 1.0
        sine = self.add(Binary("mul"), sine, self.ctx.const(turn, dtype))
        negative = self.add(Unary("neg"), sine)
        rows = [(cosine, negative), (sine, cosine)][:parts]
        columns = [self._stack([self._unsqueezed(part, 2) for part in row], 2) for row in rows]
        blocks = self._stack([self._unsqueezed(row, 1) for row in columns], 1)
        return reshape(self.ctx, blocks, (points * parts, bins * 2), "matrix")

    def _real_matrix(self, cosine: Value, sine: Value, transform: Transform) -> Value:
        """Rows for the real and the imaginary parts, twice where the conjugate is left out."""
        n, points, dtype = transform.n, transform.points, cosine.tensor.dtype
        position = self._line(points, 1)
        mirrored = self.add(DimTensor((n,), ()))
        mirrored = self.add(Binary("sub"), mirrored, self.add(Binary("add"), position, position))
        inner = self.add(Binary("min"), self.add(Unary("abs"), mirrored), self.ctx.const(1, DType.I64))
        first = self.add(Binary("min"), position, self.ctx.const(1, DType.I64))
        twice = self.add(Binary("add"), self.add(Binary("mul"), inner, first), self.ctx.const(1, DType.I64))
        weight = self.add(Cast(dtype), twice)
        real = self.add(Binary("mul"), cosine, weight)
        imaginary = self.add(Binary("mul"), self.add(Unary("neg"), sine), weight)
        rows = self._stack([self._unsqueezed(part, 1) for part in (real, imaginary)], 1)
        return reshape(self.ctx, rows, (points * 2, transform.bins), "matrix")

    def _circle(self, fn: str, n: Dim, dtype: DType, inverse: bool) -> Value:
        """cos or sin of 2 pi j / n for j < n, divided by n for an inverse transform."""
        count = self.add(Cast(DType.F64), self.add(DimTensor((n,), ())))
        steps = self.add(Range(n), self.ctx.const(0, DType.I64), self.ctx.const(1, DType.I64))
        turns = self.add(Binary("mul"), self.add(Cast(DType.F64), steps), self.ctx.const(2 * math.pi))
        table = self.add(Unary(fn), self.add(Binary("div"), turns, count))
        if inverse:
            table = self.add(Binary("div"), table, count)
        return table if dtype is DType.F64 else self.add(Cast(dtype), table)

    # --- splitting

    def _split(self, x: Value, n: int, inverse: bool) -> Value:
        """The whole transform of x [..., n, parts] by way of shorter ones."""
        outer_points = _divisor(n)
        if outer_points == 1:
            return self._convolved(x, n, inverse)
        inner_points = n // outer_points
        *outer, _, parts = x.tensor.shape
        rank = len(outer)
        swap = (*range(rank), rank + 1, rank, rank + 2)
        grid = reshape(self.ctx, x, (*outer, outer_points, inner_points, parts), "grid")
        y = self.apply(transposed(self.ctx, grid, swap), Transform(outer_points, outer_points, inverse))
        y = self._rotated(y, _twiddles(inner_points, outer_points, inverse))
        y = self.apply(transposed(self.ctx, y, swap), Transform(inner_points, inner_points, inverse))
        return reshape(self.ctx, transposed(self.ctx, y, swap), (*outer, n, 2), "transformed")

    def _convolved(self, x: Value, n: int, inverse: bool) -> Value:
        """Bluestein: jk = (j^2 + k^2 - (k - j)^2) / 2, a convolution with a chirp exp(i pi j^2 / n)."""
        size = 1 << (2 * n - 2).bit_length()
        j = np.arange(n, dtype=object)
        chirp = _exp((j * j) % (2 * n), 2 * n, inverse)
        kernel = np.zeros(size, dtype=np.complex128)
        kernel[:n] = np.conj(chirp)
        kernel[size - n + 1 :] = np.conj(chirp[:0:-1])
        x = self._padded(self._rotated(x, chirp), size)
        spectrum = self._rotated(self.apply(x, Transform(size, size)), np.fft.fft(kernel))
        y = self._window(self.apply(spectrum, Transform(size, size, inverse=True)), -2, 0, n)
        return self._rotated(y, chirp / n if inverse else chirp)

    def _rotated(self, x: Value, factors: Array) -> Value:
        """The numbers of x [..., *factors.shape, 1 or 2] times the complex `factors`."""
        dtype = x.tensor.dtype
        real, imaginary = (self.ctx.const(part[..., None], dtype) for part in (factors.real, factors.imag))
        if x.tensor.shape[-1] == 1:
            parts = [self.add(Binary("mul"), x, factor) for factor in (real, imaginary)]
            return self._stack(parts, x.tensor.rank - 1)
        a, b = (self._window(x, -1, part, 1) for part in range(2))

        def products(left: Value, right: Value, fn: str) -> Value:
            return self.add(Binary(fn), self.add(Binary("mul"), a, left), self.add(Binary("mul"), b, right))

        return self._stack([products(real, imaginary, "sub"), products(imaginary, real, "add")], -1)

    def _whole_spectrum(self, x: Value, n: int) -> Value:
        """The n points of a spectrum of which x [..., n // 2 + 1, 2] holds the first: of a real signal.

        The imaginary parts of point 0, and of point n / 2 for even n, count as 0.
        """
        kept = np.ones((n // 2 + 1, 2))
        kept[0, 1] = 0.0
        if n % 2 == 0:
            kept[n // 2, 1] = 0.0
        x = self.add(Binary("mul"), x, self.ctx.const(kept, x.tensor.dtype))
        mirrored = (n - 1) // 2
        if not mirrored:
            return x
        rank = x.tensor.rank
        starts, extents, steps = [0] * rank, list(x.tensor.shape), [1] * rank
        starts[-2], extents[-2], steps[-2] = mirrored, mirrored, -1
        rest = self.add(Slice(tuple(starts), tuple(extents), tuple(steps)), x)
        rest = self.add(Binary("mul"), rest, self.ctx.const(np.array([1.0, -1.0]), x.tensor.dtype))
        return self._stack([x, rest], -2)

    # --- movements

    def _line(self, extent: Dim, axis: int) -> Value:
        """0, 1, ... as i64 along one of two axes."""
        line = self.add(Range(extent), self.ctx.const(0, DType.I64), self.ctx.const(1, DType.I64))
        return reshape(self.ctx, line, (1, extent) if axis == 0 else (extent, 1), "line")

    def _unsqueezed(self, x: Value, axis: int) -> Value:
        shape = x.tensor.shape
        return reshape(self.ctx, x, (*shape[:axis], 1, *shape[axis:]), "unsqueezed")

    def _stack(self, parts: Sequence[Value], axis: int) -> Value:
        return parts[0] if len(parts) == 1 else self.add(Concat(axis % parts[0].tensor.rank), *parts)

    def _window(self, x: Value, axis: int, start: Dim, extent: Dim) -> Value:
        """The elements from `start` on along `axis`."""
        rank = x.tensor.rank
        starts: list[Dim] = [0] * rank
        extents = list(x.tensor.shape)
        starts[axis], extents[axis] = start, extent
        return self.add(Slice(tuple(starts), tuple(extents), (1,) * rank), x)

    def _padded(self, x: Value, extent: Dim) -> Value:
        """x with zeros behind the axis before the last up to `extent`."""
        after: list[Dim] = [0] * x.tensor.rank
        after[-2] = extent - x.tensor.shape[-2]
        return self.add(Pad((0,) * x.tensor.rank, tuple(after), "constant"), x, None)

    def resized(self, x: Value, extent: Dim) -> Value:
        """x with the axis before the last cut off, or filled with zeros, at `extent`."""
        have = x.tensor.shape[-2]
        if known_equal(have, extent):
            return x
        kept = minimum(have, extent)
        x = x if known_equal(have, kept) else self._window(x, -2, 0, kept)
        return x if known_equal(kept, extent) else self._padded(x, extent)


def _exp(turns: Array, n: int, inverse: bool) -> Array:
    """exp(-2 pi i turns / n), or its conjugate; `turns` are whole numbers below n."""
    angle = np.asarray(turns, dtype=np.float64) * ((2 if inverse else -2) * math.pi / n)
    return np.asarray(np.cos(angle) + 1j * np.sin(angle))


def _matrix(n: int, bins: int, parts: int, transform: Transform) -> Array:
    """The matrix of a transform in f64: rows are the parts of the operand's points, columns the result's."""
    points = n // 2 + 1 if transform.real else n
    turns = np.outer(np.arange(points, dtype=np.int64), np.arange(bins, dtype=np.int64)) % n
    wave = _exp(turns, n, transform.inverse) / (n if transform.inverse else 1)
    if transform.real:
        weight = np.full((points, 1), 2.0)
        weight[0] = 1.0
        if n % 2 == 0:
            weight[n // 2] = 1.0
        return np.stack([wave.real * weight, -wave.imag * weight], axis=1).reshape(points * 2, bins)
    rows = [np.stack([wave.real, wave.imag], axis=2), np.stack([-wave.imag, wave.real], axis=2)]
    return np.stack(rows[:parts], axis=1).reshape(points * parts, bins * 2)


def _twiddles(inner: int, outer: int, inverse: bool) -> Array:
    """exp(-2 pi i j k / n) for j < `inner` and k < `outer`, n their product."""
    turns = np.outer(np.arange(inner, dtype=np.int64), np.arange(outer, dtype=np.int64))
    return _exp(turns, inner * outer, inverse)


def _divisor(n: int) -> int:
    """The greatest divisor of n up to its square root: 1 for a prime number."""
    return next(divisor for divisor in range(math.isqrt(n), 0, -1) if n % divisor == 0)
