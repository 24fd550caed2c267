"""Questions about the form of a dim."""

from __future__ import annotations

from dlc.ir.dims.evaluation import free_symbols
from dlc.ir.dims.nodes import Dim, DimExpr, Symbol, build_sum, factors_of, make_product, terms_of


def linear(dim: Dim, symbol: Symbol) -> tuple[Dim, Dim] | None:
    """(coefficient, rest) with ``dim == coefficient * symbol + rest``, both free of `symbol`.

    None if `dim` is not affine in `symbol`, that is, holds a power of it or holds it inside another atom. The
    stride of a loop axis in an index is its coefficient.
    """
    if symbol not in free_symbols(dim):
        return 0, dim
    terms, constant = terms_of(dim)
    coefficients: dict[DimExpr, int] = {}
    rest: dict[DimExpr, int] = {}
    coefficient_constant = 0
    for monomial, value in terms:
        if symbol not in free_symbols(monomial):
            rest[monomial] = value
            continue
        others = tuple(factor for factor in factors_of(monomial) if factor is not symbol)
        if len(others) != len(factors_of(monomial)) - 1 or any(symbol in free_symbols(o) for o in others):
            return None
        if others:
            coefficients[make_product(others)] = value
        else:
            coefficient_constant = value
    return build_sum(coefficients, coefficient_constant), build_sum(rest, constant)
