"""The value of dims for given symbols, the replacement of symbols, and the symbols that occur."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

from dlc.errors import InputError
from dlc.ir.dims.division import floordiv, mod
from dlc.ir.dims.nodes import (
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
    add_scaled,
    as_dim,
    multiply,
    scale,
)
from dlc.ir.dims.order import broadcast, maximum, minimum

#: The number of dims whose compiled form `evaluate` remembers.
_REMEMBERED = 1024

_EMPTY: frozenset[Symbol] = frozenset()


def free_symbols(dim: Dim) -> frozenset[Symbol]:
    """The symbols that occur in `dim`, in no fixed order: sort by `sort_key` where the order shows."""
    if not isinstance(dim, DimExpr):
        return _EMPTY
    known = dim._free_symbols
    if known is None:
        if isinstance(dim, Symbol):
            known = frozenset((dim,))
        else:
            known = _EMPTY.union(*map(free_symbols, operands(dim)))
        object.__setattr__(dim, "_free_symbols", known)
    return known


def operands(dim: Dim) -> tuple[Dim, ...]:
    """The direct operands of a node, without coefficients and constant of a sum; none of symbols and ints."""
    match dim:
        case Sum(terms, _):
            return tuple(monomial for monomial, _ in terms)
        case Product(factors):
            return factors
        case FloorDiv(dividend, divisor) | Mod(dividend, divisor):
            return dividend, divisor
        case Min(args) | Max(args) | Broadcast(args):
            return args
    return ()


def evaluate(dim: Dim, env: Mapping[str, int]) -> int:
    """The value of `dim` with each symbol replaced by ``env[symbol.name]``.

    The values must lie in the symbols' ranges, which is not checked: simplification has relied on them.
    Raises :class:`~dlc.errors.InputError` for a symbol that is not in `env`, ZeroDivisionError for a divisor
    of 0.
    """
    return _evaluator(dim)(env)[0] if isinstance(dim, DimExpr) else dim


def substitute(dim: Dim, replacements: Mapping[str, Dim]) -> Dim:
    """`dim` with the symbols named in `replacements` replaced, simplified again.

    All are replaced at once, so that names may be exchanged. The replacements must lie in the ranges of the
    symbols that they replace. Raises :class:`~dlc.errors.InputError` if a divisor becomes 0 or negative.
    """
    return _substitute(dim, replacements, {})


def _substitute(dim: Dim, replacements: Mapping[str, Dim], done: dict[DimExpr, Dim]) -> Dim:
    if not isinstance(dim, DimExpr):
        return dim
    found = done.get(dim)
    if found is not None:
        return found
    result: Dim = dim
    if any(symbol.name in replacements for symbol in free_symbols(dim)):
        if isinstance(dim, Symbol):
            result = as_dim(replacements[dim.name])
        else:
            result = rebuild(dim, [_substitute(part, replacements, done) for part in operands(dim)])
    done[dim] = result
    return result


def rebuild(dim: DimExpr, parts: Sequence[Dim]) -> Dim:
    """The node `dim` made again, simplified, with `parts` in place of its :func:`operands`."""
    match dim:
        case Sum(terms, constant):
            scaled = (scale(part, coefficient) for part, (_, coefficient) in zip(parts, terms))
            return total((*scaled, constant))
        case Product():
            return product(parts)
        case FloorDiv():
            return floordiv(*parts)
        case Mod():
            return mod(*parts)
        case Min():
            return minimum(*parts)
        case Max():
            return maximum(*parts)
        case Broadcast():
            return broadcast(*parts)
    return dim


def product(dims: Iterable[Dim]) -> Dim:
    """The product of `dims`; 1 for none. The element count of a shape."""
    result: Dim = 1
    for dim in dims:
        result = multiply(result, as_dim(dim))
    return result


def total(dims: Iterable[Dim]) -> Dim:
    """The sum of `dims`; 0 for none."""
    # Halving keeps the work for n terms at n log n: each addition copies the terms of both sides.
    level = list(map(as_dim, dims))
    while len(level) > 1:
        paired = [add_scaled(left, right, 1) for left, right in zip(level[::2], level[1::2])]
        level = paired + level[2 * len(paired) :]
    return level[0] if level else 0


_Step: TypeAlias = Callable[[list[int]], int]


class Evaluator:
    """Many dims compiled for fast evaluation; a subexpression that several share is computed once.

    ``Evaluator(dims)(env)`` gives the values of `dims` in order, under the conditions of :func:`evaluate`.
    """

    def __init__(self, dims: Sequence[Dim]) -> None:
        self._names: list[str] = []
        self._steps: list[_Step] = []
        self._constants: list[int] = []
        #: Slot of each node in the list of values: constants first, then symbols, then results of steps.
        self._slots: dict[Dim, int] = {}
        nodes: dict[Dim, None] = {}
        for dim in dims:
            _postorder(as_dim(dim), nodes)
        ints = [node for node in nodes if not isinstance(node, DimExpr)]
        symbols = [node for node in nodes if isinstance(node, Symbol)]
        self._constants.extend(ints)
        self._names.extend(symbol.name for symbol in symbols)
        leaves: list[Dim] = [*ints, *symbols]
        for leaf in leaves:
            self._slots[leaf] = len(self._slots)
        for node in nodes:
            if isinstance(node, DimExpr) and not isinstance(node, Symbol):
                self._steps.append(_step(node, self._slots))
                self._slots[node] = len(self._slots)
        self._outputs = [self._slots[as_dim(dim)] for dim in dims]

    @property
    def names(self) -> tuple[str, ...]:
        """The names that `env` must hold."""
        return tuple(dict.fromkeys(self._names))

    def __call__(self, env: Mapping[str, int]) -> tuple[int, ...]:
        values = self._constants.copy()
        try:
            for name in self._names:
                values.append(env[name])
        except KeyError as error:
            raise InputError(
                f"no value is given for the symbol {error.args[0]} of dims", code="input/name"
            ) from None
        for step in self._steps:
            values.append(step(values))
        return tuple([values[slot] for slot in self._outputs])


@lru_cache(maxsize=_REMEMBERED)
def _evaluator(dim: Dim) -> Evaluator:
    return Evaluator((dim,))


def _postorder(dim: Dim, nodes: dict[Dim, None]) -> None:
    """Enter `dim` and all below it into `nodes`, operands before users."""
    if dim not in nodes:
        for part in operands(dim):
            _postorder(part, nodes)
        nodes[dim] = None


def _step(node: DimExpr, slots: Mapping[Dim, int]) -> _Step:
    """The function that computes `node` from the values in the slots of its operands."""
    parts = [slots[part] for part in operands(node)]
    match node:
        case Sum(terms, constant):
            return _sum_step([(slot, coefficient) for slot, (_, coefficient) in zip(parts, terms)], constant)
        case Product():
            return _product_step(parts)
        case FloorDiv():
            dividend, divisor = parts
            return lambda values: values[dividend] // values[divisor]
        case Mod():
            dividend, divisor = parts
            return lambda values: values[dividend] % values[divisor]
        case Min():
            return lambda values: min([values[slot] for slot in parts])
        case Max():
            return lambda values: max([values[slot] for slot in parts])
        case Broadcast():
            return lambda values: next((values[slot] for slot in parts if values[slot] != 1), 1)
    raise InputError(f"{type(node).__name__} is not a node of dims")


def _sum_step(terms: list[tuple[int, int]], constant: int) -> _Step:
    if len(terms) == 1:
        ((slot, coefficient),) = terms
        return lambda values: values[slot] * coefficient + constant

    def add(values: list[int]) -> int:
        result = constant
        for slot, coefficient in terms:
            result += values[slot] * coefficient
        return result

    return add


def _product_step(slots: list[int]) -> _Step:
    if len(slots) == 2:
        left, right = slots
        return lambda values: values[left] * values[right]

    def multiply_all(values: list[int]) -> int:
        result = 1
        for slot in slots:
            result *= values[slot]
        return result

    return multiply_all
