"""Values that are no tensors of numbers, at run time: arrays of str, lists of arrays, dictionaries, None."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc.ir.operator import Array


def with_row(stack: Array, row: int, element: Array) -> Array:
    """The first `row` elements of `stack`, and `element` behind them."""
    return np.concatenate([stack[:row], element[None]]) if row else element[None]


def detached(value: Any) -> Any:
    """A value that shares nothing that can change with `value`."""
    if isinstance(value, list):
        return [detached(element) for element in value]
    if isinstance(value, dict):
        return dict(value)
    return None if value is None else np.array(value, order="C")
