"""Bounds of what dims compute, as generated code: what they call exact is, and small numbers always are."""

from __future__ import annotations

import random

import numpy as np
import pytest

from dlc.backends.cpu import types as t
from dlc.backends.cpu.driver import _PREDICATES
from dlc.backends.cpu.expressions import ExpressionEmitter
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.overflow import LIMIT, Magnitudes, fit, guard_is_exact, part
from dlc.ir.dims import (
    Dim,
    Guard,
    Relation,
    Symbol,
    broadcast,
    ceildiv,
    evaluate,
    floordiv,
    maximum,
    minimum,
    mod,
    product,
)
from dlc.target import CpuTarget
from tests.backends.cpu.harness import Library, each_target

#: Numbers from data can be anything.
SYMBOLS = tuple(Symbol(name, None) for name in "abcd")
EXTENTS = tuple(Symbol(name, 0) for name in "nm")
CORNERS = [0, 1, -1, 3, 7, 1000, -999, 1 << 21, 1 << 31, -(1 << 31), 1 << 32, 1 << 40, (1 << 60) - 1, 1 << 61]
CORNERS += [1 << 62, (1 << 62) + 1, -(1 << 62), (1 << 63) - 1, -(1 << 63)]


def random_dim(rng: random.Random, depth: int) -> Dim:
    """A polynomial with quotients, remainders, least and greatest ones among its factors."""
    if depth == 0 or rng.random() < 0.2:
        return rng.choice([*SYMBOLS, *EXTENTS, rng.randint(-9, 99)])
    left, right = random_dim(rng, depth - 1), random_dim(rng, depth - 1)
    match rng.randrange(9):
        case 0 | 1:
            return left + right * rng.choice([1, -1, 3, 64])
        case 2 | 3:
            return left * right
        case 4:
            return minimum(left, right)
        case 5:
            return maximum(left, right)
        case 6:
            return floordiv(left, rng.choice([1, 2, 3, 16]))
        case 7:
            return mod(left, rng.choice([2, 7, 16]))
    return ceildiv(left, rng.choice([4, 16]))


def environments(count: int) -> list[dict[str, int]]:
    rng = random.Random(1)
    drawn = [
        {
            **{s.name: rng.choice(CORNERS) for s in SYMBOLS},
            **{s.name: abs(rng.choice(CORNERS[:-1])) for s in EXTENTS},
        }
        for _ in range(count)
    ]
    small = [{s.name: rng.randint(0, 50) for s in (*SYMBOLS, *EXTENTS)} for _ in range(10)]
    return small + drawn


def compiled(target: CpuTarget, dims: list[Dim], guards: list[Guard]) -> Library:
    """f(symbols, out): for each dim, then for each guard, whether it is exact and its value."""
    module = Module(target)
    b = module.function("f", [("symbols", t.ptr), ("out", t.ptr)])
    symbols, out = b.params
    names = [s.name for s in (*SYMBOLS, *EXTENTS)]
    emitter = ExpressionEmitter(b, {}, {}, lambda _: None)
    emitter.fix_symbols({n: b.load(b.byte_offset(symbols, 8 * i), t.i64) for i, n in enumerate(names)})
    results: list[tuple[t.Value | None, t.Value]] = []
    for dim in dims:
        magnitudes = Magnitudes()
        magnitudes.require([dim])
        results.append((fit(b, emitter, magnitudes.unbounded()), emitter.dim(dim)))
    for guard in guards:
        sides = emitter.dim(guard.left), emitter.dim(guard.right)
        holds = b.icmp(_PREDICATES.get(guard.relation, "ne"), *sides)
        results.append((guard_is_exact(b, emitter, guard, {}), b.zext(holds, t.i64)))
    for index, (exact, value) in enumerate(results):
        flag = b.value(1) if exact is None else b.zext(exact, t.i64)
        b.store(flag, b.byte_offset(out, 16 * index))
        b.store(value, b.byte_offset(out, 16 * index + 8))
    return Library(module)


