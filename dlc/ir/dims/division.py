"""Floor division and remainder of dims, and division without remainder.

Both start from the same split ``dividend = quotient * divisor + rest``, which moves every multiple of the
divisor out of the dividend, and then reduce the rest by the same steps: ranges, nested divisions, common
factors. That the steps agree is what lets ``x // m * m + x % m`` find its way back to x.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from math import gcd

from dlc.errors import InputError
from dlc.ir.dims.atoms import make_floordiv, make_mod
from dlc.ir.dims.nodes import (
    Dim,
    DimExpr,
    FloorDiv,
    Mod,
    Product,
    add_scaled,
    as_dim,
    bounds,
    build_sum,
    factors_of,
    make_product,
    multiply,
    scale,
    sort_key,
    terms_of,
)
from dlc.ir.dims.order import is_positive, known_le, known_lt

#: Results that each of floor division and remainder remembers; it bounds what they keep alive.
_REMEMBERED = 2048
#: The most steps of a division of polynomials.
_MAX_STEPS = 256


def floordiv(dividend: Dim, divisor: Dim) -> Dim:
    """``dividend // divisor``, rounding towards minus infinity as Python does.

    An int `divisor` must be positive, else :class:`~dlc.errors.InputError` (a ValueError). A symbolic one
    that may be 0 is left as it is; evaluating the result with 0 raises ZeroDivisionError.
    """
    dividend, divisor = as_dim(dividend), as_dim(divisor)
    _check_divisor(divisor)
    if isinstance(dividend, int) and isinstance(divisor, int):
        return dividend // divisor
    return _floordiv(dividend, divisor)


def mod(dividend: Dim, divisor: Dim) -> Dim:
    """``dividend % divisor`` as Python has it: between 0 and divisor - 1. Divisors as in :func:`floordiv`."""
    dividend, divisor = as_dim(dividend), as_dim(divisor)
    _check_divisor(divisor)
    if isinstance(dividend, int) and isinstance(divisor, int):
        return dividend % divisor
    return _mod(dividend, divisor)


def ceildiv(dividend: Dim, divisor: Dim) -> Dim:
    """``dividend / divisor`` rounded up, for a positive divisor: ``(dividend + divisor - 1) // divisor``."""
    dividend, divisor = as_dim(dividend), as_dim(divisor)
    return floordiv(add_scaled(add_scaled(dividend, divisor, 1), 1, -1), divisor)


def divides(divisor: int, dim: Dim) -> bool:
    """Whether `dim` is provably a multiple of the positive int `divisor`, whatever its symbols are."""
    return mod(dim, divisor) == 0


def exact_quotient(dividend: Dim, divisor: Dim) -> Dim | None:
    """The dim q with ``dividend == q * divisor`` for all values of the symbols, or None if there is none.

    The divisor may be 0 for some values, unlike with :func:`floordiv`: ``exact_quotient(n * m, n)`` is m.
    A zero divisor, as an int, has no quotient.
    """
    dividend, divisor = as_dim(dividend), as_dim(divisor)
    if divisor == 0:
        return None
    quotient, rest = _divide_polynomials(dividend, divisor)
    return quotient if rest == 0 else None


def _check_divisor(divisor: Dim) -> None:
    if isinstance(divisor, int) and divisor <= 0:
        raise InputError(f"the divisor {divisor} of a dim is not positive")


@lru_cache(maxsize=_REMEMBERED)
def _floordiv(dividend: Dim, divisor: Dim) -> Dim:
    if not is_positive(divisor):
        return make_floordiv(dividend, divisor)
    quotient, rest = _split(dividend, divisor)
    return add_scaled(_floordiv_rest(rest, divisor), quotient, 1)


