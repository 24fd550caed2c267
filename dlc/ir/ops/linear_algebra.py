"""Linear algebra on stacks of square matrices."""
from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from dlc.ir.dims import Dim, product
from dlc.ir.dtypes import from_numpy
from dlc.ir.operator import Array, EvaluateDim, InferenceError, Operator, OperatorClass, compute_dtype, tensor
from dlc.ir.ops.checks import require_equal
from dlc.ir.ops.common import given
from dlc.ir.ops.conversion import convert
from dlc.ir.types import Type


@dataclasses.dataclass(frozen=True)
class Det(Operator):
    """Determinants: x [..., M, M] -> y [...]. Of a 0 by 0 matrix it is 1."""

    kind: ClassVar[OperatorClass] = OperatorClass.ROUTINE

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x = tensor(inputs[0], "x")
        if x.rank < 2 or not x.dtype.is_float:
            raise InferenceError(f"a determinant is of floating-point matrices, not of {x}")
        require_equal(x.shape[-2], x.shape[-1], "rows and columns of a matrix")
        return (x.with_shape(x.shape[:-2]),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x = given(inputs[0])
        return (np.asarray(np.linalg.det(x.astype(compute_dtype(x.dtype), copy=False))).astype(x.dtype),)

    def flops(self, inputs: Sequence[Type | None], outputs: Sequence[Type]) -> Dim:
        # LU decomposition, Golub and Van Loan, Matrix Computations, section 3.2: 2/3 M^3.
        shape = tensor(inputs[0], "x").shape
        return product(shape) * shape[-1] * 2 // 3


@dataclasses.dataclass(frozen=True)
class Inverse(Operator):
    """Inverses of matrices: x [..., M, M] -> y of the same shape. Of a singular one nothing is defined."""

    kind: ClassVar[OperatorClass] = OperatorClass.ROUTINE

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x = tensor(inputs[0], "x")
        if x.rank < 2 or not x.dtype.is_float:
            raise InferenceError(f"an inverse is of floating-point matrices, not of {x}")
        require_equal(x.shape[-2], x.shape[-1], "rows and columns of a matrix")
        return (x.with_shape(x.shape),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x = given(inputs[0])
        y = np.full(x.shape, np.nan)
        for index in np.ndindex(*x.shape[:-2]):
            with contextlib.suppress(np.linalg.LinAlgError):
                y[index] = np.linalg.inv(x[index].astype(np.float64))
        return (convert(y, from_numpy(x.dtype)),)

    def flops(self, inputs: Sequence[Type | None], outputs: Sequence[Type]) -> Dim:
        # Golub and Van Loan, Matrix Computations, section 3.4: 2 M^3.
        shape = tensor(inputs[0], "x").shape
        return product(shape) * shape[-1] * 2
