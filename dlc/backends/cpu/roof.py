"""Code that measures a machine: multiply-adds in registers, and reading and copying of memory.

The module is a model of its own to the runtime: its driver launches one of three kernels, as the symbols say.
"""

from __future__ import annotations

from dlc.backends.cpu import types as t
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.compiled import SLOT
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.objects import compile_module
from dlc.target import CpuTarget

#: The numbers that the driver takes: which kernel, its chunks, its repetitions, and bytes of memory a chunk.
SYMBOLS = ("kernel", "chunks", "repetitions", "bytes")
#: The kernels by number.
MULTIPLY_ADD, READ, COPY = range(3)
_KERNELS = ("multiply_add", "read", "copy")
#: Sums that do not wait for each other: two a cycle with a latency of four or five, and registers to spare.
_SUMS = 12
#: Vectors of a trip through memory; a chunk's bytes are a multiple of as many vectors of 64 bytes.
_VECTORS = 8
GRANULE = _VECTORS * 64


def roof_object(target: CpuTarget) -> bytes:
    """The object file; `dlc_run` takes the memory as its only input."""
    module = Module(target)
    module.declare("dlc_reserve_scratch", [t.ptr, t.i64], t.i64)
    module.declare("dlc_launch", [t.ptr, t.ptr, t.ptr, t.i64])
    _emit_shapes(module)
    _emit_driver(module)
    _emit_multiply_add(module)
    _emit_read(module)
    _emit_copy(module)
    return compile_module(module)


def multiply_add_flops(target: CpuTarget, repetitions: int) -> int:
    """Floating-point operations of a chunk of the first kernel."""
    return 2 * _SUMS * _floats(target).lanes * repetitions


def _floats(target: CpuTarget) -> t.IRType:
    return t.vector(target.vector_bits // 32, t.f32)


def _emit_shapes(module: Module) -> None:
    """There is nothing to check, no arena and no output."""
    b = module.function("dlc_shapes", [("symbols", t.ptr), ("out", t.ptr)], t.i64)
    b.store(b.const(t.i64, 0), b.params[1])
    b.return_(b.const(t.i64, 0))


def _emit_driver(module: Module) -> None:
    names = ("context", "symbols", "inputs", "outputs", "constants", "arena")
    b = module.function("dlc_run", [(name, t.ptr) for name in names], t.i64)
    context, symbols, inputs = b.params[:3]
    kernel, chunks, repetitions, size = (
        b.load(b.byte_offset(symbols, i * SLOT), t.i64) for i in range(len(SYMBOLS))
    )
    args = b.stack(4 * SLOT)
    for slot, value in enumerate((b.load(inputs, t.ptr), repetitions, size)):
        b.store(value, b.byte_offset(args, slot * SLOT))
    b.call("dlc_reserve_scratch", [context, b.const(t.i64, 4096)], t.i64)
    for number, name in enumerate(_KERNELS):
        with b.if_(b.icmp("eq", kernel, number), name=name):
            b.call("dlc_launch", [context, t.Value(t.ptr, f"@{name}", None, None), args, chunks])
    b.return_(b.const(t.i64, 0))


def _kernel(module: Module, name: str) -> tuple[FunctionBuilder, t.Value, t.Value, t.Value]:
    """The function's builder, the chunk's memory, the repetitions and the bytes."""
    b = module.function(name, [("args", t.ptr), ("chunk", t.i64), ("scratch", t.ptr)])
    args, chunk, _ = b.params
    memory, repetitions, size = (
        b.load_invariant(b.byte_offset(args, slot * SLOT), kind)
        for slot, kind in enumerate((t.ptr, t.i64, t.i64))
    )
    return b, b.byte_offset(memory, b.mul(chunk, size)), repetitions, size


def _emit_multiply_add(module: Module) -> None:
    """sum = sum / 2 + 1, which tends to 2."""
    b, _, repetitions, _ = _kernel(module, "multiply_add")
    type_ = _floats(module.target)
    half, one = (t.vector_constant(t.f32, [number] * type_.lanes) for number in (0.5, 1.0))
    with b.loop(0, repetitions, carry=[one] * _SUMS, name="trip") as loop:
        loop.next = [b.fma(value, half, one) for value in loop.carried]
    _keep(b, loop.results)


def _emit_read(module: Module) -> None:
    """The bitwise or of all of the memory: one instruction a load."""
    b, memory, repetitions, size = _kernel(module, "read")
    type_ = t.vector(8, t.i64)
    zero = t.vector_constant(t.i64, [0] * 8)
    with b.loop(0, repetitions, carry=[zero] * _VECTORS, name="pass") as outer:
        with b.loop(0, size, step=GRANULE, carry=outer.carried, name="trip") as loop:
            place = b.byte_offset(memory, loop.iv)
            loop.next = [
                b.value(b.or_(value, b.load(b.byte_offset(place, 64 * i), type_, 64)), type_)
                for i, value in enumerate(loop.carried)
            ]
        outer.next = loop.results
    _keep(b, outer.results)


def _emit_copy(module: Module) -> None:
    """The first half of the memory onto the second."""
    b, memory, repetitions, size = _kernel(module, "copy")
    type_ = t.vector(8, t.i64)
    half = b.value(b.lshr(size, 1))
    target = b.byte_offset(memory, half)
    with b.loop(0, repetitions, name="pass"), b.loop(0, half, step=GRANULE, name="trip") as loop:
        for i in range(_VECTORS):
            value = b.load(b.byte_offset(b.byte_offset(memory, loop.iv), 64 * i), type_, 64)
            b.store(value, b.byte_offset(b.byte_offset(target, loop.iv), 64 * i), 64)


def _keep(b: FunctionBuilder, values: tuple[t.Value, ...]) -> None:
    """Store values, so that what they come from is computed."""
    for index, value in enumerate(values):
        b.store(value, b.byte_offset(b.params[2], 64 * index), 4)
