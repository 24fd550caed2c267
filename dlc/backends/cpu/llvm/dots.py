"""Dot products of neighbouring lanes: the instructions behind int8 and bf16 matrix products."""
from __future__ import annotations

from dlc.backends.cpu import types as t
from dlc.backends.cpu.llvm.vectors import VectorOps
from dlc.errors import InternalError

#: LLVM's own type of 32 bf16, which only this instruction takes.
_BFLOAT = t.IRType("<32 x bfloat>", t.TypeClass.FLOAT, 16, 32)


class DotOps(VectorOps):
    """acc[i] + sum of a[k*i + j] * b[k*i + j] over j < k, for accumulators of 16 lanes.

    Only where the target has the instruction (`target.vnni`, `target.bf16`); :meth:`dot_i16` is everywhere.
    """

    def dot_u8s8(self, acc: t.Value, a: t.Value, b: t.Value) -> t.Value:
        """Four unsigned bytes of `a` times four signed bytes of `b`, added to i32 modulo 2**32 (vpdpbusd)."""
        self._check(acc, t.i32, (a, b), t.vector(64, t.i8))
        return self.intrinsic("llvm.x86.avx512.vpdpbusd.512", acc.type, acc, a, b)

    def dot_bf16(self, acc: t.Value, a: t.Value, b: t.Value) -> t.Value:
        """Two products of bf16 added to f32 (vdpbf16ps): denormals count as zero, nearest even."""
        self._check(acc, t.f32, (a, b), t.vector(32, t.bf16))
        left, right = (self.pure(_BFLOAT, f"bitcast {x} to {_BFLOAT}", x) for x in (a, b))
        return self.intrinsic("llvm.x86.avx512bf16.dpbf16ps.512", acc.type, acc, left, right)

    def dot_i16(self, acc: t.Value, a: t.Value, b: t.Value) -> t.Value:
        """Two products of i16 added to i32 modulo 2**32 (vpmaddwd and vpaddd)."""
        self._check(acc, t.i32, (a, b), t.vector(32, t.i16))
        if self.target.avx512:
            return self.add(acc, self.intrinsic("llvm.x86.avx512.pmaddw.d.512", acc.type, a, b))
        halves = [
            self.intrinsic(
                "llvm.x86.avx2.pmadd.wd", t.vector(8, t.i32), self.slice(a, k, 16), self.slice(b, k, 16)
            )
            for k in (0, 16)
        ]
        return self.add(acc, self.concat(*halves))

    def _check(self, acc: t.Value, total: t.IRType, factors: tuple[t.Value, ...], type: t.IRType) -> None:
        if acc.type != t.vector(16, total) or any(v.type != type for v in factors):
            given = ", ".join(str(v.type) for v in (acc, *factors))
            raise InternalError(f"a dot product takes {t.vector(16, total)} and {type}, not {given}")
