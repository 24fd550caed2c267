"""Probabilities of classes from those of pairs of classes."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.operator import Array, EvaluateDim, InferenceError, Operator, OperatorClass, tensor
from dlc.ir.ops.checks import require_equal, require_rank
from dlc.ir.ops.common import given
from dlc.ir.types import TensorType, Type

#: The most rounds of improvement, and the error per class at which they end, as in LIBSVM and onnxruntime.
ROUNDS = 100
PRECISION = 0.005


@dataclasses.dataclass(frozen=True)
class PairwiseCoupling(Operator):
    """r [N, C (C - 1) / 2] of f32 -> p [N, C], the probabilities of classes.

    r[n, k] is the probability of class i if it is one of i and j, for the k-th pair i < j in lexicographic
    order. This is the second method of T.-F. Wu, C.-J. Lin, R. C. Weng, "Probability estimates for
    multi-class classification by pairwise coupling" (2004), with the iteration and the end of LIBSVM: p
    starts uniform, and each round improves its elements in turn, until the greatest error is less than
    PRECISION / C. All of it is f32 as in onnxruntime: when it ends depends on the rounding.
    """

    classes: int

    kind: ClassVar[OperatorClass] = OperatorClass.ROUTINE

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise ValueError(f"{self.classes} classes make no pair")

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        pairs = require_rank(inputs[0], 2, "r")
        if pairs.dtype is not DType.F32:
            raise InferenceError(f"r must be of type f32, but is {pairs}")
        require_equal(pairs.shape[1], self.classes * (self.classes - 1) // 2, "the number of pairs")
        return (TensorType(DType.F32, (pairs.shape[0], self.classes)),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        pairs = given(inputs[0])
        rows, classes = len(pairs), self.classes
        # p minimizes p^T Q p among the distributions.
        matrix = np.zeros((rows, classes, classes), np.float32)
        for k, (i, j) in enumerate(itertools.combinations(range(classes), 2)):
            first, second = pairs[:, k], 1 - pairs[:, k]
            matrix[:, i, i] += second * second
            matrix[:, j, j] += first * first
            matrix[:, i, j] = matrix[:, j, i] = -second * first
        result = np.full((rows, classes), 1 / classes, np.float32)
        for _ in range(ROUNDS):
            products = np.einsum("nij,nj->ni", matrix, result)
            value = (result * products).sum(axis=1)
            # NaN is no error: such a row keeps what it has.
            going = np.fmax.reduce(np.abs(products - value[:, None]), axis=1) >= PRECISION / classes
            if not going.any():
                break
            for i in range(classes):
                change = np.where(going, (value - products[:, i]) / matrix[:, i, i], np.float32(0))
                result[:, i] += change
                value += change * (change * matrix[:, i, i] + 2 * products[:, i])
                value /= (1 + change) ** 2
                products = (products + change[:, None] * matrix[:, i]) / (1 + change)[:, None]
                result /= (1 + change)[:, None]
        return (result,)

    def flops(self, inputs: Sequence[Type | None], outputs: Sequence[Type]) -> Dim:
        # About ten rounds of a product with a matrix and an update of a vector for each class.
        return tensor(inputs[0], "r").shape[0] * (10 * 6 * self.classes**2)
