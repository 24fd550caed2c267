"""Random expressions over three symbols of small range, with their values by plain Python arithmetic."""

from __future__ import annotations

import itertools
import operator
import random
from collections.abc import Callable, Sequence
from typing import TypeAlias

from hypothesis import strategies as st

from dlc.ir.dims import Dim, Symbol, broadcast, ceildiv, floordiv, maximum, minimum, mod

#: A small range that starts at 0, one of positive numbers that serves as divisor, one across 0.
SYMBOLS = (Symbol("a", 0, 4), Symbol("b", 1, 5), Symbol("c", -2, 2))
NAMES = {symbol.name: symbol for symbol in SYMBOLS}
ENVIRONMENTS = [
    dict(zip("abc", values, strict=True)) for values in itertools.product(range(5), range(1, 6), range(-2, 3))
]

#: A tree is an int, the name of a symbol, or (function, operands): the expression before simplification.
Tree: TypeAlias = "int | str | tuple[str, tuple[Tree, ...]]"


class IncompatibleError(Exception):
    """Extents that do not broadcast: the value of the tree is not specified."""


def broadcast_value(left: int, right: int) -> int:
    if left != right and 1 not in (left, right):
        raise IncompatibleError
    return right if left == 1 else left


#: Each function: how to build it from dims, and its value from ints.
FUNCTIONS: dict[str, tuple[Callable[..., Dim], Callable[..., int]]] = {
    "+": (operator.add, operator.add),
    "-": (operator.sub, operator.sub),
    "*": (operator.mul, operator.mul),
    "//": (floordiv, operator.floordiv),
    "%": (mod, operator.mod),
    "ceildiv": (ceildiv, lambda left, right: -(-left // right)),
    "min": (minimum, min),
    "max": (maximum, max),
    "broadcast": (broadcast, broadcast_value),
}


def build(tree: Tree) -> Dim:
    if isinstance(tree, tuple):
        return FUNCTIONS[tree[0]][0](*map(build, tree[1]))
    return NAMES[tree] if isinstance(tree, str) else tree


def value(tree: Tree, env: dict[str, int]) -> int:
    if isinstance(tree, tuple):
        return FUNCTIONS[tree[0]][1](*[value(part, env) for part in tree[1]])
    return env[tree] if isinstance(tree, str) else tree


LEAVES = st.one_of(st.sampled_from("abc"), st.integers(-6, 20))
#: Symbolic divisors that are positive for all values of the symbols.
DIVISORS: tuple[Tree, ...] = (
    "b",
    ("*", (2, "b")),
    ("+", ("a", 1)),
    ("+", (("*", ("a", "b")), 2)),
    ("max", ("a", 2)),
)
SCALES = (2, 3, 4, 8, 12, 16, -1, -2, -4)
ARITHMETIC = ("+", "-", "*")


def _extend(children: st.SearchStrategy[Tree], names: tuple[str, ...]) -> st.SearchStrategy[Tree]:
    pairs = st.tuples(children, children)
    divisors = st.one_of(st.integers(1, 12), st.sampled_from([2, 3, 4, 8, 16]), st.sampled_from(DIVISORS))
    divisions = st.tuples(children, divisors)
    scaled = st.tuples(st.just("*"), st.tuples(st.sampled_from(SCALES), children))
    return st.one_of(
        st.tuples(st.sampled_from([name for name in names if name in "+-*"]), pairs),
        scaled,
        st.tuples(st.sampled_from(["//", "%", "ceildiv"]), divisions),
        st.tuples(st.sampled_from(["min", "max"]), pairs),
        st.tuples(st.sampled_from(["min", "max"]), st.tuples(children, children, children)),
        *([st.tuples(st.just("broadcast"), pairs)] if "broadcast" in names else []),
    )


def _trees(names: tuple[str, ...], depth: int) -> st.SearchStrategy[Tree]:
    """Trees whose root is a function, `depth` functions deep at most; st.recursive mostly draws leaves."""
    if depth == 1:
        return _extend(LEAVES, names)
    below = _trees(names, depth - 1)
    return _extend(st.one_of(below, below, below, LEAVES), names)


def random_tree(seed: int, names: Sequence[str] = ARITHMETIC) -> Tree:
    """A tree of some ten to thirty nodes: larger than what hypothesis draws, at the price of shrinking."""
    rng = random.Random(seed)

    def draw(depth: int) -> Tree:
        if depth == 0 or rng.random() < 0.1:
            return rng.choice("abc") if rng.random() < 0.75 else rng.randint(-6, 20)
        function = rng.choice([*names, "scale", "//", "%", "//", "%", "ceildiv", "min", "max"])
        if function == "scale":
            return "*", (rng.choice(SCALES), draw(depth - 1))
        if function in ("//", "%", "ceildiv"):
            divisor = rng.choice(DIVISORS) if rng.random() < 0.3 else rng.choice([2, 3, 4, 6, 8, 12, 16])
            return function, (draw(depth - 1), divisor)
        return function, (draw(depth - 1), draw(depth - 1))

    return draw(rng.randint(2, 5))


#: Sums and products only.
POLYNOMIALS: st.SearchStrategy[Tree] = st.recursive(
    LEAVES,
    lambda children: st.tuples(st.sampled_from(ARITHMETIC), st.tuples(children, children)),
    max_leaves=6,
)
SEEDS = st.integers(0, 2**64)
TREES = st.one_of(_trees(ARITHMETIC, 3), SEEDS.map(random_tree), SEEDS.map(random_tree))
TREES_WITH_BROADCAST = st.one_of(
    _trees((*ARITHMETIC, "broadcast"), 3),
    SEEDS.map(lambda seed: random_tree(seed, (*ARITHMETIC, "broadcast"))),
)
