"""Values that data makes either a scalar or a vector of one element: an If may have such results.

They are carried as vectors. An operator that broadcasts them to the rank of another operand gives the same
either way; where the difference would show, the model is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from dlc.errors import Finding, UnsupportedError
from dlc.ir.graph import Value
from dlc.ir.types import TensorType

#: Operators that work element by element and broadcast their operands.
_ELEMENTWISE = frozenset(
    "Abs Add And BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Ceil Cos Div Equal Erf Exp Floor "
    "Greater GreaterOrEqual Identity Less LessOrEqual Log Max Mean Min Mod Mul Neg Not Or Pow Reciprocal "
    "Relu Round Sigmoid Sign Sin Sqrt Sub Sum Tanh Where Xor".split()
)
#: Operators that work on the elements of the first operand, and look at the type of the second only.
_OF_TYPE = frozenset({"CastLike"})


@dataclasses.dataclass
class OpenScalars:
    """The values of a graph that are such, each with what is to be said of the node that it comes from."""

    origins: dict[Value, Finding] = dataclasses.field(default_factory=dict)

    def origin(self, values: Iterable[Value | None]) -> Finding | None:
        """Where the first of `values` that is one comes from; None if there is none."""
        present = (value for value in values if value is not None)
        return next((self.origins[value] for value in present if value in self.origins), None)

    def refuse(self, values: Iterable[Value | None]) -> None:
        """UnsupportedError if any of `values` is one, which shows where they stand."""
        found = self.origin(values) if self.origins else None
        if found is not None:
            raise UnsupportedError(found.reason, findings=(found,))

    def check(self, op_type: str, operands: Sequence[Value | None]) -> None:
        """UnsupportedError if an operator cannot take these operands."""
        if op_type not in _ELEMENTWISE | _OF_TYPE:
            self.refuse(operands)

    def follow(self, op_type: str, operands: Sequence[Value | None], results: Iterable[Value | None]) -> None:
        """Note the results of an operator all of whose operands are scalars or such."""
        given = [operand for operand in operands[: 1 if op_type in _OF_TYPE else None] if operand is not None]
        found = self.origin(given) if self.origins else None
        if found is not None and all(value in self.origins or _is_scalar(value) for value in given):
            self.origins.update((result, found) for result in results if result is not None)


def are_one_element(values: Sequence[Value]) -> bool:
    """Whether all values are tensors of one element, scalars or vectors."""
    types = [value.type for value in values]
    return all(isinstance(type_, TensorType) and type_.shape in ((), (1,)) for type_ in types)


def _is_scalar(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.rank == 0
