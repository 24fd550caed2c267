"""Lanes: broadcast, extract, shuffle, reduce, transpose."""
from __future__ import annotations

from collections.abc import Callable, Sequence

from dlc.backends.cpu import types as t
from dlc.backends.cpu.llvm.floats import FloatOps
from dlc.errors import InternalError

Combine = Callable[[t.Value, t.Value], t.Value]


class VectorOps(FloatOps):
    """Movement between lanes."""

    def load_splat(self, pointer: t.Value, element: t.IRType, lanes: int = 16) -> t.Value:
        """One element from memory in every lane (a broadcast load)."""
        return self.splat(self.load(pointer, element), lanes)

    def iota(self, type: t.IRType, lanes: int = 16) -> t.Value:
        """The integer constants 0, 1, 2, ... a lane."""
        return t.vector_constant(type, list(range(lanes)))

    def extract(self, v: t.Value, lane: t.Operand) -> t.Value:
        """One lane; a run-time `lane` must be in range."""
        index = self._lane(v, lane)
        return self.instruction(v.type.element, f"extractelement {v}, {index}", v, index)

    def insert(self, v: t.Value, element: t.Operand, lane: t.Operand) -> t.Value:
        """`v` with one lane replaced."""
        index, x = self._lane(v, lane), self.value(element, v.type.element)
        return self.instruction(v.type, f"insertelement {v}, {x}, {index}", v, x, index)

    def poison(self, type: t.IRType) -> t.Value:
        """A vector whose lanes have to be inserted before they are used."""
        return t.Value(type, "poison", None, None)

    def from_lanes(self, lanes: Sequence[t.Value]) -> t.Value:
        """A vector of these scalars."""
        result = self.poison(t.vector(len(lanes), lanes[0].type))
        for lane, x in enumerate(lanes):
            result = self.insert(result, x, lane)
        return result

    def shuffle(self, a: t.Value, b: t.Value | None, lanes: Sequence[int]) -> t.Value:
        """Constant permutation: lane k of the result is lane lanes[k] of `a` followed by `b`."""
        total = a.type.lanes * (1 if b is None else 2)
        if not a.type.is_vector or any(not 0 <= lane < total for lane in lanes):
            raise InternalError(f"no shuffle of {a.type} by {list(lanes)}")
        other = self.poison(a.type) if b is None else self.value(b, a.type)
        wide = t.vector(len(lanes), a.type.element)
        mask = t.vector_constant(t.i32, list(lanes))
        return self.instruction(wide, f"shufflevector {a}, {other}, {mask}", a, other)

    def concat(self, a: t.Value, b: t.Value) -> t.Value:
        """The lanes of `a`, then those of `b`."""
        return self.shuffle(a, b, range(2 * a.type.lanes))

    def slice(self, v: t.Value, first: int, lanes: int) -> t.Value:
        """`lanes` (at least 2) consecutive lanes from `first`."""
        return self.shuffle(v, None, range(first, first + lanes))

    def interleave(self, a: t.Value, b: t.Value) -> t.Value:
        """a0 b0 a1 b1 ...: twice the lanes."""
        n = a.type.lanes
        return self.shuffle(a, b, [k // 2 + (k % 2) * n for k in range(2 * n)])

    def deinterleave(self, v: t.Value) -> tuple[t.Value, t.Value]:
        """The even and the odd lanes."""
        n = v.type.lanes
        return self.shuffle(v, None, range(0, n, 2)), self.shuffle(v, None, range(1, n, 2))

    # -- reductions --------------------------------------------------------------------------------

    def reduce(self, v: t.Value, combine: Combine) -> t.Value:
        """All lanes combined by halves, always in the same order: lane k with lane k + n/2 until one is
        left.
        """
        while v.type.lanes > 2:
            half = v.type.lanes // 2
            if v.type.lanes % 2:
                raise InternalError(f"no reduction of {v.type}: the lanes must be a power of two")
            v = combine(self.slice(v, 0, half), self.slice(v, half, half))
        return combine(self.extract(v, 0), self.extract(v, 1)) if v.type.is_vector else v

    def reduce_add(self, v: t.Value) -> t.Value:
        """The sum of the lanes, in the order of :meth:`reduce`."""
        return self.reduce(v, self.fadd if v.type.is_float else self.add)

    def reduce_max(self, v: t.Value) -> t.Value:
        """The largest lane (integers signed). A NaN may be lost: semantics.maximum keeps it."""
        return self.reduce(v, self._greater)

    def reduce_min(self, v: t.Value) -> t.Value:
        """The smallest lane (integers signed). A NaN may be lost: semantics.minimum keeps it."""
        return self.reduce(v, self._smaller)

    def any(self, mask: t.Value) -> t.Value:
        """Whether some lane of an i1 vector is set."""
        return self.intrinsic(f"llvm.vector.reduce.or.{mask.type.suffix}", t.i1, mask)

    def all(self, mask: t.Value) -> t.Value:
        """Whether every lane of an i1 vector is set."""
        return self.intrinsic(f"llvm.vector.reduce.and.{mask.type.suffix}", t.i1, mask)

    # -- transposes --------------------------------------------------------------------------------

    def transpose16(self, rows: Sequence[t.Value]) -> list[t.Value]:
        """16 vectors of 16 lanes with rows and columns exchanged: 64 two-operand shuffles.

        Two stages within 128-bit groups (unpack) and two between groups, each one instruction on AVX-512.
        """
        if len(rows) != 16 or any(row.type.lanes != 16 for row in rows):
            raise InternalError("transpose16 takes 16 vectors of 16 lanes")
        # Lane 4g + j of pairs[2k + h] holds column 4g + 2h + j//2 of row 2k + j%2.
        pairs = [
            self.shuffle(rows[k], rows[k + 1], _grouped([h, 16 + h, h + 1, 17 + h]))
            for k in range(0, 16, 2)
            for h in (0, 2)
        ]
        # Lane 4g + r of quads[4k + j] holds column 4g + j of row 4k + r.
        quads = [
            self.shuffle(pairs[k + j // 2], pairs[k + 2 + j // 2], _grouped([h, h + 1, 16 + h, 17 + h]))
            for k in range(0, 16, 4)
            for j, h in enumerate((0, 2, 0, 2))
        ]
        # halves[p][4o + j]: groups g = o and o + 2 of quads j of the row blocks 2p and 2p + 1.
        halves = [
            [self.shuffle(quads[8 * p + j], quads[8 * p + 4 + j], _groups(o)) for o in (0, 1) for j in
            range(4)] for p in (0, 1)
        ]
        return [
            self.shuffle(halves[0][4 * (g % 2) + j], halves[1][4 * (g % 2) + j], _groups(g // 2))
            for g in range(4)
            for j in range(4)
        ]

    # -- parts -------------------------------------------------------------------------------------

    def _greater(self, a: t.Value, b: t.Value) -> t.Value:
        compare = self.fcmp("ogt", a, b) if a.type.is_float else self.icmp("sgt", a, b)
        return self.select(compare, a, b)

    def _smaller(self, a: t.Value, b: t.Value) -> t.Value:
        compare = self.fcmp("olt", a, b) if a.type.is_float else self.icmp("slt", a, b)
        return self.select(compare, a, b)

    def _lane(self, v: t.Value, lane: t.Operand) -> t.Value:
        index = self.value(lane)
        if not v.type.is_vector or (index.constant is not None and not 0 <= index.constant < v.type.lanes):
            raise InternalError(f"no lane {lane} in {v.type}")
        return index


def _grouped(lanes: Sequence[int]) -> list[int]:
    """A pattern within four lanes repeated for each group of four."""
    return [4 * group + lane for group in range(4) for lane in lanes]


def _groups(first: int) -> list[int]:
    """Groups `first` and `first + 2` of four lanes, of either operand."""
    return [16 * side + 4 * (first + skip) + lane for side in (0, 1) for skip in (0, 2) for lane in range(4)]
