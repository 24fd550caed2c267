"""What sequences and optionals are known to consist of while a model is imported.

Where the elements of a sequence are values of the graph, an operator that takes one out gives that value, and
its node computes it natively; the sequence itself is computed only where something needs it as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from dlc.frontend.onnx.axes import front_axis
from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import from_front, require, require_equal, reshape, transposed
from dlc.ir.dims import Dim, Relation, ceildiv, minimum, to_text, total
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.indexing import Gather
from dlc.ir.ops.movement import Slice
from dlc.ir.ops.pointwise import Cast

Capture: TypeAlias = Callable[[Value], Value]


@dataclass(frozen=True)
class Listed:
    """These values, one after the other."""

    values: tuple[Value, ...]

    def length(self, ctx: NodeContext) -> Dim | None:
        """The number of elements; None where only the run tells."""
        return len(self.values)

    def at(self, ctx: NodeContext, position: int) -> Value | None:
        """The element at a position, counted from the end where it is negative; None where there is none."""
        count = len(self.values)
        return self.values[position] if -count <= position < count else None

    def at_any(self, ctx: NodeContext, position: Value) -> Value | None:
        """The element at a position that the run tells; None where the sequence is needed for that."""
        return None

    def through(self, capture: Capture) -> Listed:
        """The same within a region."""
        return Listed(tuple(map(capture, self.values)))


@dataclass(frozen=True)
class Parts:
    """Parts of `x` along `axis`: of the extents in `split`, a vector, or in chunks of its extent, a scalar.

    Without a split the extent is 1, and goes unless `keepdims`.
    """

    x: Value
    axis: int
    split: Value | None
    keepdims: bool

    def length(self, ctx: NodeContext) -> Dim | None:
        """The number of elements; None where only the run tells."""
        extent = self.x.tensor.shape[self.axis]
        if self.split is None:
            return extent
        if not self.split.tensor.rank:
            return ceildiv(extent, self._chunk(ctx, self.split))
        return self.split.tensor.shape[0]

    def at(self, ctx: NodeContext, position: int) -> Value | None:
        """The element at a position, counted from the end where it is negative; None where there is none."""
        extent, count = self.x.tensor.shape[self.axis], self.length(ctx)
        if count is None or (isinstance(count, int) and not -count <= position < count):
            return None
        if self.split is not None and self.split.tensor.rank:
            return self._listed_part(ctx, position, self.split)
        at = from_front(position, count)
        message = f"position {position} of a sequence of {to_text(count)} elements does not exist"
        require(ctx, Relation.LT, at, count, message)
        require(ctx, Relation.LE, 0, at, message)
        if self.split is None:
            part = self._slice(ctx, at, 1)
            shape = self.x.tensor.shape
            return part if self.keepdims else reshape(ctx, part, shape[: self.axis] + shape[self.axis + 1 :])
        chunk = self._chunk(ctx, self.split)
        return self._slice(ctx, at * chunk, minimum(chunk, extent - at * chunk))

    def at_any(self, ctx: NodeContext, position: Value) -> Value | None:
        """The element at a position that the run tells; None where the sequence is needed for that."""
        if self.split is not None:
            return None
        if position.tensor.dtype is not DType.I64:
            position = ctx.add(Cast(DType.I64), position)
        return ctx.add(Gather(self.axis), self.x, reshape(ctx, position, (1,) if self.keepdims else ()))

    def joined(self, ctx: NodeContext, axis: int, new_axis: bool) -> Value | None:
        """All parts in one tensor, along an axis that may be new; None where they have to be put together."""
        rank = self.x.tensor.rank
        if self.keepdims:
            if new_axis or axis not in (self.axis, self.axis - rank):
                return None
            vector = self.split is not None and self.split.tensor.rank > 0
            whole = self._extents(ctx, self.split) if vector and self.split is not None else self.length(ctx)
            return None if whole is None else self.x
        target = front_axis(ctx, axis, rank if new_axis else rank - 1)
        others = [other for other in range(rank) if other != self.axis]
        moved = transposed(ctx, self.x, [*others[:target], self.axis, *others[target:]])
        if new_axis:
            return moved
        shape = moved.tensor.shape
        return reshape(ctx, moved, [*shape[:target], shape[target] * shape[target + 1], *shape[target + 2 :]])

    def through(self, capture: Capture) -> Parts:
        """The same within a region."""
        split = None if self.split is None else capture(self.split)
        return Parts(capture(self.x), self.axis, split, self.keepdims)

    def _chunk(self, ctx: NodeContext, split: Value) -> Dim:
        (chunk,) = ctx.dims_of(split)
        require(ctx, Relation.LT, 0, chunk, f"chunks of extent {to_text(chunk)} cannot be cut")
        return chunk

    def _extents(self, ctx: NodeContext, split: Value) -> tuple[Dim, ...] | None:
        """The extents that a vector gives, which fit; None where only the run tells their number."""
        if not isinstance(split.tensor.shape[0], int):
            return None
        extents = ctx.dims_of(split)
        what = "the sum of the parts and the extent to split"
        require_equal(ctx, total(extents), self.x.tensor.shape[self.axis], what)
        for extent in extents:
            require(ctx, Relation.LE, 0, extent, f"a part cannot have the extent {to_text(extent)}")
        return extents

    def _listed_part(self, ctx: NodeContext, position: int, split: Value) -> Value | None:
        extents = self._extents(ctx, split)
        if not extents:
            return None
        at = position % len(extents)
        return self._slice(ctx, total(extents[:at]), extents[at])

    def _slice(self, ctx: NodeContext, start: Dim, extent: Dim) -> Value:
        """`extent` elements along the axis, from `start` on."""
        shape = self.x.tensor.shape
        starts = tuple(start if axis == self.axis else 0 for axis in range(len(shape)))
        extents = (*shape[: self.axis], extent, *shape[self.axis + 1 :])
        return ctx.add(Slice(starts, extents, (1,) * len(shape)), self.x)


Elements: TypeAlias = Listed | Parts


class Known:
    """The sequences and optionals of a graph whose content is known.

    In a region `outer` is that of the graph around, `captured` maps inputs of the region to the values around
    that they stand for, and `capture` gives the value that stands for one around.
    """

    def __init__(
        self, captured: Mapping[Value, Value], outer: Known | None = None, capture: Capture | None = None
    ) -> None:
        self.capture = capture
        self._captured = captured
        self._outer = outer
        self._sequences: dict[Value, Elements] = {}
        self._optionals: dict[Value, Value | None] = {}

    def set_elements(self, sequence: Value, elements: Elements) -> None:
        """`sequence` consists of `elements`."""
        self._sequences[sequence] = elements

    def elements(self, sequence: Value) -> Elements | None:
        """What a sequence consists of, if that is known."""
        if sequence not in self._sequences and self._outer is not None and sequence in self._captured:
            found = self._outer.elements(self._captured[sequence])
            if found is not None and self.capture is not None:
                self._sequences[sequence] = found.through(self.capture)
        return self._sequences.get(sequence)

    def set_content(self, optional: Value, content: Value | None) -> None:
        """`optional` holds `content`, or nothing."""
        self._optionals[optional] = content

    def content(self, optional: Value) -> tuple[Value | None] | None:
        """What an optional holds (None: nothing), if that is known."""
        if optional in self._optionals:
            return (self._optionals[optional],)
        if self._outer is None or self.capture is None or optional not in self._captured:
            return None
        found = self._outer.content(self._captured[optional])
        if found is None:
            return None
        (held,) = found
        return (None if held is None else self.capture(held),)


def listed(ctx: NodeContext, sequence: Value) -> Sequence[Value] | None:
    """The elements of a sequence one by one, if they are known and their number is."""
    found = ctx.importer.known.elements(sequence)
    if isinstance(found, Listed):
        return found.values
    count = None if found is None else found.length(ctx)
    if found is None or not isinstance(count, int) or count > MOST_LISTED:
        return None
    values = [found.at(ctx, position) for position in range(count)]
    present = [value for value in values if value is not None]
    return present if len(present) == count else None


#: The most parts of a tensor that are cut off one by one rather than at run time.
MOST_LISTED = 256
