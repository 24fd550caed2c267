"""onnxruntime's matrix product with block-quantized weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.errors import ModelError, UnsupportedError
from dlc.frontend.onnx.importer import import_model
from dlc.verify.tolerances import Work
from tests.helpers.extension_cases import check_contrib
from tests.helpers.onnx_cases import Array, one_node_model

rng = np.random.default_rng(15)
FIXED = (1, 2, 3, 4, 5)


def pack(numbers: Array, bits: int) -> Array:
    """Numbers along the last axis packed into bytes, lowest bits first."""
    per_byte = 8 // bits
    padding = -numbers.shape[-1] % per_byte
    numbers = np.pad(numbers, [(0, 0)] * (numbers.ndim - 1) + [(0, padding)])
    parts = numbers.reshape(*numbers.shape[:-1], -1, per_byte).astype(np.uint32)
    return np.asarray((parts << (np.arange(per_byte) * bits)).sum(-1).astype(np.uint8))


class Weights:
    """Random quantized weights."""

    def __init__(self, rows: int, columns: int, bits: int, block: int, dtype: Any = np.float32) -> None:
        self.blocks = -(-columns // block)
        self.stored = rng.integers(0, 1 << bits, (rows, self.blocks, block))
        self.scale = rng.uniform(0.01, 0.1, (rows, self.blocks)).astype(dtype)
        self.zero = rng.integers(0, 1 << bits, (rows, self.blocks))
        self.packed = pack(self.stored, bits)
        self.packed_zero = pack(self.zero, bits)
        self.attributes = {"N": rows, "K": columns, "bits": bits, "block_size": block}


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("columns", "block"), [(32, 16), (40, 16), (64, 32), (128, 64)])
def test_matmul_nbits(bits: int, columns: int, block: int) -> None:
    w = Weights(9, columns, bits, block)
    a = rng.standard_normal((2, 3, columns)).astype(np.float32)
    bias = rng.standard_normal(9).astype(np.float32)
    zero_points = [None, w.packed_zero, (w.zero + 0.25).astype(np.float32)]
    # onnxruntime has no code for 8 bits with zero points that are no whole numbers.
    for zero_point in zero_points[: 2 if bits == 8 else 3]:
        for inputs in (
            [a, w.packed, w.scale, zero_point],
            [a[0, :1], w.packed, w.scale.reshape(-1), zero_point, None, bias],
        ):
            check_contrib("MatMulNBits", inputs, Work.CONTRACTION, attributes=w.attributes, constants=FIXED)


def test_blocks_in_another_order() -> None:
    w = Weights(8, 64, 4, 16)
    a = rng.standard_normal((3, 64)).astype(np.float32)
    for order in (np.arange(64) // 16, rng.integers(0, 4, 64)):
        inputs = [a, w.packed, w.scale, None, order.astype(np.int32)]
        check_contrib("MatMulNBits", inputs, Work.CONTRACTION, attributes=w.attributes, constants=FIXED)


def test_half_precision_and_accuracy_levels() -> None:
    w = Weights(8, 64, 4, 16, np.float16)
    a = rng.standard_normal((3, 64)).astype(np.float16)
    real = (w.stored - 8) * w.scale[..., None].astype(np.float64)
    expected = [(a.astype(np.float64) @ real.reshape(8, 64).T).astype(np.float16)]
    for level in (0, 1, 4):
        attributes = {**w.attributes, "accuracy_level": level}
        check_contrib("MatMulNBits", [a, w.packed, w.scale], Work.CONTRACTION, attributes=attributes,
                      constants=FIXED, expected=expected)  # fmt: skip


@pytest.mark.parametrize(
    ("attributes", "constants", "error", "message"),
    [
        ({"bits": 3}, FIXED, UnsupportedError, "3 bits"),
        ({"weight_prepacked": 1}, FIXED, UnsupportedError, "'weight_prepacked'"),
        ({}, (2,), UnsupportedError, "weights are computed at run time"),
        ({"block_size": 24}, FIXED, ModelError, "block_size = 24"),
        ({"K": 640}, FIXED, ModelError, "do not hold"),
        ({"accuracy_level": 7}, FIXED, ModelError, "accuracy_level 7"),
    ],
)
def test_refusals(attributes: dict[str, int], constants: tuple[int, ...], error: Any, message: str) -> None:
    w = Weights(8, 64, 4, 16)
    a = rng.standard_normal((3, 64)).astype(np.float32)
    model = one_node_model(
        "MatMulNBits",
        [a, w.packed, w.scale],
        1,
        {**w.attributes, **attributes},
        domain="com.microsoft",
        constants=constants,
    )
    with pytest.raises(error, match=message):
        import_model(model)