def _floordiv_rest(rest: Dim, divisor: Dim) -> Dim:
    """``rest // divisor`` for a positive divisor of which no multiple is left in `rest`."""
    quotient = _range_quotient(rest, divisor)
    if quotient is not None:
        return quotient
    terms, constant = terms_of(rest)
    if len(terms) == 1 and terms[0][1] == 1:
        match terms[0][0]:
            case FloorDiv(inner, by) if is_positive(by):
                # (x // a + c) // b = (x + c * a) // (a * b)
                shifted = add_scaled(inner, scale(by, constant), 1)
                return floordiv(shifted, multiply(by, divisor))
            case Mod(inner, int(by)) if constant == 0 and isinstance(divisor, int) and by % divisor == 0:
                # (x % (a * b)) // a = (x // a) % b
                return mod(floordiv(inner, divisor), by // divisor)
    factored = _common_factor(rest, divisor)
    if factored is not None:
        _, multiple, reduced, _ = factored
        return floordiv(multiple, reduced)
    return make_floordiv(rest, divisor)


@lru_cache(maxsize=_REMEMBERED)
def _mod(dividend: Dim, divisor: Dim) -> Dim:
    if not is_positive(divisor):
        return make_mod(dividend, divisor)
    _, rest = _split(dividend, divisor)
    quotient = floordiv(rest, divisor)
    if isinstance(quotient, int):
        return add_scaled(rest, divisor, -quotient)
    if isinstance(divisor, int):
        unwrapped = _without_inner_mods(rest, divisor)
        if unwrapped is not rest:
            return mod(unwrapped, divisor)
    factored = _common_factor(rest, divisor)
    if factored is not None:
        factor, multiple, reduced, left = factored
        return add_scaled(left, multiply(factor, mod(multiple, reduced)), 1)
    return make_mod(rest, divisor)


def _split(dividend: Dim, divisor: Dim) -> tuple[Dim, Dim]:
    """(quotient, rest) with ``dividend == quotient * divisor + rest``, as much in the quotient as is useful.

    Coefficients are split towards zero: then a term and what is moved out of it have the same sign, and the
    intervals of quotient and rest together lose nothing against that of the dividend.
    """
    if isinstance(divisor, int):
        return _split_multiples(dividend, divisor, ())
    terms, constant = terms_of(divisor)
    if len(terms) == 1 and constant == 0:
        monomial, coefficient = terms[0]
        if coefficient > 0:
            return _split_multiples(dividend, coefficient, factors_of(monomial))
    quotient, rest = _divide_polynomials(dividend, divisor)
    if quotient != 0 and _range_quotient(rest, divisor) is not None:
        return quotient, rest
    return 0, dividend


def _split_multiples(dividend: Dim, coefficient: int, factors: tuple[DimExpr, ...]) -> tuple[Dim, Dim]:
    """:func:`_split` by the monomial ``coefficient * product(factors)`` with a positive coefficient."""
    terms, constant = terms_of(dividend)
    quotients: dict[DimExpr, int] = {}
    rests: dict[DimExpr, int] = {}
    quotient_constant = 0
    for monomial, value in terms:
        left = _without_factors(monomial, factors)
        taken = 0 if left is None else abs(value) // coefficient * (1 if value > 0 else -1)
        if left:
            joined = make_product(left)
            quotients[joined] = quotients.get(joined, 0) + taken
        elif left is not None:
            quotient_constant += taken
        rests[monomial] = value - taken * coefficient
    if not factors:
        more, constant = divmod(constant, coefficient)
        quotient_constant += more
    if not any(quotients.values()) and quotient_constant == 0:
        return 0, dividend
    return build_sum(quotients, quotient_constant), build_sum(rests, constant)


def _without_factors(monomial: DimExpr, factors: tuple[DimExpr, ...]) -> tuple[DimExpr, ...] | None:
    """The factors of `monomial` that `factors` leaves, in order, or None if they do not divide it."""
    if not factors:
        return factors_of(monomial)
    left = Counter(factors_of(monomial))
    left.subtract(factors)
    if min(left.values()) < 0:
        return None
    return tuple(sorted(left.elements(), key=sort_key))


def _range_quotient(rest: Dim, divisor: Dim) -> int | None:
    """``rest // divisor`` if the ranges determine it."""
    low, high = bounds(rest)
    if isinstance(divisor, int):
        if low is None or high is None or low // divisor != high // divisor:
            return None
        return low // divisor
    if low is not None and low >= 0:
        return 0 if known_lt(rest, divisor) else None
    if high is not None and high < 0:
        return -1 if known_le(scale(divisor, -1), rest) else None
    return None


def _without_inner_mods(dim: Dim, divisor: int) -> Dim:
    """`dim` with x in place of every x % k congruent to it modulo `divisor`; `dim` itself if none is."""
    terms, _ = terms_of(dim)
    for monomial, coefficient in terms:
        factors = factors_of(monomial)
        for position, factor in enumerate(factors):
            match factor:
                case Mod(inner, int(by)) if coefficient * by % divisor == 0:
                    others = factors[:position] + factors[position + 1 :]
                    rest = make_product(others) if others else 1
                    dim = add_scaled(dim, monomial, -coefficient)
                    dim = add_scaled(dim, multiply(rest, inner), coefficient)
                    break
    return dim


def _common_factor(rest: Dim, divisor: Dim) -> tuple[Dim, Dim, Dim, Dim] | None:
    """(factor, multiple, reduced, left) with rest = factor * multiple + left, divisor = factor * reduced.

    0 <= left < factor holds, so that ``rest // divisor == multiple // reduced`` and
    ``rest % divisor == factor * (multiple % reduced) + left``.
    """
    terms, constant = terms_of(rest)
    divisor_terms, divisor_constant = terms_of(divisor)
    content = gcd(divisor_constant, *(coefficient for _, coefficient in divisor_terms))
    candidates = {gcd(content, coefficient) for _, coefficient in terms} - {1}
    for factor in sorted(candidates, reverse=True):
        multiples = {monomial: value // factor for monomial, value in terms if value % factor == 0}
        others = {monomial: value for monomial, value in terms if value % factor}
        left = build_sum(others, constant % factor)
        low, high = bounds(left)
        if low is not None and high is not None and low // factor == high // factor:
            wrapped = low // factor
            multiple = build_sum(multiples, constant // factor + wrapped)
            reduced = exact_quotient(divisor, factor)
            assert reduced is not None
            return factor, multiple, reduced, add_scaled(left, wrapped * factor, -1)
    if divisor_constant or constant or not terms:
        return None
    for atom in dict.fromkeys(factors_of(divisor_terms[0][0]) if divisor_terms else ()):
        if is_positive(atom):
            rest_quotient, divisor_quotient = exact_quotient(rest, atom), exact_quotient(divisor, atom)
            if rest_quotient is not None and divisor_quotient is not None:
                return atom, rest_quotient, divisor_quotient, 0
    return None


def _divide_polynomials(dividend: Dim, divisor: Dim) -> tuple[Dim, Dim]:
    """(quotient, rest) of the division by the leading term of `divisor`, its atoms taken as variables.

    Monomials are ordered by degree, then by the keys of their factors, which multiplication respects; the
    leading term is the last. The rest is 0 if and only if the divisor divides the dividend as a polynomial.
    """
    terms, constant = terms_of(divisor)
    if not terms:
        quotient, rest = _split_multiples(dividend, abs(constant), ())
        return (quotient if constant > 0 else scale(quotient, -1)), rest
    lead, lead_coefficient = max(terms, key=lambda term: _degree_key(term[0]))
    lead_factors = factors_of(lead)
    quotient = 0
    for _ in range(_MAX_STEPS):
        for monomial, coefficient in sorted(
            terms_of(dividend)[0], key=lambda term: _degree_key(term[0]), reverse=True
        ):
            left = _without_factors(monomial, lead_factors)
            if left is not None and coefficient % lead_coefficient == 0:
                step = scale(make_product(left) if left else 1, coefficient // lead_coefficient)
                break
        else:
            break
        quotient = add_scaled(quotient, step, 1)
        dividend = add_scaled(dividend, multiply(step, divisor), -1)
    return quotient, dividend


def _degree_key(monomial: DimExpr) -> tuple[int, tuple[object, ...]]:
    factors = monomial.factors if isinstance(monomial, Product) else (monomial,)
    return len(factors), tuple(factor.key for factor in factors)
