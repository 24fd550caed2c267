"""What a program's guards say of its symbols, in the form in which proofs use it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from dlc.ir.dims import (
    Dim,
    DimExpr,
    Guard,
    Product,
    Relation,
    Symbol,
    ceildiv,
    free_symbols,
    substitute,
    terms_of,
)


@dataclasses.dataclass(frozen=True)
class Assumptions:
    """Facts about symbols.

    `equal` replaces symbols (by others with narrower ranges, too) and `atoms` quotients and the like that are
    numbers; `least` holds the least values of others, `zero` dims that are 0, `facts` other dims >= 0.
    """

    equal: Mapping[str, Dim]
    atoms: Mapping[Dim, int]
    zero: frozenset[Dim]
    least: Mapping[Dim, int]
    facts: tuple[Dim, ...]


NOTHING = Assumptions({}, {}, frozenset(), {}, ())


def assume(guards: Sequence[Guard]) -> Assumptions:
    """What holds where all `guards` do."""
    return _assume(tuple(guards))


@functools.lru_cache(maxsize=16)
def _assume(guards: tuple[Guard, ...]) -> Assumptions:
    equal: dict[str, Dim] = {}
    for guard in guards:
        if guard.relation is Relation.EQ:
            _equate(substitute(guard.left, equal), substitute(guard.right, equal), equal)
    atoms: dict[Dim, int] = {}
    least: dict[Dim, int] = {}
    facts: list[Dim] = []
    for guard in guards:
        for fact in _differences(guard):
            atom, value = _floor(substitute(fact, equal))
            match atom:
                case None:
                    facts.append(substitute(fact, equal))
                case Symbol(name, lo, hi):
                    if hi is None and (lo is None or lo < value):
                        _replace(name, Symbol(name, value), equal)
                case _ if guard.relation is Relation.EQ:
                    atoms[atom] = value
                case _:
                    least[atom] = max(value, least.get(atom, value))
    zero = {d for g in guards if g.relation is Relation.EQ for d in (_zero(g, {}), _zero(g, equal))}
    return Assumptions(
        equal,
        {substitute(atom, equal): value for atom, value in atoms.items()},
        frozenset(zero),
        {substitute(atom, equal): value for atom, value in least.items()},
        tuple(substitute(fact, equal) for fact in facts),
    )


def _zero(guard: Guard, equal: Mapping[str, Dim]) -> Dim:
    return substitute(guard.left - guard.right, equal)


def _differences(guard: Guard) -> list[Dim]:
    """The dims that are >= 0 where the guard holds."""
    match guard.relation:
        case Relation.EQ:
            return [guard.left - guard.right, guard.right - guard.left]
        case Relation.LE:
            return [guard.right - guard.left]
        case Relation.LT:
            return [guard.right - guard.left - 1]
    return []


def _floor(fact: Dim) -> tuple[DimExpr | None, int]:
    """(atom, n) if ``fact >= 0`` says that one atom is at least n; (None, 0) if it says something else."""
    terms, constant = terms_of(fact)
    if len(terms) != 1 or terms[0][1] < 0 or isinstance(terms[0][0], Product):
        return None, 0
    least = ceildiv(-constant, terms[0][1])
    return (terms[0][0], least) if isinstance(least, int) else (None, 0)


def _equate(left: Dim, right: Dim, equal: dict[str, Dim]) -> None:
    """Note an equality that gives a symbol."""
    for symbol, value in ((left, right), (right, left)):
        if isinstance(symbol, Symbol) and symbol not in free_symbols(value):
            _replace(symbol.name, value, equal)
            return


def _replace(name: str, value: Dim, equal: dict[str, Dim]) -> None:
    for other, known in equal.items():
        equal[other] = substitute(known, {name: value})
    equal.setdefault(name, value)
