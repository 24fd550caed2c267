"""The identities between quotients and remainders that a sum is simplified by.

For a positive m, with x any expression:

    x // m * m + x % m                  = x
    (x // m) % k * m + x % m            = x % (m * k)
    x - x // m * m                      = x % m

Each is applied as often as the coefficients of its terms allow, under a common factor as well, but only where
that uses a term up: a rest of it would hide that a sum is a multiple of some number.
"""

from __future__ import annotations

from typing import TypeGuard

from dlc.ir.dims.division import floordiv, mod
from dlc.ir.dims.nodes import (
    Dim,
    DimExpr,
    FloorDiv,
    Mod,
    Sum,
    factors_of,
    make_product,
    multiply,
    sort_key,
    terms_of,
)
from dlc.ir.dims.order import is_positive


def recombine(coefficients: dict[DimExpr, int], constant: int) -> int:
    """Apply the identities to the sum of `coefficients` (changed in place) and `constant`; the new constant.

    Every step takes quotients away and adds none of the same dividend, so that it ends; the number of rounds
    is bounded all the same.
    """
    for _ in range(len(coefficients) + 8):
        added = _step(coefficients)
        if added is None:
            break
        constant += added
    return constant


def _step(coefficients: dict[DimExpr, int]) -> int | None:
    """Apply one identity once; what it adds to the constant, or None if none applies."""
    for monomial, coefficient in coefficients.items():
        if coefficient == 0:
            continue
        factors = factors_of(monomial)
        for position, factor in enumerate(factors):
            rest = factors[:position] + factors[position + 1 :]
            match factor:
                case Mod(dividend, divisor) if is_positive(divisor):
                    added = _join(coefficients, monomial, rest, dividend, divisor)
                case FloorDiv(dividend, divisor) if is_positive(divisor):
                    added = _subtract(coefficients, monomial, rest, dividend, divisor)
                case _:
                    continue
            if added is not None:
                return added
    return None


def _join(
    coefficients: dict[DimExpr, int],
    monomial: DimExpr,
    rest: tuple[DimExpr, ...],
    dividend: Dim,
    divisor: Dim,
) -> int | None:
    """The first two identities, found from `monomial` = rest * (dividend % divisor)."""
    coefficient = coefficients[monomial]
    quotient = floordiv(dividend, divisor)
    size = _single_term(divisor)
    if size is not None and _is_monomial(quotient):
        partner = _product(rest, *factors_of(quotient), *size[1])
        times = _common_times(coefficient, 1, coefficients.get(partner, 0), size[0])
        if times:
            coefficients[monomial] -= times
            coefficients[partner] -= times * size[0]
            return _accumulate(coefficients, dividend, rest, times)
    match dividend, divisor:
        case FloorDiv(inner, int(by)), int(count):
            low_part = mod(inner, by)
            if _is_monomial(low_part):
                partner = _product(rest, *factors_of(low_part))
                times = _common_times(coefficient, by, coefficients.get(partner, 0), 1)
                if times:
                    coefficients[monomial] -= times * by
                    coefficients[partner] -= times
                    return _accumulate(coefficients, mod(inner, by * count), rest, times)
    return None


def _subtract(
    coefficients: dict[DimExpr, int],
    monomial: DimExpr,
    rest: tuple[DimExpr, ...],
    dividend: Dim,
    divisor: Dim,
) -> int | None:
    """The third identity, found from `monomial` = rest * (dividend // divisor) with the divisor in `rest`."""
    size = _single_term(divisor)
    terms, _ = terms_of(dividend)
    if size is None or not terms:
        return None
    remaining = list(rest)
    for factor in size[1]:
        if factor not in remaining:
            return None
        remaining.remove(factor)
    others = tuple(remaining)
    coefficient = coefficients[monomial]
    times, left = divmod(coefficient, size[0])
    if left:
        return None
    for part, count in terms:
        available = coefficients.get(_product(others, *factors_of(part)), 0)
        if _common_times(times, 1, -available, count) != times:
            return None
    coefficients[monomial] -= times * size[0]
    added = _accumulate(coefficients, dividend, others, times)
    return added + _accumulate(coefficients, mod(dividend, divisor), others, -times)


def _common_times(first: int, first_size: int, second: int, second_size: int) -> int:
    """How often first_size fits into first and second_size into second, if that uses one of them up, else 0.

    Negative when both are; 0 if the signs differ. `first_size` is positive, `second_size` not zero.
    """
    if second_size < 0:
        second, second_size = -second, -second_size
    if first == 0 or second == 0 or (first > 0) != (second > 0):
        return 0
    times = min(abs(first) // first_size, abs(second) // second_size)
    if times * first_size != abs(first) and times * second_size != abs(second):
        return 0
    return times if first > 0 else -times


def _is_monomial(dim: Dim) -> TypeGuard[DimExpr]:
    return isinstance(dim, DimExpr) and not isinstance(dim, Sum)


def _single_term(divisor: Dim) -> tuple[int, tuple[DimExpr, ...]] | None:
    """(coefficient, factors) of a divisor that is a positive multiple of one monomial."""
    if isinstance(divisor, int):
        return divisor, ()
    terms, constant = terms_of(divisor)
    if constant or len(terms) != 1 or terms[0][1] < 0:
        return None
    return terms[0][1], factors_of(terms[0][0])


def _product(factors: tuple[DimExpr, ...], *more: DimExpr) -> DimExpr:
    return make_product(tuple(sorted(factors + more, key=sort_key)))


def _accumulate(coefficients: dict[DimExpr, int], dim: Dim, rest: tuple[DimExpr, ...], factor: int) -> int:
    """Add ``factor * product(rest) * dim`` to the sum; the part of it that is constant is returned."""
    terms, constant = terms_of(multiply(make_product(rest), dim) if rest else dim)
    for monomial, coefficient in terms:
        coefficients[monomial] = coefficients.get(monomial, 0) + factor * coefficient
    return factor * constant
