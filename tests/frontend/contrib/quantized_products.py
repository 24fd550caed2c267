"""Cases of onnxruntime's products of quantized operands, with weights in blocks, and its quantized LSTM."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

from dlc.verify.tolerances import Work
from tests.frontend.contrib.cases import (
    Array,
    Extent,
    Operand,
    Structure,
    given,
    normal,
    sizes,
    some,
    uniform,
    whole,
)
from tests.frontend.contrib.quantized import BYTES, ZEROS

PAIRS = [(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)]


def structures() -> Iterator[Structure]:
    """All cases."""
    yield from _integer_to_float()
    yield from _dynamic()
    yield from _gemm()
    yield from _conv()
    yield from _few_bits()
    yield from _tables()
    yield from _lstm()


def _integer_to_float() -> Iterator[Structure]:
    lengths = sizes(n=[1, 2, 3], m=[5, 1, 17])
    pairs = enumerate(itertools.product(PAIRS, (False, True), (0, 1)))
    for index, ((left, right), columns, batch) in pairs:
        a = Operand(("n",) * batch + ("m", 24), whole(left))
        b = Operand((24, 17), whole(right), constant=index % 4 > 0)
        vector = (17,) if columns else ()
        scales = [given(0.02, np.float32), Operand(vector, uniform(0.01, 0.02), constant=index % 2 > 0)]
        zeros: list[Operand | None] = [
            given(some(ZEROS[left], index), left),
            Operand(vector, whole(right), constant=index % 2 > 0),
        ]
        bias = Operand((17,), normal(), constant=True)
        more = some([zeros, [*zeros, bias], [None, None, bias], [], zeros[:1]], index)
        yield Structure("MatMulIntegerToFloat", [a, b, *scales, *more], lengths, Work.CONTRACTION)


def _dynamic() -> Iterator[Structure]:
    lengths = sizes(n=[1, 2, 3], m=[5, 1, 17])
    for index, (dtype, columns, batch) in enumerate(itertools.product(BYTES, (False, True), (0, 1))):
        a = Operand(("n",) * batch + ("m", 24), normal())
        b = Operand((24, 17), whole(dtype), constant=index % 4 > 0)
        vector = (17,) if columns else ()
        scale = Operand(vector, uniform(0.01, 0.02), constant=index % 2 > 0)
        zero = Operand(vector, whole(dtype), constant=index % 2 > 0)
        bias = Operand((17,), normal(), constant=True)
        more = some([[zero], [zero, bias], [None, bias], []], index)
        yield Structure("DynamicQuantizeMatMul", [a, b, scale, *more], lengths, Work.CONTRACTION)


def _gemm() -> Iterator[Structure]:
    lengths = sizes(m=[6, 1, 33])
    pairs = enumerate(itertools.product(PAIRS, (False, True), (False, True)))
    for index, ((left, right), columns, stored) in pairs:
        trans_a, trans_b = some([0, 1, 0], index), some([0, 1], index)
        a = Operand((24, "m") if trans_a else ("m", 24), whole(left))
        b = Operand((17, 24) if trans_b else (24, 17), whole(right), constant=index % 4 > 0)
        vector = (17,) if columns else ()
        operands: list[Operand | None] = [
            *(a, given(0.03, np.float32), given(some(ZEROS[left], index), left)),
            *(b, Operand(vector, uniform(0.01, 0.02), True), Operand(vector, whole(right), True)),
            Operand((17,), whole(np.int32, -1000, 1000), True) if index % 3 else None,
        ]
        if stored:
            operands += [given(1.5, np.float32), given(some(ZEROS[left], index + 2), left)]
        attributes = {"transA": trans_a, "transB": trans_b, "alpha": some([None, 0.5, 1.0], index)}
        work = Work.EXACT if stored else Work.CONTRACTION
        yield Structure("QGemm", operands, lengths, work, attributes, steps=1)


def _conv() -> Iterator[Structure]:
    images = sizes(n=[2, 1], h=[6, 9], w=[7, 5])
    windows: list[dict[str, Any]] = [{}, {"pads": [1, 1, 1, 1], "strides": [2, 1]}, {"group": 2}]
    for index, (last, columns, window) in enumerate(itertools.product((0, 1), (False, True), windows)):
        x = Operand(("n", "h", "w", 4) if last else ("n", 4, "h", "w"), whole(np.uint8))
        w = Operand((6, 4 // window.get("group", 1), 3, 3), whole(np.int8), constant=True)
        vector = (6,) if columns else ()
        operands = [
            *(x, given(0.02, np.float32), given(some(ZEROS[np.uint8], index), np.uint8)),
            *(w, Operand(vector, uniform(0.01, 0.02), True), given(np.zeros(vector), np.int8)),
            *(given(3, np.float32), given(some(ZEROS[np.uint8], index + 2), np.uint8)),
            Operand((6,), whole(np.int32, -500, 500), True) if index % 2 else None,
        ]
        attributes = {**window, "channels_last": last}
        yield Structure("QLinearConv", operands, images, Work.EXACT, attributes, steps=1)


def pack(numbers: Array, bits: int) -> Array:
    """Numbers along the last axis packed into bytes, lowest bits first."""
    per_byte = 8 // bits
    padding = -numbers.shape[-1] % per_byte
    numbers = np.pad(numbers, [(0, 0)] * (numbers.ndim - 1) + [(0, padding)])
    parts = numbers.reshape(*numbers.shape[:-1], -1, per_byte).astype(np.uint32)
    return np.asarray((parts << (np.arange(per_byte) * bits)).sum(-1).astype(np.uint8))


def _packed(shape: tuple[int, ...], bits: int) -> Operand:
    """Bytes that hold random numbers of few bits."""
    packed_shape = pack(np.zeros(shape, np.uint8), bits).shape

    def draw(rng: np.random.Generator, _: tuple[int, ...]) -> Array:
        return pack(rng.integers(0, 1 << bits, shape), bits)

    return Operand(packed_shape, draw, constant=True)


def _few_bits() -> Iterator[Structure]:
    lengths = sizes(n=[1, 2, 3], m=[3, 1, 17])
    forms = itertools.product((2, 4, 8), ((32, 16), (40, 16), (128, 64)))
    for index, (bits, (columns, block)) in enumerate(forms):
        blocks = -(-columns // block)
        a = Operand(("n", "m", columns), normal())
        scale = Operand((9, blocks) if index % 2 else (9 * blocks,), uniform(0.01, 0.1), constant=True)
        zero = some([None, _packed((9, blocks), bits), Operand((9, blocks), uniform(0, 3), True)], index // 2)
        order = given(np.arange(columns)[::-1] // block, np.int32) if bits == 4 and index % 2 else None
        if order is not None or (bits == 8 and index // 2 % 3 == 2):
            # onnxruntime overlooks zero points where there is an order of blocks, and has no code for 8 bits
            # with zero points that are no whole numbers.
            zero = None
        bias = Operand((9,), normal(), constant=True) if index % 2 and order is None else None
        attributes = {"N": 9, "K": columns, "bits": bits, "block_size": block}
        operands = [a, _packed((9, blocks, block), bits), scale, zero, order, bias]
        yield Structure("MatMulNBits", operands, lengths, Work.CONTRACTION, attributes)
    for level in (None, 0, 1):
        half = Operand(("n", "m", 64), normal(np.float16))
        scale = Operand((8, 4), uniform(0.01, 0.1, np.float16), constant=True)
        attributes = {"N": 8, "K": 64, "bits": 4, "block_size": 16, "accuracy_level": level}
        judge = """
            a = Cast <to = 1> (x0) s = Cast <to = 1> (x2)
            b = com.microsoft.MatMulNBits <N = 8, K = 64, bits = 4, block_size = 16> (a, x1, s)
            y0 = Cast <to = 10> (b)"""
        operands = [half, _packed((8, 4, 16), 4), scale]
        yield Structure("MatMulNBits", operands, lengths, Work.CONTRACTION, attributes, judge=judge)
    for kind in (0, 1):
        a = Operand(("n", "m", 40), normal())
        codes = Operand((180,), whole(np.uint8), constant=True)
        factors = Operand((23,), uniform(0.1, 1), constant=True)
        attributes = {"N": 9, "K": 40, "block_size": 16, "quant_type": kind}
        yield Structure("MatMulBnb4", [a, codes, factors], lengths, Work.CONTRACTION, attributes)


def _tables() -> Iterator[Structure]:
    lengths = sizes(n=[1, 2, 3], m=[3, 1, 17])
    for index, (bits, dtype, zeros) in enumerate(
        itertools.product((2, 4, 8), (np.float32, np.float16), (False, True))
    ):
        # Indices from 10 on and before -10 give zeros.
        indices = Operand(("n", "m"), whole(some([np.int32, np.int64], index), -12, 11))
        scale = Operand((10, 3), uniform(0.1, 1, dtype), constant=True)
        zero = _packed((10, 3), bits) if zeros else None
        attributes = {"bits": bits, "block_size": 16}
        operands = [_packed((10, 48), bits), indices, scale, zero]
        yield Structure("GatherBlockQuantized", operands, lengths, attributes=attributes)
    for dtype, axis in itertools.product((ml_dtypes.int4, ml_dtypes.uint4), (0, 1)):
        table = Operand((10, 3, 48), _nibbles(dtype), constant=True)
        zero = Operand((10, 3, 3), _nibbles(dtype), constant=True) if axis else None
        scale = Operand((10, 3, 3), uniform(0.1, 1), constant=True)
        attributes = {"block_size": 16, "gather_axis": axis, "quantize_axis": -1}
        operands = [table, Operand(("n", "m"), whole(np.int64, -3, 2)), scale, zero]
        yield Structure("GatherBlockQuantized", operands, lengths, attributes=attributes)


def _nibbles(dtype: Any) -> Any:
    return lambda rng, shape: rng.integers(0, 8, shape).astype(dtype)


def _lstm() -> Iterator[Structure]:
    """onnxruntime multiplies quantized activations, so that the results are near only."""
    lengths = sizes(s=[5, 3], b=[2, 1])
    forms = itertools.product(("forward", "reverse", "bidirectional"), (False, True), (False, True))
    for index, (direction, columns, optional) in enumerate(forms):
        dtype = some(BYTES, index // 2)
        directions = 2 if direction == "bidirectional" else 1
        vector: tuple[Extent, ...] = (directions, 32) if columns else (directions,)
        # One zero point for all columns; inputs and the state.
        low, high, middle = (-100, 100, 0) if dtype is np.int8 else (20, 230, 128)
        weights = [Operand((directions, width, 32), whole(dtype, low, high), True) for width in (12, 8)]
        scales = [Operand(vector, uniform(0.002, 0.004), True) for _ in range(2)]
        zeros = [given(np.full(vector, middle), dtype) for _ in range(2)]
        more: list[Operand | None] = [None] * 5
        if optional:
            state = [Operand((directions, "b", 8), normal(scale=0.5)) for _ in range(2)]
            peepholes = Operand((directions, 24), normal(scale=0.1))
            bias = Operand((directions, 64), normal(scale=0.1), constant=True)
            more = [bias, Operand(("b",), whole(np.int32, 1, 3)), *state, peepholes]
        attributes: dict[str, Any] = {"hidden_size": 8, "direction": direction}
        attributes |= {"clip": 3.0, "input_forget": 0} if optional else {}
        parameters = [scales[0], zeros[0], scales[1], zeros[1]]
        operands = [Operand(("s", "b", 12), normal()), *weights, *more, *parameters]
        yield Structure("DynamicQuantizeLSTM", operands, lengths, Work.QUANTIZED_MODEL, attributes, 3)
