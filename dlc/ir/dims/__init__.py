"""Integer expressions over named symbols: extents of tensors and, with loop axes as symbols, kernel indices.

A :data:`Dim` is an int or a :class:`DimExpr`. Expressions are immutable, interned and kept in a canonical
form that uses the ranges of their symbols, so that equal structure is the same object::

    n, i = Symbol("n"), Symbol("i", 0, 15)
    (16 * n + i) // 16       # n
    (16 * n + i) % 16        # i
    ceildiv(n, 16) * 16      # 16*floordiv(n + 15, 16)

Code generators read the structure with ``match``: the kinds of node and their fields are

    Symbol(name, lo, hi)            FloorDiv(dividend, divisor)     Min(args)
    Sum(terms, constant)            Mod(dividend, divisor)          Max(args)
    Product(factors)                                                Broadcast(args)

`nodes` and `atoms` hold the kinds of node, and sums and products; `division` and `remainders` the rules for
``//`` and ``%``; `order` and `proofs` what is known about ``<=``, and the rules for min, max and
broadcast; `evaluation` values and substitution; `text` the text form; `queries` questions about the form;
`guard` relations that are checked when sizes are bound.
"""

from dlc.ir.dims.division import ceildiv, divides, exact_quotient, floordiv, mod
from dlc.ir.dims.evaluation import (
    Evaluator,
    evaluate,
    free_symbols,
    operands,
    product,
    rebuild,
    substitute,
    total,
)
from dlc.ir.dims.guard import Guard, Relation
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
    as_dim,
    bounds,
    factors_of,
    sort_key,
    terms_of,
)
from dlc.ir.dims.order import (
    broadcast,
    is_nonnegative,
    is_positive,
    known_equal,
    known_le,
    known_lt,
    maximum,
    minimum,
)
from dlc.ir.dims.queries import linear
from dlc.ir.dims.text import parse, to_text

__all__ = [
    "Broadcast",
    "Dim",
    "DimExpr",
    "Evaluator",
    "FloorDiv",
    "Guard",
    "Max",
    "Min",
    "Mod",
    "Product",
    "Relation",
    "Sum",
    "Symbol",
    "as_dim",
    "bounds",
    "broadcast",
    "ceildiv",
    "divides",
    "evaluate",
    "exact_quotient",
    "factors_of",
    "floordiv",
    "free_symbols",
    "is_nonnegative",
    "is_positive",
    "known_equal",
    "known_le",
    "known_lt",
    "linear",
    "maximum",
    "minimum",
    "mod",
    "operands",
    "parse",
    "product",
    "rebuild",
    "sort_key",
    "substitute",
    "terms_of",
    "to_text",
    "total",
]
