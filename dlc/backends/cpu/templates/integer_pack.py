"""Constant operands of integer products in the order in which the tiles read them."""

from __future__ import annotations

import numpy as np

from dlc.backends.cpu.templates.gemm_form import Packed
from dlc.backends.cpu.templates.gemm_pack import pack_constant
from dlc.ir.operator import Array


def turn_signs(numbers: Array) -> Array:
    """8-bit numbers with the sign bit turned over: i8 plus 128 as u8, or u8 minus 128 as i8."""
    turned: Array = numbers.view(np.uint8) ^ np.uint8(0x80)
    return turned.view(np.uint8 if numbers.dtype == np.int8 else np.int8)


def pack_words(packed: Packed, width: int, group: int, turned: bool, data: Array) -> Array:
    """A constant as words [batch, panels, depth / group, width], then its column sums [batch, panels, width].

    A word holds `group` numbers: 4 bytes, or 2 numbers of 16 bits. Those beyond the depth are zero.
    """
    panels = pack_constant(packed, width, data)
    batch, count, depth, _ = panels.shape
    if turned:
        panels = turn_signs(panels)
    sums = panels.sum(axis=2, dtype=np.int64).astype(np.int32)
    words = -(-depth // group)
    numbers = np.zeros((batch, count, words * group, width), panels.dtype if group == 4 else np.int16)
    numbers[:, :, :depth] = panels
    numbers = np.moveaxis(numbers.reshape(batch, count, words, group, width), 3, 4)
    flat = np.ascontiguousarray(numbers).reshape(-1).view(np.int32)
    return np.concatenate([flat, sums.reshape(-1)])
