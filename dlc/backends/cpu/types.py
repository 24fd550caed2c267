"""Types and values of the LLVM text builder."""
from __future__ import annotations

import enum
import functools
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dlc.errors import InternalError

if TYPE_CHECKING:
    from dlc.backends.cpu.llvm.emitter import Scope

#: Wider vectors keep LLVM busy for minutes (one instruction is split into hundreds); 64 lanes are one zmm
#: of bytes.
MAX_LANES = 64


class TypeClass(enum.Enum):
    """What the bits of a type mean."""

    INTEGER = "integer"
    FLOAT = "float"
    POINTER = "pointer"
    VOID = "void"


@dataclass(frozen=True)
class IRType:
    """An LLVM type: a scalar (`lanes` 1) or a vector of them. `text` is LLVM's spelling, `bits` those of
    one lane.
    """

    text: str
    cls: TypeClass
    bits: int
    lanes: int = 1

    def __str__(self) -> str:
        return self.text

    @property
    def is_vector(self) -> bool:
        return self.lanes > 1

    @property
    def is_float(self) -> bool:
        return self.cls is TypeClass.FLOAT

    @property
    def is_integer(self) -> bool:
        return self.cls is TypeClass.INTEGER

    @property
    def is_pointer(self) -> bool:
        return self.cls is TypeClass.POINTER

    @property
    def element(self) -> IRType:
        """The type of one lane."""
        return self if self.lanes == 1 else _SCALARS[self.cls, self.bits, "i16" in self.text]

    @property
    def bytes(self) -> int:
        """Bytes of the value in memory."""
        return self.bits * self.lanes // 8

    @property
    def suffix(self) -> str:
        """How the type is spelled in the name of an overloaded intrinsic: v16f32, i64, p0."""
        prefix = {TypeClass.INTEGER: "i", TypeClass.FLOAT: "f", TypeClass.POINTER: "p"}[self.cls]
        if "i16" in self.text:
            prefix = "i"
        number = 0 if self.is_pointer else self.bits
        return f"v{self.lanes}{prefix}{number}" if self.is_vector else f"{prefix}{number}"

    def with_lanes(self, lanes: int) -> IRType:
        """The same element in `lanes` lanes (1: the scalar)."""
        return self.element if lanes == 1 else vector(lanes, self.element)

    def with_element(self, element: IRType) -> IRType:
        """Another element in the same number of lanes."""
        return element if self.lanes == 1 else vector(self.lanes, element)


i1 = IRType("i1", TypeClass.INTEGER, 1)
i8 = IRType("i8", TypeClass.INTEGER, 8)
i16 = IRType("i16", TypeClass.INTEGER, 16)
i32 = IRType("i32", TypeClass.INTEGER, 32)
i64 = IRType("i64", TypeClass.INTEGER, 64)
#: Only moved: the bits of a complex number of two f64.
i128 = IRType("i128", TypeClass.INTEGER, 128)
f16 = IRType("half", TypeClass.FLOAT, 16)
#: To LLVM an integer: where the instruction set has no bf16, it would convert every element that crosses a
#: block to f32 and back by a library call. Arithmetic goes by f32 anyway (:mod:`semantics`).
bf16 = IRType("i16", TypeClass.FLOAT, 16)
f32 = IRType("float", TypeClass.FLOAT, 32)
f64 = IRType("double", TypeClass.FLOAT, 64)
ptr = IRType("ptr", TypeClass.POINTER, 64)
void = IRType("void", TypeClass.VOID, 0)

_ALL = (i1, i8, i16, i32, i64, i128, f16, bf16, f32, f64, ptr)
_SCALARS = {(t.cls, t.bits, "i16" in t.text): t for t in _ALL}
_INTEGERS = {t.bits: t for t in (i1, i8, i16, i32, i64)}


def integer(bits: int) -> IRType:
    """The integer type of `bits` bits: 1, 8, 16, 32 or 64."""
    return _INTEGERS[bits]


