"""Maps from pairs of neighbours to pairs: rotary embedding of interleaved features, say.

The general template would gather and scatter every second element; here 16 pairs are two vectors that are
taken apart, and put together again, in registers.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from dlc.backends.cpu import access, types as t
from dlc.backends.cpu.compiled import CompiledKernel, KernelFrame
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.templates.row_product import LANES, VECTOR
from dlc.backends.cpu.templates.template import Declined, Match
from dlc.ir.dims import Dim, Symbol, known_equal, linear, maximum, minimum, product
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.kernel import Axis, Kernel, Map, Param, Store, StoreMode

#: Pairs that make a chunk, some 10 us of one core.
CHUNK_PAIRS = 1 << 14
MAX_CHUNKS = 64


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two neighbours: elements `place` and `place` + 1 of a parameter."""

    param: Param
    place: Dim


@dataclasses.dataclass(frozen=True)
class PairsForm:
    """What is done at each point of the axes, of which `pair` is the one along which pairs follow each other.

    `before` is computed; `names` stand for the two elements of `source`; `after` is computed; `values` go to
    the two elements of `target`.
    """

    kernel: Kernel
    outer: tuple[Axis, ...]
    pair: Axis
    source: Pair
    before: tuple[Map, ...]
    names: tuple[str, str]
    after: tuple[Map, ...]
    target: Pair
    values: tuple[e.Expr, e.Expr]


def match(kernel: Kernel, module: Module) -> Match[PairsForm] | Declined:
    """Whether `kernel` maps pairs of one parameter to pairs of another, in f32."""
    match kernel.body:
        case (*maps, Store() as first, Store() as second) if maps:
            pass
        case _:
            return Declined("no two stores at the end")
    axes = first.axes
    for stage in maps:
        if not isinstance(stage, Map) or stage.out.axes != axes:
            return Declined("other stages than maps over the same axes")
    plain = [stage for stage in maps if isinstance(stage, Map)]
    if second.axes != axes or any(s.mode is not StoreMode.SET or s.mask for s in (first, second)):
        return Declined("the stores are not of all points")
    if any(param.type.layout is not None for param in kernel.params):
        return Declined("a blocked layout")
    pair = kernel.axis(axes[-1])
    found = _target(kernel, first, second, pair.symbol)
    source = _source(kernel, plain, pair.symbol)
    if found is None or source is None:
        return Declined("no pairs of neighbours")
    names, read = source
    start = min(at for at, stage in enumerate(plain) if stage.out.name in names)
    before, after = plain[:start], [stage for stage in plain[start:] if stage.out.name not in names]
    here = tuple(kernel.axis(axis).symbol for axis in axes)
    values = (*(stage.value for stage in (*before, *after)), first.value, second.value)
    for node in e.walk(*values):
        if isinstance(node, e.Load) and node.param in (found.param.name, read.param.name):
            return Declined("the pairs are read elsewhere too")
        if isinstance(node, e.Read) and (node.index != here or node.mask):
            return Declined("a map looks at other points")
    outer = tuple(kernel.axis(axis) for axis in axes[:-1])
    return Match(PairsForm(kernel, outer, pair, read, tuple(before), names, tuple(after), found,
                           (first.value, second.value)))


def _place(kernel: Kernel, param: str, index: Sequence[e.Index]) -> Dim | None:
    """The offset of an f32 element; None for other types and indices from data."""
    dims = [entry for entry in index if not isinstance(entry, e.Expr)]
    if len(dims) != len(index) or kernel.param(param).type.dtype is not DType.F32:
        return None
    return access.offset(kernel.param(param), dims)


def _neighbours(param: Param, first: Dim | None, second: Dim | None, pair: Symbol) -> Pair | None:
    """The pair at two places that follow each other, two elements further for the next pair."""
    if first is None or second is None or not known_equal(second, first + 1):
        return None
    affine = linear(first, pair)
    return Pair(param, first) if affine is not None and affine[0] == 2 else None


def _target(kernel: Kernel, first: Store, second: Store, pair: Symbol) -> Pair | None:
    if first.param != second.param:
        return None
    low, high = (_place(kernel, store.param, store.index) for store in (first, second))
    return _neighbours(kernel.param(first.param), low, high, pair)


