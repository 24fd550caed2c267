"""Depthwise convolution: 16 channels in the lanes, a row of output pixels in registers.

Each input vector of a row is loaded once and used by every output pixel that it reaches; the weights of one
kernel row stay in registers while the row is swept. Works for any kernel size, stride and dilation, in one to
three spatial axes, and needs no border code: the input's padding is a halo in memory.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from dlc.backends.cpu import types as t
from dlc.backends.cpu.access import covered_by_halo
from dlc.backends.cpu.compiled import CompiledKernel, KernelFrame
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.templates.convolution import MAX_CHUNKS
from dlc.backends.cpu.templates.convolution_form import LANES, reads_windows, static
from dlc.backends.cpu.templates.epilogue import BlockedEpilogue
from dlc.backends.cpu.templates.normalize import split_blocked_axes
from dlc.backends.cpu.templates.template import Declined, Match
from dlc.ir.dims import Dim, ceildiv, maximum, minimum, product
from dlc.ir.dtypes import DType
from dlc.ir.operator import Array
from dlc.lowering import expr as e
from dlc.lowering.kernel import Contract, Kernel, Param, Store

#: Vector multiply-adds that make a chunk, some 30 us of one core.
CHUNK_WORK = 60_000


@dataclasses.dataclass(frozen=True)
class DepthwiseForm:
    """A depthwise convolution that the template takes."""

    kernel: Kernel
    contract: Contract
    source: Param
    weights: Param
    batch: str
    channel: str
    positions: tuple[str, ...]
    taps: tuple[str, ...]

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """Extents of the taps."""
        return tuple(static(self.kernel.extent(tap)) for tap in self.taps)


def depthwise_form(kernel: Kernel) -> DepthwiseForm | Declined:
    """Whether `kernel` is a depthwise convolution in blocked layout with constant weights."""
    match kernel.body:
        case (Contract() as contract, Store() as store) if contract.spec.windows and contract.spec.batch:
            pass
        case _:
            return Declined("not a single grouped convolution with its epilogue")
    spec, left, right = contract.spec, contract.left, contract.right
    if spec.columns or len(spec.reduce) != len(spec.windows):
        return Declined("groups of more than one channel")
    if not isinstance(left, e.Load) or not isinstance(right, e.Load) or contract.out.dtype is not DType.F32:
        return Declined("operands are computed or not float32")
    source, weights, target = (kernel.param(name) for name in (left.param, right.param, store.param))
    dims = [entry for entry in left.index if not isinstance(entry, e.Expr)]
    extents = {axis.name: axis.extent for axis in kernel.axes}
    if (
        not weights.constant
        or len(dims) != len(left.index)
        or covered_by_halo(source, dims, left.mask, 0.0, extents)
    ):
        return Declined("the weights are not constant or the padding is not in memory")
    if not reads_windows(kernel, contract, left):
        return Declined("the input is read at other places than those of its windows")
    for param in (source, target):
        if param.type.layout is None or param.type.layout.block(1) != LANES:
            return Declined("not in blocked layout")
    if store.axes != contract.out.axes or any(w.stride < 1 or w.dilation < 1 for w in spec.windows):
        return Declined("the epilogue stores in another order, or windows run backwards")
    return DepthwiseForm(
        kernel,
        contract,
        source,
        weights,
        spec.rows[0],
        spec.batch[0],
        tuple(w.out for w in spec.windows),
        tuple(w.tap for w in spec.windows),
    )


def pack(weights: Array) -> Array:
    """Weights [c, 1, taps...] as [c / 16, taps, 16], zero beyond the last channel."""
    channels = weights.shape[0]
    padded = np.zeros((-(-channels // LANES) * LANES, math.prod(weights.shape[2:])), np.float32)
    padded[:channels] = weights.reshape(channels, -1)
    return np.ascontiguousarray(padded.reshape(-1, LANES, padded.shape[1]).transpose(0, 2, 1))


def match(kernel: Kernel, module: Module) -> Match[DepthwiseForm] | Declined:
    """Whether `kernel` is a depthwise convolution in blocked layout with constant weights."""
    del module
    form = depthwise_form(kernel)
    return form if isinstance(form, Declined) else Match(form)


def emit(module: Module, name: str, match: Match[DepthwiseForm]) -> CompiledKernel:
    """Write the function of a matched depthwise convolution."""
    return _Depthwise(module, name, match.form).emit()


class _Depthwise:
    def __init__(self, module: Module, name: str, m: DepthwiseForm) -> None:
        self.m = m
        self.windows = m.contract.spec.windows
        self.extents = [m.kernel.extent(axis) for axis in m.positions]
        blocks = ceildiv(m.kernel.extent(m.channel), LANES)
        self.space: list[Dim] = [m.kernel.extent(m.batch), blocks, *self.extents[:-1]]
        points = product(self.space)
        work = points * self.extents[-1] * math.prod(m.kernel_shape)
        self.points = points
        self.chunks = minimum(points, MAX_CHUNKS, maximum(1, work // CHUNK_WORK))
        self.frame = KernelFrame(module, name, m.kernel, [points, self.chunks])
        self.b, self.em = self.frame.b, self.frame.emitter
        split = split_blocked_axes(m.kernel)
        self.epilogue = BlockedEpilogue(self.frame, split, m.channel, m.positions, m.contract.out.name)
        registers = module.target.vector_registers * module.target.vector_bits // 512
        self.columns = self._tile_width(registers)

    def _tile_width(self, registers: int) -> int:
        """Output pixels of a tile: accumulators beside one kernel row of weights and one input vector."""
        most = max(1, min(registers - self.m.kernel_shape[-1] - 2, 14))
        width = self.extents[-1]
        return most if not isinstance(width, int) or not width else math.ceil(width / math.ceil(width / most))

    def emit(self) -> CompiledKernel:
        b, em, m = self.b, self.em, self.m
        points, chunks = em.dim(self.points), em.dim(self.chunks)
        low = b.udiv(b.mul(self.frame.chunk, points), chunks)
        high = b.udiv(b.mul(b.add(self.frame.chunk, 1), points), chunks)
        with b.loop(low, high, name="row") as loop:
            rest: t.Index = loop.iv
            place: list[t.Index] = []
            for extent in reversed(self.space[1:]):
                size = em.dim(extent)
                place.append(b.urem(rest, size))
                rest = b.udiv(rest, size)
            self._row(rest, *reversed(place))
        return self.frame.finish("depthwise", self.chunks, packing={m.weights.name: pack})

    def _row(self, batch: t.Index, block: t.Index, *rows: t.Index) -> None:
        """One row of output pixels of one block of channels."""
        b, em, m = self.b, self.em, self.m
        em.axes[m.batch] = b.value(batch)
        for axis, value in zip(m.positions, rows, strict=False):
            em.axes[axis] = b.value(value)
        strides = m.source.physical_strides()
        layout = m.source.type.layout
        assert layout is not None
        place: t.Index = b.add(b.mul(batch, em.dim(strides[0])), b.mul(block, em.dim(strides[1])))
        for position, window in enumerate(self.windows):
            origin = (layout.halo(position + 2).before - window.pad) * strides[position + 2]
            place = b.add(place, em.dim(origin))
            if position < len(rows):
                step = b.mul(em.dim(strides[position + 2]), window.stride)
                place = b.add(place, b.mul(rows[position], step))
        source = b.offset(self.frame.pointers[m.source.name], place, t.f32)
        taps = math.prod(m.kernel_shape)
        weights = b.offset(self.frame.pointers[m.weights.name], b.mul(block, taps * LANES), t.f32)
        width = self.extents[-1]
        count: t.Index = width if isinstance(width, int) else em.dim(width)
        whole = b.sub(count, b.urem(count, self.columns))
        with b.loop(0, whole, self.columns, name="column") as loop:
            self._tile(block, source, weights, loop.iv, self.columns)
        if isinstance(width, int):
            if width % self.columns:
                self._tile(block, source, weights, whole, width % self.columns)
            return
        with b.loop(whole, count, name="tail") as tail:
            self._tile(block, source, weights, tail.iv, 1)

    def _tile(self, block: t.Index, source: t.Value, weights: t.Value, column: t.Index, columns: int) -> None:
        """`columns` output pixels from `column` on."""
        b, m = self.b, self.m
        strides = [self.em.dim(s) for s in m.source.physical_strides()[2 : 2 + len(self.windows)]]
        start = b.offset(source, b.mul(column, b.mul(strides[-1], self.windows[-1].stride)), t.f32)
        zero = b.const(t.vector(LANES, t.f32), 0.0)

        def sweep(axis: int, at: t.Value, panel: t.Value, carry: list[t.Value]) -> list[t.Value]:
            if axis == len(self.windows) - 1:
                return self._kernel_row(at, panel, strides[-1], columns, carry)
            inner = math.prod(m.kernel_shape[axis + 1 :]) * LANES
            step = b.mul(strides[axis], self.windows[axis].dilation)
            with b.loop(0, m.kernel_shape[axis], carry=carry, name="tap") as loop:
                loop.next = tuple(
                    sweep(
                        axis + 1,
                        b.offset(at, b.mul(loop.iv, step), t.f32),
                        b.offset(panel, b.mul(loop.iv, inner), t.f32),
                        list(loop.carried),
                    )
                )
            return list(loop.results)

        values = sweep(0, start, weights, [zero] * columns)
        names = m.positions
        places = [
            lambda c=c: self.em.axes.update({names[-1]: b.value(b.add(column, c))}) for c in range(columns)
        ]
        self.epilogue.store(block, values, places)

    def _kernel_row(
        self, at: t.Value, panel: t.Value, stride: t.Value, columns: int, accumulators: list[t.Value]
    ) -> list[t.Value]:
        """Add one kernel row: each input vector is loaded once and meets every pixel that it reaches."""
        b, window = self.b, self.windows[-1]
        vector = t.vector(LANES, t.f32)
        taps = self.m.kernel_shape[-1]
        weights = [b.load(b.offset(panel, tap * LANES, t.f32), vector) for tap in range(taps)]
        users: dict[int, list[tuple[int, int]]] = {}
        for pixel in range(columns):
            for tap in range(taps):
                users.setdefault(pixel * window.stride + tap * window.dilation, []).append((pixel, tap))
        result = list(accumulators)
        for position, pairs in sorted(users.items()):
            x = b.load(b.offset(at, b.mul(stride, position), t.f32), vector)
            for pixel, tap in pairs:
                result[pixel] = b.fma(x, weights[tap], result[pixel])
        return result
