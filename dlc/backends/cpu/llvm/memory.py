"""Loads and stores: whole, masked, gathered."""
from __future__ import annotations

from dlc.backends.cpu import types as t
from dlc.backends.cpu.llvm.control import ControlOps
from dlc.errors import InternalError


class MemoryOps(ControlOps):
    """Memory access. Alignment defaults to one element, which costs nothing on aligned data.

    Tensors of Booleans hold bytes: load i8 and compare. i1 is not stored.
    """

    def load(self, pointer: t.Value, type: t.IRType, align: int | None = None) -> t.Value:
        """The value of `type` at `pointer`."""
        pointer = self._place(pointer, type, "load of")
        return self.instruction(type, f"load {type}, {pointer}, align {_align(type, align)}", pointer)

    def load_invariant(self, pointer: t.Value, type: t.IRType, align: int | None = None) -> t.Value:
        """Like :meth:`load`, shared and hoisted out of loops and past their guards.

        For memory that is readable wherever `pointer` is known and that nothing writes while the function
        runs: arguments, tables.
        """
        pointer = self._place(pointer, type, "load of")
        text = f"load {type}, {pointer}, align {_align(type, align)}, !invariant.load !2"
        return self.pure(type, text, pointer)

    def store(self, value: t.Operand, pointer: t.Value, align: int | None = None) -> None:
        """Write `value` (a bare integer as i64) to `pointer`."""
        v = value if isinstance(value, t.Value) else self.value(value)
        pointer = self._place(pointer, v.type, "store to")
        self.effect(f"store {v}, {pointer}, align {_align(v.type, align)}", v, pointer)

    def masked_load(
        self, pointer: t.Value, mask: t.Value, type: t.IRType, other: t.Operand = 0, align: int | None = None
    ) -> t.Value:
        """The lanes of the vector at `pointer` whose `mask` is set, `other` in the rest; no access in
        those.
        """
        fill = self._masked(mask, type, other)
        if self.bounds is not None:
            pointer = self.bounds.masked_place(pointer, mask, type, "masked load of")
        at = f"ptr align {_align(type, align)} {pointer.ref}"
        name = f"llvm.masked.load.{type.suffix}.p0"
        return self.intrinsic(name, type, pointer, mask, fill, params=f"{at}, {mask}, {fill}")

    def masked_store(self, value: t.Value, pointer: t.Value, mask: t.Value, align: int | None = None) -> None:
        """Write the lanes of the vector `value` whose `mask` is set."""
        self._masked(mask, value.type, 0)
        lane = t.only_lane(mask)
        if lane is not None:
            # LLVM 22 stores 4 bytes where the one lane is a byte or two that were truncated from 4.
            element = value.type.element
            alone = self.instruction(element, f"extractelement {value}, i64 {lane}", value)
            self.store(alone, self.offset(pointer, lane, element), align)
            return
        if self.bounds is not None:
            pointer = self.bounds.masked_place(pointer, mask, value.type, "masked store to")
        at = f"ptr align {_align(value.type, align)} {pointer.ref}"
        name = f"llvm.masked.store.{value.type.suffix}.p0"
        self.intrinsic_effect(name, value, pointer, mask, params=f"{value}, {at}, {mask}")

    def gather(
        self,
        base: t.Value,
        indices: t.Value,
        element: t.IRType,
        mask: t.Value | None = None,
        other: t.Operand = 0,
    ) -> t.Value:
        """`base[indices[lane]]` in elements, for lanes whose `mask` is set, else `other`.

        `indices` are i32 or i64 lanes, signed.
        """
        type = t.vector(indices.type.lanes, element)
        if self.bounds is not None:
            base, indices = self.bounds.gathered_place(base, indices, element, mask, "gather from")
        pointers = self._pointers(base, indices, element)
        mask = self.const(type.with_element(t.i1), 1) if mask is None else mask
        fill = self._masked(mask, type, other)
        at = f"{pointers.type} align {_align(element, None)} {pointers.ref}"
        name = f"llvm.masked.gather.{type.suffix}.{pointers.type.suffix}"
        return self.intrinsic(name, type, pointers, mask, fill, params=f"{at}, {mask}, {fill}")

    def scatter(self, value: t.Value, base: t.Value, indices: t.Value, mask: t.Value | None = None) -> None:
        """Write lane after lane, in order, `value[lane]` to `base[indices[lane]]` where `mask` is set."""
        if self.bounds is not None:
            element = value.type.element
            base, indices = self.bounds.gathered_place(base, indices, element, mask, "scatter to")
        pointers = self._pointers(base, indices, value.type.element)
        mask = self.const(value.type.with_element(t.i1), 1) if mask is None else mask
        self._masked(mask, value.type, 0)
        at = f"{pointers.type} align {_align(value.type, None)} {pointers.ref}"
        name = f"llvm.masked.scatter.{value.type.suffix}.{pointers.type.suffix}"
        self.intrinsic_effect(name, value, pointers, mask, params=f"{value}, {at}, {mask}")

    def tail_mask(self, remaining: t.Index, lanes: int = 16) -> t.Value:
        """i1 lanes: lane < remaining (i64, above -2**31; negative: no lane, large: all)."""
        bounded = self.smin(remaining, lanes)
        if not isinstance(bounded, t.Value) or bounded.constant is not None:
            count = bounded.constant if isinstance(bounded, t.Value) else bounded
            assert count is not None
            if count <= 0 or count == lanes:
                return self.const(t.vector(lanes, t.i1), int(count == lanes))
            return t.vector_constant(t.i1, [int(lane < count) for lane in range(lanes)])
        # A comparison of bytes or words takes fewer registers, but only i32 is one instruction on every
        # target.
        wide = self.splat(self.trunc(bounded, t.i32), lanes)
        return self.icmp("sgt", wide, t.vector_constant(t.i32, list(range(lanes))))

    def prefetch(self, pointer: t.Value, write: bool = False, locality: int = 3) -> None:
        """Hint that the cache line at `pointer` is needed soon; locality 3 all levels ... 0 do not keep."""
        if not 0 <= locality <= 3:
            raise InternalError(f"prefetch with locality {locality}")
        hints = [self.const(t.i32, n) for n in (int(write), locality, 1)]
        self.intrinsic_effect("llvm.prefetch.p0", pointer, *hints)

    def memcpy(self, destination: t.Value, source: t.Value, bytes: t.Index) -> None:
        """Copy `bytes` between regions that do not overlap."""
        if self.bounds is not None:
            bytes = self.bounds.length(source, bytes, "copy from")
            bytes = self.bounds.length(destination, bytes, "copy to")
        size, volatile = self.value(bytes), self.const(t.i1, 0)
        self.intrinsic_effect("llvm.memcpy.p0.p0.i64", destination, source, size, volatile)

    def memset(self, destination: t.Value, byte: t.Operand, bytes: t.Index) -> None:
        """Set `bytes` bytes to the i8 `byte`."""
        if self.bounds is not None:
            bytes = self.bounds.length(destination, bytes, "filling of")
        fill, size, volatile = self.value(byte, t.i8), self.value(bytes), self.const(t.i1, 0)
        self.intrinsic_effect("llvm.memset.p0.i64", destination, fill, size, volatile)

    def stack(self, bytes: int, align: int = 64) -> t.Value:
        """A fixed block of the call's stack, uninitialised; at most 64 KiB (larger ones belong to the
        scratch).
        """
        if not 0 < bytes <= 64 * 1024:
            raise InternalError(f"a stack block of {bytes} bytes")
        ref = f"%s{self._number()}"
        self._entry.append(f"  {ref} = alloca [{bytes} x i8], align {align}")
        block = t.Value(t.ptr, ref, None, None)
        if self.bounds is not None:
            end = f"%s{self._number()}"
            self._entry.append(f"  {end} = getelementptr i8, {block}, i64 {bytes}")
            self.bounds.enter_block(block, t.Value(t.ptr, end, None, None), bytes)
        return block

    def atomic(self, op: str, pointer: t.Value, operand: t.Operand, type: t.IRType = t.i64) -> t.Value:
        """Atomically replace the integer at `pointer` by `old op operand` (add, min, umin, max, or, xchg
        ...); old.

        Ordered as acquire and release.
        """
        v = self.value(operand, type)
        pointer = self._place(pointer, type, "update of")
        text = f"atomicrmw {op} {pointer}, {v} acq_rel, align {_align(type, None)}"
        return self.instruction(type, text, pointer, v)

    def load_atomic(self, pointer: t.Value, type: t.IRType = t.i64, ordering: str = "acquire") -> t.Value:
        """Load an integer atomically ("monotonic" or "acquire")."""
        pointer = self._place(pointer, type, "load of")
        text = f"load atomic {type}, {pointer} {ordering}, align {_align(type, None)}"
        return self.instruction(type, text, pointer)

    def store_atomic(self, value: t.Value, pointer: t.Value, ordering: str = "release") -> None:
        """Store an integer atomically ("monotonic" or "release")."""
        pointer = self._place(pointer, value.type, "store to")
        text = f"store atomic {value}, {pointer} {ordering}, align {_align(value.type, None)}"
        self.effect(text, value, pointer)

    # -- parts -------------------------------------------------------------------------------------

    def _place(self, pointer: t.Value, type: t.IRType, what: str) -> t.Value:
        """Where to access a value of `type` instead of `pointer`, in code that checks bounds."""
        return pointer if self.bounds is None else self.bounds.place(pointer, type.bytes, what)

    def _masked(self, mask: t.Value, type: t.IRType, other: t.Operand) -> t.Value:
        """Check a mask against the vector type it selects from; `other` as a value of that type."""
        if not type.is_vector or mask.type != type.with_element(t.i1):
            raise InternalError(f"mask {mask.type} does not fit {type}")
        _align(type, None)
        return self.value(other, type)

    def _pointers(self, base: t.Value, indices: t.Value, element: t.IRType) -> t.Value:
        if indices.type.element not in (t.i32, t.i64) or not indices.type.is_vector:
            raise InternalError(f"indices of type {indices.type}")
        _align(element, None)
        type = t.vector(indices.type.lanes, t.ptr)
        return self.pure(type, f"getelementptr {element}, {base}, {indices}", base, indices)


def _align(type: t.IRType, align: int | None) -> int:
    """The alignment to state: `align`, or one element (of two parts: that of a part)."""
    if type.bits < 8:
        raise InternalError(f"{type} has no place in memory; Booleans are stored as bytes")
    return min(type.bits // 8, 8) if align is None else align
