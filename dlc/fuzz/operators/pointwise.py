"""Operators that work element by element."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc.fuzz.maker import ALL, BOOL, F16, F64, FLOATS, INTEGERS, NUMBERS, Maker, Tensor
from dlc.fuzz.sampling import ANY, Domain
from dlc.fuzz.table import operator

#: Where a function is defined and does not amplify rounding.
_DOMAINS = {
    "Exp": Domain(-8, 5),
    "Log": Domain(0.25, 1e4),
    "Sqrt": Domain(0.25, 1e4),
    "Reciprocal": Domain(-1e3, 1e3, gap=0.25),
    "Tan": Domain(-1, 1),
    "Asin": Domain(-0.75, 0.75),
    "Acos": Domain(-0.75, 0.75),
    "Atanh": Domain(-0.75, 0.75),
    "Acosh": Domain(1.25, 100),
    "Sinh": Domain(-4, 4),
    "Cosh": Domain(-4, 4),
    "Sin": Domain(-100, 100),
    "Cos": Domain(-100, 100),
}


def _operand(m: Maker, op: str, **how: Any) -> Tensor:
    """A first operand of a type that the operator takes."""
    return m.pick(m.types(op), range(6), **how)


@operator(
    "Exp Log Sqrt Reciprocal Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Tanh Sigmoid Erf "
    "Softplus Softsign Mish HardSwish Selu"
)
def function(m: Maker, op: str) -> None:
    m.add(op, [m.pick(_types(m, op), range(6), domain=_DOMAINS.get(op, ANY))])


#: Their definitions hold constants of float32, and so do other engines, in float64 too.
_SINGLE_PRECISION = ("HardSwish", "Gelu", "Selu", "Elu", "Celu", "HardSigmoid", "LeakyRelu", "Swish", "Mish")


def _types(m: Maker, op: str) -> frozenset[Any]:
    return m.types(op) - {F64} if op in _SINGLE_PRECISION else m.types(op)


@operator("Abs Neg Relu Identity", weight=2)
def exact_function(m: Maker, op: str) -> None:
    m.add(op, [_operand(m, op)], rounds=False)


@operator("Sign Floor Ceil Round IsNaN IsInf Not BitwiseNot")
def step_function(m: Maker, op: str) -> None:
    m.add(op, [_operand(m, op, exact=True)], rounds=False)


@operator("Elu Celu LeakyRelu ThresholdedRelu HardSigmoid Shrink Gelu Swish")
def function_with_attributes(m: Maker, op: str) -> None:
    choices: dict[str, dict[str, Any]] = {
        "Elu": {"alpha": 0.5},
        "Celu": {"alpha": 2.0},
        "LeakyRelu": {"alpha": 0.125},
        "ThresholdedRelu": {"alpha": 0.75},
        "HardSigmoid": {"alpha": 0.25, "beta": 0.375},
        "Shrink": {"lambd": 0.75, "bias": 0.5},
        "Gelu": {"approximate": "tanh"},
        "Swish": {"alpha": 1.5},
    }
    attributes = choices[op] if m.chance.maybe(0.6) else {}
    x = m.pick(_types(m, op), range(6), exact=op in ("ThresholdedRelu", "Shrink"))
    m.add(op, [x], attributes=attributes)


@operator("Add Sub Mul", weight=3)
def arithmetic(m: Maker, op: str) -> None:
    a = _operand(m, op)
    pair = [a, m.partner(a)]
    m.add(op, m.chance.shuffled(pair), rounds=op == "Mul" or not all(t.exact for t in pair) or a.dtype == F16)


@operator("Div")
def division(m: Maker, op: str) -> None:
    a = _operand(m, op)
    gap = 0.25 if a.dtype in FLOATS else 1
    m.add(op, [a, m.partner(a, domain=Domain(-100, 100, gap=gap))])


@operator("Pow")
def power(m: Maker, op: str) -> None:
    base = m.pick(m.types(op), range(5), Domain(0.25, 8))
    exponents = frozenset({base.dtype}) if m.opset < 12 else m.types(op, 1)
    m.add(op, [base, m.partner(base, exponents, Domain(0, 3))])


@operator("Mod")
def modulo(m: Maker, op: str) -> None:
    a = m.pick(m.types(op), range(5), exact=True)
    b = m.partner(a, domain=Domain(-100, 100, gap=1))
    if not b.exact:
        b = m.fresh(a.dtype, b.shape, Domain(-100, 100, gap=1))
    fmod = int(a.dtype in FLOATS or m.chance.maybe(0.3))
    m.add(op, [a, b], rounds=False, attributes={"fmod": fmod})


@operator("Min Max Sum Mean")
def variadic(m: Maker, op: str) -> None:
    first = _operand(m, op)
    count = m.chance.between(0, 2)
    if m.opset < 8:  # which does not broadcast them; the reference does
        others = [m.pick((first.dtype,), shape=first.shape) for _ in range(count)]
        m.add(op, [first, *others], rounds=op in ("Sum", "Mean"))
        return
    operands = [first, *(m.partner(first) for _ in range(count))]
    shape: tuple[int, ...] = ()
    try:
        shape = np.broadcast_shapes(*(t.shape for t in operands))
    except ValueError:
        operands = operands[:2]
    if int(np.prod(shape)) <= 4096:
        m.add(op, m.chance.shuffled(operands), rounds=op in ("Sum", "Mean"))


@operator("Equal Less Greater LessOrEqual GreaterOrEqual")
def comparison(m: Maker, op: str) -> None:
    a = _operand(m, op, exact=True)
    b = m.partner(a)
    if not b.exact:
        b = m.fresh(a.dtype, b.shape)
    m.add(op, [a, b], rounds=False)


@operator("And Or Xor BitwiseAnd BitwiseOr BitwiseXor")
def bits(m: Maker, op: str) -> None:
    a = _operand(m, op)
    m.add(op, [a, m.partner(a)], rounds=False)


@operator("BitShift")
def shift(m: Maker, op: str) -> None:
    a = _operand(m, op)
    b = m.partner(a, domain=Domain(0, 7))
    m.add(op, [a, b], attributes={"direction": m.chance.one_of(["LEFT", "RIGHT"])})


@operator("Clip", weight=2)
def clip(m: Maker, op: str) -> None:
    x = _operand(m, op)
    low, high = sorted(float(m.chance.between(-4, 6)) for _ in range(2))
    if x.dtype.kind == "u":
        low, high = abs(low), abs(low) + high % 7
    if m.opset < 11:
        m.add(op, [x], rounds=False, attributes={"min": low, "max": high})
        return
    bounds = [m.constant(bound, x.dtype) if m.chance.maybe(0.8) else None for bound in (low, high)]
    m.add(op, [x, *bounds], rounds=False)


@operator("PRelu")
def parametric_relu(m: Maker, op: str) -> None:
    x = m.pick(m.types(op), range(1, 5))
    shape = [1 if m.chance.maybe(0.4) else extent for extent in x.shape]
    shape = shape[m.chance.between(0, len(shape)) :]
    m.add(op, [x, m.fresh(x.dtype, shape)])


@operator("Where", weight=2, since=9)
def where(m: Maker, op: str) -> None:
    x = m.pick(ALL, range(5))
    y = m.partner(x)
    m.add(op, [m.partner(x, (BOOL,)), x, y], rounds=False)


@operator("Cast", weight=2)
def cast(m: Maker, op: str) -> None:
    from onnx import helper

    x = m.pick(ALL, range(6), exact=True)
    to = m.dtype_of(m.types(op))
    if to in INTEGERS and x.dtype in NUMBERS:  # out of range is undefined
        x = m.pick(ALL, range(6), Domain(0 if to.kind == "u" else -100, 100), exact=True)
    m.add(op, [x], rounds=to in FLOATS, attributes={"to": helper.np_dtype_to_tensor_dtype(to)})


@operator("CastLike")
def cast_like(m: Maker, op: str) -> None:
    x = m.pick(FLOATS, range(5))
    m.add(op, [x, m.pick(FLOATS, range(3))])
