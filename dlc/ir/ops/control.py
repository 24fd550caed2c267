"""Branches and loops: operators whose work stands in regions.

A region is a graph of its own. What it reads from around it are operands of the node, its *captures*, which
the region declares as inputs; dims in it may speak of the symbols of the graphs around it. The types of the
results are attributes: they are what all that the regions may give has in common. An extent that is not
common is a symbol of the graph around the node, bound from the result (`dlc.ir.graph.ExtentSource`).

    If      operands (condition, *captures)
            regions  then, otherwise: inputs (*captures), outputs (*results)
    Loop    operands (condition or absent, *carried, *captures)
            region   body: inputs (iteration, *carried, *captures),
                           outputs (condition, *carried, *elements)
            results  (*carried, *stacked elements)

Inside a Loop's body an extent of a carried value that may change is a symbol of the body, `shape(%input,
axis)`; the type of a carried sequence or optional has all that the value may be. `dlc.ir.evaluate` runs
regions; the operators themselves define types only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.operator import InferenceError, Operator, OperatorClass, tensor
from dlc.ir.types import TensorType, Type, join


@dataclasses.dataclass(frozen=True)
class If(Operator):
    """The outputs of the first region where the condition holds, those of the second where it does not.

    The condition is a bool tensor of one element. `types` are those of the results.
    """

    types: tuple[Type, ...]

    kind: ClassVar[OperatorClass] = OperatorClass.CONTROL

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        _check_condition(inputs[0] if inputs else None)
        _check_present(inputs[1:])
        return self.types


@dataclasses.dataclass(frozen=True)
class Loop(Operator):
    """Run the body `trip` times (no bound when None), and only while the condition holds.

    Iterations count from 0 (an i64 scalar). The condition is looked at before each iteration: the operand
    before the first, the body's output after that; an absent operand holds. The `carried` values pass from
    iteration to iteration, their last ones are results. Of each of the `stacked` elements, which have the
    same shape in all iterations, a result stacks those of all iterations along a new first axis. `types` are
    those of the results.
    """

    trip: Dim | None
    carried: int
    stacked: int
    types: tuple[Type, ...]

    kind: ClassVar[OperatorClass] = OperatorClass.CONTROL

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        if inputs and inputs[0] is not None:
            _check_condition(inputs[0])
        _check_present(inputs[1:])
        if len(self.types) != self.carried + self.stacked:
            raise InferenceError(
                f"{self.carried} carried and {self.stacked} stacked results have {len(self.types)} types"
            )
        starts = inputs[1 : 1 + self.carried]
        if len(starts) < self.carried:
            raise InferenceError(f"{self.carried} carried values need as many operands, not {len(starts)}")
        for start, result in zip(starts, self.types):
            if not same_kind(start, result):
                raise InferenceError(f"a carried value starts as {start} and ends as {result}")
        return self.types

    def captures(self, inputs: Sequence[object]) -> int:
        """The number of captures among as many operands."""
        return len(inputs) - 1 - self.carried


def same_kind(left: Type | None, right: Type | None) -> bool:
    """Whether two types differ in extents at most; in sequences and optionals, in ranks too."""
    if isinstance(left, TensorType) and isinstance(right, TensorType):
        return left.dtype is right.dtype and left.rank == right.rank
    if left is None or right is None or isinstance(left, TensorType) or isinstance(right, TensorType):
        return left == right
    return join(left, right) is not None


def _check_condition(operand: Type | None) -> None:
    condition = tensor(operand, "the condition")
    if condition.dtype is not DType.BOOL or condition.elements != 1:
        raise InferenceError(f"the condition must be one bool, but is {condition}")


def _check_present(inputs: Sequence[Type | None]) -> None:
    if any(operand is None for operand in inputs):
        raise InferenceError("only the condition may be absent")
