"""The labels of classes that classifiers give.

What is computed are positions of labels; numbers are gathered by these, strings put there by the host.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import reshape
from dlc.frontend.onnx.ml import integers, texts
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.operator import Array
from dlc.ir.ops.indexing import Gather
from dlc.ir.ops.maps import StringAt
from dlc.ir.ops.pointwise import Cast, Compare
from dlc.ir.ops.reduction import ArgReduce


@dataclasses.dataclass(frozen=True)
class Labels:
    """The labels of classes in order: i64 numbers or strings."""

    labels: Array

    def __len__(self) -> int:
        return len(self.labels)

    def greatest(self, ctx: NodeContext, scores: Value) -> Value:
        """The label of the first greatest score of each row, for scores [N, C]."""
        return self.at(ctx, ctx.add(ArgReduce("max", 1, False, False), scores))

    def second(self, ctx: NodeContext, wins: Value) -> Value:
        """The second label of two where `wins` holds, otherwise the first, for bool [N, 1].

        Without labels they are 0 and 1; a single class, which has to be 1, stands for these.
        """
        position = ctx.add(Cast(DType.I64), reshape(ctx, wins, (wins.tensor.shape[0],), "wins"))
        if not len(self):
            return position
        if len(self) == 1:
            if self.labels.tolist() != [1]:
                ctx.unsupported("the only class is not 1", "name both classes of a binary classifier")
            return position
        return self.at(ctx, position)

    def at(self, ctx: NodeContext, positions: Value) -> Value:
        """The labels at `positions`, i64 of any shape."""
        if np.array_equal(self.labels, np.arange(len(self))):
            return positions
        if self.labels.dtype == object:
            return ctx.add(StringAt(tuple(self.labels.tolist())), positions)
        return ctx.add(Gather(0), ctx.builder.constant(self.labels, "labels"), positions)


def winner(ctx: NodeContext, scores: Value, least: float) -> Value:
    """Whether scores are greater than `least`."""
    return ctx.add(Compare("gt"), scores, ctx.const(least, scores.tensor.dtype))


def class_labels(
    ctx: NodeContext, integer_key: str, string_key: str = "classlabels_strings", required: bool = True
) -> Labels:
    """The labels that the node has in one of two attributes; ModelError for both, or if `required` none."""
    numbers, strings = integers(ctx, integer_key), texts(ctx, string_key)
    if (len(numbers) and strings) or (required and not len(numbers) and not strings):
        ctx.fail(f"one of {integer_key!r} and {string_key!r} must be there", "model/attribute")
    return Labels(np.array(strings, np.object_) if strings else numbers)
