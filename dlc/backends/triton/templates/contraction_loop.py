"""The loop of a contraction: blocks of the inner reduced axes, for all numbers of the outer ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from dlc.backends.triton import tiles
from dlc.backends.triton.function_builder import FunctionBuilder
from dlc.lowering.kernel import Axis


@contextlib.contextmanager
def steps(
    builder: FunctionBuilder, outer: Sequence[Axis], inner: Sequence[Axis], depth: int
) -> Iterator[str]:
    """Write the loop's header; inside, the outer axes are numbers. Gives the text of a block's start."""
    extent = tiles.extent_of(inner)
    if not outer:
        with builder.block(f"for start in range(0, {builder.dim(extent)}, {depth}):"):
            yield "start"
        return
    many = tiles.blocks(extent, depth)
    with builder.block(f"for step in range(0, {builder.dim(tiles.extent_of(outer) * many)}):"):
        if many == 1:
            tiles.take_apart(builder, "step", outer)
            yield "0"
            return
        text = builder.dim(many)
        builder.line(f"outer = step // ({text})")
        tiles.take_apart(builder, "outer", outer)
        yield builder.assign("start", f"step % ({text}) * {depth}")
