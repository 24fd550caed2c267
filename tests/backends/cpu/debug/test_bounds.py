"""Checked accesses: each kind that leaves its region touches nothing and is reported, the rest goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from dlc.backends.cpu import types as t
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.compiled import FAULT_ACCESS, KernelFrame
from dlc.backends.cpu.module import Module
from dlc.errors import InternalError
from dlc.lowering.parse import parse
from dlc.target import CpuTarget, resolve
from tests.backends.cpu.harness import Library, each_target

#: A kernel whose stages are not used: its function is written by hand.
KERNEL = parse("kernel k {\n  read x: f32[32]\n  write y: f32[32]\n  axis i: 32\n  for i: y[i] = x[i]\n}")
SIZE, SCRATCH, GUARD = 32, 256, 64
ROW = t.vector(16, t.f32)
TARGET = resolve("x86-64-v3")


@dataclass(frozen=True)
class Memory:
    """What the function may use: pointers to x, y and scratch memory, and a number given to the test."""

    b: FunctionBuilder
    x: t.Value
    y: t.Value
    scratch: t.Value
    at: t.Value


Body = Callable[[Memory], None]


def run(body: Body, at: int, target: CpuTarget) -> tuple[str | None, np.ndarray[Any, Any]]:
    """Run `body` with the number `at`: the access that was reported, and y between guards of 7."""
    module = Module(target, debug=True)
    report = module.function("dlc_report_fault", [("word", t.ptr), ("step", t.i64), ("chunk", t.i64)])
    report.store(report.params[2], report.params[0])
    frame = KernelFrame(module, "k", KERNEL)
    b = frame.b
    body(Memory(b, frame.pointers["x"], frame.pointers["y"], frame.scratch, frame.chunk))
    frame.finish("test", 1)
    library = Library(module)
    x = np.arange(SIZE, dtype=np.float32)
    y = np.full(SIZE + 2 * GUARD, 7, np.float32)
    word = np.full(1, -1, np.int64)
    scratch = np.zeros(SCRATCH, np.uint8)
    sizes = [SCRATCH, x.nbytes, SIZE * 4]
    args = np.array([x.ctypes.data, y.ctypes.data + GUARD * 4, word.ctypes.data, 5, *sizes], np.int64)
    library.k(args, at, scratch)
    assert (y[:GUARD] == 7).all() and (y[-GUARD:] == 7).all(), "memory beyond y was written to"
    fault = int(word[0])
    if fault == -1:
        return None, y[GUARD:-GUARD]
    assert fault & FAULT_ACCESS
    return module.accesses[fault ^ FAULT_ACCESS], y[GUARD:-GUARD]


def _ramp(m: Memory) -> t.Value:
    return m.b.load(m.x, ROW)


def _mask(m: Memory, lanes: int) -> t.Value:
    return t.vector_constant(t.i1, [int(lane < lanes) for lane in range(16)])


def load(m: Memory) -> None:
    m.b.store(m.b.load(m.b.offset(m.x, m.at, t.f32), t.f32), m.y)


def load_vector(m: Memory) -> None:
    m.b.store(m.b.load(m.b.offset(m.x, m.at, t.f32), ROW), m.y)


def load_invariant(m: Memory) -> None:
    m.b.store(m.b.load_invariant(m.b.offset(m.x, m.at, t.f32), t.f32), m.y)


def store(m: Memory) -> None:
    m.b.store(m.b.const(t.f32, 1.0), m.b.offset(m.y, m.at, t.f32))


def store_vector(m: Memory) -> None:
    m.b.store(_ramp(m), m.b.offset(m.y, m.at, t.f32))


def masked_load(m: Memory) -> None:
    m.b.store(m.b.masked_load(m.b.offset(m.x, m.at, t.f32), _mask(m, 5), ROW), m.y)


def masked_store(m: Memory) -> None:
    m.b.masked_store(_ramp(m), m.b.offset(m.y, m.at, t.f32), _mask(m, 5))


def gather(m: Memory) -> None:
    b = m.b
    places = b.value(b.mul(b.iota(t.i64), b.splat(m.at)), t.vector(16, t.i64))
    b.store(b.gather(m.x, places, t.f32, _mask(m, 4)), m.y)


def scatter(m: Memory) -> None:
    b = m.b
    places = b.value(b.mul(b.iota(t.i64), b.splat(m.at)), t.vector(16, t.i64))
    b.scatter(_ramp(m), m.y, places, _mask(m, 4))


def scratch(m: Memory) -> None:
    m.b.store(m.b.const(t.i64, 1), m.b.byte_offset(m.scratch, m.at))


def stack(m: Memory) -> None:
    block = m.b.stack(64)
    m.b.store(m.b.const(t.i64, 1), m.b.byte_offset(block, m.at))


def table(m: Memory) -> None:
    numbers = m.b.module.global_constant("numbers", np.arange(4, dtype=np.float32))
    m.b.store(m.b.load(m.b.offset(numbers, m.at, t.f32), t.f32), m.y)


def copy(m: Memory) -> None:
    m.b.memcpy(m.y, m.x, m.at)


def fill(m: Memory) -> None:
    m.b.memset(m.y, 0, m.at)


def atomic(m: Memory) -> None:
    m.b.atomic("add", m.b.byte_offset(m.scratch, m.at), 1)


def function(m: Memory) -> None:
    """Through a function of the module, which is told the bounds of its operand."""
    inner = m.b.module.function("inner", [("place", t.ptr), ("at", t.i64)], internal=True)
    inner.store(inner.const(t.f32, 1.0), inner.offset(inner.params[0], inner.params[1], t.f32))
    m.b.call("inner", [m.y, m.at])


def chosen(m: Memory) -> None:
    """A pointer into one of two regions, of which y is taken: not the other one counts."""
    b = m.b
    place = b.select(b.icmp("sge", m.at, 0), m.y, b.stack(4096))
    b.store(b.const(t.f32, 1.0), b.offset(place, m.at, t.f32))


def joined(m: Memory) -> None:
    """The same by way of two branches."""
    b = m.b
    block = b.stack(4096)
    with b.if_else(b.icmp("sge", m.at, 0)) as both:
        with both.then:
            both.then.yields = (m.y,)
        with both.otherwise:
            both.otherwise.yields = (block,)
    b.store(b.const(t.f32, 1.0), b.offset(both.results[0], m.at, t.f32))


def carried(m: Memory) -> None:
    """A pointer that a loop moves on."""
    b = m.b
    with b.loop(0, b.value(b.add(m.at, 1)), carry=[m.y]) as loop:
        b.store(b.const(t.f32, 1.0), loop.carried[0])
        loop.next = (b.offset(loop.carried[0], 1, t.f32),)


#: Body, numbers that stay inside, numbers that do not, and how the access is described.
CASES: list[tuple[Body, list[int], list[int], str]] = [
    (load, [0, 31], [-1, 32, 1 << 40], "k: load of 'x'"),
    (load_vector, [0, 16], [-1, 17, 31], "k: load of 'x'"),
    (load_invariant, [0, 31], [-1, 32], "k: load of 'x'"),
    (store, [0, 31], [-1, 32, -(1 << 40)], "k: store to 'y'"),
    (store_vector, [0, 16], [-16, -1, 17, 32], "k: store to 'y'"),
    (masked_load, [0, 27], [-1, 28], "k: masked load of 'x'"),
    (masked_store, [0, 27], [-1, 28, 40], "k: masked store to 'y'"),
    (gather, [0, 10], [-1, 11, 1 << 33], "k: gather from 'x'"),
    (scatter, [1, 10], [-1, 11], "k: scatter to 'y'"),
    (scratch, [0, 248], [-8, 249, 256], "k: store to scratch memory"),
    (stack, [0, 56], [-1, 57], "k: store to the stack"),
    (table, [0, 3], [-1, 4], "k: load of table @numbers"),
    (copy, [0, 128], [129, 1 << 40], "k: copy from 'x'"),
    (fill, [0, 128], [129], "k: filling of 'y'"),
    (atomic, [0, 248], [-8, 256], "k: update of scratch memory"),
    (function, [0, 31], [-1, 32], "inner: store to place"),
    (chosen, [0, 31], [32, 1000], "k: store to 'y' or the stack"),
    (joined, [0, 31], [32, 1000], "k: store to 'y' or the stack"),
    (carried, [0, 31], [32, 1000], "k: store to 'y'"),
]
IDS = [body.__name__ for body, *_ in CASES]


@each_target
@pytest.mark.parametrize("body, inside, outside, what", CASES, ids=IDS)
def test_what_strays_is_reported_and_kept_from_memory(
    body: Body, inside: list[int], outside: list[int], what: str, target: CpuTarget
) -> None:
    for at in inside:
        assert run(body, at, target)[0] is None, at
    for at in outside:
        assert run(body, at, target)[0] == what, at


@each_target
def test_checks_change_no_results(target: CpuTarget) -> None:
    _, y = run(masked_store, 3, target)
    assert y[:10].tolist() == [7, 7, 7, 0, 1, 2, 3, 4, 7, 7]
    _, y = run(scatter, 2, target)
    assert y[:8].tolist() == [0, 7, 1, 7, 2, 7, 3, 7]


@each_target
def test_the_first_of_several_faults_is_named(target: CpuTarget) -> None:
    def body(m: Memory) -> None:
        load(m)
        store(m)

    assert run(body, 32, target)[0] == "k: load of 'x'"


def test_constant_places_in_known_regions_take_no_checks() -> None:
    def instructions(bytes: int) -> int:
        module = Module(TARGET, debug=True)
        frame = KernelFrame(module, "k", KERNEL)
        block = frame.b.stack(64)
        frame.b.store(frame.b.const(t.i64, 1), frame.b.byte_offset(block, bytes))
        return module.text().count("\n")

    assert instructions(56) < instructions(60)


def test_a_loop_must_not_carry_a_pointer_elsewhere() -> None:
    def body(m: Memory) -> None:
        with m.b.loop(0, m.at, carry=[m.y]) as loop:
            loop.next = (m.x,)

    with pytest.raises(InternalError, match="into another region"):
        run(body, 1, TARGET)


def test_a_pointer_of_unknown_origin_is_refused() -> None:
    def body(m: Memory) -> None:
        m.b.load(m.b.load(m.x, t.ptr), t.f32)

    with pytest.raises(InternalError, match="nothing tells the bounds"):
        run(body, 1, TARGET)

