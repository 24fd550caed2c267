"""The operator that moves a tensor into another physical layout."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from dlc.ir.operator import Array, EvaluateDim, Operator, OperatorClass, tensor
from dlc.ir.types import Layout, TensorType, Type


@dataclasses.dataclass(frozen=True)
class Relayout(Operator):
    """The operand in `layout` (None: row-major), inserted by layout assignment."""

    kind: ClassVar[OperatorClass] = OperatorClass.MOVEMENT
    layout: Layout | None

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        """The operand's type in the new layout."""
        x = tensor(inputs[0], "the operand")
        return (TensorType(x.dtype, x.shape, self.layout),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        """The operand itself."""
        (x,) = inputs
        assert x is not None
        return (x,)