@each_target
def test_what_is_called_exact_is(target: CpuTarget) -> None:
    rng = random.Random(0)
    dims = [random_dim(rng, 4) for _ in range(150)]
    guards = []
    for relation in (Relation.EQ, Relation.LE, Relation.LT):
        guards += [Guard(relation, random_dim(rng, 3), random_dim(rng, 3), "") for _ in range(40)]
    n, a = EXTENTS[0], SYMBOLS[0]
    guards.append(Guard(Relation.EQ, n - a - n * n + a * a + n * n * a - n * a * a, 0, "broadcast"))
    library = compiled(target, dims, guards)
    names = [s.name for s in (*SYMBOLS, *EXTENTS)]
    exact_ones = wrong = 0
    for number, env in enumerate(environments(200)):
        out = np.zeros((len(dims) + len(guards), 2), np.int64)
        library.f(np.array([env[name] for name in names], np.int64), out)
        expected = [evaluate(dim, env) for dim in dims] + [int(_holds(guard, env)) for guard in guards]
        for (exact, value), want in zip(out.tolist(), expected, strict=True):
            if exact:
                exact_ones += 1
                assert value == want, env
            else:
                assert number >= 10, "small numbers are exact"
                wrong += value != want
    assert exact_ones > 1000 and wrong > 100, "nothing was at stake"


def _holds(guard: Guard, env: dict[str, int]) -> bool:
    left, right = evaluate(guard.left, env), evaluate(guard.right, env)
    return {Relation.EQ: left == right, Relation.LE: left <= right, Relation.LT: left < right}[guard.relation]


def test_cancelling_terms_are_judged_by_their_sum() -> None:
    """n and s broadcast: the terms are beyond 64 bits long before n is."""
    from dlc.target import resolve

    n, a = EXTENTS[0], SYMBOLS[0]
    guard = Guard(Relation.EQ, n - a - n * n + a * a + n * n * a - n * a * a, 0, "broadcast")
    library = compiled(resolve("x86-64-v3"), [], [guard])
    for size in (1 << 21, 1 << 25, 3_000_000):
        for other, holds in ((size, 1), (1, 1)):
            out = np.zeros((1, 2), np.int64)
            library.f(np.array([other, 0, 0, 0, size, 0], np.int64), out)
            assert out.tolist() == [[1, holds]], (size, other)


def test_products_of_what_axes_run_to() -> None:
    i, j, n, m = Symbol("i"), Symbol("j"), *EXTENTS
    magnitudes = Magnitudes()
    magnitudes.require([floordiv(i * m + j, n)], {"i": n, "j": m})
    assert magnitudes.largest[(m, n)] == 1 and magnitudes.largest[(m,)] == 1


def test_known_bounds_spare_the_check() -> None:
    n, m = EXTENTS
    magnitudes = Magnitudes({"n": 1 << 20, "m": 1 << 20})
    magnitudes.require([n * m * 4 + 77])
    assert not magnitudes.unbounded()
    magnitudes.require([n * m * (1 << 11), product([n, n, m])])
    assert set(magnitudes.unbounded()) == {(m, n), (m, n, n)}
    assert set(part(magnitudes.unbounded(), {n}, within=True)) == set()
    assert Magnitudes().unbounded() == {}


def test_equal_terms_count_once_with_their_greatest_factor() -> None:
    n, m = EXTENTS
    magnitudes = Magnitudes()
    magnitudes.require([n * m * 4, n * m * 64 + m, -9 * n * m])
    assert magnitudes.largest[(m, n)] == 64 and magnitudes.largest[(m,)] == 1


@pytest.mark.parametrize("dim", [broadcast(*EXTENTS), maximum(EXTENTS[0] * EXTENTS[1], 5)])
def test_least_and_greatest_are_numbers_whose_operands_are_bounded(dim: Dim) -> None:
    magnitudes = Magnitudes()
    magnitudes.require([dim * 8])
    assert magnitudes.largest[(dim,)] == 8  # type: ignore[index]
    assert LIMIT == 1 << 62
