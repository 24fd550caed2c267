"""Bounds checks around every access to memory: what `debug_codegen` adds to generated code.

Every pointer is traced back to the region that it was made from: a parameter's tensor, scratch memory, a
block of the stack, a table. An access that would leave its region goes to a spare block instead, and its
number is kept; of several the smallest one, so that the message does not depend on the order of chunks.
Everything is straight-line code, which may stand wherever an access may.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlc.backends.cpu import types as t
from dlc.errors import InternalError

if TYPE_CHECKING:
    from dlc.backends.cpu.builder import FunctionBuilder

#: Bytes of the spare block: no vector is longer.
SPARE_BYTES = t.MAX_LANES * 8
#: What is kept while every access has stayed in its region.
NONE = -1


@dataclass(frozen=True, eq=False)
class Region:
    """Memory that a pointer may be used for: from `low` to before `high`; `size` where it is a number."""

    name: str
    low: t.Value
    high: t.Value
    size: int | None = None


class Bounds:
    """The regions of one function's pointers, and the checks of its accesses.

    `worst` points to the i64 that keeps the number of the failing access.
    """

    def __init__(self, builder: FunctionBuilder, worst: t.Value) -> None:
        self._b = builder
        self.worst = worst
        self._regions: dict[str, Region] = {}
        self._spare: t.Value | None = None

    # -- regions -----------------------------------------------------------------------------------

    def enter(self, pointer: t.Value, name: str, size: t.Index) -> None:
        """Let `pointer` be the beginning of a region of `size` bytes."""
        high = self._b.byte_offset(pointer, size)
        self._regions[pointer.ref] = Region(name, pointer, high, size if isinstance(size, int) else None)

    def enter_block(self, pointer: t.Value, high: t.Value, size: int) -> None:
        """Let `pointer` be the beginning of a block of the stack, which ends at `high`."""
        self._regions[pointer.ref] = Region("the stack", pointer, high, size)

    def enter_between(self, pointer: t.Value, name: str, low: t.Value, high: t.Value) -> None:
        """Let `pointer` point into the region from `low` to `high`."""
        self._regions[pointer.ref] = Region(name, low, high)

    def inherit(self, result: t.Value, source: t.Value) -> None:
        """`result` was made from `source`, and points into its region."""
        region = self._find(source)
        if region is not None:
            self._regions.setdefault(result.ref, region)

    def choose(self, result: t.Value, condition: t.Value, x: t.Value, y: t.Value) -> None:
        """`result` is one of two pointers."""
        first, second = self._find(x), self._find(y)
        if first is None or second is None:
            return
        if first is second:
            self._regions[result.ref] = first
            return
        low, high = (
            self._pick(condition, one, other)
            for one, other in ((first.low, second.low), (first.high, second.high))
        )
        self._regions[result.ref] = Region(f"{first.name} or {second.name}", low, high)

    def meet(self, result: t.Value, incoming: Sequence[tuple[t.Value, str]]) -> None:
        """`result` is the pointer that belongs to the block, by its label, from which this one is entered."""
        regions = [self._find(pointer) for pointer, _ in incoming]
        known = [region for region in regions if region is not None]
        if len(known) < len(regions):
            return
        if all(region is known[0] for region in known):
            self._regions[result.ref] = known[0]
            return

        def phi(ends: Sequence[t.Value]) -> t.Value:
            ways = ", ".join(f"[{end.ref}, %{label}]" for end, (_, label) in zip(ends, incoming))
            return self._b.instruction(t.ptr, f"phi ptr {ways}")

        low, high = phi([region.low for region in known]), phi([region.high for region in known])
        self._regions[result.ref] = Region(" or ".join(region.name for region in known), low, high)

    def require_same(self, carried: Sequence[t.Value], following: Sequence[t.Value]) -> None:
        """InternalError unless a loop carries each pointer on within its region."""
        for value, after in zip(carried, following):
            if value.type is t.ptr and self._find(value) is not self._find(after):
                raise InternalError(f"{self._b.name}: a loop carries a pointer into another region")

    def arguments(self, values: Sequence[t.Value]) -> list[t.Value]:
        """What a function of the module is passed besides `values`: `worst`, then two ends a pointer."""
        ends = [self._region(value) for value in values if value.type is t.ptr]
        return [self.worst, *(end for region in ends for end in (region.low, region.high))]

    def _find(self, pointer: t.Value) -> Region | None:
        region = self._regions.get(pointer.ref)
        size = self._b.module.table_bytes.get(pointer.ref)
        if region is None and size is not None:
            # A constant: it has to be known wherever the table is.
            end = t.Value(t.ptr, f"getelementptr (i8, {pointer}, i64 {size})", None, None)
            region = self._regions[pointer.ref] = Region(f"table {pointer.ref}", pointer, end, size)
        return region

    def _region(self, pointer: t.Value) -> Region:
        region = self._find(pointer)
        if region is None:
            raise InternalError(f"{self._b.name}: nothing tells the bounds of {pointer}")
        return region

    # -- accesses ----------------------------------------------------------------------------------

    def place(self, pointer: t.Value, size: t.Index, what: str) -> t.Value:
        """Where to access `size` bytes instead of `pointer`: there, or in the spare block."""
        region = self._region(pointer)
        if self._stays(region, pointer, size):
            return pointer
        outside = self._outside(region, pointer, size)
        self._keep(outside, f"{what} {region.name}")
        return self._pick(outside, self._spare_block(), pointer)

    def length(self, pointer: t.Value, size: t.Index, what: str) -> t.Index:
        """How many bytes to access from `pointer` on: `size`, or none."""
        region = self._region(pointer)
        if self._stays(region, pointer, size):
            return size
        outside = self._outside(region, pointer, size)
        self._keep(outside, f"{what} {region.name}")
        return self._b.select(outside, 0, size)

    def masked_place(self, pointer: t.Value, mask: t.Value, type: t.IRType, what: str) -> t.Value:
        """Where to access those of the lanes from `pointer` on that `mask` has."""
        b, element = self._b, type.bits // 8
        region = self._region(pointer)
        wide = t.vector(type.lanes, t.i64)
        first = b.splat(b.ptrtoint(pointer), type.lanes)
        lanes = b.add(first, b.mul(b.iota(t.i64, type.lanes), b.const(wide, element)))
        outside = self._any_outside(region, b.value(lanes, wide), element, mask)
        self._keep(outside, f"{what} {region.name}")
        return self._pick(outside, self._spare_block(), pointer)

    def gathered_place(
        self, base: t.Value, indices: t.Value, element: t.IRType, mask: t.Value | None, what: str
    ) -> tuple[t.Value, t.Value]:
        """Where to access elements at `indices` from `base` on: base and indices."""
        b = self._b
        region = self._region(base)
        wide = t.vector(indices.type.lanes, t.i64)
        indices = b.sext(indices, wide)
        first = b.splat(b.ptrtoint(base), wide.lanes)
        places = b.value(b.add(first, b.mul(indices, b.const(wide, element.bytes))), wide)
        outside = self._any_outside(region, places, element.bytes, mask)
        self._keep(outside, f"{what} {region.name}")
        nowhere = b.select(b.splat(outside, wide.lanes), b.const(wide, 0), indices)
        return self._pick(outside, self._spare_block(), base), nowhere

    def _stays(self, region: Region, pointer: t.Value, size: t.Index) -> bool:
        """Whether an access at a known distance from the beginning of a region of known size is inside."""
        base, distance = self._b.displacement(pointer)
        known = region.size is not None and isinstance(size, int) and base.ref == region.low.ref
        return known and 0 <= distance <= region.size - size  # type: ignore[operator]  # `known` says so

    def _outside(self, region: Region, pointer: t.Value, size: t.Index) -> t.Value:
        b = self._b
        before = b.icmp("ult", pointer, region.low)
        after = b.icmp("ugt", b.byte_offset(pointer, size), region.high)
        return b.value(b.or_(before, after), t.i1)

    def _any_outside(self, region: Region, places: t.Value, size: int, mask: t.Value | None) -> t.Value:
        """Whether a lane that accesses `size` bytes at its place leaves the region."""
        b, lanes = self._b, places.type.lanes
        low, high = (b.splat(b.ptrtoint(end), lanes) for end in (region.low, region.high))
        before, after = b.icmp("ult", places, low), b.icmp("ugt", b.add(places, size), high)
        outside = b.or_(before, after)
        return b.any(b.value(outside if mask is None else b.and_(outside, mask), before.type))

    def _keep(self, outside: t.Value, what: str) -> None:
        """Keep the number of an access that is outside, if it is the smallest so far."""
        b = self._b
        number = b.select(outside, b.module.access(f"{b.name}: {what}"), NONE)
        text = f"load i64, {self.worst}, align 8"
        worst = b.umin(b.instruction(t.i64, text, self.worst), number)
        b.effect(f"store {worst}, {self.worst}, align 8", worst, self.worst)

    def _pick(self, condition: t.Value, x: t.Value, y: t.Value) -> t.Value:
        """One of two pointers that are checked already."""
        return self._b.pure(t.ptr, f"select {condition}, {x}, {y}", condition, x, y)

    def _spare_block(self) -> t.Value:
        if self._spare is None:
            self._spare = self._b.stack(SPARE_BYTES)
        return self._spare
