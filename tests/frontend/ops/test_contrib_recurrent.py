"""onnxruntime's LSTM with quantized weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.errors import ModelError
from dlc.frontend.onnx.importer import import_model
from dlc.verify.tolerances import Work
from tests.helpers.extension_cases import check_contrib
from tests.helpers.onnx_cases import Array, one_node_model

rng = np.random.default_rng(18)
STEPS, BATCH, WIDTH, HIDDEN = 5, 2, 12, 8


def quantized(directions: int, inputs: int, dtype: Any, columns: bool) -> list[Array]:
    """Weights with their scale and zero point."""
    shape = (directions, 4 * HIDDEN) if columns else (directions,)
    # onnxruntime wants one zero point for all columns.
    zero = np.full(shape, 0 if dtype is np.int8 else rng.integers(120, 136), dtype)
    low, high = (-100, 100) if dtype is np.int8 else (20, 230)
    stored = rng.integers(low, high, (directions, inputs, 4 * HIDDEN)).astype(dtype)
    return [stored, rng.uniform(0.002, 0.004, shape).astype(np.float32), zero]


def operands(directions: int, dtype: Any, columns: bool, optional: bool) -> list[Array | None]:
    """All operands; without `optional`, those that may be absent are."""
    w, w_scale, w_zero = quantized(directions, WIDTH, dtype, columns)
    r, r_scale, r_zero = quantized(directions, HIDDEN, dtype, columns)
    more: list[Array | None] = [None] * 5
    if optional:
        state = directions, BATCH, HIDDEN
        more = [rng.standard_normal((directions, 8 * HIDDEN)).astype(np.float32) * 0.1,
                np.array([3, 5], np.int32),
                *(rng.standard_normal(state).astype(np.float32) * 0.5 for _ in range(2)),
                rng.standard_normal((directions, 3 * HIDDEN)).astype(np.float32) * 0.1]  # fmt: skip
    x = rng.standard_normal((STEPS, BATCH, WIDTH)).astype(np.float32)
    return [x, w, r, *more, w_scale, w_zero, r_scale, r_zero]


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("optional", [False, True])
def test_dynamic_quantize_lstm(direction: str, dtype: Any, columns: bool, optional: bool) -> None:
    inputs = operands(2 if direction == "bidirectional" else 1, dtype, columns, optional)
    attributes = {"hidden_size": HIDDEN, "direction": direction}
    if optional:
        attributes |= {"clip": 3.0, "input_forget": 0}
    # onnxruntime multiplies quantized activations.
    check_contrib("DynamicQuantizeLSTM", inputs, Work.QUANTIZED_MODEL, 3, attributes,
                  constants=(1, 2, 3, 8, 9, 10, 11))  # fmt: skip


def test_parameters_that_do_not_fit() -> None:
    inputs = operands(1, np.int8, True, False)
    inputs[8] = np.ones((1, 7), np.float32)
    model = one_node_model("DynamicQuantizeLSTM", inputs, 3, {"hidden_size": HIDDEN}, domain="com.microsoft")
    with pytest.raises(ModelError, match="parameter of the weights"):
        import_model(model)
