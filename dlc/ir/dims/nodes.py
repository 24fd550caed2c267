"""The nodes of dims expressions, their interning, and the arithmetic of sums and products.

An expression is a polynomial with integer coefficients whose variables are *atoms*: symbols, and the results
of floor division, remainder, minimum, maximum and broadcast. Its canonical form is

    Sum      = coefficient * monomial + ... + constant
    monomial = atom | Product(atom, atom, ...)

without zero coefficients, in a fixed order; a sum of one monomial with coefficient 1 is that monomial, and a
constant is a Python int, never a node. Nodes are interned: equal structure is the same object, so that
``is`` and ``==`` compare structure and hashing takes constant time. Only operators and functions of this
package make them (a class other than :class:`Symbol` refuses to be called): every node is canonical.
"""

from __future__ import annotations

import operator
import re
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any, ClassVar, NoReturn, TypeAlias, TypeVar, final
from weakref import WeakValueDictionary

from dlc.errors import InputError, LimitError, printable
from dlc.ir.dims.intervals import Interval, power_interval, product_interval, scaled

#: The most terms of a sum; distributing a product over more is refused.
MAX_TERMS = 4096
#: The deepest nesting of atoms within atoms, which bounds every recursion over an expression.
MAX_DEPTH = 64
#: The most factors of a product.
MAX_DEGREE = 128
#: The most nodes of an expression written out as a tree, which bounds its text.
MAX_SIZE = 50_000

_SYMBOL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")

Key: TypeAlias = tuple[Any, ...]


class DimExpr:
    """A symbolic integer: the common base of all nodes.

    Public fields of every node, read-only: `lo` and `hi`, the inclusive interval that is known to hold its
    value (None: unbounded on that side); `key`, a tuple that orders nodes the same way in every process.
    The operators ``+ - * // %`` take ints and expressions and return a :data:`Dim` in canonical form; ``==``
    compares structure, not value (see `known_equal`); there is no truth value and no ``<``.
    """

    __slots__ = ("__weakref__", "_free_symbols", "depth", "hi", "key", "lo", "size")

    rank: ClassVar[int]

    lo: int | None
    hi: int | None
    key: Key
    depth: int
    size: int
    _free_symbols: frozenset[Symbol] | None

    def __new__(cls, *args: object, **kwargs: object) -> DimExpr:
        raise TypeError(f"{cls.__name__} nodes are made by operators and functions of dlc.ir.dims")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __bool__(self) -> NoReturn:
        raise TypeError(f"the symbolic dim {self} has no truth value; compare it or ask its bounds")

    def __repr__(self) -> str:
        from dlc.ir.dims.text import to_text

        return to_text(self)

    def __add__(self, other: Dim) -> Dim:
        right = _operand(other)
        return NotImplemented if right is None else add_scaled(self, right, 1)

    def __radd__(self, other: Dim) -> Dim:
        left = _operand(other)
        return NotImplemented if left is None else add_scaled(self, left, 1)

    def __sub__(self, other: Dim) -> Dim:
        right = _operand(other)
        return NotImplemented if right is None else add_scaled(self, right, -1)

    def __rsub__(self, other: Dim) -> Dim:
        left = _operand(other)
        return NotImplemented if left is None else add_scaled(left, self, -1)

    def __mul__(self, other: Dim) -> Dim:
        right = _operand(other)
        return NotImplemented if right is None else multiply(self, right)

    def __rmul__(self, other: Dim) -> Dim:
        left = _operand(other)
        return NotImplemented if left is None else multiply(self, left)

    def __floordiv__(self, other: Dim) -> Dim:
        from dlc.ir.dims.division import floordiv

        right = _operand(other)
        return NotImplemented if right is None else floordiv(self, right)

    def __rfloordiv__(self, other: Dim) -> Dim:
        from dlc.ir.dims.division import floordiv

        left = _operand(other)
        return NotImplemented if left is None else floordiv(left, self)

    def __mod__(self, other: Dim) -> Dim:
        from dlc.ir.dims.division import mod

        right = _operand(other)
        return NotImplemented if right is None else mod(self, right)

    def __rmod__(self, other: Dim) -> Dim:
        from dlc.ir.dims.division import mod

        left = _operand(other)
        return NotImplemented if left is None else mod(left, self)

    def __neg__(self) -> Dim:
        return scale(self, -1)


