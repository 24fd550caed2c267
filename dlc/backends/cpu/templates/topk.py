"""Top-k: the k best elements of each row in a heap, the worst of them on top, then taken off it in order.

An element that is no better than the top costs a comparison, 16 at a time where the row is contiguous; of n
elements in random order some k ln(n / k) get past it, log k steps each (Knuth, The Art of Computer
Programming 3, section 5.2.3). Elements are compared by integer keys that ascend with how good they are; of
equal keys the lower position is better.
"""

from __future__ import annotations

import dataclasses
import itertools

from dlc.backends.cpu import access, types as t
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.compiled import CompiledKernel, KernelFrame
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.templates.heap import Heap
from dlc.backends.cpu.templates.keys import ascending_key, key_type
from dlc.backends.cpu.templates.template import Declined, Match
from dlc.ir.dims import Dim, Symbol, ceildiv, maximum, minimum, product
from dlc.lowering.kernel import Kernel, Param, Routine

LANES = 16
#: Elements that make a chunk, and most chunks of a launch.
_GRAIN = 16384
_MAX_CHUNKS = 64


@dataclasses.dataclass(frozen=True)
class TopKForm:
    """A kernel that is one top-k: operand, results, and the routine's options."""

    kernel: Kernel
    x: Param
    values: Param
    indices: Param
    axis: int
    k: Dim
    largest: bool


def match(kernel: Kernel, module: Module) -> Match[TopKForm] | Declined:
    """The kernel as a top-k, on any target."""
    del module
    match kernel.body:
        case (Routine(name="top_k") as routine,):
            options = dict(routine.attributes)
            axis, k = options["axis"], options["k"]
            assert isinstance(axis, int) and not isinstance(k, str | float | bool)
            x, values, indices = (kernel.param(name) for name in routine.params)
            if any(param.type.layout is not None for param in (x, values, indices)):
                return Declined("an operand or result is not row-major")
            return Match(TopKForm(kernel, x, values, indices, axis, k, bool(options["largest"])))
    return Declined("the kernel is no top-k")


def emit(module: Module, name: str, match: Match[TopKForm]) -> CompiledKernel:
    """Write the function of a top-k into `module`."""
    return _TopK(module, name, match.form).emit()


@dataclasses.dataclass(frozen=True)
class _Line:
    """A row of a parameter: its first element, and the distance of its elements in elements."""

    pointer: t.Value
    stride: t.Index
    element: t.IRType

    def at(self, b: FunctionBuilder, position: t.Index) -> t.Value:
        """The address of an element."""
        return b.offset(self.pointer, b.mul(position, self.stride), self.element)


class _TopK:
    """The emission of one top-k."""

    def __init__(self, module: Module, name: str, found: TopKForm) -> None:
        self.found = found
        shape = found.x.type.shape
        others = [extent for axis, extent in enumerate(shape) if axis != found.axis]
        self.extent = shape[found.axis]
        self.rows = product(others)
        work = maximum(1, self.rows * self.extent // _GRAIN)
        self.chunks = minimum(self.rows, _MAX_CHUNKS, work)
        self.frame = KernelFrame(module, name, found.kernel, [self.chunks, self.rows])
        self.b = self.frame.b
        taken = self.frame.emitter.axes
        free = (name for name in map("row{}".format, itertools.count()) if name not in taken)
        self.outer = [(Symbol(name, 0), extent) for name, extent in zip(free, others)]
        self.key = key_type(found.x.type.dtype)
        self.key_bytes = ceildiv(found.k * self.key.bytes, 64) * 64

    def emit(self) -> CompiledKernel:
        b, em = self.b, self.frame.emitter
        if self.rows == 0 or self.found.k == 0:
            return self.frame.finish("top_k", 0)
        rows, chunks = em.dim(self.rows), em.dim(self.chunks)
        low = b.udiv(b.mul(self.frame.chunk, rows), chunks)
        high = b.udiv(b.mul(b.add(self.frame.chunk, 1), rows), chunks)
        with b.loop(low, high, name="row") as loop:
            rest: t.Index = b.value(loop.iv)
            for symbol, extent in reversed(self.outer):
                size = em.dim(extent)
                em.axes[symbol.name] = b.value(b.urem(rest, size))
                rest = b.udiv(rest, size)
            self._row()
        return self.frame.finish("top_k", self.chunks, self.key_bytes + self.found.k * 8)

    def _line(self, param: Param) -> _Line:
        """The row of `param` at the present numbers of the other axes."""
        em, axis = self.frame.emitter, self.found.axis
        index: list[Dim] = [symbol for symbol, _ in self.outer]
        first = access.offset(param, [*index[:axis], 0, *index[axis:]])
        stride = access.offset(param, [*index[:axis], 1, *index[axis:]]) - first
        element = access.storage_type(param.type.dtype)
        pointer = self.b.offset(self.frame.pointers[param.name], em.dim(first), element)
        return _Line(pointer, stride if isinstance(stride, int) else em.dim(stride), element)

    def _row(self) -> None:
        b, em, found = self.b, self.frame.emitter, self.found
        x = self._line(found.x)
        heap = Heap(b, self.key, self.frame.scratch, em.dim(self.key_bytes))
        extent = em.dim(self.extent)
        count = b.smin(em.dim(found.k), extent)
        with b.loop(0, count, name="first") as loop:
            heap.put(loop.iv, self._key(b.load(x.at(b, loop.iv), x.element)), b.value(loop.iv))
        half = b.udiv(count, 2)
        with b.loop(0, half, name="heapify") as loop:
            heap.sift(b.sub(b.sub(half, 1), loop.iv), count)
        with b.if_(b.icmp("sgt", count, 0)):
            self._scan(x, heap, count, extent)
        values, indices = self._line(found.values), self._line(found.indices)
        with b.loop(0, count, name="take") as loop:
            left = b.sub(b.sub(count, 1), loop.iv)
            position = heap.position(0)
            b.store(b.load(x.at(b, position), x.element), values.at(b, left))
            b.store(position, indices.at(b, left))
            heap.put(0, heap.key(left), heap.position(left))
            heap.sift(0, left)

    def _scan(self, x: _Line, heap: Heap, count: t.Value, extent: t.Value) -> None:
        """Let the elements from `count` on replace the worst of the heap that they are better than."""
        b = self.b

        def one(position: t.Value) -> None:
            key = self._key(b.load(x.at(b, position), x.element))
            with b.if_(b.icmp("sgt", key, heap.key(0)), name="better"):
                heap.put(0, key, position)
                heap.sift(0, count)

        whole = b.round_down(b.sub(extent, count), LANES) if x.stride == 1 else 0
        stop = b.add(count, whole)
        with b.loop(count, stop, LANES, name="lanes") as lanes:
            keys = self._key(b.load(x.at(b, lanes.iv), t.vector(LANES, x.element)))
            better = b.icmp("sgt", keys, b.splat(heap.key(0), LANES))
            with b.if_(b.any(better), name="some"), b.loop(0, LANES, name="each") as lane:
                one(b.value(b.add(lanes.iv, lane.iv)))
        with b.loop(stop, extent, name="rest") as rest:
            one(b.value(rest.iv))

    def _key(self, x: t.Value) -> t.Value:
        """The integer that ascends with how good an element is; NaN counts as larger than every number."""
        key = ascending_key(self.b, x, self.found.x.type.dtype)
        return key if self.found.largest else self.b.value(self.b.not_(key), key.type)
