"""Guards: relations between dims that compilation assumed and that are checked when sizes become known."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd

from dlc.ir.dims.evaluation import evaluate, free_symbols
from dlc.ir.dims.nodes import Dim, Symbol, add_scaled, terms_of
from dlc.ir.dims.order import known_equal, known_le, known_lt
from dlc.ir.dims.text import to_text


class Relation(enum.Enum):
    """How the left side of a guard must relate to its right side."""

    EQ = "=="
    NE = "!="
    LE = "<="
    LT = "<"


@dataclass(frozen=True)
class Guard:
    """``left relation right`` must hold when the symbols are bound.

    `message` says what is wrong if it does not, in the words of the model's user; `origin` is the ONNX name
    of the node that needs it.
    """

    relation: Relation
    left: Dim
    right: Dim
    message: str
    origin: str = ""

    def holds(self, env: Mapping[str, int]) -> bool:
        """Whether the relation is true for the values of `env` (conditions of `evaluate`)."""
        left, right = evaluate(self.left, env), evaluate(self.right, env)
        match self.relation:
            case Relation.EQ:
                return left == right
            case Relation.NE:
                return left != right
            case Relation.LE:
                return left <= right
            case Relation.LT:
                return left < right

    def known(self) -> bool | None:
        """True or False if the ranges of the symbols decide the relation for all values, None if not."""
        left, right = self.left, self.right
        match self.relation:
            case Relation.EQ:
                return _known_equality(left, right)
            case Relation.NE:
                equal = _known_equality(left, right)
                return None if equal is None else not equal
            case Relation.LE:
                return True if known_le(left, right) else False if known_lt(right, left) else None
            case Relation.LT:
                return True if known_lt(left, right) else False if known_le(right, left) else None

    def free_symbols(self) -> frozenset[Symbol]:
        """The symbols whose values decide the guard."""
        return free_symbols(self.left) | free_symbols(self.right)

    def __str__(self) -> str:
        return f"{to_text(self.left)} {self.relation.value} {to_text(self.right)}"


def _known_equality(left: Dim, right: Dim) -> bool | None:
    if known_equal(left, right):
        return True
    if known_lt(left, right) or known_lt(right, left) or _different_modulo(left, right):
        return False
    return None


def _different_modulo(left: Dim, right: Dim) -> bool:
    """Whether the difference is never 0 because its constant is not a multiple of what divides its terms."""
    difference = add_scaled(left, right, -1)
    terms, constant = terms_of(difference)
    content = gcd(*(coefficient for _, coefficient in terms))
    return content > 1 and constant % content != 0