#: An extent or an index: a Python int where it is known, otherwise an expression.
Dim: TypeAlias = int | DimExpr


@final
class Symbol(DimExpr):
    """A named unknown in the inclusive range `lo` .. `hi`; interned on name and range.

    Extents of tensors keep the default ``lo=0``; an axis of a loop is ``Symbol("i", 0, extent - 1)``. A
    bound of None means unbounded. `name` consists of ASCII letters, digits, ``_`` and ``.`` and does not
    start with a digit or a dot; other names and empty ranges raise :class:`~dlc.errors.InputError`.
    """

    __slots__ = ("name",)
    __match_args__ = ("name", "lo", "hi")
    rank = 0

    name: str

    def __new__(cls, name: str, lo: int | None = 0, hi: int | None = None) -> Symbol:
        lo = None if lo is None else operator.index(lo)
        hi = None if hi is None else operator.index(hi)
        identity = (cls, name, lo, hi)
        found = TABLE.get(identity)
        if found is not None:
            return found  # type: ignore[return-value]
        if not _SYMBOL_NAME.fullmatch(name):
            raise InputError(f"'{printable(name)}' is not a name for a symbol of dims")
        if lo is not None and hi is not None and lo > hi:
            raise InputError(f"the range {lo}..{hi} of symbol {name} is empty")
        key = (cls.rank, name, lo is None, lo or 0, hi is None, hi or 0)
        return intern(cls, identity, key, (lo, hi), 0, 1, name=name)

    def __reduce__(self) -> tuple[Any, ...]:
        return Symbol, (self.name, self.lo, self.hi)


@final
class Sum(DimExpr):
    """``terms[0][1] * terms[0][0] + ... + constant``: pairs (monomial, non-zero coefficient) and an int.

    The monomials are distinct atoms or :class:`Product` nodes in the order of their keys. There are at least
    two summands, or one whose coefficient is not 1.
    """

    __slots__ = ("constant", "terms")
    __match_args__ = ("terms", "constant")
    rank = 7

    terms: tuple[tuple[DimExpr, int], ...]
    constant: int

    def __reduce__(self) -> tuple[Any, ...]:
        return make_sum, (self.terms, self.constant)


@final
class Product(DimExpr):
    """The product of two or more atoms, sorted by key, with repetitions; never holds an int or a Sum."""

    __slots__ = ("factors", "has_division")
    __match_args__ = ("factors",)
    rank = 1

    factors: tuple[DimExpr, ...]
    has_division: bool

    def __reduce__(self) -> tuple[Any, ...]:
        return make_product, (self.factors,)


class _Division(DimExpr):
    __slots__ = ("dividend", "divisor")
    __match_args__ = ("dividend", "divisor")

    dividend: Dim
    divisor: Dim


@final
class FloorDiv(_Division):
    """``dividend // divisor``, rounding towards minus infinity; an int divisor is at least 2."""

    __slots__ = ()
    rank = 2

    def __reduce__(self) -> tuple[Any, ...]:
        from dlc.ir.dims.atoms import make_floordiv

        return make_floordiv, (self.dividend, self.divisor)


@final
class Mod(_Division):
    """``dividend % divisor`` = dividend - divisor * (dividend // divisor); an int divisor is at least 2."""

    __slots__ = ()
    rank = 3

    def __reduce__(self) -> tuple[Any, ...]:
        from dlc.ir.dims.atoms import make_mod

        return make_mod, (self.dividend, self.divisor)


