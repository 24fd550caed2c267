"""Dims: named simplifications, canonical form, interning, queries, guards."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

from dlc.errors import InputError, LimitError
from dlc.ir.dims import (
    Dim,
    DimExpr,
    Evaluator,
    FloorDiv,
    Guard,
    Max,
    Min,
    Mod,
    Product,
    Relation,
    Sum,
    Symbol,
    bounds,
    broadcast,
    ceildiv,
    divides,
    evaluate,
    exact_quotient,
    floordiv,
    free_symbols,
    is_nonnegative,
    is_positive,
    known_equal,
    known_le,
    known_lt,
    linear,
    maximum,
    minimum,
    product,
    sort_key,
    substitute,
    to_text,
    total,
)
from dlc.ir.dims.nodes import TABLE

n, m, k = Symbol("n"), Symbol("m"), Symbol("k")
p, q = Symbol("p", 1), Symbol("q", 1)
i, j = Symbol("i", 0, 15), Symbol("j", 0, 3)
z = Symbol("z", None)


@pytest.mark.parametrize(
    ("simplified", "expected"),
    [
        ((16 * n + i) // 16, n),
        ((16 * n + i) % 16, i),
        ((16 * n + i) // 32, n // 2),
        ((16 * n + i) % 32, 16 * (n % 2) + i),
        ((64 * n + 16 * j + i) // 16, 4 * n + j),
        ((64 * n + 16 * j + i) % 64, 16 * j + i),
        ((64 * n + 16 * j + i) // 64, n),
        (8 * n // 4, 2 * n),
        (8 * n % 4, 0),
        (4 * n // 8, n // 2),
        ((4 * n + 3) // 8, n // 2),
        (4 * n % 8, 4 * (n % 2)),
        ((n + 32) // 16, n // 16 + 2),
        ((n - 5) % 16, (n + 11) % 16),
        (i % 16, i),
        (i // 16, 0),
        (i % 20, i),
        ((i + 16) // 16, 1),
        (n // 3 // 5, n // 15),
        ((n // 2 + 1) // 2, (n + 2) // 4),
        (n // 16 * 16 + n % 16, n),
        (n - n // 16 * 16, n % 16),
        (n // 16 % 2 * 16 + n % 16, n % 32),
        (n % 32 % 16, n % 16),
        (n % 32 // 16, n // 16 % 2),
        ((n % 32 + 5) % 16, (n + 5) % 16),
        (n // p * p + n % p, n),
        ((n * p + 3 * p) // p, n + 3),
        (n * p % p, 0),
        ((n * p + n % p) // p, n),
        ((n * (p + 1) + n % (p + 1)) // (p + 1), n),
        (4 * n // (4 * p), n // p),
        (4 * n % (4 * p), 4 * (n % p)),
        (n * p // (p * q), n // q),
        (n // p // q, n // (p * q)),
        (p // p, 1),
        (ceildiv(16 * n, 16), n),
        (ceildiv(n, 1), n),
        (ceildiv(n * p, p), n),
        (ceildiv(n, 16), (n + 15) // 16),
        (minimum(n, n + 1), n),
        (maximum(n, n + 1), n + 1),
        (minimum(i, 20), i),
        (minimum(i, -1), -1),
        (maximum(i, 0), i),
        (minimum(n, 8, 5), minimum(n, 5)),
        (minimum(n, minimum(m, 3)), minimum(minimum(n, m), 3)),
        (minimum(n, maximum(n, m)), n),
        (maximum(n, minimum(n, m)), n),
        (broadcast(n, 1), n),
        (broadcast(1, n), n),
        (broadcast(n, n), n),
        (broadcast(n, 512), 512),
        (broadcast(0, 1), 0),
        (broadcast(n, 0), 0),
        (broadcast(n, m), broadcast(m, n)),
        (broadcast(broadcast(n, m), k), broadcast(n, broadcast(m, k))),
        (broadcast(n, n + 2), n + 2),
        (broadcast(n, minimum(n, 128)), n),
        (broadcast(minimum(n, m, 8), n, m), broadcast(minimum(n, m, 8), n, m)),
        ((n + m) * (n - m), n * n - m * m),
        (n - n, 0),
        (0 * n, 0),
        (3 - (3 - n), n),
        (0 - -n, n),
    ],
)
def test_simplifies_to(simplified: Dim, expected: Dim) -> None:
    assert simplified is expected or simplified == expected


def test_constants_are_ints() -> None:
    for constant in (
        n - n + 3,
        8 * n % 4,
        minimum(3, 4),
        floordiv(7, 2),
        broadcast(1, 1),
        product([]),
        total([]),
    ):
        assert type(constant) is int


def test_numpy_integers_and_booleans_become_ints() -> None:
    assert n + np.int64(3) is n + 3
    assert np.int64(3) + n is n + 3
    assert np.int32(2) * n is 2 * n
    assert n // np.int64(2) is n // 2
    assert type(minimum(np.int64(3), True)) is int
    assert n * True is n


def test_object_arrays_add_elementwise() -> None:
    shape = np.array([n, 3], dtype=object)
    assert list(shape + np.array([1, m], dtype=object)) == [n + 1, m + 3]
    assert list(shape * 2) == [2 * n, 6]


@pytest.mark.parametrize("wrong", [1.5, "n", None])
def test_other_operands_are_refused(wrong: object) -> None:
    with pytest.raises(TypeError):
        n + wrong  # type: ignore[operator]
    with pytest.raises(InputError):
        minimum(n, wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("divisor", [0, -3])
def test_int_divisors_must_be_positive(divisor: int) -> None:
    for divide in (
        lambda: n // divisor,
        lambda: n % divisor,
        lambda: ceildiv(n, divisor),
        lambda: floordiv(7, divisor),
    ):
        with pytest.raises(ValueError, match="divisor"):
            divide()


def test_symbolic_divisor_that_may_be_zero_is_kept() -> None:
    for dim in (n * m // n, n % n, 0 // n):
        assert evaluate(dim, {"n": 3, "m": 2}) == {n * m // n: 2, n % n: 0, 0 // n: 0}[dim]
        with pytest.raises(ZeroDivisionError):
            evaluate(dim, {"n": 0, "m": 2})


def test_interned() -> None:
    assert Symbol("n") is n
    assert Symbol("n", 1) is not n
    assert (n + m) is (m + n)
    assert (n + m) * 2 is 2 * m + 2 * n
    assert hash(n + m) == hash(m + n)
    assert {n // 2: 1}[n // 2] == 1
    assert n + 1 != n
    assert n != "n"


def test_interned_across_threads() -> None:
    results: list[list[Dim]] = [[] for _ in range(4)]
    start = threading.Barrier(4)

    def build(out: list[Dim]) -> None:
        start.wait()
        for value in range(300):
            out.append((n * value + m) // 7 + minimum(n, value) * m)

    threads = [threading.Thread(target=build, args=(out,)) for out in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for others in results[1:]:
        assert all(left is right for left, right in zip(results[0], others, strict=True))


def test_nodes_are_not_kept_alive() -> None:
    def build(count: int) -> None:
        for number in range(count):
            symbol = Symbol(f"temporary{number}", 0, number)
            minimum(symbol * n + 1, symbol // 3 % 4)

    build(2500)
    gc.collect()
    before = len(TABLE)
    build(5000)
    gc.collect()
    # Only memories of bounded size keep nodes.
    assert len(TABLE) <= before + 1000


def test_immutable() -> None:
    with pytest.raises(AttributeError):
        n.name = "m"
    with pytest.raises(AttributeError):
        del n.name
    with pytest.raises(TypeError):
        Sum(((n, 2),), 0)
    with pytest.raises(TypeError):
        DimExpr()


def test_no_truth_value_and_no_order() -> None:
    with pytest.raises(TypeError):
        bool(n)
    with pytest.raises(TypeError):
        n < m  # type: ignore[operator]  # noqa: B015


@pytest.mark.parametrize("name", ["", "1n", "n m", "n;", "n\n", "ñ", "a-b", ".a"])
def test_symbol_names(name: str) -> None:
    with pytest.raises(InputError):
        Symbol(name)


def test_empty_range() -> None:
    with pytest.raises(InputError):
        Symbol("n", 3, 2)


def test_structure_is_matched() -> None:
    match 4 * n + m * n + 3:
        case Sum(((Symbol("n"), 4), (Product((Symbol("m"), Symbol("n"))), 1)), 3):
            pass
        case other:
            pytest.fail(str(other))
    match (n + 1) // 2:
        case FloorDiv(Sum(_, 1), 2):
            pass
        case other:
            pytest.fail(str(other))
    match minimum(n, 8) * maximum(m, n) + n % p:
        case Sum(((Product((Min((_, 8)), Max((_, _)))), 1), (Mod(Symbol("n"), Symbol("p", 1, None)), 1)), 0):
            pass
        case other:
            pytest.fail(str(other))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda dim: pickle.loads(pickle.dumps(dim))])
def test_copies_are_the_same_object(copied: object) -> None:
    for dim in (n, n + 1, 2 * n * m, (n + 1) // 2, n % p, minimum(n, 8), maximum(n, m), broadcast(n, m)):
        assert copied(dim) is dim  # type: ignore[operator]


_TEXTS = """
from dlc.ir.dims import *
s = [Symbol(c) for c in "edcba"]
print(total(s), s[0] * s[1] + s[2] // 2 + minimum(*s) + broadcast(*s[:3]), product(s))
print(sorted(free_symbols(total(s)), key=sort_key))
"""


def test_order_does_not_depend_on_the_process() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", _TEXTS],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    text = "a + b + c + d + e d*e + floordiv(c, 2) + min(a, b, c, d, e) + broadcast(c, d, e) a*b*c*d*e"
    assert outputs == {f"{text}\n[a, b, c, d, e]\n"}


@pytest.mark.parametrize(
    ("dim", "expected"),
    [
        (5, (5, 5)),
        (n, (0, None)),
        (z, (None, None)),
        (2 * i + j - 3, (-3, 30)),
        (3 - i, (-12, 3)),
        (i * j, (0, 45)),
        ((i - 5) * (j - 1), (-27, 40)),
        ((i + 1) // 3, (0, 5)),
        (n % 7, (0, 6)),
        (n % p, (0, None)),
        (i // p, (0, 15)),
        (z // 4, (None, None)),
        (minimum(n, 8), (0, 8)),
        (maximum(z, 8), (8, None)),
        (broadcast(n, m), (0, None)),
        (z * z, (0, None)),
    ],
)
def test_bounds(dim: Dim, expected: tuple[int | None, int | None]) -> None:
    low, high = bounds(dim)
    assert (low, high) == expected or (expected == (-27, 40) and low is not None and low <= -10)


def test_signs() -> None:
    assert is_nonnegative(n) and not is_positive(n) and is_positive(n + 1) and is_positive(p * q)
    assert not is_nonnegative(z) and not is_nonnegative(n - m)


def test_known_order() -> None:
    assert known_le(n, n + m) and known_lt(n, n + p) and not known_lt(n, n + m)
    assert known_le(minimum(n, m), n) and known_le(n, maximum(n, m))
    assert known_equal(n * (m + 1), n * m + n) and not known_equal(n, m)


def test_divides() -> None:
    assert divides(11, 11 * (n - (n + 2) // 4)) and divides(4, 4 * (n - n // 4))
    assert (
        divides(4, 8 * n + 4 * m * n + 12) and not divides(4, 8 * n + 2) and divides(3, 9) and divides(1, z)
    )


@pytest.mark.parametrize(
    ("dividend", "divisor", "expected"),
    [
        (n * m, n, m),
        (6 * n * m + 4 * n, 2 * n, 3 * m + 2),
        (n * m + m, n + 1, m),
        ((n + m) * (n - m + 3), n + m, n - m + 3),
        (n * m + 1, n, None),
        (3 * n, 2, None),
        (12, 4, 3),
        (12, -4, -3),
        (-6 * n, -3, 2 * n),
        (7, 2, None),
        (0, n, 0),
        (n, 0, None),
        (2, n, None),
    ],
)
def test_exact_quotient(dividend: Dim, divisor: Dim, expected: Dim | None) -> None:
    assert exact_quotient(dividend, divisor) == expected


@pytest.mark.parametrize(
    ("dim", "expected"),
    [
        (4 * n + n * m + 3, (m + 4, 3)),
        (5, (0, 5)),
        (m, (0, m)),
        (n, (1, 0)),
        (n * m * k + m // 2, (m * k, m // 2)),
        (n * n, None),
        (n // 2, None),
        (n * (n // 2), None),
        (n + minimum(n, 3), None),
    ],
)
def test_linear(dim: Dim, expected: tuple[Dim, Dim] | None) -> None:
    assert linear(dim, n) == expected


def test_free_symbols() -> None:
    assert free_symbols(4) == frozenset()
    assert free_symbols(n * m + minimum(k, 3) // p) == {n, m, k, p}
    assert free_symbols(n + m) is free_symbols(n + m)


def test_substitute() -> None:
    assert substitute(n // 16, {"n": 16 * m + i}) is m
    assert substitute(n - m, {"n": m, "m": n}) is m - n
    assert substitute(n * m + 1, {"n": 3}) is 3 * m + 1
    assert substitute(n + 1, {"n": 2}) == 3
    assert substitute(n + 1, {"m": 2}) is n + 1
    with pytest.raises(InputError):
        substitute(m // n, {"n": 0})


def test_missing_value_is_named() -> None:
    with pytest.raises(InputError, match="symbol m "):
        evaluate(n + m, {"n": 1})


def test_evaluator_shares_subexpressions() -> None:
    shared = (n + 1) // 2
    evaluator = Evaluator([shared, shared * m, 7, shared + m, n])
    assert evaluator({"n": 9, "m": 3}) == (5, 15, 7, 8, 9)
    assert set(evaluator.names) == {"n", "m"}
    # n + 1, its half, the half times m, the half plus m
    assert len(evaluator._steps) == 4


def test_long_sums_and_products() -> None:
    symbols = [Symbol(f"s{index}") for index in range(1000)]
    assert evaluate(total(symbols), {symbol.name: 2 for symbol in symbols}) == 2000
    assert evaluate(product(symbols[:100]), {symbol.name: 2 for symbol in symbols}) == 2**100


def test_expressions_are_bounded() -> None:
    symbols = [Symbol(f"s{index}") for index in range(100)]
    with pytest.raises(LimitError):
        total(symbols) * (total(symbols) + 1)
    nested: Dim = n
    with pytest.raises(LimitError):
        for _ in range(200):
            nested = minimum(nested + m, (nested + 7 * k) // 3)


def test_sort_key_orders_ints_last() -> None:
    dims: list[Dim] = [3, n + 1, minimum(n, 2), n * m, n, m, -1]
    assert sorted(dims, key=sort_key) == [m, n, n * m, minimum(n, 2), n + 1, -1, 3]


@pytest.mark.parametrize(
    ("relation", "left", "right", "known"),
    [
        (Relation.EQ, n, n, True),
        (Relation.EQ, n, n + 1, False),
        (Relation.EQ, n, m, None),
        (Relation.EQ, 2 * n, 2 * m + 1, False),
        (Relation.NE, n, n + 1, True),
        (Relation.NE, n, n, False),
        (Relation.NE, n, 3, None),
        (Relation.LE, i, 15, True),
        (Relation.LE, 16, i, False),
        (Relation.LE, n, 4, None),
        (Relation.LT, i, 16, True),
        (Relation.LT, n, n, False),
        (Relation.LT, n, 4, None),
    ],
)
def test_guard_known(relation: Relation, left: Dim, right: Dim, known: bool | None) -> None:
    assert Guard(relation, left, right, "message", "node").known() is known


def test_guard_holds() -> None:
    env = {"n": 3, "m": 4}
    truths = {relation: Guard(relation, n, m, "").holds(env) for relation in Relation}
    assert truths == {Relation.EQ: False, Relation.NE: True, Relation.LE: True, Relation.LT: True}
    guard = Guard(Relation.EQ, n, m - 1, "n must be one less than m", "Add_7")
    assert guard.holds(env) and str(guard) == "n == m - 1" and guard.free_symbols() == {n, m}
    assert pickle.loads(pickle.dumps(guard)) == guard


def test_repr_is_text() -> None:
    assert repr(4 * n - m) == to_text(4 * n - m) == "-m + 4*n"