@functools.cache
def vector(lanes: int, element: IRType) -> IRType:
    """`lanes` x `element`; 2 to MAX_LANES lanes of a scalar type."""
    if element.is_vector or element.cls is TypeClass.VOID or not 2 <= lanes <= MAX_LANES:
        raise InternalError(f"no vector of {lanes} x {element}: between 2 and {MAX_LANES} lanes of a scalar")
    return IRType(f"<{lanes} x {element.text}>", element.cls, element.bits, lanes)


@dataclass(frozen=True, eq=False)
class Value:
    """An SSA value or a constant.

    `ref` is its LLVM spelling without the type; `scope` the region that defines it (None: a constant or
    parameter, available everywhere); `constant` its Python number where it is known (for a vector: that of
    every lane).
    """

    __slots__ = ("constant", "ref", "scope", "type")

    type: IRType
    ref: str
    scope: Scope | None
    constant: int | float | None

    def __str__(self) -> str:
        return f"{self.type} {self.ref}"


#: An operand of integer arithmetic; a Python integer stands for a constant of the other operand's type, or
#: i64.
Index = Value | int
#: What an operation takes: a value, or a number that is converted to the type of the other operands.
Operand = Value | int | float


def constant(type: IRType, number: int | float) -> Value:
    """The constant `number` of `type`; in every lane of a vector.

    Integers are taken modulo 2**bits (a constant's `constant` is the signed value, for i1 0 or 1); floats
    are rounded to nearest even.
    """
    element = type.element
    match element.cls:
        case TypeClass.INTEGER:
            if isinstance(number, float):
                raise InternalError(f"the float {number} is no constant of type {type}")
            number = wrap(int(number), element.bits)
            text = str(number)
        case TypeClass.FLOAT:
            number = _round(element, float(number))
            text = _float_text(element, number)
        case TypeClass.POINTER if number == 0:
            text = "null"
        case _:
            raise InternalError(f"no constant {number} of type {type}")
    if not type.is_vector:
        return Value(type, text, None, number)
    if text in ("0", "null"):
        return Value(type, "zeroinitializer", None, number)
    return Value(type, f"splat ({element} {text})", None, number)


def vector_constant(element: IRType, numbers: list[int] | list[float] | tuple[int, ...]) -> Value:
    """A constant vector with one number a lane."""
    lanes = ", ".join(str(constant(element, number)) for number in numbers)
    return Value(vector(len(numbers), element), f"<{lanes}>", None, None)


def only_lane(mask: Value) -> int | None:
    """The one lane that a constant mask of i1 sets; None for other masks."""
    if mask.scope is not None or not mask.ref.startswith("<"):
        return None
    bits = [text.split()[-1] for text in mask.ref.strip("<>").split(",")]
    lanes = [lane for lane, bit in enumerate(bits) if bit in ("1", "true")]
    return lanes[0] if len(lanes) == 1 else None


def wrap(number: int, bits: int) -> int:
    """`number` modulo 2**bits as a signed integer; for one bit 0 or 1."""
    number &= (1 << bits) - 1
    return number if bits == 1 or number < 1 << (bits - 1) else number - (1 << bits)


def _round(type: IRType, number: float) -> float:
    if type is f64 or not math.isfinite(number):
        return number
    if type is bf16:
        import ml_dtypes

        return float(np.asarray(number, ml_dtypes.bfloat16))
    with np.errstate(over="ignore"):
        return float(np.float32(number) if type is f32 else np.float16(number))


def _float_text(type: IRType, number: float) -> str:
    """LLVM's exact spelling: 64-bit patterns for float and double, 0xH and 16 bits for half;
    bf16 is an integer.
    """
    if type in (f32, f64):
        return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"
    if type is f16:
        return f"0xH{struct.unpack('<H', struct.pack('<e', number))[0]:04X}"
    return str(wrap(struct.unpack("<I", struct.pack("<f", number))[0] >> 16, 16))