class _Selection(DimExpr):
    __slots__ = ("args",)
    __match_args__ = ("args",)

    args: tuple[Dim, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        from dlc.ir.dims.atoms import make_selection

        return make_selection, (type(self), self.args)


@final
class Min(_Selection):
    """The smallest of `args`: two or more, distinct, ordered by key; only the last may be an int."""

    __slots__ = ()
    rank = 4


@final
class Max(_Selection):
    """The largest of `args`: two or more, distinct, ordered by key; only the last may be an int."""

    __slots__ = ()
    rank = 5


@final
class Broadcast(_Selection):
    """The common extent of `args`, all symbolic: the one that is not 1, or 1 if all are.

    The extents must be compatible (equal, or 1), which the maker of the expression ensures with a Guard; for
    others the value is that of the first arg that is not 1.
    """

    __slots__ = ()
    rank = 6


_INT_RANK = 9

_Node = TypeVar("_Node", bound=DimExpr)

# Entries vanish with their last user. The lock makes "absent, then insert" one step, so that two threads that
# build the same expression get the same object.
TABLE: WeakValueDictionary[Key, DimExpr] = WeakValueDictionary()
_LOCK = threading.RLock()
# The newest nodes stay alive a while: intermediate results are often built again, and finding is cheaper.
_RECENT: deque[DimExpr] = deque(maxlen=4096)
_set = object.__setattr__


def intern(
    kind: type[_Node], identity: Key, key: Key, interval: Interval, depth: int, size: int, **fields: object
) -> _Node:
    """The node `kind` with `fields`, entered in the table unless another thread was first."""
    if depth > MAX_DEPTH:
        raise LimitError(f"an expression of dims is nested more than {MAX_DEPTH} deep")
    if size > MAX_SIZE:
        raise LimitError(f"an expression of dims has more than {MAX_SIZE} nodes")
    node = object.__new__(kind)
    _set(node, "lo", interval[0])
    _set(node, "hi", interval[1])
    _set(node, "key", key)
    _set(node, "depth", depth)
    _set(node, "size", size)
    _set(node, "_free_symbols", None)
    for name, value in fields.items():
        _set(node, name, value)
    _RECENT.append(node)
    with _LOCK:
        return TABLE.setdefault(identity, node)  # type: ignore[return-value]


def as_dim(value: object) -> Dim:
    """`value` as a Dim: an expression, or anything that is an integer (NumPy scalars too) as a Python int.

    Raises :class:`~dlc.errors.InputError` for other types.
    """
    dim = _operand(value)
    if dim is None:
        raise InputError(f"a dim is an int or an expression, not {type(value).__name__}")
    return dim


def _operand(value: object) -> Dim | None:
    if type(value) is int or isinstance(value, DimExpr):
        return value
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def sort_key(dim: Dim) -> Key:
    """A tuple that orders dims the same way in every process: symbols, products, other atoms, sums, ints."""
    return dim.key if isinstance(dim, DimExpr) else (_INT_RANK, dim)


def bounds(dim: Dim) -> Interval:
    """The inclusive interval (lo, hi) that holds the value of `dim`; None: no bound is known on that side.

    The interval is sound for symbols within their ranges, not always tight: it forgets that two terms share
    a symbol.
    """
    return (dim.lo, dim.hi) if isinstance(dim, DimExpr) else (dim, dim)


def terms_of(dim: Dim) -> tuple[tuple[tuple[DimExpr, int], ...], int]:
    """`dim` as (terms, constant) of a :class:`Sum`, whatever its kind."""
    if isinstance(dim, Sum):
        return dim.terms, dim.constant
    return (((dim, 1),), 0) if isinstance(dim, DimExpr) else ((), dim)


def factors_of(monomial: DimExpr) -> tuple[DimExpr, ...]:
    """The atoms whose product `monomial` is."""
    return monomial.factors if isinstance(monomial, Product) else (monomial,)


def measure(parts: Iterable[Dim]) -> tuple[int, int]:
    """Depth and size of a node with the operands `parts`, not counting the depth of the node itself."""
    depth, size = 0, 1
    for part in parts:
        if isinstance(part, DimExpr):
            depth = max(depth, part.depth)
            size += part.size
        else:
            size += 1
    return depth, size


def make_sum(terms: tuple[tuple[DimExpr, int], ...], constant: int) -> Sum:
    """The Sum node with exactly these fields, which must be canonical."""
    identity = (Sum, terms, constant)
    found = TABLE.get(identity)
    if found is not None:
        return found  # type: ignore[return-value]
    if len(terms) > MAX_TERMS:
        raise LimitError(f"an expression of dims has more than {MAX_TERMS} terms")
    low: int | None = constant
    high: int | None = constant
    depth, size = 0, 1
    keys = []
    for monomial, coefficient in terms:
        lo, hi = scaled(monomial.lo, monomial.hi, coefficient)
        low = None if low is None or lo is None else low + lo
        high = None if high is None or hi is None else high + hi
        depth = max(depth, monomial.depth)
        size += monomial.size
        keys.append((monomial.key, coefficient))
    key = (Sum.rank, tuple(keys), constant)
    return intern(Sum, identity, key, (low, high), depth, size, terms=terms, constant=constant)


def make_product(factors: tuple[DimExpr, ...]) -> DimExpr:
    """The monomial with these atoms, which must be sorted by key; a single one is returned as it is."""
    if len(factors) == 1:
        return factors[0]
    identity = (Product, factors)
    found = TABLE.get(identity)
    if found is not None:
        return found
    if len(factors) > MAX_DEGREE:
        raise LimitError(f"a product of dims has more than {MAX_DEGREE} factors")
    interval: Interval = (1, 1)
    position = 0
    while position < len(factors):
        factor = factors[position]
        exponent = 1
        while position + exponent < len(factors) and factors[position + exponent] is factor:
            exponent += 1
        interval = product_interval(interval, power_interval((factor.lo, factor.hi), exponent))
        position += exponent
    key = (Product.rank, len(factors), tuple(factor.key for factor in factors))
    depth, size = measure(factors)
    division = any(isinstance(factor, _Division) for factor in factors)
    return intern(Product, identity, key, interval, depth, size, factors=factors, has_division=division)


def _term_key(term: tuple[DimExpr, int]) -> Key:
    return term[0].key


def _has_division(monomial: DimExpr) -> bool:
    kind = type(monomial)
    return kind is Mod or kind is FloorDiv or (isinstance(monomial, Product) and monomial.has_division)


def build_sum(coefficients: dict[DimExpr, int], constant: int) -> Dim:
    """The canonical dim ``sum(coefficient * monomial) + constant``; `coefficients` may hold zeros."""
    if len(coefficients) > 1 and any(map(_has_division, coefficients)):
        from dlc.ir.dims.remainders import recombine

        constant = recombine(coefficients, constant)
    terms = [term for term in coefficients.items() if term[1]]
    if not terms:
        return constant
    if len(terms) == 1:
        if terms[0][1] == 1 and constant == 0:
            return terms[0][0]
    else:
        terms.sort(key=_term_key)
    return make_sum(tuple(terms), constant)


def add_scaled(left: Dim, right: Dim, factor: int) -> Dim:
    """``left + factor * right``."""
    if not isinstance(right, DimExpr):
        added = factor * right
        if not isinstance(left, DimExpr):
            return left + added
        if added == 0:
            return left
        terms, constant = terms_of(left)
        constant += added
        if constant == 0 and len(terms) == 1 and terms[0][1] == 1:
            return terms[0][0]
        return make_sum(terms, constant)
    terms, constant = terms_of(left)
    coefficients = dict(terms)
    right_terms, right_constant = terms_of(right)
    for monomial, coefficient in right_terms:
        coefficients[monomial] = coefficients.get(monomial, 0) + factor * coefficient
    return build_sum(coefficients, constant + factor * right_constant)


def scale(dim: Dim, factor: int) -> Dim:
    """``factor * dim``."""
    if not isinstance(dim, DimExpr):
        return dim * factor
    if factor == 0 or factor == 1:
        return dim if factor else 0
    terms, constant = terms_of(dim)
    scaled_terms = {monomial: coefficient * factor for monomial, coefficient in terms}
    return build_sum(scaled_terms, constant * factor)


def multiply(left: Dim, right: Dim) -> Dim:
    """``left * right``, distributed over sums; :class:`~dlc.errors.LimitError` beyond :data:`MAX_TERMS`."""
    if not isinstance(right, DimExpr):
        return scale(left, right)
    if not isinstance(left, DimExpr):
        return scale(right, left)
    left_terms, left_constant = terms_of(left)
    right_terms, right_constant = terms_of(right)
    if len(left_terms) * len(right_terms) > MAX_TERMS:
        raise LimitError(f"a product of sums of dims has more than {MAX_TERMS} terms")
    coefficients: dict[DimExpr, int] = {}
    for monomial, coefficient in left_terms:
        for other, other_coefficient in right_terms:
            joined = multiply_monomials(monomial, other)
            coefficients[joined] = coefficients.get(joined, 0) + coefficient * other_coefficient
        if right_constant:
            coefficients[monomial] = coefficients.get(monomial, 0) + coefficient * right_constant
    if left_constant:
        for other, other_coefficient in right_terms:
            coefficients[other] = coefficients.get(other, 0) + left_constant * other_coefficient
    return build_sum(coefficients, left_constant * right_constant)


def multiply_monomials(left: DimExpr, right: DimExpr) -> DimExpr:
    """The monomial ``left * right``."""
    return make_product(tuple(sorted(factors_of(left) + factors_of(right), key=sort_key)))
