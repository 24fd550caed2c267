"""Proofs about index expressions: what a Dim is at least, over all points of some axes.

A Dim is bounded by putting each axis at an end of its range, according to the sign of what it is multiplied
with, and the rest is left to the proofs of `dlc.ir.dims`. Three things help where that is not enough: what a
mask or a guard says; that every axis of a stage has a point, or else there is nothing to prove; and telling
apart the cases that a symbol is 0, 1 or more.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

from dlc.errors import InputError
from dlc.ir.dims import (
    Broadcast,
    Dim,
    DimExpr,
    FloorDiv,
    Max,
    Min,
    Mod,
    Product,
    Sum,
    Symbol,
    bounds,
    factors_of,
    floordiv,
    free_symbols,
    is_nonnegative,
    is_positive,
    known_le,
    maximum,
    minimum,
    operands,
    product,
    rebuild,
    sort_key,
    substitute,
    terms_of,
)
from dlc.lowering.assumptions import NOTHING, Assumptions
from dlc.lowering.expr import InRange

#: Symbols whose cases are told apart, at most so many of so many candidates.
_SPLIT = 2
_CANDIDATES = 5
#: Axes up to this extent may be split into their points.
_SHORT = 4


@dataclasses.dataclass(frozen=True)
class Space:
    """The points of some axes, given by their extents, at which `mask` holds."""

    extents: Mapping[str, Dim]
    assumptions: Assumptions = NOTHING
    mask: tuple[InRange, ...] = ()

    def given(self, mask: Sequence[InRange]) -> Space:
        """The space of those points where `mask` holds too."""
        return dataclasses.replace(self, mask=(*self.mask, *mask))

    def within(self, index: Dim, low: Dim, high: Dim) -> bool:
        """Whether low <= index < high is proved at every point."""
        if any(m.index is index and known_le(low, m.low) and known_le(m.high, high) for m in self.mask):
            return True
        return self.nonnegative(index - low) and self.nonnegative(high - 1 - index)

    def nonnegative(self, dim: Dim) -> bool:
        """Whether `dim` >= 0 is proved at every point."""
        if is_nonnegative(dim):
            return True
        # First with quotients and the like as symbols of known range, then with their meaning.
        views = [_View(self, dim, abstract=True)] if self.assumptions.least else []
        proofs = [_Proof(view, _Case({}), view.dim) for view in (*views, _View(self, dim, abstract=False))]
        return any(proof.directly() for proof in proofs) or any(proof.by_cases() for proof in proofs)


class _View:
    """A question as it is proved: assumptions put in, quotients of known range as symbols if `abstract`."""

    def __init__(self, space: Space, dim: Dim, abstract: bool) -> None:
        self._equal = space.assumptions.equal
        self._atoms: dict[Dim, Dim] = {}
        if abstract:
            for number, (atom, least) in enumerate(space.assumptions.least.items()):
                self._atoms[atom] = Symbol(f"atom.{number}", least)
        self._atoms |= space.assumptions.atoms
        self.extents = {name: self._form(extent) for name, extent in space.extents.items()}
        self.dim = self._form(dim)
        conditions = (d for m in space.mask for d in (m.index - m.low, m.high - 1 - m.index))
        self.known = [self._form(condition) for condition in conditions]
        self.facts = [self._form(fact) for fact in space.assumptions.facts]
        self.zero = [self._form(zero) for zero in space.assumptions.zero]

    def _form(self, dim: Dim) -> Dim:
        return self._rebuilt(substitute(dim, self._equal))

    def _rebuilt(self, dim: Dim) -> Dim:
        if dim in self._atoms:
            return self._atoms[dim]
        if isinstance(dim, int | Symbol):
            return dim
        return rebuild(dim, [self._rebuilt(operand) for operand in operands(dim)])


@dataclasses.dataclass(frozen=True)
class _Case:
    """Replacements that hold in one case of a proof."""

    replaced: Mapping[str, Dim]

    def of(self, dim: Dim) -> Dim:
        return substitute(dim, self.replaced)

    def further(self, name: str, value: Dim) -> _Case:
        step = {name: value}
        return _Case({**{n: substitute(d, step) for n, d in self.replaced.items()}, **step})


class _Proof:
    """The attempt to prove a dim non-negative in one case."""

    def __init__(self, view: _View, case: _Case, dim: Dim) -> None:
        for extent in view.extents.values():
            case = _with_points(case.of(extent), case)
        self._view = view
        self._case = case
        self._extents = {name: _of_points(case.of(extent)) for name, extent in view.extents.items()}
        self._empty = any(isinstance(extent, int) and extent < 1 for extent in self._extents.values())
        if self._empty:
            # Nothing to prove, and divisors may be 0.
            return
        self._dim = case.of(dim)
        self._known = [case.of(known) for known in view.known]
        self._known += [extent - 1 for extent in self._extents.values() if not isinstance(extent, int)]
        self._facts = [case.of(fact) for fact in view.facts]
        self._zero = {case.of(zero) for zero in view.zero}

    def by_cases(self) -> bool:
        """Whether the proof succeeds in each of some cases that together are all."""
        if self._empty:
            return True
        choices = self._choices(self._dim)
        for count in range(1, _SPLIT + 1):
            for names in itertools.combinations(choices, count):
                cases = itertools.product(*(choices[name] for name in names))
                if all(self._in_case(dict(zip(names, values))) for values in cases):
                    return True
        return False

    def _in_case(self, values: Mapping[str, Dim]) -> bool:
        case = self._case
        for name, value in values.items():
            case = case.further(name, value)
        try:
            return _Proof(self._view, case, self._view.dim).directly()
        except InputError:  # a divisor is 0 in this case
            return False

    def _choices(self, dim: Dim) -> dict[str, list[Dim]]:
        """What to tell apart: short axes that multiply others, and whether a symbol is 0, 1 or more."""
        choices: dict[str, list[Dim]] = {}
        for monomial, _ in terms_of(dim)[0]:
            for factor in factors_of(monomial) if isinstance(monomial, Product) else ():
                extent = self._extents.get(factor.name) if isinstance(factor, Symbol) else None
                if isinstance(factor, Symbol) and isinstance(extent, int) and extent <= _SHORT:
                    choices[factor.name] = list(range(extent))
        symbols = {s for d in (dim, *self._extents.values()) for s in free_symbols(d)}
        candidates = sorted(
            (s for s in symbols if s.name not in self._extents and s.lo in (0, 1)), key=sort_key
        )
        for symbol in candidates[:_CANDIDATES]:
            small = [n for n in (0, 1) if n >= (symbol.lo or 0) and (symbol.hi is None or n <= symbol.hi)]
            more = [] if symbol.hi is not None and symbol.hi < 2 else [Symbol(symbol.name, 2, symbol.hi)]
            choices[symbol.name] = [*small, *more]
        return choices

    def directly(self) -> bool:
        """Whether the proof succeeds without telling cases apart."""
        if self._empty:
            return True
        least = self._bounded(self._dim, upper=False)
        targets = [self._dim] if least is None else [self._dim, least]
        if any(map(is_nonnegative, targets)):
            return True
        for known in self._known:
            if any(is_nonnegative(target - known) for target in targets):
                return True
            rest = self._bounded(self._dim - known, upper=False)
            if rest is not None and is_nonnegative(rest):
                return True
        # There may be many facts: only their intervals are looked at.
        least_values = (bounds(target - fact)[0] for fact in self._facts for target in targets)
        return any(value is not None and value >= 0 for value in least_values)

    def _bounded(self, dim: Dim, upper: bool) -> Dim | None:
        """An upper (or lower) bound of `dim` that is free of axes; None where none is found."""
        if not any(symbol.name in self._extents for symbol in free_symbols(dim)):
            return dim
        match dim:
            case Symbol(name):
                return self._extents[name] - 1 if upper else 0
            case Sum(terms, constant):
                total: Dim = constant
                for monomial, factor in terms:
                    part = self._bounded(monomial, upper if factor > 0 else not upper)
                    if part is None:
                        return None
                    total = total + part * factor
                return total
            case Product(factors):
                clamped = self._broadcast_bound(factors) if upper else None
                if clamped is not None:
                    return clamped
                if not all(map(is_nonnegative, factors)):
                    return None
                parts = [self._bounded(factor, upper) for factor in factors]
                found = [part for part in parts if part is not None]
                return product(found) if len(found) == len(parts) else None
            case FloorDiv(dividend, divisor):
                top = self._bounded(dividend, upper)
                if top is None or not is_positive(divisor) or self._moves(divisor):
                    return None
                return floordiv(top, divisor)
            case Mod(dividend, divisor):
                return self._remainder(dividend, divisor, upper)
            case Min(args) | Max(args):
                return self._extreme(isinstance(dim, Min), args, upper)
            case Broadcast():
                return None
        return None

    def _broadcast_bound(self, factors: Sequence[DimExpr]) -> Dim | None:
        """n - 1 as the bound of ``index * min(n - 1, 1)``, where n broadcasts to the range of the index.

        So an operand is read that may be broadcast: at 0 if its extent n is 1, else at the index itself.
        """
        for position, factor in enumerate(factors):
            match factor:
                case Min((less, 1)) if not self._moves(less):
                    top = self._bounded(product((*factors[:position], *factors[position + 1 :])), True)
                    if top is not None and self._broadcasts(less + 1, top + 1):
                        return less
        return None

    def _broadcasts(self, extent: Dim, target: Dim) -> bool:
        """Whether `extent` is 1 or `target`: by what broadcast means, or because a guard says so."""
        parts = set(extent.args) if isinstance(extent, Broadcast) else {extent}
        if extent is target or (isinstance(target, Broadcast) and parts <= set(target.args)):
            return True
        differ = (extent - target) * (extent - 1) * (target - 1)
        # The guard also allows an extent of 0 beside a target of 1.
        return differ != 0 and is_positive(extent) and (differ in self._zero or -differ in self._zero)

    def _moves(self, dim: Dim) -> bool:
        return any(symbol.name in self._extents for symbol in free_symbols(dim))

    def _remainder(self, dividend: Dim, divisor: Dim, upper: bool) -> Dim | None:
        if not is_positive(divisor) or self._moves(divisor):
            return None
        if not upper:
            return 0
        top = self._bounded(dividend, True) if is_nonnegative(dividend) else None
        return divisor - 1 if top is None else minimum(top, divisor - 1)

    def _extreme(self, least: bool, args: Sequence[Dim], upper: bool) -> Dim | None:
        """A bound of the least (or greatest) of `args`: one of them may suffice, or all are needed."""
        bounds = [self._bounded(arg, upper) for arg in args]
        found = [bound for bound in bounds if bound is not None]
        if least is not upper and len(found) < len(bounds):
            return None
        if least and upper and len(args) == 2:
            # The lesser of two is at most half of both, which need not depend on the axes that each does.
            both = self._bounded(args[0] + args[1], True)
            found += [] if both is None else [_half(both)]
        if not found:
            return None
        if len(found) == 1:
            return found[0]
        return minimum(*found) if least else maximum(*found)


def _with_points(extent: Dim, case: _Case) -> _Case:
    """`case` where `extent` is at least 1, as far as that says something of single symbols."""
    match extent:
        case Symbol(name, lo, hi) if lo is not None and lo < 1 and (hi is None or hi >= 1):
            return case.further(name, Symbol(name, 1, hi))
        case Product(factors) if all(map(is_nonnegative, factors)):
            parts: tuple[Dim, ...] = factors
        case Broadcast(args):
            parts = args
        case _:
            return case
    for part in parts:
        case = _with_points(case.of(part), case)
    return case


def _of_points(extent: Dim) -> Dim:
    """An extent that is at least 1, without the alternatives that are not: max(n, 0) is n."""
    if not isinstance(extent, Max):
        return extent
    parts = [part for part in extent.args if not (isinstance(part, int) and part < 1)]
    return parts[0] if len(parts) == 1 else extent


def _half(dim: Dim) -> Dim:
    """dim // 2, of a maximum the maximum of the halves."""
    return maximum(*map(_half, dim.args)) if isinstance(dim, Max) else floordiv(dim, 2)
