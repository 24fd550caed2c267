"""The function builder: what it folds, shares and hoists, and what the compiled code computes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from dlc.backends.cpu import types as t
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.types import f32, i8, i32, i64, ptr, vector
from dlc.errors import InternalError
from dlc.target import CpuTarget, resolve
from tests.backends.cpu.harness import Library, each_target

V3 = resolve("x86-64-v3")


def function(*params: tuple[str, t.IRType], returns: t.IRType = t.void) -> tuple[Module, FunctionBuilder]:
    module = Module(V3)
    return module, module.function("f", list(params), returns)


def lines(module: Module) -> list[str]:
    return [line.strip() for line in module.text().splitlines()]


def test_python_integers_fold() -> None:
    _, b = function()
    assert b.add(3, 4) == 7
    assert b.udiv(17, 5) == 3
    assert b.urem(17, 5) == 2
    assert b.ceil_div(17, 5) == 4
    assert b.smin(b.mul(3, 5), 4) == 4
    assert b.lshr(-1, 60) == 15
    assert b.add(2**63 - 1, 1) == -(2**63)


def test_identities_leave_no_code() -> None:
    module, b = function(("n", i64))
    (n,) = b.params
    assert b.add(n, 0) is n
    assert b.mul(1, n) is n
    assert b.mul(n, 0).constant == 0
    assert b.sub(n, n).constant == 0
    assert b.add(b.add(n, 3), -3) is n
    assert b.select(b.icmp("slt", 1, 2), n, 5) is n
    assert [x for x in lines(module) if " = " in x and "metadata" not in x and x.startswith("%")] == [
        "%v1 = add i64 %arg.n, 3"
    ]


def test_equal_expressions_are_computed_once() -> None:
    _, b = function(("n", i64), ("m", i64))
    n, m = b.params
    assert b.mul(n, m) is b.mul(n, m)
    assert b.splat(n, 4) is b.splat(n, 4)


def test_invariant_arithmetic_leaves_every_loop_it_can() -> None:
    module, b = function(("x", ptr), ("n", i64), ("stride", i64))
    x, n, stride = b.params
    with b.loop(0, n, name="outer") as outer, b.loop(0, n, name="inner") as inner:
        row = b.mul(outer.iv, stride)
        twice = b.mul(stride, 24)
        b.store(twice, b.offset(x, b.add(row, inner.iv), i64))
    text = lines(module)
    outer_at = next(k for k, x in enumerate(text) if x.startswith("outer."))
    inner_at = next(k for k, x in enumerate(text) if x.startswith("inner."))
    constant = next(k for k, x in enumerate(text) if x.endswith("mul i64 %arg.stride, 24"))
    product = next(k for k, x in enumerate(text) if "= mul i64 %i" in x)
    pointer = next(k for k, x in enumerate(text) if "getelementptr i64, ptr %arg.x" in x)
    assert constant < outer_at < product < inner_at
    assert outer_at < pointer < inner_at, "the outer part of the index is added to the pointer outside"


def test_float_arithmetic_and_loads_stay() -> None:
    module, b = function(("x", ptr), ("n", i64))
    x, n = b.params
    with b.loop(0, n) as loop:
        v = b.load(x, f32)
        b.store(b.fadd(v, v), b.offset(x, loop.iv, f32))
    text = lines(module)
    body = text.index(next(x for x in text if x.startswith("loop.")))
    assert all(k > body for k, x in enumerate(text) if " load " in x or " fadd " in x)


def test_explicit_hoisting_and_invariant_loads() -> None:
    module, b = function(("x", ptr), ("n", i64))
    x, n = b.params
    with b.loop(0, n) as loop:
        assert loop.scope is not None
        with b.before(loop.scope):
            early = b.fmul(b.load(x, f32), 2.0)
        argument = b.load_invariant(b.byte_offset(x, 8), f32)
        b.store(b.fadd(early, argument), b.offset(x, loop.iv, f32))
        with b.before(loop.scope), pytest.raises(InternalError), b.if_(b.icmp("eq", n, 0)):
            pass
    text = lines(module)
    body = text.index(next(x for x in text if x.startswith("loop.")))
    assert [k < body for k, x in enumerate(text) if " load " in x] == [True, True]


def test_constant_displacements_share_one_address() -> None:
    module, b = function(("x", ptr), ("n", i64))
    x, n = b.params
    with b.loop(0, n) as loop:
        for k in range(3):
            b.store(b.const(f32, k), b.offset(x, b.add(loop.iv, k), f32))
    assert sum("getelementptr i32" in line for line in lines(module)) == 1
    assert [line.split("i64 ")[-1] for line in lines(module) if "getelementptr i8" in line] == ["4", "8"]


@each_target
def test_loops_carry_values(target: CpuTarget) -> None:
    module = Module(target)
    b = module.function("total", [("lo", i64), ("hi", i64)], i64)
    lo, hi = b.params
    with b.loop(lo, hi, step=3, carry=(100, 1)) as loop:
        total, count = loop.carried
        loop.next = (b.add(total, loop.iv), b.add(count, 1))
    b.return_(b.add(loop.results[0], b.mul(loop.results[1], 1000)))
    total_of = Library(module).total
    for lo_, hi_ in [(0, 10), (0, 9), (0, 0), (5, 3), (-7, 8), (0, 1)]:
        trips = range(lo_, hi_, 3)
        assert total_of(lo_, hi_) == 100 + sum(trips) + 1000 * (1 + len(trips))


@pytest.mark.parametrize("hi,expected", [(0, 7), (1, 7), (2, 8), (5, 17)])
def test_constant_loops(hi: int, expected: int) -> None:
    module, b = function(returns=i64)
    with b.loop(0, hi, carry=(7,)) as loop:
        loop.next = (b.add(loop.carried[0], loop.iv),)
    b.return_(loop.results[0])
    assert Library(module).f() == expected
    assert ("phi" in module.text()) == (hi > 1), "no loop for one trip or none"


def test_code_of_a_loop_without_trips_disappears() -> None:
    module, b = function(("x", ptr))
    with b.loop(4, 4):
        b.store(b.const(i64, 1), b.params[0])
        with b.if_(b.icmp("eq", b.load(b.params[0], i64), 0)):
            b.store(b.const(i64, 2), b.params[0])
    assert "store" not in module.text()
    cell = np.full(1, 5, np.int64)
    Library(module).f(cell)
    assert cell[0] == 5


def test_branches_join_values() -> None:
    module, b = function(("n", i64), returns=i64)
    (n,) = b.params
    with b.if_else(b.icmp("sgt", n, 10)) as big:
        then, otherwise = big
        with then:
            with b.loop(0, n, carry=(0,)) as loop:
                loop.next = (b.add(loop.carried[0], 2),)
            then.yields = (loop.results[0],)
        with otherwise:
            otherwise.yields = (b.add(n, 1),)
    with b.if_else(b.icmp("eq", 1, 1)) as known:
        with known.then:
            known.then.yields = (big.results[0],)
        with known.otherwise:
            known.otherwise.yields = (0,)
    b.return_(known.results[0])
    f = Library(module).f
    assert [f(n) for n in (3, 10, 11, 20)] == [4, 11, 22, 40]


def test_switch_and_repeat() -> None:
    module, b = function(("x", ptr), ("n", i64), returns=i64)
    x, n = b.params
    for case in b.switch(n, (1, 2, 5)):
        b.store(b.const(i64, case * 10), x)
    with b.repeat(carry=(n,)) as loop:  # Collatz steps until 1
        value = loop.carried[0]
        odd = b.icmp("eq", b.and_(value, 1), 1)
        following = b.select(odd, b.add(b.mul(value, 3), 1), b.lshr(value, 1))
        loop.next = (following,)
        loop.again = b.icmp("ne", following, 1)
    b.return_(loop.results[0])
    f = Library(module).f
    for number, stored in [(2, 20), (5, 50), (7, -1)]:
        cell = np.full(1, -1, np.int64)
        assert f(cell, number) == 1
        assert cell[0] == stored


@each_target
def test_masked_tail(target: CpuTarget) -> None:
    module = Module(target)
    b = module.function("scale", [("x", ptr), ("n", i64)])
    x, n = b.params
    with b.loop(0, n, step=16) as loop:
        p, mask = b.offset(x, loop.iv, f32), b.tail_mask(b.sub(n, loop.iv))
        b.masked_store(b.fmul(b.masked_load(p, mask, vector(16, f32)), 2.0), p, mask)
    scale = Library(module).scale
    for size in (0, 1, 15, 16, 17, 33):
        data = np.arange(40, dtype=np.float32)
        scale(data, size)
        assert (data == np.arange(40) * np.where(np.arange(40) < size, 2, 1)).all()


@each_target
@pytest.mark.parametrize("remaining", [-3, 0, 1, 7, 16, 99])
def test_constant_and_dynamic_tail_masks_agree(target: CpuTarget, remaining: int) -> None:
    module = Module(target)
    b = module.function("f", [("y", ptr), ("z", ptr), ("n", i64)])
    y, z, n = b.params
    for out, count in ((y, n), (z, remaining)):
        b.store(b.zext(b.tail_mask(count), vector(16, i8)), out)
    got, folded = np.zeros(16, np.uint8), np.zeros(16, np.uint8)
    Library(module).f(got, folded, remaining)
    expected = np.arange(16) < remaining
    assert (got == expected).all() and (folded == expected).all()


@each_target
def test_gather_and_scatter(target: CpuTarget) -> None:
    module = Module(target)
    b = module.function("f", [("x", ptr), ("idx", ptr), ("y", ptr)])
    x, idx, y = b.params
    indices = b.load(idx, vector(16, i32))
    mask = b.icmp("sge", indices, 0)
    b.scatter(b.gather(x, indices, f32, mask, -1.0), y, b.add(indices, 1), mask)
    data = np.arange(100, dtype=np.float32)
    index = np.array([3, 99, -1, 5, 0, 7, 8, 9, 10, 11, -5, 12, 40, 41, 42, 43], np.int32)
    out = np.zeros(101, np.float32)
    Library(module).f(data, index, out)
    expected = np.zeros(101, np.float32)
    expected[index[index >= 0] + 1] = data[index[index >= 0]]
    assert (out == expected).all()


@each_target
def test_transpose16(target: CpuTarget) -> None:
    module = Module(target)
    b = module.function("f", [("x", ptr), ("y", ptr)])
    x, y = b.params
    rows = [b.load(b.offset(x, 16 * k, f32), vector(16, f32)) for k in range(16)]
    for k, column in enumerate(b.transpose16(rows)):
        b.store(column, b.offset(y, 16 * k, f32))
    data = np.arange(256, dtype=np.float32).reshape(16, 16)
    out = np.zeros_like(data)
    Library(module).f(data, out)
    assert (out == data.T).all()


@each_target
def test_reductions(target: CpuTarget) -> None:
    module = Module(target)
    b = module.function("f", [("x", ptr), ("y", ptr), ("k", ptr), ("j", ptr)])
    x, y, k, j = b.params
    v, w = b.load(x, vector(16, f32)), b.load(k, vector(16, i32))
    for position, value in enumerate((b.reduce_add(v), b.reduce_max(v), b.reduce_min(v))):
        b.store(value, b.offset(y, position, f32))
    for position, value in enumerate((b.reduce_add(w), b.reduce_max(w), b.reduce_min(w))):
        b.store(value, b.offset(j, position, i32))
    rng = np.random.default_rng(0)
    data, ints = rng.normal(size=16).astype(np.float32), rng.integers(-99, 99, 16, np.int32)
    out, outs = np.zeros(3, np.float32), np.zeros(3, np.int32)
    Library(module).f(data, out, ints, outs)
    tree = data.copy()
    for half in (8, 4, 2, 1):
        tree = tree[:half] + tree[half : 2 * half]
    assert (out == [tree[0], data.max(), data.min()]).all(), "the sum has the documented order"
    assert (outs == [ints.sum(), ints.max(), ints.min()]).all()


def test_lane_movements() -> None:
    module = Module(V3)
    b = module.function("f", [("x", ptr), ("y", ptr)])
    x, y = b.params
    v = b.load(x, vector(8, i32))
    even, odd = b.deinterleave(v)
    results = [b.interleave(even, odd), b.concat(odd, even), b.insert(v, b.extract(v, 1), 0)]
    results.append(b.from_lanes([b.extract(v, k) for k in (7, 6, 5, 4, 3, 2, 1, 0)]))
    for k, result in enumerate(results):
        b.store(result, b.offset(y, 8 * k, i32))
    data, out = np.arange(8, dtype=np.int32), np.zeros((4, 8), np.int32)
    Library(module).f(data, out)
    assert out.tolist() == [
        [0, 1, 2, 3, 4, 5, 6, 7],
        [1, 3, 5, 7, 0, 2, 4, 6],
        [1, 1, 2, 3, 4, 5, 6, 7],
        [7, 6, 5, 4, 3, 2, 1, 0],
    ]


def test_division_by_a_run_time_extent_is_hoisted_safely() -> None:
    module, b = function(("n", i64), ("d", i64), returns=i64)
    n, d = b.params
    with b.loop(0, d, carry=(0,)) as loop:
        loop.next = (b.add(loop.carried[0], b.udiv(n, d)),)
    b.return_(loop.results[0])
    f = Library(module).f
    assert f(100, 0) == 0, "no trap although the division was hoisted above the guard"
    assert f(100, 7) == 7 * 14


def test_calls_stack_and_copies() -> None:
    module = Module(V3)
    square = module.function("square", [("x", f32)], f32, internal=True)
    square.return_(square.fmul(square.params[0], square.params[0]))
    b = module.function("f", [("x", ptr), ("n", i64)], f32)
    x, n = b.params
    block = b.stack(64)
    b.memset(block, 0, 64)
    b.memcpy(block, x, n)
    b.prefetch(x)
    total = b.reduce_add(b.load(block, vector(16, f32)))
    b.return_(b.call("square", [b.call("expf", [total], f32)]))
    assert module.undefined_symbols == ["expf"]
    data = np.full(16, 0.25, np.float32)
    assert Library(module).f(data, 16) == pytest.approx(np.exp(1.0) ** 2)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda b, n: b.fadd(n, n),
        lambda b, n: b.shl(n, 64),
        lambda b, n: b.udiv(n, 0),
        lambda b, n: vector(65, f32),
        lambda b, n: b.icmp("lt", n, n),
        lambda b, n: b.add(n, b.const(i32, 1)),
        lambda b, n: b.intrinsic("llvm.x86.avx512.vpdpbusd.512", vector(16, i32)),
        lambda b, n: b.intrinsic("llvm.x86.amx.tilezero", t.void),
        lambda b, n: b.store(b.const(t.i1, 1), b.const(ptr, 0)),
        lambda b, n: b.fptrunc(b.const(f32, 1.0), t.bf16),
        lambda b, n: b.shuffle(b.splat(n, 4), None, [4]),
        lambda b, n: b.extract(b.splat(n, 4), 4),
        lambda b, n: b.return_(b.const(f32, 0.0)),
        lambda b, n: b.module.function("a b", []),
        lambda b, n: b.module.function("f", []),
        lambda b, n: b.const(i32, 0.5),
    ],
)
def test_what_llvm_would_not_survive_is_refused(wrong: object) -> None:
    _, b = function(("n", i64))
    with pytest.raises(InternalError):
        wrong(b, b.params[0])  # type: ignore[operator]


def test_a_value_is_unusable_outside_its_loop() -> None:
    _, b = function(("n", i64))
    with b.loop(0, b.params[0]) as loop:
        inside = b.add(loop.iv, 1)
    with pytest.raises(InternalError, match="outside the loop"):
        b.add(inside, 1)


def test_carried_values_are_checked() -> None:
    _, b = function(("n", i64))
    with pytest.raises(InternalError, match="carries 1"), b.loop(0, b.params[0], carry=(1,)):
        pass


@each_target
def test_dot_products(target: CpuTarget) -> None:
    module = Module(target)
    b = module.function("f", [(name, ptr) for name in ("a", "w", "s", "y")])
    a, w, s, y = b.params
    total = b.load(y, vector(16, i32))
    b.store(b.dot_i16(total, b.load(s, vector(32, t.i16)), b.load(s, vector(32, t.i16))), y)
    if target.vnni:
        p = b.offset(y, 16, i32)
        bytes_in = b.load(a, vector(64, i8)), b.load(w, vector(64, i8))
        b.store(b.dot_u8s8(b.load(p, vector(16, i32)), *bytes_in), p)
    else:
        with pytest.raises(InternalError, match=r"needs|lacks"):
            b.dot_u8s8(total, b.load(a, vector(64, i8)), b.load(w, vector(64, i8)))
    rng = np.random.default_rng(3)
    bytes_, signed = rng.integers(0, 256, 64, np.uint8), rng.integers(-128, 128, 64, np.int8)
    words = rng.integers(-(2**15), 2**15, 32, np.int16)
    sums = rng.integers(-99, 99, 32, np.int32)
    expected = sums.copy()
    expected[:16] += (words.astype(np.int32) ** 2).reshape(16, 2).sum(1, dtype=np.int32)
    if target.vnni:
        products = bytes_.astype(np.int32) * signed.astype(np.int32)
        expected[16:] += products.reshape(16, 4).sum(1, dtype=np.int32)
    Library(module).f(bytes_, signed, words, sums)
    assert (sums == expected).all()


@each_target
def test_bf16_dot_product(target: CpuTarget) -> None:
    module = Module(target)
    b = module.function("f", [("a", ptr), ("y", ptr)])
    a, y = b.params
    factors = b.load(a, vector(32, t.bf16))
    if not target.bf16:
        with pytest.raises(InternalError):
            b.dot_bf16(b.load(y, vector(16, f32)), factors, factors)
        return
    b.store(b.dot_bf16(b.load(y, vector(16, f32)), factors, factors), y)
    data = np.arange(32, dtype=np.float32).astype(ml_dtypes.bfloat16)
    out = np.ones(16, np.float32)
    Library(module).f(data, out)
    np.testing.assert_array_equal(out, 1 + (data.astype(np.float32) ** 2).reshape(16, 2).sum(1))


def test_tables_pointers_and_atomics() -> None:
    module = Module(V3)
    table = module.global_constant("squares", np.arange(8, dtype=np.int64) ** 2)
    twice = module.function("twice", [("x", i64)], i64, internal=True)
    twice.return_(twice.shl(twice.params[0], 1))
    b = module.function("f", [("cell", ptr), ("k", i64)], i64)
    cell, k = b.params
    square = b.load_invariant(b.offset(table, k, i64), i64)
    doubled = b.call_pointer(t.Value(ptr, "@twice", None, None), [square], i64)
    before = b.atomic("min", cell, doubled)
    b.store_atomic(b.add(b.load_atomic(cell), 1), b.offset(cell, 1, i64))
    odd = b.extract(b.iota(i64, 4), 1)
    b.return_(b.sub(before, b.mul(odd, b.ptrtoint(cell))))
    cells = np.array([50, 0], np.int64)
    assert Library(module).f(cells, 4) == 50 - cells.ctypes.data
    assert cells.tolist() == [32, 33]
    with pytest.raises(InternalError, match="twice"):
        module.global_constant("squares", np.zeros(1))
    with pytest.raises(InternalError, match="by pointer"):
        module.global_constant("large", np.zeros(10**5))


def test_rounding_to_multiples() -> None:
    module, b = function(("n", i64), returns=i64)
    (n,) = b.params
    b.return_(b.add(b.mul(b.round_down(n, 24), 1000), b.ceil_div(n, 7)))
    f = Library(module).f
    assert [f(v) for v in (0, 23, 24, 100)] == [0, 4, 24004, 96015]
