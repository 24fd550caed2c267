"""The first phase of an integer convolution: images copied into planes of words."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from dlc.backends.cpu import types as t
from dlc.backends.cpu.compiled import KernelFrame, Phase
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.templates.convolution_form import LANES
from dlc.backends.cpu.templates.integer_convolution_form import IntegerConvolution, PlaneAxis
from dlc.ir.dims import Dim, Symbol, ceildiv, maximum, minimum, product
from dlc.lowering import expr as e

#: Words that make a chunk, some 10 us of one core.
GRAIN = 1 << 14
MAX_CHUNKS = 64
_SIGN_BITS = -0x7F7F7F80


class PlaneWriter:
    """Writes the function that fills the planes [image, channel word, phase, positions...] of a workspace."""

    def __init__(
        self, module: Module, name: str, m: IntegerConvolution, size: Dim, dims: Sequence[Dim]
    ) -> None:
        self.m = m
        self.words = m.channel_words * m.form.groups
        self.units: Dim = m.form.extent(m.form.batch) * self.words
        self.chunks: Dim = minimum(
            self.units, MAX_CHUNKS, maximum(1, self.units * m.plane * m.phases // GRAIN)
        )
        self.frame = KernelFrame(module, name, m.original, [*dims, self.units, self.chunks])
        self.b, self.em = self.frame.b, self.frame.emitter
        self.workspace = self.frame.workspace(size)
        self.image = Symbol("plane_image", 0)
        self.channel = Symbol("plane_channel", 0)
        self.lane = Symbol("plane_lane", 0, LANES - 1)
        self.positions = tuple(Symbol(f"plane_position{i}", 0) for i in range(len(m.axes)))

    def emit(self) -> Phase:
        b, em, m = self.b, self.em, self.m
        units, chunks = em.dim(self.units), em.dim(self.chunks)
        low = b.udiv(b.mul(self.frame.chunk, units), chunks)
        high = b.udiv(b.mul(b.add(self.frame.chunk, 1), units), chunks)
        plane = em.dim(m.plane)
        with b.loop(low, high, name="word") as loop:
            image, word = b.udiv(loop.iv, self.words), b.urem(loop.iv, self.words)
            group, inner = b.udiv(word, m.channel_words), b.urem(word, m.channel_words)
            em.axes[self.image.name] = b.value(image)
            first = b.add(b.mul(group, m.form.channels), b.mul(inner, m.group))
            em.axes[self.channel.name] = b.value(first)
            last = b.icmp("eq", inner, m.channel_words - 1)
            start = b.offset(self.workspace, b.mul(loop.iv, b.mul(plane, m.phases)), t.i32)
            rest = m.form.channels % m.group
            if rest:
                with b.if_else(last, name="rest") as both:
                    with both.then:
                        self._planes(start, rest)
                    with both.otherwise:
                        self._planes(start, m.group)
            else:
                self._planes(start, m.group)
        self.frame.close()
        return Phase(self.frame.name, self.chunks)

    def _planes(self, start: t.Value, channels: int) -> None:
        """The planes of one word of `channels` channels."""
        plane = self.em.dim(self.m.plane)
        phases = itertools.product(*(axis.phases for axis in self.m.axes))
        for number, phase in enumerate(phases):
            self._rows(0, self.b.offset(start, self.b.mul(plane, number), t.i32), phase, channels)

    def _rows(self, axis: int, start: t.Value, phase: tuple[int, ...], channels: int) -> None:
        """The rows of a plane from spatial axis `axis` on."""
        b, em, m = self.b, self.em, self.m
        if axis == len(m.axes) - 1:
            self._row(start, phase, channels)
            return
        with b.loop(0, em.dim(m.axes[axis].count), name="position") as loop:
            em.axes[self.positions[axis].name] = b.value(loop.iv)
            row = b.offset(start, b.mul(loop.iv, em.dim(m.strides[axis])), t.i32)
            self._rows(axis + 1, row, phase, channels)

    def _row(self, start: t.Value, phase: tuple[int, ...], channels: int) -> None:
        """A row: vectors that lie within the input, before and after them masked ones."""
        b, em, axis = self.b, self.em, self.m.axes[-1]
        count = em.dim(axis.count)
        first, end = _inside(axis, phase[-1])
        inside = b.smax(b.sub(b.smin(em.dim(end), count), first), 0)
        whole = b.add(first, b.round_down(inside, LANES))
        if first:
            with b.loop(0, b.smin(count, first), LANES, name="before") as loop:
                self._words(start, loop.iv, phase, channels, b.tail_mask(b.sub(count, loop.iv), LANES))
        with b.loop(first, whole, LANES, name="inside") as loop:
            self._words(start, loop.iv, phase, channels, None)
        with b.loop(whole, count, LANES, name="after") as loop:
            self._words(start, loop.iv, phase, channels, b.tail_mask(b.sub(count, loop.iv), LANES))

    def _words(
        self, row: t.Value, at: t.Index, phase: tuple[int, ...], channels: int, mask: t.Value | None
    ) -> None:
        """16 words of a row from position `at`."""
        b, em, m = self.b, self.em, self.m
        position = self.positions[-1]
        em.forget()
        em.axes[position.name] = b.value(at)
        if mask is None and m.axes[-1].window.stride == 2:
            octets = [self._every_second(phase, j) for j in range(channels)]
        else:
            em.vector_axis, em.mask = position, mask
            octets = [em.emit_lanes(self._load(phase, j, mask is None)) for j in range(channels)]
        em.vector_axis = em.mask = None
        octets += [b.const(t.vector(LANES, t.i8), 0)] * (m.group - channels)
        words = self._joined(octets)
        pointer = b.offset(row, at, t.i32)
        if mask is None:
            b.store(words, pointer)
        else:
            b.masked_store(words, pointer, mask)

    def _every_second(self, phase: tuple[int, ...], channel: int) -> t.Value:
        """16 numbers of a channel of the word that are 2 apart: from two vectors, up to the last one."""
        b, em = self.b, self.em
        em.axes[self.lane.name], em.vector_axis = b.value(0), self.lane
        load = self._load(phase, channel, True)
        halves: list[t.Value] = []
        for skip in (0, LANES - 1):
            last = load.index[-1]
            assert not isinstance(last, e.Expr)
            index = (*load.index[:-1], last + self.lane + skip)
            halves.append(em.emit_lanes(dataclasses.replace(load, index=index)))
        low, high = halves
        return b.shuffle(low, high, [*range(0, LANES, 2), *range(LANES + 1, 2 * LANES, 2)])

    def _load(self, phase: tuple[int, ...], channel: int, inside: bool) -> e.Load:
        """The numbers at a position of a plane, of channel `channel` of the word."""
        source = self.m.source.load
        shape = self.m.form.source.type.shape
        places = [
            p * axis.window.stride + (r - axis.window.pad)
            for p, axis, r in zip(self.positions, self.m.axes, phase)
        ]
        checked = zip(places[:-1] if inside else places, shape[2:])
        mask = tuple(e.InRange(place, 0, extent) for place, extent in checked)
        other = source.other or e.Const(source.dtype, 0)
        index = (self.image, self.channel + channel, *places)
        return e.Load(source.dtype, source.param, index, mask, other)

    def _joined(self, octets: Sequence[t.Value]) -> t.Value:
        """Vectors of neighbouring channels as words."""
        b, m = self.b, self.m
        words = t.vector(LANES, t.i32)
        if m.group == 2:
            wide = b.sext if m.source.signed else b.zext
            halves = [wide(octet, t.vector(LANES, t.i16)) for octet in octets]
        else:
            halves = [
                b.bitcast(b.interleave(low, high), t.vector(LANES, t.i16))
                for low, high in (octets[:2], octets[2:])
            ]
        joined = b.bitcast(b.interleave(*halves), words)
        return b.xor(joined, b.const(words, _SIGN_BITS)) if m.source_turned else joined


def _inside(axis: PlaneAxis, phase: int) -> tuple[int, Dim]:
    """The first position of a plane within the input, and the one after the last."""
    pad, stride = axis.window.pad, axis.window.stride
    if not isinstance(pad, int):
        return 0, 0
    first = max(0, -((phase - pad) // stride))
    return first, ceildiv(axis.extent + pad - phase, stride)


def plane_bytes(m: IntegerConvolution, slack: int) -> Dim:
    """Bytes of the planes of all images, and `slack` words that tiles read beyond the last one."""
    words = product([m.form.extent(m.form.batch), m.form.groups, m.channel_words, m.phases, m.plane])
    return (words + slack) * t.i32.bytes


