"""Corrections of the ONNX reference evaluator (onnx 1.23) where it departs from the standard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx.reference.op_run import OpRun

from dlc.verify.compare import Array

if TYPE_CHECKING:
    import onnx


class BatchNormalization(OpRun):
    """Inference form for opsets 7 to 13, where one output means the given statistics.

    The evaluator mixes the batch's own mean and variance into them by `momentum`, as only training does.
    """

    op_domain = ""

    def _run(
        self, x: Array, scale: Array, bias: Array, mean: Array, var: Array, epsilon: float = 1e-5, **_: Any
    ) -> tuple[Array]:
        along_channels = (-1, *(1,) * (x.ndim - 2))
        scale, bias, mean, var = (p.reshape(along_channels) for p in (scale, bias, mean, var))
        return ((scale * (x - mean) / np.sqrt(var + epsilon) + bias).astype(x.dtype),)


class DequantizeLinear(OpRun):
    """Opsets 10 to 18, which the evaluator leaves out: (x - zero point) * scale, per tensor or per axis."""

    op_domain = ""

    def _run(
        self, x: Array, scale: Array, zero_point: Array | None = None, axis: int = 1, **_: Any
    ) -> tuple[Array]:
        shape = [-1 if i == axis % max(x.ndim, 1) else 1 for i in range(x.ndim)] if scale.size > 1 else []
        wide = x.astype(np.float64)
        if zero_point is not None:
            wide = wide - zero_point.astype(np.float64).reshape(shape)
        return ((wide * scale.reshape(shape)).astype(scale.dtype),)


def corrected_operators(model: onnx.ModelProto) -> list[type[Any]]:
    """The classes that replace the evaluator's own for this model's opset (argument `new_ops`)."""
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)
    corrected: list[type[Any]] = []
    if 7 <= opset < 14:
        corrected.append(BatchNormalization)
    if 10 <= opset < 19:
        corrected.append(DequantizeLinear)
    return corrected
