"""Proof that a dim is never negative, from the ranges of its symbols and the meaning of its atoms.

Intervals alone forget that two terms share a symbol: ``n - n // 2`` lies between minus and plus infinity for
them. Here an atom that stands in the way is replaced by an expression that bounds it from the right side,

    x % m <= m - 1,  x % m <= x           for x >= 0
    x - m + 1 <= m * (x // m) <= x        for an int m, after multiplying by m
    min(a, b) <= a                        and min(a, b) is a or b, likewise for max and broadcast

until the interval of the sum decides, or the budget of replacements is spent: then nothing is known. Symbols
under products are first measured from the end of their range: ``n * p - n`` with p >= 1 is n * (p - 1).
"""

from __future__ import annotations

from collections.abc import Iterator

from dlc.ir.dims.nodes import (
    Broadcast,
    Dim,
    DimExpr,
    FloorDiv,
    Max,
    Min,
    Mod,
    Product,
    Symbol,
    add_scaled,
    factors_of,
    make_product,
    multiply,
    scale,
    terms_of,
)

#: The most sums that one proof looks at.
_BUDGET = 16
#: The most terms of a sum that is taken apart: each step costs their square, and proofs need few.
_MOST_TERMS = 48


def prove_nonnegative(dim: Dim) -> bool:
    """Whether `dim` >= 0 is proved; False also means "not known"."""
    if not isinstance(dim, DimExpr):
        return dim >= 0
    return _Proof().holds(dim)


class _Proof:
    """One attempt; `_seen` holds the sums looked at, which are proved already or were given up."""

    def __init__(self) -> None:
        self._seen: dict[Dim, bool] = {}

    def holds(self, dim: Dim) -> bool:
        if not isinstance(dim, DimExpr):
            return dim >= 0
        if dim.lo is not None and dim.lo >= 0:
            return True
        if dim.hi is not None and dim.hi < 0:
            return False
        if dim in self._seen or len(self._seen) >= _BUDGET:
            return self._seen.get(dim, False)
        self._seen[dim] = False
        if len(terms_of(dim)[0]) > _MOST_TERMS:
            return False
        shifted = _shift_products(dim)
        if shifted is not dim and isinstance(shifted, DimExpr) and shifted.lo is not None and shifted.lo >= 0:
            self._seen[dim] = True
        else:
            self._seen[dim] = any(all(map(self.holds, cases)) for cases in self._bounded_below(dim))
        return self._seen[dim]

    def _bounded_below(self, dim: DimExpr) -> Iterator[tuple[Dim, ...]]:
        """Ways to bound `dim` from below: in each, dim is >= 0 if all the dims of the tuple are."""
        for monomial, coefficient in terms_of(dim)[0]:
            factors = factors_of(monomial)
            for position, atom in enumerate(factors):
                if isinstance(atom, Symbol):
                    continue
                others = factors[:position] + factors[position + 1 :]
                rest = make_product(others) if others else 1
                # Replacing a factor by a bound needs the sign of the others.
                if isinstance(rest, DimExpr) and (rest.lo is None or rest.lo < 0):
                    continue
                without = add_scaled(dim, monomial, -coefficient)
                times = scale(rest, coefficient)
                bounds = self._upper(atom) if coefficient < 0 else self._lower(atom)
                for denominator, cases in bounds:
                    yield tuple(
                        add_scaled(scale(without, denominator), multiply(times, case), 1) for case in cases
                    )

    def _upper(self, atom: DimExpr) -> Iterator[tuple[int, tuple[Dim, ...]]]:
        """(d, cases): ``d * atom`` is at most one of the cases, whichever is true."""
        match atom:
            case Mod(dividend, divisor):
                if self.holds(add_scaled(divisor, 1, -1)):
                    yield 1, (add_scaled(divisor, 1, -1),)
                    if self.holds(dividend):
                        yield 1, (dividend,)
            case FloorDiv(dividend, int(divisor)):
                yield divisor, (dividend,)
            case FloorDiv(dividend, divisor):
                if self.holds(add_scaled(divisor, 1, -1)) and self.holds(dividend):
                    yield 1, (dividend,)
            case Min(args):
                for arg in args:
                    yield 1, (arg,)
            case Max(args) | Broadcast(args):
                yield 1, args

    def _lower(self, atom: DimExpr) -> Iterator[tuple[int, tuple[Dim, ...]]]:
        """(d, cases): ``d * atom`` is at least one of the cases, whichever is true."""
        match atom:
            case FloorDiv(dividend, int(divisor)):
                yield divisor, (add_scaled(dividend, 1, 1 - divisor),)
            case Max(args):
                for arg in args:
                    yield 1, (arg,)
            case Min(args) | Broadcast(args):
                yield 1, args


def _shift_products(dim: DimExpr) -> Dim:
    """`dim` with the symbols that occur in products measured from an end of their range.

    From the upper end where a product with a negative coefficient holds the symbol, so that more terms become
    non-negative; from the lower end otherwise.
    """
    shifts: dict[Symbol, Dim] = {}
    for monomial, coefficient in terms_of(dim)[0]:
        if not isinstance(monomial, Product):
            continue
        for symbol in monomial.factors:
            if not isinstance(symbol, Symbol):
                continue
            extent = None if symbol.lo is None or symbol.hi is None else symbol.hi - symbol.lo
            offset = Symbol(f"{symbol.name}.offset", 0, extent)
            if coefficient < 0 and symbol.hi is not None:
                shifts[symbol] = add_scaled(symbol.hi, offset, -1)
            elif symbol.lo:
                shifts.setdefault(symbol, add_scaled(symbol.lo, offset, 1))
    if not shifts:
        return dim
    terms, constant = terms_of(dim)
    shifted: Dim = constant
    for monomial, coefficient in terms:
        value: Dim = coefficient
        for factor in factors_of(monomial):
            replacement = shifts.get(factor, factor) if isinstance(factor, Symbol) else factor
            value = multiply(value, replacement)
        shifted = add_scaled(shifted, value, 1)
    return shifted