def _source(kernel: Kernel, maps: Sequence[Map], pair: Symbol) -> tuple[tuple[str, str], Pair] | None:
    """The maps that only load the elements of a pair, by the names of their locals."""
    loads = [(stage.out.name, stage.value) for stage in maps
             if isinstance(stage.value, e.Load) and not stage.value.mask]
    for name, first in loads:
        for other, second in loads:
            if first.param == second.param:
                low, high = (_place(kernel, load.param, load.index) for load in (first, second))
                found = _neighbours(kernel.param(first.param), low, high, pair)
                if found is not None:
                    return (name, other), found
    return None


def emit(module: Module, name: str, match: Match[PairsForm]) -> CompiledKernel:
    """Write the function of a matched kernel."""
    return _Pairs(module, name, match.form).emit()


class _Pairs:
    """The emission of one kernel."""

    def __init__(self, module: Module, name: str, form: PairsForm) -> None:
        self.form = form
        self.points = product([axis.extent for axis in form.outer])
        work = self.points * form.pair.extent
        self.chunks = minimum(self.points, MAX_CHUNKS, maximum(1, work // CHUNK_PAIRS))
        self.frame = KernelFrame(module, name, form.kernel, [self.points, self.chunks])
        self.b, self.em = self.frame.b, self.frame.emitter

    def emit(self) -> CompiledKernel:
        b, em = self.b, self.em
        points, chunks = em.dim(self.points), em.dim(self.chunks)
        low = b.udiv(b.mul(self.frame.chunk, points), chunks)
        high = b.udiv(b.mul(b.add(self.frame.chunk, 1), points), chunks)
        with b.loop(low, high, name="point") as loop, em.scope():
            rest: t.Index = loop.iv
            for axis in reversed(self.form.outer):
                extent = em.dim(axis.extent)
                em.axes[axis.name] = b.value(rest if axis is self.form.outer[0] else b.urem(rest, extent))
                rest = b.udiv(rest, extent)
            self._row()
        return self.frame.finish("pairs", self.chunks)

    def _row(self) -> None:
        """All pairs of a point, 16 at a time."""
        b, em, pair = self.b, self.em, self.form.pair
        count: t.Index = pair.extent if isinstance(pair.extent, int) else em.dim(pair.extent)
        whole = b.and_(count, -LANES)
        em.vector_axis = pair.symbol
        em.hoist([stage.value for stage in (*self.form.before, *self.form.after)], {pair.name})
        with b.loop(0, whole, LANES, name="pairs") as loop, em.scope():
            em.axes[pair.name] = b.value(loop.iv)
            self._vectors(None)
        rest = b.sub(count, whole)
        with b.if_(b.icmp("ne", rest, 0)), em.scope():
            em.axes[pair.name] = b.value(whole)
            em.mask = b.tail_mask(rest)
            self._vectors(rest)
            em.mask = None
        em.vector_axis = None

    def _vectors(self, count: t.Index | None) -> None:
        """16 pairs, or `count` of them."""
        b, em, form = self.b, self.em, self.form
        masks: list[t.Value | None] = [None, None]
        if count is not None:
            masks = [b.tail_mask(b.sub(b.mul(count, 2), first)) for first in (0, LANES)]
        for stage in form.before:
            self._define(stage.out.name, em.emit_lanes(stage.value))
        halves = [b.load(place, VECTOR) if mask is None else b.masked_load(place, mask, VECTOR)
                  for place, mask in zip(self._places(form.source), masks)]
        for name, value in zip(form.names, b.deinterleave(b.concat(*halves))):
            self._define(name, value)
        for stage in form.after:
            self._define(stage.out.name, em.emit_lanes(stage.value))
        both = b.interleave(*(em.emit_lanes(value) for value in form.values))
        for first, place, mask in zip((0, LANES), self._places(form.target), masks):
            half = b.slice(both, first, LANES)
            if mask is None:
                b.store(half, place)
            else:
                b.masked_store(half, place, mask)

    def _places(self, pair: Pair) -> list[t.Value]:
        """The addresses of the two vectors that hold 16 pairs."""
        first = self.b.offset(self.frame.pointers[pair.param.name], self.em.dim(pair.place), t.f32)
        return [first, self.b.offset(first, LANES, t.f32)]

    def _define(self, name: str, value: t.Value) -> None:
        self.em.locals[name] = lambda _: value
