"""Floating-point arithmetic and conversions, on scalars and vectors alike. Never shared, hoisted or
reordered.
"""
from __future__ import annotations

from dlc.backends.cpu import types as t
from dlc.backends.cpu.llvm.memory import MemoryOps
from dlc.errors import InternalError

_PREDICATES = {f"{o}{c}" for o in "ou" for c in ("eq", "ne", "lt", "le", "gt", "ge")} | {"ord", "uno"}


class FloatOps(MemoryOps):
    """IEEE arithmetic in the default environment: round to nearest even, denormals kept, no fast-math.

    f16 and bf16 are storage formats: their arithmetic is done in f32 (:mod:`semantics` converts).
    """

    def fadd(self, a: t.Operand, b: t.Operand) -> t.Value:
        """a + b."""
        return self._float("fadd", a, b)

    def fsub(self, a: t.Operand, b: t.Operand) -> t.Value:
        """a - b."""
        return self._float("fsub", a, b)

    def fmul(self, a: t.Operand, b: t.Operand) -> t.Value:
        """a * b."""
        return self._float("fmul", a, b)

    def fdiv(self, a: t.Operand, b: t.Operand) -> t.Value:
        """a / b."""
        return self._float("fdiv", a, b)

    def frem(self, a: t.Operand, b: t.Operand) -> t.Value:
        """a - b * trunc(a / b), exactly (C fmod); a library call for each lane."""
        return self._float("frem", a, b)

    def fneg(self, a: t.Value) -> t.Value:
        """-a: the sign bit flipped, also of NaN and zero."""
        self._check_float(a.type)
        return self.instruction(a.type, f"fneg {a}", a)

    def fma(self, a: t.Operand, b: t.Operand, c: t.Operand) -> t.Value:
        """a * b + c with one rounding; with two on a target without fused multiply-add."""
        values = self._unify(a, b, c)
        type = values[0].type
        self._check_float(type)
        # llvm.fma without the hardware is a library call for every lane.
        name = "llvm.fma" if self.target.fma else "llvm.fmuladd"
        return self.intrinsic(f"{name}.{type.suffix}", type, *values)

    def sqrt(self, a: t.Value) -> t.Value:
        """Square root, correctly rounded; NaN for negative numbers, -0 for -0."""
        return self._unary("sqrt", a)

    def floor(self, a: t.Value) -> t.Value:
        """Round towards minus infinity."""
        return self._unary("floor", a)

    def ceil(self, a: t.Value) -> t.Value:
        """Round towards plus infinity."""
        return self._unary("ceil", a)

    def ftrunc(self, a: t.Value) -> t.Value:
        """Round towards zero."""
        return self._unary("trunc", a)

    def rint(self, a: t.Value) -> t.Value:
        """Round to the nearest integer, halves to even."""
        return self._unary("roundeven", a)

    def fabs(self, a: t.Value) -> t.Value:
        """Absolute value: the sign bit cleared, also of NaN."""
        return self._unary("fabs", a)

    def copysign(self, magnitude: t.Operand, sign: t.Operand) -> t.Value:
        """`magnitude` with the sign bit of `sign`."""
        a, b = self._unify(magnitude, sign)
        self._check_float(a.type)
        return self.intrinsic(f"llvm.copysign.{a.type.suffix}", a.type, a, b)

    def fcmp(self, predicate: str, a: t.Operand, b: t.Operand) -> t.Value:
        """Compare: oeq one olt ole ogt oge (false with a NaN), ueq ... uge (true with one), ord, uno."""
        if predicate not in _PREDICATES:
            raise InternalError(f"no floating-point comparison {predicate!r}")
        x, y = self._unify(a, b)
        self._check_float(x.type)
        return self.instruction(x.type.with_element(t.i1), f"fcmp {predicate} {x}, {y.ref}", x, y)

    # -- conversions -------------------------------------------------------------------------------

    def fpext(self, a: t.Value, type: t.IRType) -> t.Value:
        """Widen: f16 to f32, f32 to f64 (exact). The same type is left alone."""
        if a.type == type:
            return a
        steps = {(t.f16, t.f32): self.target.f16c, (t.f32, t.f64): True}
        if not steps.get((a.type.element, type.element), False):
            raise InternalError(f"no fpext from {a.type} to {type}: use semantics.cast_float")
        return self._convert("fpext", a, type)

    def fptrunc(self, a: t.Value, type: t.IRType) -> t.Value:
        """Narrow, rounding to nearest even: f64 to f32, f32 to f16. The same type is left alone."""
        if a.type == type:
            return a
        steps = {(t.f32, t.f16): self.target.f16c, (t.f64, t.f32): True}
        if not steps.get((a.type.element, type.element), False):
            raise InternalError(f"no fptrunc from {a.type} to {type}: use semantics.cast_float")
        return self._convert("fptrunc", a, type)

    def sitofp(self, a: t.Value, type: t.IRType) -> t.Value:
        """A signed integer as f32 or f64, rounded to nearest even."""
        self._check_float(type)
        return self._convert("sitofp", a, type)

    def uitofp(self, a: t.Value, type: t.IRType) -> t.Value:
        """An unsigned integer (also i1) as f32 or f64, rounded to nearest even."""
        self._check_float(type)
        return self._convert("uitofp", a, type)

    def bitcast(self, a: t.Value, type: t.IRType) -> t.Value:
        """The same bits as another type of the same size."""
        if a.type == type:
            return a
        if a.type.bits * a.type.lanes != type.bits * type.lanes or a.type.is_pointer or type.is_pointer:
            raise InternalError(f"no bitcast from {a.type} to {type}")
        return self.pure(type, f"bitcast {a} to {type}", a)

    def ptrtoint(self, a: t.Value) -> t.Value:
        """A pointer as i64."""
        return self.pure(t.i64, f"ptrtoint {a} to i64", a)

    # -- parts -------------------------------------------------------------------------------------

    def _float(self, op: str, a: t.Operand, b: t.Operand) -> t.Value:
        x, y = self._unify(a, b)
        self._check_float(x.type)
        return self.instruction(x.type, f"{op} {x}, {y.ref}", x, y)

    def _unary(self, name: str, a: t.Value) -> t.Value:
        self._check_float(a.type)
        return self.intrinsic(f"llvm.{name}.{a.type.suffix}", a.type, a)

    def _convert(self, op: str, a: t.Value, type: t.IRType) -> t.Value:
        if a.type.lanes != type.lanes:
            raise InternalError(f"no {op} from {a.type} to {type}")
        return self.instruction(type, f"{op} {a} to {type}", a)

    def _check_float(self, type: t.IRType) -> None:
        """Arithmetic on f16 and bf16 would become a library call for each lane."""
        if type.element not in (t.f32, t.f64):
            raise InternalError(f"no floating-point arithmetic on {type}: convert to f32 first")
