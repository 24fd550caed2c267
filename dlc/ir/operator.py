"""What an operator is: a frozen dataclass that carries its own meaning.

Each operator of the graph IR is defined once, in `dlc.ir.ops`: typed attributes as fields, type and shape
inference, reference evaluation written from the standard, work estimate and class. The ONNX names live in the
frontend; the code for the CPU or GPU in lowering.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np

from dlc.ir.dims import Dim, DimExpr
from dlc.ir.types import TensorType, Type

Array: TypeAlias = np.ndarray[Any, Any]
EvaluateDim: TypeAlias = Callable[[Dim], int]


class OperatorClass(enum.Enum):
    """What kind of work an operator is; grouping, tolerances and reports go by it."""

    POINTWISE = "pointwise"
    MOVEMENT = "movement"
    REDUCTION = "reduction"
    CONTRACTION = "contraction"
    NORMALIZATION = "normalization"
    RECURRENT = "recurrent"
    ROUTINE = "routine"
    CONTROL = "control"


class InferenceError(Exception):
    """An operator does not accept these operand types; the graph builder names the node and re-raises."""


@dataclasses.dataclass(frozen=True)
class Operator:
    """Base of all operators. Fields of a subclass are its attributes.

    `repeatable` says whether equal operands give equal results, so that passes may compute a node at compile
    time, once instead of twice, or never; it is False for generators of random numbers that keep a state.
    """

    kind: ClassVar[OperatorClass]
    repeatable: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The name in IR text and reports."""
        return type(self).__name__

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        """Types of the outputs for these operand types (None: optional operand absent).

        Raises InferenceError with a sentence that says what does not fit.
        """
        raise TypeError(f"{self.name} defines no inference")

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        """Outputs in NumPy, straight from the standard; `dim` gives symbolic attributes their value.

        Floating-point operators compute in float64 when given float64 and otherwise in at least float32.
        """
        raise TypeError(f"{self.name} defines no evaluation")

    def flops(self, inputs: Sequence[Type | None], outputs: Sequence[Type]) -> Dim:
        """Floating-point operations of one evaluation; by default one an output element."""
        return sum((t.elements for t in outputs if isinstance(t, TensorType)), start=0)


def operator_dims(op: Operator) -> Iterator[Dim]:
    """The symbolic dims among the attributes of `op`, those within tuples too."""
    pending = [getattr(op, field.name) for field in dataclasses.fields(op)]
    while pending:
        item = pending.pop()
        if isinstance(item, DimExpr):
            yield item
        elif isinstance(item, tuple):
            pending += item


def tensor(operand: Type | None, what: str) -> TensorType:
    """`operand` as a tensor type; InferenceError naming `what` when it is absent or something else."""
    if not isinstance(operand, TensorType):
        raise InferenceError(f"{what} must be a tensor, but is {'absent' if operand is None else operand}")
    return operand


def normalize_axis(axis: int, rank: int, what: str = "axis") -> int:
    """`axis` counted from the front; InferenceError when it is outside [-rank, rank)."""
    if not -rank <= axis < rank:
        raise InferenceError(f"{what} {axis} is outside [{-rank}, {rank}) of a tensor of rank {rank}")
    return axis % rank if rank else 0


def compute_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The NumPy type in which the evaluator computes `dtype`: float32 for narrower floats, itself otherwise.
    """
    if dtype.kind == "V" or dtype == np.float16 or (dtype.kind == "f" and dtype.itemsize < 4):
        return np.dtype(np.float32)
    if dtype.itemsize < 4 and not np.issubdtype(dtype, np.integer) and dtype != np.bool_:
        return np.dtype(np.float32)
    return dtype


def prod(values: Sequence[int]) -> int:
    """The product of plain integers."""
    return math.prod(values)
