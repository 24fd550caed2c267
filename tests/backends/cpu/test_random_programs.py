"""Random nests of loops and branches over integers: compiled and interpreted, they must agree.

Checks what no example covers: that folding, sharing and hoisting together keep the meaning of a program.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.types import Index, i64, ptr, wrap
from dlc.target import native
from tests.backends.cpu.harness import Library

PARAMS = 3
TABLE = np.random.default_rng(0).integers(-(2**40), 2**40, 160, np.int64)


@dataclass(frozen=True)
class Assign:
    """A new variable: `op` of two earlier ones or constants."""

    op: str
    left: int | str
    right: int | str


@dataclass(frozen=True)
class Loop:
    """for iv in range(lo, hi, step) with one carried variable."""

    lo: int | str
    hi: int | str
    step: int
    start: int | str
    body: tuple[Statement, ...]
    next: int | str


@dataclass(frozen=True)
class Branch:
    """A value chosen by left < right, each way with statements of its own."""

    left: int | str
    right: int | str
    then: tuple[Statement, ...]
    then_value: int | str
    otherwise: tuple[Statement, ...]
    otherwise_value: int | str


Statement = Assign | Loop | Branch

BINARY: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: wrap(a + b, 64),
    "sub": lambda a, b: wrap(a - b, 64),
    "mul": lambda a, b: wrap(a * b, 64),
    "and_": lambda a, b: a & b,
    "xor": lambda a, b: a ^ b,
    "smin": min,
    "smax": max,
    "table": lambda a, b: int(TABLE[64 + (a & 31) + (b & 31) + 5]),
}


class Generator:
    """Draws a program; every statement defines the next variable v0, v1, ... of its scope."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.left = 40

    def program(self) -> tuple[tuple[Statement, ...], str]:
        scope = [f"p{k}" for k in range(PARAMS)]
        body = self.body(scope, 0)
        return body, scope[-1]

    def operand(self, scope: list[str]) -> int | str:
        if self.random.random() < 0.35:
            return self.random.choice([0, 1, -1, 2, 3, 8, 24, 1 << 40])
        return self.random.choice(scope[-8:] if self.random.random() < 0.7 else scope)

    def body(self, scope: list[str], depth: int) -> tuple[Statement, ...]:
        statements: list[Statement] = []
        for _ in range(self.random.randint(2, 6)):
            if self.left <= 0 and statements:
                break
            self.left -= 1
            statements.append(self.statement(scope, depth))
            scope.append(f"v{depth}_{len(scope)}")
        return tuple(statements)

    def statement(self, scope: list[str], depth: int) -> Statement:
        kind = self.random.random()
        if depth < 3 and kind < 0.25:
            inner = [*scope, f"iv{depth}", f"carried{depth}"]
            lo = self.random.choice([0, 0, 1, -2])
            hi = self.random.choice([0, 1, 2, 5, "p0", "p1"])
            body = self.body(inner, depth + 1)
            return Loop(lo, hi, self.random.choice([1, 2]), self.operand(scope), body, inner[-1])
        if depth < 3 and kind < 0.35:
            ways = []
            for _ in range(2):
                inner = list(scope)
                ways.append((self.body(inner, depth + 1), inner[-1]))
            left, right = self.operand(scope), self.operand(scope)
            return Branch(left, right, *ways[0], *ways[1])
        op = self.random.choice([*BINARY, "add", "add", "table"])
        return Assign(op, self.operand(scope), self.operand(scope))


def interpret(body: tuple[Statement, ...], names: dict[str, int], depth: int = 0) -> None:
    """Run the statements on Python integers; `names` gains their variables."""

    def read(x: int | str) -> int:
        return names[x] if isinstance(x, str) else x

    for statement in body:
        match statement:
            case Assign(op, left, right):
                result = BINARY[op](read(left), read(right))
            case Loop(lo, hi, step, start, inner, following):
                result = read(start)
                for iv in range(read(lo), read(hi), step):
                    local = {**names, f"iv{depth}": iv, f"carried{depth}": result}
                    interpret(inner, local, depth + 1)
                    result = local[following] if isinstance(following, str) else following
            case Branch(left, right, then, then_value, otherwise, otherwise_value):
                holds, local = read(left) < read(right), dict(names)
                value = then_value if holds else otherwise_value
                interpret(then if holds else otherwise, local, depth + 1)
                result = local[value] if isinstance(value, str) else value
        names[f"v{depth}_{len(names)}"] = result


def emit(b: FunctionBuilder, body: tuple[Statement, ...], names: dict[str, Index], depth: int = 0) -> None:
    """The same through the builder."""

    def read(x: int | str) -> Index:
        return names[x] if isinstance(x, str) else x

    result: Index
    for statement in body:
        match statement:
            case Assign("table", left, right):
                place = b.add(b.add(b.and_(read(left), 31), 5), b.and_(read(right), 31))
                result = b.load(b.offset(b.offset(b.params[PARAMS], 64, i64), place, i64), i64)
            case Assign(op, left, right):
                result = getattr(b, op)(read(left), read(right))
            case Loop(lo, hi, step, start, inner, following):
                with b.loop(read(lo), read(hi), step, carry=(read(start),)) as loop:
                    local = {**names, f"iv{depth}": loop.iv, f"carried{depth}": loop.carried[0]}
                    emit(b, inner, local, depth + 1)
                    loop.next = (local[following] if isinstance(following, str) else following,)
                result = loop.results[0]
            case Branch(left, right, then, then_value, otherwise, otherwise_value):
                with b.if_else(b.icmp("slt", read(left), read(right))) as both:
                    ways = ((both.then, then, then_value), (both.otherwise, otherwise, otherwise_value))
                    for way, statements, value in ways:
                        with way:
                            local = dict(names)
                            emit(b, statements, local, depth + 1)
                            way.yields = (local[value] if isinstance(value, str) else value,)
                result = both.results[0]
        names[f"v{depth}_{len(names)}"] = result


@pytest.mark.parametrize("seed", range(60))
def test_compiled_programs_do_what_they_say(seed: int) -> None:
    body, last = Generator(seed).program()
    module = Module(native())
    b = module.function("f", [*((f"p{k}", i64) for k in range(PARAMS)), ("table", ptr)], i64)
    emitted: dict[str, Index] = {f"p{k}": v for k, v in enumerate(b.params[:PARAMS])}
    emit(b, body, emitted)
    b.return_(emitted[last])
    f = Library(module).f
    draw = random.Random(seed)
    drawn = [tuple(draw.randint(-9, 9) for _ in range(PARAMS)) for _ in range(5)]
    for args in [(0, 0, 0), (1, 2, 3), (5, 3, -7), *drawn]:
        names = {f"p{k}": v for k, v in enumerate(args)}
        interpret(body, names)
        assert f(*args, TABLE) == names[last], args
