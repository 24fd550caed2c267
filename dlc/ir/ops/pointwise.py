"""Operators that compute each output element from the operands' elements at the same (broadcast) position."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from dlc.ir.dtypes import DType
from dlc.ir.operator import Array, EvaluateDim, InferenceError, Operator, OperatorClass
from dlc.ir.ops import scalar
from dlc.ir.ops.common import (
    FLOATS,
    INTEGERS,
    NUMBERS,
    SMALL_FLOATS,
    broadcast_shapes,
    given,
    require_dtype,
    same_dtype,
    take,
)
from dlc.ir.ops.conversion import convert
from dlc.ir.types import TensorType, Type

_BOOL = frozenset({DType.BOOL})
_UNARY_OPERANDS = {
    **dict.fromkeys(("abs", "neg", "sign", "relu"), NUMBERS),
    "not": _BOOL,
    "bitwise_not": INTEGERS,
    "is_nan": FLOATS | SMALL_FLOATS,
}
_BINARY_OPERANDS = {
    **dict.fromkeys(("and", "or", "xor"), _BOOL),
    **dict.fromkeys(("bitwise_and", "bitwise_or", "bitwise_xor", "shift_left", "shift_right"), INTEGERS),
}
_BINARY = frozenset({"add", "sub", "mul", "div", "pow", "mod", "fmod", "max", "min", "and", "or", "xor",
                     "bitwise_and", "bitwise_or", "bitwise_xor", "shift_left", "shift_right", "prelu"})
_ACTIVATIONS = frozenset({"leaky_relu", "elu", "selu", "celu", "hard_sigmoid", "thresholded_relu", "swish",
                          "shrink"})
_COMPARISONS = {"eq": np.equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal}


@dataclasses.dataclass(frozen=True)
class Pointwise(Operator):
    """Base of the operators of this file."""

    kind: ClassVar[OperatorClass] = OperatorClass.POINTWISE


@dataclasses.dataclass(frozen=True)
class Unary(Pointwise):
    """A function of one element; `dlc.ir.ops.scalar.UNARY` lists the names and defines each.

    abs, neg, sign and relu take all numbers (integers wrap), not takes bool, bitwise_not integers, is_nan
    floats of any width (it gives bool), the others f64, f32, f16 and bf16.
    """

    fn: str

    def __post_init__(self) -> None:
        if self.fn not in scalar.UNARY:
            raise ValueError(f"there is no unary function {self.fn!r}")

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (x,), _ = take(inputs, 1)
        require_dtype(x, _UNARY_OPERANDS.get(self.fn, FLOATS), f"the operand of {self.fn}")
        return (TensorType(DType.BOOL if self.fn == "is_nan" else x.dtype, x.shape),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        return (scalar.unary(self.fn, given(inputs[0])),)


@dataclasses.dataclass(frozen=True)
class IsInf(Pointwise):
    """Whether an element of a float tensor is +inf (counted when `positive`) or -inf (when `negative`)."""

    positive: bool = True
    negative: bool = True

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (x,), _ = take(inputs, 1)
        require_dtype(x, FLOATS | SMALL_FLOATS, "the operand")
        return (TensorType(DType.BOOL, x.shape),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x = given(inputs[0]).astype(np.float64)
        return (np.asarray(((x == np.inf) & self.positive) | ((x == -np.inf) & self.negative)),)


@dataclasses.dataclass(frozen=True)
class Activation(Pointwise):
    """A function of one float element with parameters.

    leaky_relu(alpha) elu(alpha) selu(alpha, beta = gamma) celu(alpha) hard_sigmoid(alpha, beta)
    thresholded_relu(alpha) swish(alpha) shrink(alpha = bias, beta = lambd; integers too).
    """

    fn: str
    alpha: float = 0.0
    beta: float = 0.0

    def __post_init__(self) -> None:
        if self.fn not in _ACTIVATIONS:
            raise ValueError(f"there is no activation {self.fn!r}")

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (x,), _ = take(inputs, 1)
        require_dtype(x, NUMBERS if self.fn == "shrink" else FLOATS, f"the operand of {self.fn}")
        return (TensorType(x.dtype, x.shape),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        return (scalar.activation(self.fn, given(inputs[0]), self.alpha, self.beta),)


@dataclasses.dataclass(frozen=True)
class Binary(Pointwise):
    """A function of two elements with broadcasting; both operands and the result share one element type.

    Numbers: add sub mul (integers wrap), div (integers truncate toward zero; x / 0 = 0), mod (sign of the
    divisor) and fmod (sign of the dividend; x mod 0 = 0 for integers), max and min (NaN propagates), pow (the
    exponent may be of another type), prelu(x, slope). Bool: and or xor. Integers: bitwise_and bitwise_or
    bitwise_xor, shift_left and shift_right (arithmetic for signed types; an amount outside [0, bits) shifts
    everything out).
    """

    fn: str

    def __post_init__(self) -> None:
        if self.fn not in _BINARY:
            raise ValueError(f"there is no binary function {self.fn!r}")

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (left, right), _ = take(inputs, 2)
        allowed = _BINARY_OPERANDS.get(self.fn, NUMBERS)
        require_dtype(left, allowed, f"the left operand of {self.fn}")
        require_dtype(right, allowed, f"the right operand of {self.fn}")
        if self.fn != "pow":
            same_dtype((left, right), f"the operands of {self.fn}")
        return (TensorType(left.dtype, broadcast_shapes(left.shape, right.shape)),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        return (scalar.binary(self.fn, given(inputs[0]), given(inputs[1])),)


@dataclasses.dataclass(frozen=True)
class Compare(Pointwise):
    """eq, lt, le, gt or ge of two elements of one type, with broadcasting, as bool; false for NaN."""

    fn: str

    def __post_init__(self) -> None:
        if self.fn not in _COMPARISONS:
            raise ValueError(f"there is no comparison {self.fn!r}")

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (left, right), _ = take(inputs, 2)
        same_dtype((left, right), f"the operands of {self.fn}")
        if self.fn != "eq":
            require_dtype(left, NUMBERS, f"the operands of {self.fn}")
        return (TensorType(DType.BOOL, broadcast_shapes(left.shape, right.shape)),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        left, right = given(inputs[0]), given(inputs[1])
        with np.errstate(invalid="ignore"):
            return (np.asarray(_COMPARISONS[self.fn](left, right)).astype(np.bool_),)


@dataclasses.dataclass(frozen=True)
class Clip(Pointwise):
    """min(max(x, low), high) with constant bounds; None: no bound. NaN stays; low > high gives high."""

    low: float | int | None = None
    high: float | int | None = None

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (x,), _ = take(inputs, 1)
        require_dtype(x, NUMBERS, "the operand")
        return (TensorType(x.dtype, x.shape),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x = given(inputs[0])
        if self.low is not None:
            x = scalar.binary("max", x, np.asarray(self.low).astype(x.dtype))
        if self.high is not None:
            x = scalar.binary("min", x, np.asarray(self.high).astype(x.dtype))
        return (x,)


@dataclasses.dataclass(frozen=True)
class Where(Pointwise):
    """x where a bool condition holds, else y, all three broadcast; x and y are of one type, any."""

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (condition, x, y), _ = take(inputs, 3)
        require_dtype(condition, _BOOL, "the condition")
        dtype = same_dtype((x, y), "the choices")
        return (TensorType(dtype, broadcast_shapes(condition.shape, x.shape, y.shape)),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        condition, x, y = (given(operand) for operand in inputs)
        return (np.asarray(np.where(condition, x, y)),)


@dataclasses.dataclass(frozen=True)
class Cast(Pointwise):
    """Conversion of every element to the type `to`: see `dlc.ir.ops.conversion.convert`.

    Complex numbers convert to bool only: whether they are not 0. `saturate` concerns the 8-bit floats only,
    `round_mode` f8e8m0 only.
    """

    to: DType
    saturate: bool = True
    round_mode: str = "up"

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (x,), _ = take(inputs, 1)
        complex_types = {DType.C64, DType.C128}
        if self.to not in (x.dtype, DType.BOOL) and complex_types & {x.dtype, self.to}:
            raise InferenceError(f"{x.dtype.text} cannot be converted to {self.to.text}")
        return (TensorType(self.to, x.shape),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        return (convert(given(inputs[0]), self.to, self.saturate, self.round_mode),)


@dataclasses.dataclass(frozen=True)
class BitCast(Pointwise):
    """The same bits read as the type `to` of equal width; there is no arithmetic."""

    to: DType

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (x,), _ = take(inputs, 1)
        if DType.STRING in (x.dtype, self.to) or x.dtype.bits != self.to.bits:
            raise InferenceError(f"the bits of {x.dtype.text} cannot be read as {self.to.text}")
        return (TensorType(self.to, x.shape),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x = np.ascontiguousarray(given(inputs[0]))
        return (scalar.bit_cast(x, self.to).reshape(given(inputs[0]).shape),)
