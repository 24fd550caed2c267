"""Sizes that leave 64 bits: whether the numbers that a program computes with are the integers they mean.

Proofs about indices speak of integers; generated code computes modulo 2**64. The two agree as long as nothing
on the way to a size, an extent or a condition reaches 2**63. Extents of arrays exist, so their products
mostly do; numbers from data can be anything. What might leave 64 bits is bounded here at run time, in
floating point: a bound may be too large by rounding, which is why it ends at 2**62.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Set
from types import MappingProxyType

from dlc.backends.cpu import types as t
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.expressions import ExpressionEmitter
from dlc.ir.dims import (
    Dim,
    DimExpr,
    FloorDiv,
    Guard,
    Mod,
    Product,
    Sum,
    Symbol,
    bounds,
    factors_of,
    free_symbols,
    operands,
    sort_key,
    terms_of,
)
from dlc.lowering.inspect import kernel_dims, stage_axes
from dlc.lowering.kernel import Kernel, Recur, Stage

#: What stays below is exact.
LIMIT = 1 << 62
#: The bounds that the runtime sets to extents of inputs and, either way, to their elements (runtime/call.py).
LARGEST_EXTENT = (1 << 48) - 1
LARGEST_ELEMENT = (1 << 31) - 1
#: A sum of this many products of numbers is exact enough in f64, as long as none of them reaches 2**100.
_LARGEST_PRODUCT = 2.0**100
#: What is known to stay below this is not looked at.
_SMALL = 1 << 50

#: Products of factors (symbols, quotients, ...) with their coefficients, all without signs.
Polynomial = dict[tuple[DimExpr, ...], int]
_NO_AXES: Mapping[str, Dim] = MappingProxyType({})


@dataclasses.dataclass
class Magnitudes:
    """A bound of everything that is computed on the way to some dims: the sum of `largest`.

    `largest` holds, for each product of factors, the greatest coefficient that it has in one of them.
    `most` gives bounds of the absolute values of symbols, by name.
    """

    most: Mapping[str, int] = dataclasses.field(default_factory=dict)
    largest: Polynomial = dataclasses.field(default_factory=dict)
    _seen: set[tuple[Dim, tuple[tuple[str, Dim], ...]]] = dataclasses.field(default_factory=set)

    def require(self, dims: Iterable[Dim], axes: Mapping[str, Dim] = _NO_AXES) -> None:
        """Let the bound hold for `dims`, too; symbols in `axes` run from 0 to these extents."""
        key = tuple(sorted(axes.items(), key=lambda item: item[0]))
        for dim in dims:
            if isinstance(dim, int) or (dim, key) in self._seen:
                continue
            self._seen.add((dim, key))
            for monomial, factor in self._polynomial(dim, axes).items():
                self.largest[monomial] = max(factor, self.largest.get(monomial, 0))

    def require_kernel(self, kernel: Kernel) -> None:
        """Let the bound hold for all that a kernel computes: sizes, places, points of its loops."""
        axes = {axis.name: axis.extent for axis in kernel.axes}
        self.require(kernel_dims(kernel), axes)
        for param in kernel.params:
            size: Dim = param.type.dtype.itemsize
            for extent in param.type.physical_shape:
                size = size * extent
            self.require([size])
        for stage in kernel.body:
            self._require_points(stage, 1, axes)

    def _require_points(self, stage: Stage, outer: Dim, axes: Mapping[str, Dim]) -> None:
        """Let the bound hold for the points of a stage that is run for `outer` points of recurrences."""
        if isinstance(stage, Recur):
            for inner in stage.body:
                self._require_points(inner, outer * axes[stage.axis], axes)
            return
        for name in stage_axes(stage):
            outer = outer * axes[name]
        self.require([outer])

    def _polynomial(self, dim: Dim, axes: Mapping[str, Dim]) -> Polynomial:
        match dim:
            case int():
                return {(): abs(dim)}
            case Symbol():
                return self._polynomial(axes[dim.name], _NO_AXES) if dim.name in axes else {(dim,): 1}
            case Sum():
                terms, constant = terms_of(dim)
                total: Polynomial = {(): abs(constant)}
                for monomial, factor in terms:
                    _add(total, self._polynomial(monomial, axes), abs(factor))
                return total
            case Product():
                product: Polynomial = {(): 1}
                for each in factors_of(dim):
                    product = _multiply(product, self._polynomial(each, axes))
                return product
        return self._atom(dim, axes)

    def _atom(self, dim: DimExpr, axes: Mapping[str, Dim]) -> Polynomial:
        """A quotient, a remainder, a least or greatest: a number of its own where no axis is in it."""
        parts = operands(dim)
        if not any(symbol.name in axes for symbol in free_symbols(dim)):
            # A symbol alone is what it is, whatever its size.
            self.require(part for part in parts if not isinstance(part, Symbol))
            return {(dim,): 1}
        match dim:
            case FloorDiv():
                self.require(parts, axes)
                return self._polynomial(dim.dividend, axes)
            case Mod():
                self.require(parts, axes)
                return self._polynomial(dim.divisor, axes)
        total: Polynomial = {}
        for part in parts:
            _add(total, self._polynomial(part, axes), 1)
        return total

    def unbounded(self) -> Polynomial:
        """The part of the bound that is not known to be small."""
        return {m: factor for m, factor in self.largest.items() if factor * self._most(m) > _SMALL}

    def _most(self, monomial: tuple[DimExpr, ...]) -> int:
        product = 1
        for factor in monomial:
            low, high = bounds(factor)
            if isinstance(factor, Symbol) and factor.name in self.most:
                known = self.most[factor.name]
                product *= known if low is None or high is None else min(known, max(abs(low), abs(high)))
            else:
                product *= LIMIT if low is None or high is None else max(abs(low), abs(high))
        return product


def fit(
    b: FunctionBuilder, emitter: ExpressionEmitter, polynomial: Polynomial, limit: int = LIMIT
) -> t.Value | None:
    """Whether a bound is below `limit`, for the numbers of symbols in `emitter`; None: there is nothing to
    bound.
    """
    if not polynomial:
        return None
    total = b.const(t.f64, float(_SMALL))
    for monomial, coefficient in polynomial.items():
        term = b.const(t.f64, float(coefficient))
        for factor in monomial:
            term = b.fmul(term, b.fabs(b.sitofp(emitter.dim(factor), t.f64)))
        total = b.fadd(total, term)
    return b.fcmp("olt", total, float(limit))


def part(polynomial: Polynomial, known: Set[Symbol], *, within: bool) -> Polynomial:
    """The products of symbols in `known` alone, or the others."""
    return {
        monomial: factor
        for monomial, factor in polynomial.items()
        if all(free_symbols(each) <= known for each in monomial) == within
    }


def _add(total: Polynomial, other: Polynomial, factor: int) -> None:
    for monomial, coefficient in other.items():
        total[monomial] = total.get(monomial, 0) + factor * coefficient


def _multiply(left: Polynomial, right: Polynomial) -> Polynomial:
    result: Polynomial = {}
    for first, one in left.items():
        for second, other in right.items():
            key = tuple(sorted((*first, *second), key=sort_key))
            result[key] = result.get(key, 0) + one * other
    return result


def guard_is_exact(
    b: FunctionBuilder, emitter: ExpressionEmitter, guard: Guard, most: Mapping[str, int]
) -> t.Value | None:
    """Whether both sides of a guard are computed as the integers they are; None: they always are.

    Sides are polynomials whose terms cancel where they hold, such as (n - s) (n - 1) (1 - s) == 0 for "n and
    s broadcast": terms beyond 64 bits do no harm if the sum is within them, which its value in f64 tells.
    """
    exact: t.Value | None = None
    within = Magnitudes(most)
    for side in (guard.left, guard.right):
        known = Magnitudes(most)
        known.require([side])
        if not known.unbounded():
            continue
        for atom in _atoms(side):
            within.require(part for part in operands(atom) if not isinstance(part, Symbol))
        if isinstance(side, Sum | Product):
            exact = _both(b, exact, _sum_fits(b, emitter, side))
    return _both(b, exact, fit(b, emitter, within.unbounded()))


def _both(b: FunctionBuilder, left: t.Value | None, right: t.Value | None) -> t.Value | None:
    if left is None or right is None:
        return left or right
    return b.value(b.and_(left, right), t.i1)


def _atoms(dim: Dim) -> Iterable[DimExpr]:
    """The factors of the terms of a polynomial that are no symbols."""
    for monomial, _ in terms_of(dim)[0]:
        yield from (factor for factor in factors_of(monomial) if not isinstance(factor, Symbol))


def _sum_fits(b: FunctionBuilder, emitter: ExpressionEmitter, side: Dim) -> t.Value:
    """Whether a polynomial has a value below LIMIT, and terms small enough to tell."""
    terms, constant = terms_of(side)
    value = b.const(t.f64, float(constant))
    size = b.fabs(value)
    for monomial, coefficient in terms:
        term = b.const(t.f64, float(coefficient))
        for factor in factors_of(monomial):
            term = b.fmul(term, b.sitofp(emitter.dim(factor), t.f64))
        value, size = b.fadd(value, term), b.fadd(size, b.fabs(term))
    is_small = b.fcmp("olt", b.fabs(value), float(LIMIT))
    return b.value(b.and_(is_small, b.fcmp("olt", size, _LARGEST_PRODUCT)), t.i1)
