"""Compact: the positions of the true elements of a vector, 16 at a time where none of them is."""

from __future__ import annotations

import dataclasses

from dlc.backends.cpu import types as t
from dlc.backends.cpu.compiled import CompiledKernel, KernelFrame
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.templates.template import Declined, Match
from dlc.lowering.kernel import Kernel, Param, Routine

LANES = 16


@dataclasses.dataclass(frozen=True)
class CompactForm:
    """A kernel that is one compaction: the condition and the positions."""

    kernel: Kernel
    condition: Param
    positions: Param


def match(kernel: Kernel, module: Module) -> Match[CompactForm] | Declined:
    """The kernel as a compaction, on any target."""
    del module
    match kernel.body:
        case (Routine(name="compact") as routine,):
            condition, positions = (kernel.param(name) for name in routine.params)
            return Match(CompactForm(kernel, condition, positions))
    return Declined("the kernel is no compaction")


def emit(module: Module, name: str, match: Match[CompactForm]) -> CompiledKernel:
    """Write the function of a compaction into `module`: one chunk, since each position depends on all before.

    It writes as many positions as there are true elements, and never more than there is memory for.
    """
    form = match.form
    frame = KernelFrame(module, name, form.kernel)
    b, em = frame.b, frame.emitter
    condition, positions = frame.pointers[form.condition.name], frame.pointers[form.positions.name]
    extent, room = em.dim(form.condition.type.shape[0]), em.dim(form.positions.type.shape[0])
    nowhere = b.stack(8)

    def one(place: t.Value, found: t.Value) -> t.Value:
        """Note `place` if it is true; returns how many have been found."""
        true = b.icmp("ne", b.load(b.byte_offset(condition, place), t.i8), 0)
        fits = b.icmp("slt", found, room)
        takes = b.value(b.and_(true, fits), t.i1)
        b.store(place, b.select(takes, b.offset(positions, found, t.i64), nowhere))
        return b.value(b.add(found, b.zext(takes, t.i64)))

    whole = b.round_down(extent, LANES)
    with b.loop(0, whole, LANES, carry=[0], name="group") as group:
        (before,) = group.carried
        lanes = b.load(b.byte_offset(condition, group.iv), t.vector(LANES, t.i8))
        some = b.any(b.icmp("ne", lanes, b.splat(0, LANES, t.i8)))
        with b.if_else(some) as both:
            with both.then:
                with b.loop(0, LANES, carry=[before], name="lane", nonempty=True) as lane:
                    lane.next = (one(b.value(b.add(group.iv, lane.iv)), lane.carried[0]),)
                both.then.yields = lane.results
            with both.otherwise:
                both.otherwise.yields = (before,)
        group.next = both.results
    with b.loop(whole, extent, carry=group.results, name="rest") as rest:
        rest.next = (one(b.value(rest.iv), rest.carried[0]),)
    return frame.finish("compact", 1)
