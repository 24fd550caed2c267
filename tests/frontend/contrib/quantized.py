"""Cases of onnxruntime's quantized elementwise operators, pools and joins."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from dlc.verify.tolerances import Work
from tests.frontend.contrib.cases import (
    Extent,
    Operand,
    Structure,
    counted,
    given,
    sizes,
    some,
    uniform,
    whole,
)

#: Zero points at the ends, near them and in the middle.
ZEROS: dict[Any, list[int]] = {np.uint8: [0, 1, 127, 128, 255], np.int8: [-128, -1, 0, 1, 127]}
BYTES = (np.uint8, np.int8)
EXACT = Work.EXACT


def structures() -> Iterator[Structure]:
    """All cases."""
    yield from _binary()
    yield from _unary()
    yield from _softmax()
    yield from _concat()
    yield from _where()
    yield from _pools()
    yield from _reduce()
    yield from _linear()


def parameters(
    dtype: Any, offset: int, low: float = 0.01, high: float = 0.1, constant: bool = False
) -> list[Operand]:
    """A scale and a zero point: number z + offset of those above at size z, of a constant number offset."""
    choice = ZEROS[dtype]
    if constant:
        return [Operand((), uniform(low, high), constant=True), given(some(choice, offset), dtype)]
    zero = counted((), lambda size: np.array(some(choice, size["z"] + offset), dtype))
    return [Operand((), uniform(low, high)), zero]


def _stored(shape: tuple[Extent, ...], dtype: Any) -> Operand:
    return Operand(shape, whole(dtype))


def _binary() -> Iterator[Structure]:
    lengths = sizes(n=[3, 1, 2, 4, 5], m=[5, 17, 64, 33, 40], z=[0, 1, 2, 3, 4])
    pairs: list[tuple[tuple[Extent, ...], tuple[Extent, ...]]] = [
        (("n", "m"), ("n", "m")),
        (("n", 3, "m"), ("m",)),
        ((1,), ("n", "m")),
        ((2, 1, "m"), ("n", 1)),
    ]
    for dtype, (index, (left, right)), constant in itertools.product(BYTES, enumerate(pairs), (False, True)):
        a, b = _stored(left, dtype), _stored(right, dtype)
        first, second = (parameters(dtype, index + place, constant=constant) for place in (0, 2))
        inputs = [a, *first, b, *second]
        kept = lengths[:2] if constant else lengths
        result = parameters(dtype, index + 1, constant=constant)
        yield Structure("QLinearAdd", [*inputs, *result], kept, EXACT)
        result = parameters(dtype, index + 1, 0.2, 2, constant)
        yield Structure("QLinearMul", [*inputs, *result], kept, EXACT)


def _unary() -> Iterator[Structure]:
    lengths = sizes(n=[1, 3, 2, 7, 5], m=[5, 40, 300, 1, 64], z=[0, 1, 2, 3, 4])
    for dtype, constant in itertools.product(BYTES, (False, True)):
        x = _stored(("n", "m"), dtype)
        source = parameters(dtype, 1, constant=constant)
        tight = [given(1 / 250, np.float32), given(np.iinfo(dtype).min, dtype)]
        yield Structure("QLinearSigmoid", [x, *source, *tight], lengths, EXACT, steps=1)
        result = parameters(dtype, 3, 0.003, 0.01, constant)
        yield Structure("QLinearSigmoid", [x, *source, *result], lengths, EXACT, steps=1)
        for alpha in (None, 0.3, 2.0):
            result = parameters(dtype, 2, constant=constant)
            operands = [x, *source, *result]
            yield Structure("QLinearLeakyRelu", operands, lengths[:3], EXACT, {"alpha": alpha})
    for op_type, function in (("QLinearSigmoid", "Sigmoid"), ("QLinearLeakyRelu", "LeakyRelu")):
        # Without a zero point of the result, which makes onnxruntime abort.
        x = _stored(("n", 3, "m"), np.uint8)
        operands = [x, *parameters(np.uint8, 0), Operand((), uniform(0.01, 0.1))]
        judge = f"r = DequantizeLinear (x0, x1, x2) f = {function} (r) y0 = QuantizeLinear (f, x3)"
        yield Structure(op_type, operands, lengths, EXACT, judge=judge, steps=1)


def _softmax() -> Iterator[Structure]:
    lengths = sizes(n=[2, 1], s=[6, 3], t=[9, 33], z=[1, 3])
    for index, (dtype, axis, opset) in enumerate(itertools.product(BYTES, (-1, 1, 2, None), (11, 13))):
        x = _stored(("n", "s", "t"), dtype)
        tight = [given(1 / 256, np.float32), given(np.iinfo(dtype).min, dtype)]
        scale = given(some([0.02, 0.2], index), np.float32)
        zero = given(some(ZEROS[dtype], index), dtype)
        attributes = {"axis": axis, "opset": opset}
        yield Structure("QLinearSoftmax", [x, scale, zero, *tight], lengths, EXACT, attributes, steps=1)


def _concat() -> Iterator[Structure]:
    lengths = sizes(n=[2, 1, 3], m=[4, 33, 1], z=[0, 1, 3])
    for index, (dtype, axis, constant) in enumerate(itertools.product(BYTES, (0, 1, -1), (False, True))):
        result = parameters(dtype, index, constant=constant)
        parts: list[Operand] = []
        for place in range(3):
            own = result if index % 3 == 2 else parameters(dtype, index + place, constant=constant)
            parts += [_stored(("n", 2, "m"), dtype), *own]
        yield Structure("QLinearConcat", [*result, *parts], lengths, EXACT, {"axis": axis})


def _where() -> Iterator[Structure]:
    lengths = sizes(n=[3, 1, 5], m=[4, 33, 16], z=[0, 2, 4])
    shapes: list[tuple[tuple[Extent, ...], tuple[Extent, ...]]] = [
        (("n", "m"), ("n", "m")),
        (("n", 1), ("m",)),
        ((), ("n", "m")),
        ((2, "n", "m"), (2, 1, 1)),
    ]
    for dtype, (index, (left, right)) in itertools.product(BYTES, enumerate(shapes)):
        condition = Operand(("n", "m"), lambda rng, shape: rng.random(shape) < 0.5)
        x, y = _stored(left, dtype), _stored(right, dtype)
        constants = [parameters(dtype, index + place, constant=True) for place in range(3)]
        operands = [condition, x, *constants[0], y, *constants[1], *constants[2]]
        yield Structure("QLinearWhere", operands, lengths, EXACT)


WINDOWS: list[dict[str, Any]] = [
    {"kernel_shape": [2, 2]},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER"},
]


def _pools() -> Iterator[Structure]:
    images = sizes(n=[2, 1, 1, 3, 2], h=[5, 9, 1, 6, 8], w=[7, 4, 1, 6, 5], z=[0, 1, 2, 3, 4])
    for dtype, last, channels in itertools.product(BYTES, (0, 1), (3, 20)):
        shape = ("n", "h", "w", channels) if last else ("n", channels, "h", "w")
        operands = [_stored(shape, dtype), *parameters(dtype, 0), *parameters(dtype, 2, 0.01, 0.05)]
        attributes = {"channels_last": last}
        yield Structure("QLinearGlobalAveragePool", operands, images, EXACT, attributes)
    for index, (dtype, last, window) in enumerate(itertools.product(BYTES, (0, 1), WINDOWS)):
        shape = ("n", "h", "w", 6) if last else ("n", 5, "h", "w")
        constant = index % 2 > 0
        source = parameters(dtype, index, constant=constant)
        result = parameters(dtype, index + 2, 0.01, 0.05, constant)
        # onnxruntime has no rounding up of extents in channels last.
        kept = [size for size in images if size["h"] > 2][: 2 + index % 2]
        attributes = {**window, "channels_last": last}
        operands = [_stored(shape, dtype), *source, *result]
        yield Structure("QLinearAveragePool", operands, kept, EXACT, attributes)


def _reduce() -> Iterator[Structure]:
    """The mean, of which onnxruntime has a description, but no code."""
    lengths = sizes(n=[2, 1, 3], s=[3, 5, 1], t=[4, 33, 8], z=[0, 1, 3])
    forms = itertools.product(BYTES, (0, 1), ([1], [0, -1], [-2, 2]))
    for index, (dtype, keepdims, axes) in enumerate(forms):
        source, result = parameters(dtype, index), parameters(dtype, index + 1)
        judge = f"""
            r = DequantizeLinear (x0, x1, x2)
            a = Constant <value_ints = {axes}> ()
            m = ReduceMean <keepdims = {keepdims}> (r, a)
            y0 = QuantizeLinear (m, x3, x4)"""
        attributes = {"axes": axes, "keepdims": keepdims}
        operands = [_stored(("n", "s", "t"), dtype), *source, *result]
        yield Structure("QLinearReduceMean", operands, lengths, EXACT, attributes, judge=judge, steps=1)


def _linear() -> Iterator[Structure]:
    """QuantizeLinear and DequantizeLinear, of one scale and of one a channel."""
    lengths = sizes(n=[1, 3, 5], m=[40, 7, 1])
    dtypes: Sequence[Any] = (np.uint8, np.int8, np.uint16, np.int16)
    for index, (dtype, axis) in enumerate(itertools.product(dtypes, (None, 0, 1, -1))):
        shape: tuple[Extent, ...] = {None: ("n", 4, "m"), 0: (4, "n", "m"), 1: ("n", 4, "m")}.get(
            axis, ("n", "m", 4)
        )
        vector = () if axis is None else (4,)
        constant = index % 3 > 0
        scale = Operand(vector, uniform(0.5, 2), constant)
        zero = Operand(vector, whole(dtype, 0, 100), constant)
        if axis is None:
            zero = given(some([0, 1, 127], index // 4), dtype)
        x = Operand(shape, uniform(-300, 300))
        attributes = {"axis": axis}
        yield Structure("QuantizeLinear", [x, scale, zero], lengths, EXACT, attributes)
        operands = [_stored(shape, dtype), scale, zero]
        yield Structure("DequantizeLinear", operands, lengths, attributes=attributes)
    x = Operand(("n", "m"), uniform(-3, 300))
    yield Structure("QuantizeLinear", [x, given(2, np.float32)], lengths, EXACT)
    half = Operand(("n", "m"), uniform(-300, 300, np.float16)), given(2, np.float16), given(3, np.int8)
    yield Structure("QuantizeLinear", half, lengths, EXACT)
    yield Structure("DequantizeLinear", [_stored(("n", "m"), np.int8), *half[1:]], lengths)
    sums = Operand(("n", "m"), whole(np.int32, -(10**6), 10**6))
    yield Structure("DequantizeLinear", [sums, given(0.01, np.float32)], lengths)
    for nibble, low in ((ml_dtypes.int4, -8), (ml_dtypes.uint4, 0)):
        stored = given(np.arange(low, low + 16).reshape(2, 8), nibble)
        yield Structure("DequantizeLinear", [stored, Operand((), uniform(0.1, 2)), given(3, nibble)])
