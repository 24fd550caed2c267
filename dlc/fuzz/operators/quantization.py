"""Quantization and its inverse."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc.fuzz.maker import F32, I8, I16, I32, STORED, U8, U16, Maker
from dlc.fuzz.table import operator


@operator("QuantizeLinear", since=10)
def quantize(m: Maker, op: str) -> None:
    """Of exact values by a power of two, so that every rounding is decided."""
    x = m.pick((F32,), (1, 2, 3, 4), exact=True)
    along = m.opset >= 13 and m.chance.maybe(0.4)
    axis = m.axis(x) if along else 0
    shape = (x.shape[axis],) if along else ()
    scale = m.constant(2.0 ** m.chance.arrays.integers(-4, 1, shape), F32)
    zero = m.fresh(m.chance.one_of([U8, I8]), shape) if m.chance.maybe(0.7) else None
    m.add(op, [x, scale, zero], rounds=False, attributes={"axis": axis} if along else {})


@operator("QuantizeLinear", variant="stored", since=21)
def quantize_there_and_back(m: Maker, op: str) -> None:
    """Through a type that nothing else takes, of the whole tensor, along an axis or in blocks."""
    x = m.pick((F32,), (1, 2, 3), exact=True, fits=lambda t: 0 not in t.shape)
    stored = m.chance.one_of([U16, I16, *STORED])
    attributes: dict[str, Any] = {}
    shape: tuple[int, ...] = ()
    axis = m.axis(x)
    if m.chance.maybe(0.6):
        attributes["axis"] = axis
        shape = (x.shape[axis],)
        if m.chance.maybe(0.6):
            block = m.chance.between(1, x.shape[axis])
            attributes["block_size"] = block
            shape = tuple(-(-e // block) if a == axis % x.rank else e for a, e in enumerate(x.shape))
    scale = m.constant(2.0 ** m.chance.arrays.integers(-3, 2, shape), F32)
    zero = m.constant(np.zeros(shape), stored)
    (small,) = m.add("QuantizeLinear", [x, scale, zero], rounds=False, attributes=attributes, largest=1e9)
    m.add("DequantizeLinear", [small, scale, zero], rounds=False, attributes=attributes)


@operator("DequantizeLinear", since=10)
def dequantize(m: Maker, op: str) -> None:
    x = m.pick((U8, I8, I32), (1, 2, 3, 4))
    along = m.opset >= 13 and m.chance.maybe(0.4)
    axis = m.axis(x) if along else 0
    shape = (x.shape[axis],) if along else ()
    scale = m.constant(2.0 ** m.chance.arrays.integers(-6, 1, shape), F32)
    zero = m.fresh(x.dtype, shape) if x.dtype != I32 and m.chance.maybe(0.7) else None
    m.add(op, [x, scale, zero], attributes={"axis": axis} if along else {})


@operator("DynamicQuantizeLinear", weight=0.5, since=11)
def dynamic_quantize(m: Maker, op: str) -> None:
    """Of values that span 255 / 64, so that the scale is exact."""
    x = m.chance.arrays.integers(-64, 128, m.chance.shape(m.chance.between(1, 3))) / 64
    flat = x.reshape(-1)
    if flat.size >= 2:
        flat[0], flat[1] = -1.0, 255 / 64 - 1.0
        m.add(op, [m.constant(x, F32)], outputs=3, rounds=False)


@operator("QLinearMatMul", weight=0.5, since=10)
def quantized_matmul(m: Maker, op: str) -> None:
    """With products of scales that are powers of two, so that only ties need a rule."""
    a = m.pick((U8, I8), (2, 3))
    b = m.fresh(m.chance.one_of([U8, I8]), (a.shape[-1], m.chance.extent()))

    def scale(low: int, high: int) -> object:
        return m.constant(2.0 ** m.chance.between(low, high), F32)

    quantities = [scale(-4, -2), m.fresh(a.dtype, ()), b, scale(-4, -2), m.fresh(b.dtype, ())]
    output = m.chance.one_of([U8, I8])
    zero = m.constant(2 * m.chance.between(0, 10), output)  # even: ties are rounded with it or without
    m.add(op, [a, *quantities, scale(0, 3), zero], rounds=False)  # type: ignore[list-item]


@operator("ConvInteger", weight=0.5, since=10)
def integer_convolution(m: Maker, op: str) -> None:
    x = m.pick((U8,), (4,), fits=lambda t: 0 not in t.shape)
    kernel = [m.chance.between(1, min(3, extent)) for extent in x.shape[2:]]
    w = m.fresh(U8, (m.chance.between(1, 3), x.shape[1], *kernel))
    zeros = [m.fresh(U8, ()) if m.chance.maybe(0.5) else None for _ in range(2)]
    pads = [m.chance.between(0, 1) for _ in range(4)]
    m.add(op, [x, w, *zeros], rounds=False, largest=1e9, attributes={"pads": pads})
